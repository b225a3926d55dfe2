"""Makes existing galaxies, and observations of single ones, for the benchmark's store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbroker.models.simulation.observations import galaxy_number, simulate
from mmbroker.processors.fingerprint import merge
from mmbroker.processors.fingerprint.contribution import observation_hash
from mmbroker.processors.sky import unit_vector
from mmbroker.schemas.codec import Codec
from mmbroker.schemas.events import BandMeasurement, Fingerprint, Observation, Photometry, Spectrum
from mmbroker.streams.proving.truth import parse_at_once
from mmbroker.streams.settings import Settings

FIELD_SIDE_DEG = 10.0
"""Side of the field with the existing galaxies; 100,000 of them are 1,000 per square degree."""

SHARE_OF_EXISTING = 0.8
"""Share of the observations that are moved to existing galaxies; the others make new galaxies."""

TEMPLATES = 500
"""Number of simulated galaxies of which the existing galaxies are copies at other positions."""

BANDS = {"250": 1.199e12, "350": 8.565e11, "500": 5.996e11, "850": 3.527e11}
"""Frequencies in Hz of the bands of the photometry, by name."""


@dataclass(frozen=True)
class Template:
    """A galaxy that is copied, with its encoded observations."""

    fingerprint: Fingerprint
    observations: list[bytes]


def galaxy_templates(settings: Settings, codec: Codec) -> list[Template]:
    """Simulated galaxies that are copied; their feature trees come from the parsers in force.

    Raises:
        InfrastructureError: Triton does not answer.
    """
    observations = list(simulate(TEMPLATES, seed=0))
    trees = parse_at_once(settings, observations)
    by_galaxy: dict[str, list[Observation]] = {}
    for each in observations:
        by_galaxy.setdefault(str(galaxy_number(each.observation_id)), []).append(each)
    return [
        Template(merge.build(name, members, trees), [codec.encode(each) for each in members])
        for name, members in by_galaxy.items()
    ]


def moved_copy(
    template: Fingerprint, number: int, random: np.random.Generator
) -> tuple[Fingerprint, list[bytes]]:
    """A copy of a fingerprint at a random position, and the hashes of its observations.

    Args:
        template: the fingerprint.
        number: number of the copy, for its ids.
        random: source of the position.
    """
    right_ascension, declination = random.uniform(0, FIELD_SIDE_DEG, 2).tolist()
    weight = template.position_sums[3]
    vector = unit_vector(right_ascension, declination)
    count = template.acquisition.observations
    hashes = [observation_hash(f"existing {number} {each}") for each in range(count)]
    copy = dataclasses.replace(
        template,
        galaxy_id=merge.galaxy_id(f"existing {number}"),
        right_ascension_deg=right_ascension,
        declination_deg=declination,
        position_sums=np.append(weight * vector, weight),
        observation_hashes=b"".join(hashes),
    )
    return copy, hashes


def of_one_galaxy(name: str, count: int, number: int) -> Iterator[Observation]:
    """Observations of one galaxy: a spectrum, then photometry in four bands, again and again.

    Args:
        name: start of their ids.
        count: number of observations.
        number: number of the galaxy; it seeds the noise and sets the position.
    """
    random = np.random.default_rng(number)
    axis = np.linspace(84e9, 92e9, 1000)
    for each in range(count):
        if each == 0:
            flux = random.normal(0, 1e-3, axis.size).astype(np.float32)
            error = np.full(axis.size, 1e-3, np.float32)
            payload: dict[str, Any] = {"spectrum": Spectrum(axis, "BARYCENTRIC", flux, error)}
        else:
            measured = [
                BandMeasurement(band, frequency, float(random.normal(1e-2, 1e-3)), 1e-3)
                for band, frequency in BANDS.items()
            ]
            payload = {"photometry": Photometry(measured)}
        yield Observation(
            f"{name}-{each}", "simulated", 10.0 + 0.01 * number, float(len(name)), 0.3, 59000.0,
            simulated=True, **payload,
        )  # fmt: skip
