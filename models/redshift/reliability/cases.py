"""Makes of real galaxies the cases that the probability of redshifts is fitted to and judged on.

A galaxy is a case for each kind of evidence that can be made of it: with all that is known of it,
with its published redshifts but without far infrared and radio, and with these but without
published redshifts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from mmbroker.models.real_data.catalogues import COSMOS, GOODS_NORTH, SPT, SUPERDEBLENDED
from mmbroker.models.redshift import measures
from mmbroker.models.redshift.learned_from import was_learned_from
from mmbroker.models.redshift.real_galaxies import read_galaxies
from mmbroker.processors.redshift import ConventionalRedshift, dust, published, radio
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, evidence_kind
from mmbroker.processors.redshift.modes import REDSHIFT_TOLERANCE
from mmbroker.processors.redshift.templates import TemplateFit
from mmbroker.processors.scoring.reliability import CHECKS, checks_of
from mmbroker.schemas.events import BandStatistics, Fingerprint, MapStatistics

Array = NDArray[np.float64]

TABLES = (
    "GOODS-N (Liu et al. 2018, redshifts of Skelton et al. 2014)",
    "COSMOS (Drew & Casey 2022; Jin et al. 2018; secure redshifts of zCOSMOS)",
    "SPT (Reuter et al. 2020)",
)
"""The tables of ``read_samples``."""

_TOGETHER = 250


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Galaxies of one field with spectroscopic redshifts.

    Attributes:
        field: the name of the field.
        names: the names of the galaxies, which say their folds.
        fingerprints: their fingerprints.
        truth: their spectroscopic redshifts, shape (galaxies,).
        s500_jy: their flux densities at 500 um, NaN where not measured, shape (galaxies,).
    """

    field: str
    names: Sequence[str]
    fingerprints: Sequence[Fingerprint]
    truth: Array
    s500_jy: Array

    def select(self, chosen: NDArray[np.bool_]) -> Sample:
        """The chosen galaxies."""
        rows = np.flatnonzero(chosen).tolist()
        return Sample(
            self.field,
            [self.names[row] for row in rows],
            [self.fingerprints[row] for row in rows],
            self.truth[chosen],
            self.s500_jy[chosen],
        )


def read_samples(folder: Path) -> list[Sample]:
    """The galaxies with secure spectroscopic redshifts that the packaged probability is fitted to.

    GOODS-N (Liu et al. 2018), the two far-infrared tables of COSMOS (Drew & Casey 2022; Jin et al.
    2018), of which a galaxy in both counts in the first, and SPT (Reuter et al. 2020). In COSMOS,
    redshifts of zCOSMOS of classes 3 and 4 are secure.

    Args:
        folder: the folder of the tables.
    """
    found = [sample_of(folder / GOODS_NORTH, "GOODS-N")]
    taken: set[int] = set()
    for path in (folder / COSMOS, folder / SUPERDEBLENDED):
        table, sample = Table.read(path), sample_of(path, "COSMOS")
        identifier = table.colnames[0]
        secure = {
            str(row[identifier]): int(row["id_zcosmos"])
            for row in table
            if 3.0 <= row["cc"] < 5.0 and row["id_zcosmos"] not in taken
        }
        found.append(sample.select(np.array([name in secure for name in sample.names])))
        taken |= set(secure.values())
    return [*found, sample_of(folder / SPT[0], "SPT")]


def sample_of(table: Path, field: str = "") -> Sample:
    """The galaxies of a table that have a spectroscopic redshift.

    Args:
        table: path of the table.
        field: the name of the field; by default that of the table.
    """
    galaxies = read_galaxies(table)
    return Sample(
        field or table.name,
        galaxies.identifiers,
        galaxies.fingerprints,
        galaxies.truth,
        galaxies.s500_jy,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """N cases; all arrays have shape (N,).

    Attributes:
        field: the name of the field.
        name: the name of the galaxy.
        kind: the kind of evidence, see ``EvidenceKind``.
        checks: the values of ``CHECKS`` by name, NaN where not known.
        best: the redshift in force.
        truth: the spectroscopic redshift.
        s500_jy: the flux density at 500 um, NaN where it was not measured.
        unseen: whether templates were fitted without this galaxy.
    """

    field: NDArray[np.str_]
    name: NDArray[np.str_]
    kind: NDArray[np.str_]
    checks: dict[str, Array]
    best: Array
    truth: Array
    s500_jy: Array
    unseen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.best)

    @property
    def galaxy(self) -> NDArray[np.str_]:
        """The name of the galaxy after that of its field, which no other has."""
        return np.char.add(np.char.add(self.field, " "), self.name)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each redshift is right."""
        return np.asarray(np.abs(measures.deviation(self.best, self.truth)) <= REDSHIFT_TOLERANCE)

    def select(self, chosen: NDArray[np.bool_]) -> Cases:
        """The chosen cases."""
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        checks = {name: values[chosen] for name, values in parts.pop("checks").items()}
        return Cases(**{name: array[chosen] for name, array in parts.items()}, checks=checks)


def cases_of(
    samples: Sequence[Sample],
    templates: TemplateFit,
    estimator_of: Callable[[str], ConventionalRedshift],
) -> Cases:
    """The cases of some galaxies.

    Args:
        samples: the galaxies.
        templates: the templates that redshifts are compared with.
        estimator_of: the estimator of a galaxy by its name, so that constants may be those of
            other galaxies.
    """
    parts: list[Cases] = []
    for sample in samples:
        position = [(one.right_ascension_deg, one.declination_deg) for one in sample.fingerprints]
        unseen = ~was_learned_from(*np.array(position).T)
        by_estimator: dict[int, tuple[ConventionalRedshift, list[int]]] = {}
        for row, name in enumerate(sample.names):
            estimator = estimator_of(name)
            by_estimator.setdefault(id(estimator), (estimator, []))[1].append(row)
        for estimator, every in by_estimator.values():
            for first in range(0, len(every), _TOGETHER):
                rows = every[first : first + _TOGETHER]
                variants = [
                    (row, one) for row in rows for one in _variants(sample.fingerprints[row])
                ]
                parts.append(_cases(sample, unseen, variants, templates, estimator))
    names = [one.name for one in fields(Cases) if one.name != "checks"]
    joined = {name: np.concatenate([getattr(one, name) for one in parts]) for name in names}
    checks = {name: np.concatenate([one.checks[name] for one in parts]) for name in CHECKS}
    return Cases(**joined, checks=checks)


def _cases(
    sample: Sample,
    unseen: NDArray[np.bool_],
    variants: Sequence[tuple[int, Fingerprint]],
    templates: TemplateFit,
    estimator: ConventionalRedshift,
) -> Cases:
    rows = np.array([row for row, _ in variants])
    fingerprints = [one for _, one in variants]
    evidence = replace(estimator.evidence(fingerprints), templates=templates.fitted(fingerprints))
    estimated = estimator.estimate_fully(fingerprints, evidence)
    kinds = [evidence_kind(one.posterior) for one in estimated]
    found = Cases(
        field=np.array([sample.field] * len(rows)),
        name=np.array([sample.names[row] for row in rows]),
        kind=np.array([kind.value for kind in kinds]),
        checks=checks_of(fingerprints, estimated, evidence),
        best=np.array([one.posterior.best for one in estimated]),
        truth=sample.truth[rows],
        s500_jy=sample.s500_jy[rows],
        unseen=unseen[rows],
    )
    return found.select(np.array([kind not in NO_REDSHIFT for kind in kinds]))


def _variants(fingerprint: Fingerprint) -> list[Fingerprint]:
    """A galaxy with each kind of evidence that can be made of it."""
    found = [fingerprint]
    # A redshift from the far infrared is no evidence of its own beside the far infrared.
    if published.independent(fingerprint.photometric_redshifts, dust=True):
        near = [one for one in fingerprint.bands if not _is_far(one)]
        maps = [one for one in fingerprint.maps if not _is_far(one)]
        found.append(replace(fingerprint, bands=near, maps=maps))
        found.append(replace(fingerprint, photometric_redshifts=[]))
    return found


def _is_far(part: BandStatistics | MapStatistics) -> bool:
    """Whether dust or radio emission explains a part of the continuum."""
    frequency = (
        part.frequency_hz
        if isinstance(part, BandStatistics)
        else part.weighted_frequency / part.weight
    )
    in_dust = dust.LOWEST_FREQUENCY_HZ < frequency <= dust.HIGHEST_FREQUENCY_HZ
    return in_dust or frequency <= radio.HIGHEST_FREQUENCY_HZ
