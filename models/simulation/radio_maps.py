"""Simulates radio maps: compact, extended and double sources, and jets, with their components.

A source is a few elliptical Gaussians, so that its image in an elliptical Gaussian beam is exact.
The noise is correlated over the beam, as it is in every map made from visibilities; residual
sidelobes of the beam scale with the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.features.maps import MORPHOLOGIES
from mmbroker.processors.relations import FWHM_PER_SIGMA
from mmbroker.schemas.events import Floats

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]
Float32 = NDArray[np.float32]

COMPACT, EXTENDED, DOUBLE, JET = range(len(MORPHOLOGIES))
"""Indices into MORPHOLOGIES."""

COMPONENTS = 6
"""The most components of a source: a core and five knots."""

_NUCLEUS_SHARES = {COMPACT: 0.4, DOUBLE: 0.35, JET: 0.25}
"""The shares of morphologies among active nuclei. Assumed: enough of each to learn from."""

NUCLEUS_EXCESS_DEX = 0.6
"""Assumed excess of the radio emission above which the nucleus decides the morphology."""

_AXIS_RATIOS = (0.4, 1.0)
_COMPACT_BEAMS = (0.0, 0.33)
_EXTENDED_BEAMS = (0.7, 3.0)
"""The ranges of axis ratios and of sizes in beams. Assumed: a map can tell the two kinds apart."""

_LOG_LOBE_SEPARATIONS = (float(np.log(1.4)), float(np.log(5.0)))
_LOBE_PARTS = (0.25, 0.75)
_LOBE_BEAMS = (0.1, 0.8)
_CORE_PARTS = (0.0, 0.15)
_CORE_SHARE = 0.3
"""The ranges of a double's parameters: ln of the separation in beams, first lobe as a part of the
flux, size of a lobe in beams, core as a part of the flux; and the share of doubles that have a
core. Assumed: a map resolves the lobes."""

_KNOT_STEPS = (0.6, 1.3)
_KNOT_BEAMS = (0.3, 0.9)
_BEND_RAD = 0.12
_BRIGHTEST_KNOTS = (0.35, 0.9)
_FADINGS = (0.6, 0.9)
"""The ranges of the distance between a jet's knots and of their sizes, in beams; the scatter of its
bend from knot to knot; the ranges of the flux of the first knot over that of the core, and of each
further knot over the one before. Assumed: a map resolves the jet."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The components of N sources: float64 arrays of shape (N, COMPONENTS), 0 where there is none.

    Attributes:
        x_beams: the offset from the middle of the map along the x axis, in beams.
        y_beams: the offset along the y axis, in beams.
        flux_jy: the flux density in Jy.
        major_beams: the intrinsic full width at half maximum along the major axis, in beams.
        minor_beams: the intrinsic full width at half maximum along the minor axis, in beams.
        angle: the angle of the major axis from the x axis, in radians.
    """

    x_beams: Floats
    y_beams: Floats
    flux_jy: Floats
    major_beams: Floats
    minor_beams: Floats
    angle: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Beam:
    """Elliptical Gaussian beams of N maps, float64 arrays of shape (N,).

    Attributes:
        pixels: the geometric mean of the full widths at half maximum, in pixels.
        axis_ratio: the minor over the major axis.
        angle: the angle of the major axis from the x axis, in radians.
    """

    pixels: Floats
    axis_ratio: Floats
    angle: Floats

    def covariance(self) -> Floats:
        """The second moments in square pixels, float64, shape (N, 2, 2) as (x, y)."""
        major = self.pixels / np.sqrt(self.axis_ratio)
        return _covariance(major, major * self.axis_ratio, self.angle)


def draw_morphology(
    radio_excess_dex: Floats, starburst: Booleans, random: np.random.Generator
) -> Integers:
    """Draw morphologies: doubles and jets where active nuclei outshine star formation.

    Some active nuclei are compact. Of the other galaxies, starbursts are compact, and those on the
    main sequence are extended (Jimenez-Andrade et al. 2019, A&A 625 A114).

    Args:
        radio_excess_dex: log10 of the radio emission over that of star formation, shape (N,).
        starburst: whether a galaxy is above the main sequence, bool, shape (N,).
        random: the generator of random numbers.

    Returns:
        The index into MORPHOLOGIES, int64, shape (N,).
    """
    count = len(radio_excess_dex)
    resolved = np.where(starburst, COMPACT, EXTENDED)
    active = random.choice(list(_NUCLEUS_SHARES), count, p=list(_NUCLEUS_SHARES.values()))
    morphology: Integers = np.where(
        np.asarray(radio_excess_dex) > NUCLEUS_EXCESS_DEX, active, resolved
    )
    return morphology


def draw_components(
    morphology: Integers, flux_jy: Floats, random: np.random.Generator
) -> Components:
    """Draw the components of sources.

    Compact sources are smaller than a third of the beam. A double is two lobes, brightest away from
    the middle (class II of Fanaroff & Riley 1974, MNRAS 167 31P), some with a faint core. A jet is
    a core and knots that fade along a bent line to one side, as of class I.

    Args:
        morphology: index into MORPHOLOGIES, shape (N,).
        flux_jy: the total flux density in Jy, shape (N,).
        random: the generator of random numbers.
    """
    count = len(morphology)
    shape = (count, COMPONENTS)
    x, y, share, major = (np.zeros(shape) for _ in range(4))
    ratio = random.uniform(*_AXIS_RATIOS, shape)
    angle = random.uniform(0, np.pi, shape)
    axis = random.uniform(0, 2 * np.pi, count)

    share[:, 0] = 1.0
    major[:, 0] = random.uniform(*_COMPACT_BEAMS, count)
    rows = np.flatnonzero(morphology == EXTENDED)
    major[rows, 0] = random.uniform(*_EXTENDED_BEAMS, len(rows))

    rows = np.flatnonzero(morphology == DOUBLE)
    separation = np.exp(random.uniform(*_LOG_LOBE_SEPARATIONS, len(rows)))
    unequal = random.uniform(*_LOBE_PARTS, len(rows))
    core = random.uniform(*_CORE_PARTS, len(rows)) * (random.random(len(rows)) < _CORE_SHARE)
    for lobe, (side, part) in enumerate(((-0.5, unequal), (0.5, 1 - unequal))):
        x[rows, lobe] = side * separation * np.cos(axis[rows])
        y[rows, lobe] = side * separation * np.sin(axis[rows])
        share[rows, lobe] = part * (1 - core)
        major[rows, lobe] = random.uniform(*_LOBE_BEAMS, len(rows))
    share[rows, 2] = core

    rows = np.flatnonzero(morphology == JET)
    knots = random.integers(2, COMPONENTS, len(rows))
    step = random.uniform(*_KNOT_STEPS, len(rows))
    bend = random.normal(0.0, _BEND_RAD, len(rows))
    brightest = random.uniform(*_BRIGHTEST_KNOTS, len(rows))
    direction = axis[rows].copy()
    place = np.zeros((2, len(rows)))
    for knot in range(1, COMPONENTS):
        place += step * np.array([np.cos(direction), np.sin(direction)])
        direction += bend
        x[rows, knot], y[rows, knot] = place
        fading = brightest * random.uniform(*_FADINGS, len(rows)) ** (knot - 1)
        share[rows, knot] = np.where(knot <= knots, fading, 0.0)
        major[rows, knot] = random.uniform(*_KNOT_BEAMS, len(rows))
        angle[rows, knot] = direction

    share /= share.sum(axis=1, keepdims=True)
    present = share > 0
    return Components(
        x_beams=x * present,
        y_beams=y * present,
        flux_jy=share * np.asarray(flux_jy)[:, None],
        major_beams=major * present,
        minor_beams=major * ratio * present,
        angle=angle * present,
    )


def resized(components: Components, extent_beams: Floats) -> Components:
    """Scale sources to another size.

    Args:
        components: the components of N sources.
        extent_beams: the largest distance between two components in beams, shape (N,). For a source
            with one component, it is the full width at half maximum along the major axis.
    """
    x, y = components.x_beams, components.y_beams
    # An absent component is put where the first one is, so that it adds no distance.
    present = components.flux_jy > 0
    x, y = np.where(present, x, x[:, :1]), np.where(present, y, y[:, :1])
    apart = np.hypot(x[:, :, None] - x[:, None, :], y[:, :, None] - y[:, None, :]).max(axis=(1, 2))
    alone = present.sum(axis=1) == 1
    before = np.where(alone, components.major_beams[:, 0], apart)
    scale = (extent_beams / before.clip(1e-6))[:, None]
    return replace(
        components,
        x_beams=components.x_beams * scale,
        y_beams=components.y_beams * scale,
        major_beams=components.major_beams * scale,
        minor_beams=components.minor_beams * scale,
    )


def draw_beam(count: int, random: np.random.Generator) -> Beam:
    """Draw beams of 3 to 7 pixels with axis ratios of 0.6 to 1; assumed.

    Args:
        count: the number of beams.
        random: the generator of random numbers.
    """
    return Beam(
        pixels=random.uniform(3.0, 7.0, count),
        axis_ratio=random.uniform(0.6, 1.0, count),
        angle=random.uniform(0, np.pi, count),
    )


def images(components: Components, beam: Beam, side: int) -> Float32:
    """Make noiseless maps.

    Args:
        components: the components of N sources.
        beam: the beams of the maps.
        side: the number of pixels on a side.

    Returns:
        In Jy/beam, float32, shape (N, side, side), the first axis of a map along y.
    """
    beam_covariance = beam.covariance()
    beam_area = np.sqrt(np.linalg.det(beam_covariance))
    axis = np.arange(side) - (side - 1) / 2
    total = np.zeros((len(beam.pixels), side, side), np.float32)
    for index in range(COMPONENTS):
        rows = np.flatnonzero(components.flux_jy[:, index] > 0)
        if not len(rows):
            continue
        pixels = beam.pixels[rows]
        covariance = beam_covariance[rows] + _covariance(
            components.major_beams[rows, index] * pixels,
            components.minor_beams[rows, index] * pixels,
            components.angle[rows, index],
        )
        inverse = np.linalg.inv(covariance)[:, :, :, None, None]
        dx = (axis - (components.x_beams[rows, index] * pixels)[:, None])[:, None, :]
        dy = (axis - (components.y_beams[rows, index] * pixels)[:, None])[:, :, None]
        exponent = (
            inverse[:, 0, 0] * dx**2 + 2 * inverse[:, 0, 1] * dx * dy + inverse[:, 1, 1] * dy**2
        )
        peak = components.flux_jy[rows, index] * beam_area[rows]
        peak /= np.sqrt(np.linalg.det(covariance))
        total[rows] += (peak[:, None, None] * np.exp(-0.5 * exponent)).astype(np.float32)
    return total


def correlated_noise(
    noise_jy: Floats, beam: Beam, side: int, random: np.random.Generator
) -> Float32:
    """Draw noise with the autocorrelation of the beam.

    It is white noise convolved with the beam, as natural weighting makes it of the noise of
    visibilities.

    Args:
        noise_jy: 1 sigma in Jy/beam, shape (N,).
        beam: the beams of the maps.
        side: the number of pixels on a side.
        random: the generator of random numbers.

    Returns:
        In Jy/beam, float32, shape (N, side, side).
    """
    u = np.fft.fftfreq(side)[:, None]
    v = np.fft.rfftfreq(side)[None, :]
    c = beam.covariance()[:, :, :, None, None]
    transfer = np.exp(
        -2 * np.pi**2 * (c[:, 0, 0] * v**2 + 2 * c[:, 0, 1] * u * v + c[:, 1, 1] * u**2)
    )
    white = random.standard_normal((len(noise_jy), side, side), dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * transfer, s=(side, side))
    noise *= np.asarray(noise_jy)[:, None, None] / noise.std(axis=(1, 2), keepdims=True)
    return noise.astype(np.float32)


def add_sidelobes(maps: Float32, level: Floats, random: np.random.Generator) -> Float32:
    """Add residual sidelobes: each source again, fainter, at a few other places.

    Args:
        maps: noiseless maps, shape (N, side, side).
        level: the level of a sidelobe relative to the source, shape (N,); its sign is drawn.
        random: the generator of random numbers.

    Returns:
        The maps in the same unit, float32, shape (N, side, side).
    """
    side = maps.shape[1]
    spectrum = np.fft.rfft2(maps)
    u = np.fft.fftfreq(side)[:, None]
    v = np.fft.rfftfreq(side)[None, :]
    response = np.ones_like(spectrum)
    for _ in range(3):
        # Interferometers' sidelobes are symmetric about the source.
        shift = random.uniform(0.15, 0.5, (len(maps), 1, 1)) * side
        angle = random.uniform(0, np.pi, (len(maps), 1, 1))
        sign = random.choice([-1.0, 1.0], (len(maps), 1, 1)) * np.asarray(level)[:, None, None]
        response += 2 * sign * np.cos(2 * np.pi * shift * (u * np.sin(angle) + v * np.cos(angle)))
    result: Float32 = np.fft.irfft2(spectrum * response, s=(side, side)).astype(np.float32)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedMaps:
    """N simulated maps.

    Attributes:
        image_jy_per_beam: the maps in Jy/beam, float32, shape (N, side, side).
        morphology: the index into MORPHOLOGIES, int64, shape (N,).
        components: the components of the sources.
        beam: the beams.
        noise_jy: the 1 sigma noise in Jy/beam, shape (N,).
        signal_to_noise: the noiseless peak over the noise, shape (N,).
    """

    image_jy_per_beam: Float32
    morphology: Integers
    components: Components
    beam: Beam
    noise_jy: Floats
    signal_to_noise: Floats


def simulate_maps(count: int, random: np.random.Generator, side: int = 56) -> SimulatedMaps:
    """Simulate maps of one source each, with peaks of 4 to 200 sigma away from the middle.

    All morphologies are equally common. Peaks, noise, offsets and sidelobes are assumed: wide
    enough for what a parser may meet.

    Args:
        count: the number of maps.
        random: the generator of random numbers.
        side: the number of pixels on a side.
    """
    morphology = random.integers(0, len(MORPHOLOGIES), count)
    beam = draw_beam(count, random)
    components = draw_components(morphology, np.ones(count), random)
    # Pointings and catalogued positions are off by part of a beam.
    shift = random.normal(0, 0.4, (2, count, 1)) * (components.flux_jy > 0)
    components = replace(
        components, x_beams=components.x_beams + shift[0], y_beams=components.y_beams + shift[1]
    )
    clean = images(components, beam, side)
    clean = add_sidelobes(clean, np.abs(random.normal(0, 0.01, count)), random)
    goal = np.exp(random.uniform(np.log(4), np.log(200), count))
    noise = np.full(count, 1e-5) * 10 ** random.normal(0, 0.3, count)
    scale = goal * noise / clean.max(axis=(1, 2))
    image = clean * scale[:, None, None] + correlated_noise(noise, beam, side, random)
    components = replace(components, flux_jy=components.flux_jy * scale[:, None])
    return SimulatedMaps(image.astype(np.float32), morphology, components, beam, noise, goal)


def _covariance(major: Floats, minor: Floats, angle: Floats) -> Floats:
    """The second moments of elliptical Gaussians of given full widths, (N, 2, 2) as (x, y)."""
    a, b = (major / FWHM_PER_SIGMA) ** 2, (minor / FWHM_PER_SIGMA) ** 2
    cosine, sine = np.cos(angle), np.sin(angle)
    xx = a * cosine**2 + b * sine**2
    yy = a * sine**2 + b * cosine**2
    xy = (a - b) * cosine * sine
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
