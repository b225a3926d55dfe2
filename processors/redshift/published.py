"""Likelihoods of published photometric redshifts, with wider errors and catastrophic failures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from mmbroker.processors.redshift.grids import COARSE, Array
from mmbroker.processors.redshift.tuned import Tuned
from mmbroker.schemas.events import PublishedRedshift

_STEP = float(COARSE[1] - COARSE[0])
_SPAN = float(COARSE[-1] - COARSE[0] + _STEP)


def independent(estimates: Sequence[PublishedRedshift], dust: bool) -> list[PublishedRedshift]:
    """The estimates that do not rest on evidence that is used elsewhere.

    A photometric redshift from the far infrared uses the same photometry as the dust templates. So
    it is left out if there is far-infrared photometry. Such an estimate is recognised by the word
    "infrared" in the name of its method.

    Args:
        estimates: the published redshifts of one galaxy.
        dust: whether the galaxy has far-infrared photometry.
    """
    return [one for one in estimates if not (dust and "infrared" in one.method.lower())]


def log_likelihood(tuned: Tuned, estimates: Sequence[Sequence[PublishedRedshift]]) -> Array:
    """The ln of the likelihood of the published redshifts of each galaxy at each trial redshift.

    Several methods use mostly the same photometry, so together they count little more than one.

    Args:
        tuned: the tuned constants.
        estimates: the published redshifts of each galaxy.

    Returns:
        float64, shape (galaxies, COARSE); 0 where nothing is published.
    """
    result = np.zeros((len(estimates), len(COARSE)))
    owner = np.array([row for row, many in enumerate(estimates) for _ in many], dtype=int)
    flat = [one for many in estimates for one in many]
    if not flat:
        return result
    centre = np.log1p(np.array([max(one.redshift, 0.0) for one in flat]))
    width = np.array([_half_width(one, tuned) for one in flat])
    degrees = tuned.published_degrees
    deviation = (COARSE[None, :] - centre[:, None]) / width[:, None]
    constant = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * np.log(degrees * np.pi)
    core = (
        np.exp(constant - (degrees + 1) / 2 * np.log1p(np.square(deviation) / degrees))
        / width[:, None]
    )
    for row, one in enumerate(flat):
        if one.grid_redshift is not None and one.grid_density is not None:
            core[row] = _recalibrated(one, tuned)
    share = tuned.published_outliers
    each = np.log((1 - share) * core + share / _SPAN)
    counts = np.bincount(owner, minlength=len(estimates))
    weight = 1 / (1 + tuned.published_correlation * np.maximum(counts - 1, 0))
    np.add.at(result, owner, each * weight[owner][:, None])
    return result


def _half_width(one: PublishedRedshift, tuned: Tuned) -> float:
    """Half of the 68 % interval in ln(1 + z), recalibrated; a default without an interval."""
    if one.lower_68 is None or one.upper_68 is None or one.upper_68 <= one.lower_68:
        return tuned.published_default
    width = 0.5 * (np.log1p(max(one.upper_68, 0.0)) - np.log1p(max(one.lower_68, 0.0)))
    return float(np.hypot(tuned.published_inflation * width, tuned.published_floor))


def _recalibrated(one: PublishedRedshift, tuned: Tuned) -> Array:
    """A published density in ln(1 + z), inflated and smoothed by the floor, shape (COARSE,)."""
    assert one.grid_redshift is not None
    assert one.grid_density is not None
    redshift = np.asarray(one.grid_redshift, float)
    density = np.maximum(np.asarray(one.grid_density, float), 0) * (1 + redshift)
    density = np.interp(np.expm1(COARSE), redshift, density, left=0.0, right=0.0)
    if not density.sum() > 0:
        return np.full(len(COARSE), 1 / _SPAN)
    # A Gaussian to the power 1/k**2 is wider by a factor k.
    density = (density / density.max()) ** (tuned.published_inflation**-2)
    offset = COARSE - COARSE[len(COARSE) // 2]
    kernel = np.exp(-0.5 * np.square(offset / max(tuned.published_floor, _STEP / 2)))
    smooth = np.maximum(np.convolve(density, kernel / kernel.sum(), mode="full"), 0)
    smooth = smooth[len(COARSE) // 2 :][: len(COARSE)]
    return np.asarray(smooth / (smooth.sum() * _STEP))
