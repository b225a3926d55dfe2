"""Makes training examples of fingerprints: simulated, real, and corrupted ones.

The true redshift of a galaxy is no part of an example.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.real_data.catalogues import read_catalogues
from mmbroker.models.real_data.split import TRAIN, name_hash, split_of
from mmbroker.models.simulation.observations import galaxy_number, simulate
from mmbroker.processors.fingerprint import vector
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.fingerprint.vector import FingerprintVectors, Float32
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.schemas.events import Fingerprint, Observation, Photometry

PARTIAL_VARIANTS = 2
"""The number of examples of a real galaxy besides the complete one.

Each of them has part of its observations.
"""

TRAINING_VARIANTS = 12
"""The same for a galaxy of the training split: with more, the critic learns less by heart."""

CORRUPTIONS = ("chimera", "scaled", "wrong redshift")

_BATCH = 250

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N fingerprints as the networks see them.

    Attributes:
        vectors: the vectors of the fingerprints.
        condition: their conventional redshifts, as ``vector.condition`` makes them, float32, shape
            (N, REDSHIFT_CELLS).
        split: TRAIN, VALIDATION or TEST, the same for all examples of a galaxy; int64, shape (N,).
        simulated: whether the galaxy is simulated, bool, shape (N,).
        galaxy: a number for each galaxy, the same for all its examples; int64, shape (N,).
    """

    vectors: FingerprintVectors
    condition: Float32
    split: Integers
    simulated: Booleans
    galaxy: Integers

    def __len__(self) -> int:
        return len(self.split)

    def where(self, chosen: Booleans | Integers) -> Examples:
        """The chosen examples.

        Args:
            chosen: whether each example is chosen, shape (N,), or the indices of the chosen ones.
        """
        vectors = FingerprintVectors(self.vectors.values[chosen], self.vectors.mask[chosen])
        return Examples(
            vectors,
            self.condition[chosen],
            self.split[chosen],
            self.simulated[chosen],
            self.galaxy[chosen],
        )

    def with_values(self, values: Float32) -> Examples:
        """The same examples with other values.

        Args:
            values: the values, float32, shape (N, LENGTH).
        """
        return replace(self, vectors=FingerprintVectors(values, self.vectors.mask))

    @property
    def complete(self) -> Examples:
        """The first example of each galaxy, which has all its observations; in order of galaxy."""
        return self.where(np.unique(self.galaxy, return_index=True)[1])

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            FingerprintVectors(
                np.concatenate([self.vectors.values, other.vectors.values]),
                np.concatenate([self.vectors.mask, other.vectors.mask]),
            ),
            np.concatenate([self.condition, other.condition]),
            np.concatenate([self.split, other.split]),
            np.concatenate([self.simulated, other.simulated]),
            np.concatenate([self.galaxy, other.galaxy]),
        )


def simulated_examples(galaxies: int, seed: int) -> Examples:
    """Make one example of each simulated galaxy, from all its observations.

    Args:
        galaxies: the number of galaxies.
        seed: the seed of the simulation.
    """
    observations: dict[int, list[Observation]] = defaultdict(list)
    for observation in simulate(galaxies, seed):
        observations[galaxy_number(observation.observation_id)].append(observation)
    named = [(f"simulated {seed} {number}", each) for number, each in sorted(observations.items())]
    return _examples(named, simulated=True)


def real_examples(folder: Path, seed: int) -> Examples:
    """Make examples of the galaxies in published tables, complete and with part of their data.

    Args:
        folder: the folder of the tables.
        seed: the seed of which observations are left out.

    Raises:
        FileNotFoundError: a table is missing.
    """
    named = []
    for galaxy in read_catalogues(folder):
        # It has its own generator, so that a galaxy's examples do not depend on the others'.
        random = np.random.default_rng([seed, name_hash(galaxy.name)])
        variants = TRAINING_VARIANTS if split_of(galaxy.name) == TRAIN else PARTIAL_VARIANTS
        named.append((galaxy.name, galaxy.observations))
        named.extend((galaxy.name, _some(galaxy.observations, random)) for _ in range(variants))
    return _examples(named, simulated=False)


def corrupted(examples: Examples, random: np.random.Generator) -> tuple[Examples, Integers]:
    """Corrupt examples in ways that happen.

    * chimera: above some frequency the fluxes are those of another galaxy, as after a wrong
      association;
    * scaled: one to four neighbouring intervals are too bright or too faint by 0.5 to 1.5 dex, as
      after a mistaken unit;
    * wrong redshift: the redshift posterior is that of another galaxy.

    Args:
        examples: N examples.
        random: the generator of random numbers.

    Returns:
        The corrupted examples, and the index into CORRUPTIONS of each, int64, shape (N,).
    """
    count = len(examples)
    kind = random.integers(len(CORRUPTIONS), size=count)
    other = random.permutation(count)
    values = examples.vectors.values.copy()
    mask = examples.vectors.mask
    broadband = values[:, vector.BROADBAND]
    seen = mask[:, vector.BROADBAND] > 0

    cut = random.integers(1, broadband.shape[1], size=(count, 1))
    swap = (kind[:, None] == 0) & (np.arange(broadband.shape[1]) >= cut) & seen & seen[other]
    scaled = random.uniform(0.5, 1.5, (count, 1)) * random.choice([-1.0, 1.0], (count, 1))
    place = np.cumsum(seen, axis=1) - 1
    start = random.integers(0, seen.sum(axis=1).clip(1))[:, None]
    width = random.integers(1, 5, size=(count, 1))
    block = (kind[:, None] == 1) & seen & (place >= start) & (place < start + width)
    broadband = np.where(swap, broadband[other], broadband)
    broadband = np.where(block, np.arcsinh(np.sinh(broadband) * 10**scaled), broadband)
    values[:, vector.BROADBAND] = broadband

    condition = np.where(kind[:, None] == 2, examples.condition[other], examples.condition)
    return replace(examples.with_values(values.astype(np.float32)), condition=condition), kind


def exchanged(examples: Examples, random: np.random.Generator) -> Examples:
    """Exchange two fluxes of each galaxy, as a mistaken column does.

    No critic is trained on this corruption: it shows how a critic judges errors that it has never
    met. A galaxy with a single flux stays as it is.

    Args:
        examples: the examples.
        random: the generator of random numbers.
    """
    values = examples.vectors.values.copy()
    seen = examples.vectors.mask[:, vector.BROADBAND] > 0
    # Observed fluxes come first, in random order.
    order = np.argsort(np.where(seen, random.random(seen.shape), 2.0), axis=1)
    enough = np.flatnonzero(seen.sum(axis=1) > 1)
    first, second = order[enough, 0], order[enough, 1]
    values[enough, first], values[enough, second] = values[enough, second], values[enough, first]
    return examples.with_values(values)


def balanced(examples: Examples) -> Examples:
    """Choose as many simulated as real examples, or all if there are only simulated ones.

    Args:
        examples: the examples.
    """
    real = np.flatnonzero(~examples.simulated)
    simulated = np.flatnonzero(examples.simulated)
    if not len(real):
        return examples
    count = min(len(real), len(simulated))
    # They are chosen evenly over each kind, because tables come one after the other.
    return examples.where(
        np.concatenate([kind[np.arange(count) * len(kind) // count] for kind in (real, simulated)])
    )


def _examples(named: Sequence[tuple[str, Iterable[Observation]]], simulated: bool) -> Examples:
    redshift = ConventionalRedshift()
    values, masks, conditions = [], [], []
    for start in range(0, len(named), _BATCH):
        fingerprints: list[Fingerprint] = [build(*each) for each in named[start : start + _BATCH]]
        part = vector.vectors(fingerprints)
        values.append(part.values)
        masks.append(part.mask)
        conditions.append(vector.condition(redshift.estimate(fingerprints)))
    examples = Examples(
        FingerprintVectors(np.concatenate(values), np.concatenate(masks)),
        np.concatenate(conditions),
        np.array([split_of(name) for name, _ in named]),
        np.full(len(named), simulated),
        np.array([name_hash(name) >> 1 for name, _ in named]),
    )
    # If there is no flux at all, but a photometric redshift, there is nothing to judge.
    return examples.where(examples.vectors.observed)


def _some(observations: list[Observation], random: np.random.Generator) -> list[Observation]:
    """Choose part of a galaxy's observations: some of the bands, and some of the redshifts."""
    chosen = []
    for observation in observations:
        if observation.photometry is None:
            if random.random() < 0.5:
                chosen.append(observation)
            continue
        bands = observation.photometry.measurements
        share = random.uniform(0.3, 0.9)
        keep = np.flatnonzero(random.random(len(bands)) < share)
        if len(keep) < 2:
            keep = np.arange(len(bands))
        photometry = Photometry([bands[k] for k in keep])
        chosen.append(replace(observation, photometry=photometry))
    return chosen
