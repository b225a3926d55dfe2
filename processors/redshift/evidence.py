"""Arranges what was observed of a batch of galaxies by kind of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.redshift import dust
from mmbroker.processors.redshift.grids import Array
from mmbroker.processors.redshift.templates import FittedTemplates
from mmbroker.processors.redshift.tuned import Tuned
from mmbroker.schemas.events import Fingerprint, PublishedRedshift


class _Limit(NamedTuple):
    """An upper limit on the continuum of one galaxy."""

    frequency_hz: float
    limit_jy: float
    error_jy: float
    """Noise behind the limit."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Continuum of a batch by distinct frequency; arrays have shape (galaxies, bands)."""

    log_frequency: Array
    flux: Array
    weight: Array
    limit: Array
    limit_error: Array

    def between(self, lowest_hz: float, highest_hz: float) -> Bands:
        """Those above one frequency in Hz, up to another."""
        frequency = np.exp(self.log_frequency)
        inside = (frequency > lowest_hz) & (frequency <= highest_hz)
        return Bands(
            self.log_frequency[inside],
            *(array[:, inside] for array in (self.flux, self.weight, self.limit, self.limit_error)),
        )

    def with_limits_as_zero(self) -> Bands:
        """Upper limits replaced by a flux density of zero with the noise behind the limit.

        It is averaged with what was measured at the same frequency.
        """
        limited = np.isfinite(self.limit)
        weight = self.weight + np.where(limited, self.limit_error**-2.0, 0.0)
        measured = np.divide(self.weight, weight, out=np.ones_like(weight), where=limited)
        none = np.full_like(self.limit, np.nan)
        return Bands(self.log_frequency, self.flux * measured, weight, none, self.limit_error)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which galaxies have a measurement or a limit."""
        used = (self.weight > 0) | np.isfinite(self.limit)
        return np.asarray(np.any(used, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All evidence on the redshifts of N galaxies, except lines.

    Attributes:
        log_continuum: ln of prior, dust and radio together, float64, shape (N, COARSE).
        log_published: ln of the likelihood of the published redshifts, shape (N, COARSE).
        stated: the published redshifts of each galaxy that are used.
        far_infrared: whether each galaxy has far-infrared photometry, shape (N,).
        dust_posterior: the posterior from the dust continuum.
        observed: for each galaxy, which of "dust", "radio" and "lines" were observed.
        tuned: the constants that the evidence was computed with.
        templates: the result of the template fit; None without a fit.
    """

    log_continuum: Array
    log_published: Array
    stated: list[list[PublishedRedshift]]
    far_infrared: NDArray[np.bool_]
    dust_posterior: dust.DustPosterior
    observed: list[list[str]]
    tuned: Tuned
    templates: FittedTemplates | None = None

    @property
    def published(self) -> NDArray[np.bool_]:
        """Whether each galaxy has a published redshift that is used, shape (N,)."""
        return np.array([bool(many) for many in self.stated], bool)

    def select(self, rows: Sequence[int]) -> Evidence:
        """The evidence of the galaxies in the given rows."""
        return Evidence(
            log_continuum=self.log_continuum[rows],
            log_published=self.log_published[rows],
            stated=[self.stated[row] for row in rows],
            far_infrared=self.far_infrared[rows],
            dust_posterior=self.dust_posterior.select(rows),
            observed=[self.observed[row] for row in rows],
            tuned=self.tuned,
            templates=None if self.templates is None else self.templates.select(rows),
        )


ROWS = 8
"""Matrices are filled up to a multiple of this number of rows.

Linear algebra treats single rows in another way, with another rounding, and a result shall not
depend on the batch that it was computed in."""


def filled(count: int) -> NDArray[np.int64]:
    """Indices of rows that fill a batch up to a multiple of ``ROWS``.

    They are all rows in order, and then the first ones again.
    """
    return np.arange(count + -count % ROWS) % count


SAME_FREQUENCY = 1e-9
"""Frequencies that differ by less than this fraction are the same one, computed differently."""


def _tightest(limits: Sequence[_Limit]) -> list[_Limit]:
    """The tightest upper limit at each frequency, whatever the order of the limits."""
    kept: list[_Limit] = []
    last = -np.inf
    for each in sorted(limits):
        if each.frequency_hz > last * (1 + SAME_FREQUENCY):
            kept.append(each)
        else:
            kept[-1] = min(kept[-1], each, key=lambda one: (one.limit_jy, one.error_jy))
        last = each.frequency_hz
    return kept


def bands_of(fingerprints: Sequence[Fingerprint]) -> Bands:
    """Bands and maps of a batch, to the far infrared, on the set of their distinct frequencies.

    Measurements at one frequency are averaged. Of several upper limits the tightest is used.
    """
    rows: list[int] = []
    values: list[tuple[float, float, float, float, float]] = []
    nan = float("nan")
    for row, one in enumerate(fingerprints):
        limits: list[_Limit] = []
        for band in one.bands:
            if band.frequency_hz > dust.HIGHEST_FREQUENCY_HZ:
                continue
            if band.weight <= 0 and band.upper_limit_jy is not None:
                error = band.upper_limit_error_jy or band.upper_limit_jy / 3
                limits.append(_Limit(band.frequency_hz, band.upper_limit_jy, error))
                continue
            rows.append(row)
            values.append((band.frequency_hz, band.weight, band.weighted_flux, nan, 1.0))
        for each in _tightest(limits):
            rows.append(row)
            values.append((each.frequency_hz, 0.0, 0.0, each.limit_jy, each.error_jy))
        for image in one.maps:
            if image.weight <= 0:
                continue
            rows.append(row)
            frequency = image.weighted_frequency / image.weight
            values.append((frequency, image.weight, image.weighted_flux, nan, 1.0))
    table = np.array(values, dtype=float).reshape(-1, 5)
    log_frequency, column = np.unique(np.log(table[:, 0]), return_inverse=True)
    shape = (len(fingerprints), len(log_frequency))
    weight = np.zeros(shape)
    total = np.zeros(shape)
    limit_array = np.full(shape, nan)
    limit_error = np.ones(shape)
    index = (np.array(rows, dtype=int), column)
    np.add.at(weight, index, table[:, 1])
    np.add.at(total, index, table[:, 2])
    limited = np.isfinite(table[:, 3])
    which = (index[0][limited], index[1][limited])
    limit_array[which] = table[limited, 3]
    limit_error[which] = table[limited, 4]
    return Bands(
        log_frequency,
        np.divide(total, weight, out=np.zeros(shape), where=weight > 0),
        weight,
        limit_array,
        limit_error,
    )


def inputs_of(fingerprint: Fingerprint, far_infrared: bool, radio_present: bool) -> list[str]:
    """What a redshift without published ones rests on, by name.

    Args:
        fingerprint: of the galaxy.
        far_infrared: whether it has continuum that dust explains.
        radio_present: whether it has radio continuum.
    """
    named = {
        "dust": far_infrared,
        "radio": radio_present,
        "lines": bool(len(fingerprint.chunk_index)),
    }
    return [name for name, used in named.items() if used]
