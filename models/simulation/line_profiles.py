"""Simulates profiles of emission lines: Gaussian, double-horned, and blended.

The line of a rotating disc has two horns. Its profile is the Gaussian Double Peak function that
Tiley et al. 2016 (MNRAS 461 3494) favour for integrated CO lines: a parabola between two half
Gaussians, here with horns that may differ in height. A blend is two Gaussians that overlap: two
galaxies about to merge, or two lines such as CO(7-6) and [CI](2-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mmbroker.processors import relations
from mmbroker.processors.features.lines import SHAPES
from mmbroker.processors.relations import FWHM_PER_SIGMA
from mmbroker.schemas.events import Floats

Integers = NDArray[np.int64]

GAUSSIAN, DOUBLE_HORNED, BLENDED = range(len(SHAPES))
"""Indices into SHAPES."""

SHAPE_SHARES = (0.65, relations.DOUBLE_PEAKED_SHARE, 0.10)
"""The shares of Gaussian, double-horned and blended lines. Assumed: as many are double-horned as
are seen with two peaks. The noise hides more of them, and how many are mergers is not known."""

_HORN_SEPARATIONS = (0.55, 0.80)
_BLEND_SEPARATIONS = (0.50, 0.68)
_HORN_CONTRASTS = (-0.25, 0.25)
_BLEND_CONTRASTS = (-0.5, 0.5)
_VALLEYS = (0.4, 0.85)
_LOG_WIDTH_RATIOS = (-0.5, 0.5)
"""The ranges from which the parameters of ``LineProfiles`` are drawn; the last is of its ln.
Assumed, so that two peaks can be told apart, and neither of them vanishes."""


@dataclass(frozen=True, slots=True, eq=False)
class LineProfiles:
    """N profiles of unit integral around velocity 0, the middle between their outer edges.

    Attributes:
        shape: index into SHAPES, int, shape (N,).
        width_km_s: the velocity in km/s from the outer half maximum of the first peak to that of
            the last, float64, shape (N,); the full width at half maximum of a Gaussian.
        separation: the separation of the two peaks as a share of the width, shape (N,); 0 for a
            Gaussian.
        contrast: how the two peaks differ, in (-1, 1), shape (N,): the tilt of the horns, or the
            difference of a blend's fluxes as a share of their sum.
        valley: the flux density midway between the horns relative to their mean, shape (N,).
        width_ratio: the width of a blend's second Gaussian relative to its first, shape (N,).
    """

    shape: Integers
    width_km_s: Floats
    separation: Floats
    contrast: Floats
    valley: Floats
    width_ratio: Floats

    def __len__(self) -> int:
        return len(self.shape)

    def cumulative(self, velocity_km_s: Floats) -> Floats:
        """The share of the flux below given velocities.

        Args:
            velocity_km_s: velocities in km/s, shape (N, points).

        Returns:
            float64, shape (N, points).
        """
        share = np.empty(velocity_km_s.shape)
        for kind, function in enumerate((_gaussian, _double_horned, _blended)):
            rows = self.shape == kind
            if rows.any():
                share[rows] = function(self, rows, velocity_km_s[rows])
        return share


def draw_profiles(
    width_km_s: Floats, random: np.random.Generator, shape: Integers | None = None
) -> LineProfiles:
    """Draw profiles of given widths.

    Args:
        width_km_s: widths in km/s, see ``LineProfiles``, shape (N,).
        random: the generator of random numbers.
        shape: index into SHAPES, shape (N,); None draws them with SHAPE_SHARES.

    Raises:
        ValueError: a width is not positive.
    """
    count = len(width_km_s)
    if not (width_km_s > 0).all():
        raise ValueError(f"width_km_s must be positive, not {np.min(width_km_s)}")
    if shape is None:
        shape = random.choice(len(SHAPES), count, p=SHAPE_SHARES)
    horned, blended = shape == DOUBLE_HORNED, shape == BLENDED
    separation = np.where(horned, random.uniform(*_HORN_SEPARATIONS, count), 0.0)
    separation = np.where(blended, random.uniform(*_BLEND_SEPARATIONS, count), separation)
    contrast = np.where(horned, random.uniform(*_HORN_CONTRASTS, count), 0.0)
    contrast = np.where(blended, random.uniform(*_BLEND_CONTRASTS, count), contrast)
    return LineProfiles(
        shape=shape,
        width_km_s=np.asarray(width_km_s, float),
        separation=separation,
        contrast=contrast,
        valley=random.uniform(*_VALLEYS, count),
        width_ratio=np.exp(random.uniform(*_LOG_WIDTH_RATIOS, count)),
    )


def _gaussian(profiles: LineProfiles, rows: NDArray[np.bool_], velocity: Floats) -> Floats:
    sigma = profiles.width_km_s[rows][:, None] / FWHM_PER_SIGMA
    share: Floats = ndtr(velocity / sigma)
    return share


def _double_horned(profiles: LineProfiles, rows: NDArray[np.bool_], velocity: Floats) -> Floats:
    width = profiles.width_km_s[rows][:, None]
    half = profiles.separation[rows][:, None] * width / 2  # from the middle to a horn
    sigma = (width - 2 * half) / FWHM_PER_SIGMA
    tilt = profiles.contrast[rows][:, None]
    valley = profiles.valley[rows][:, None]
    left, right = 1 - tilt, 1 + tilt
    wing = sigma * np.sqrt(2 * np.pi)
    place = np.clip(velocity / half, -1.0, 1.0)
    # The parabola valley + tilt x + (1 - valley) x**2 goes through both horns.
    parabola = half * (
        valley * (place + 1) + tilt * (place**2 - 1) / 2 + (1 - valley) * (place**3 + 1) / 3
    )
    below = left * wing * ndtr(np.minimum(velocity + half, 0.0) / sigma)
    above = right * wing * (ndtr(np.maximum(velocity - half, 0.0) / sigma) - 0.5)
    total = wing + half * (2 * valley + 2 * (1 - valley) / 3)
    share: Floats = (below + parabola + above) / total
    return share


def _blended(profiles: LineProfiles, rows: NDArray[np.bool_], velocity: Floats) -> Floats:
    width = profiles.width_km_s[rows][:, None]
    separation = profiles.separation[rows][:, None] * width
    # Half of each width lies outside of the two centres.
    first = 2 * (width - separation) / (1 + profiles.width_ratio[rows][:, None])
    second = 2 * (width - separation) - first
    contrast = profiles.contrast[rows][:, None]
    left = -width / 2 + first / 2
    right = width / 2 - second / 2
    below = (1 - contrast) / 2 * ndtr((velocity - left) * FWHM_PER_SIGMA / first)
    share: Floats = below + (1 + contrast) / 2 * ndtr((velocity - right) * FWHM_PER_SIGMA / second)
    return share
