"""The constants that are tuned on real galaxies, with their packaged values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Tuned:
    """Constants tuned by cross-validation over galaxies; see ``models.redshift.conventional.tune``.

    All widths of published redshifts are in ln(1 + z).

    Attributes:
        published_inflation: factor on half of the published 68 % interval.
        published_floor: width that is added in quadrature to the inflated half-width.
        published_default: half-width where no interval is published.
        published_degrees: degrees of freedom of the Student t distribution of the core.
        published_outliers: share of published redshifts that are catastrophic failures.
        published_correlation: correlation of methods on one galaxy: n methods count as n / (1 +
            correlation (n - 1)).
        dust_temper: exponent of the likelihood of the dust continuum.
        dust_error: fractional error of the modified black body beyond its peak.
        dust_wien_error: growth of that error per e-fold of rest wavelength below 60 um.
        dust_peak_scatter: scatter of ln(peak wavelength) at given infrared luminosity.
        dust_mismatch: share of galaxies whose far-infrared and radio continuum is that of a
            neighbour.
        luminosity_limit: apparent L_IR in Lsun at which half of the galaxies at z = 1 are missing
            from catalogues. At other redshifts the limit has the same flux; see
            ``luminosity.completeness``.
        continuum_beside_published: exponent of what dust and radio continuum add to the prior where
            there is a published redshift, which they contradict too often to overrule it.
        radio_temper: exponent of the likelihood of the radio continuum.
        radio_excess: share of galaxies whose radio emission is dominated by an active nucleus.
    """

    published_inflation: float
    published_floor: float
    published_default: float
    published_degrees: float
    published_outliers: float
    published_correlation: float
    continuum_beside_published: float
    dust_temper: float
    dust_error: float
    dust_wien_error: float
    dust_peak_scatter: float
    dust_mismatch: float
    luminosity_limit: float
    radio_temper: float
    radio_excess: float


def packaged() -> Tuned:
    """The tuned constants in force, from ``tuned.json`` beside this module."""
    text = resources.files(__package__).joinpath("tuned.json").read_text()
    return Tuned(**json.loads(text)["constants"])
