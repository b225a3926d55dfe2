"""Simulate radio maps: compact, extended and double sources, and jets, with their components.

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
"""Most components of a source: a core and five knots."""

_NUCLEUS_SHARES = {COMPACT: 0.4, DOUBLE: 0.35, JET: 0.25}
"""Morphologies of active nuclei. Assumed: enough of each to learn from."""

NUCLEUS_EXCESS_DEX = 0.6
"""Assumed excess of the radio emission above which a nucleus makes the morphology."""

_AXIS_RATIOS = (0.4, 1.0)
_COMPACT_BEAMS = (0.0, 0.33)
_EXTENDED_BEAMS = (0.7, 3.0)
"""Between what axis ratios and sizes in beams are drawn. Assumed: a map tells the two apart."""

_LOG_LOBE_SEPARATIONS = (float(np.log(1.4)), float(np.log(5.0)))
_LOBE_PARTS = (0.25, 0.75)
_LOBE_BEAMS = (0.1, 0.8)
_CORE_PARTS = (0.0, 0.15)
_CORE_SHARE = 0.3
"""Between what the ln of a double's separation in beams, first lobe as a part of the flux, size of
a lobe in beams and core as a part of the flux are drawn; and the share of doubles that have a core.
Assumed: lobes that a map resolves."""

_KNOT_STEPS = (0.6, 1.3)
_KNOT_BEAMS = (0.3, 0.9)
_BEND_RAD = 0.12
_BRIGHTEST_KNOTS = (0.35, 0.9)
_FADINGS = (0.6, 0.9)
"""Between what the distance of a jet's knots and their sizes, in beams, are drawn; scatter of how
it bends from knot to knot; between what the flux of its first knot over that of the core, and that
of each further one over the one before, are drawn. Assumed: jets that a map resolves."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Components of N sources, float64 arrays of shape (N, COMPONENTS), 0 where there is none.

    Attributes:
        x_beams: offset from the middle of the map along its columns, in beams.
        y_beams: along its rows.
        flux_jy: flux density.
        major_beams: intrinsic full width at half maximum along the major axis, in beams.
        minor_beams: along the minor axis.
        angle: of the major axis against the columns, in radians.
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
        pixels: geometric mean of the full widths at half maximum, in pixels.
        axis_ratio: minor over major axis.
        angle: of the major axis against the columns, in radians.
    """

    pixels: Floats
    axis_ratio: Floats
    angle: Floats

    def covariance(self) -> Floats:
        """Second moments in square pixels, shape (N, 2, 2)."""
        major = self.pixels / np.sqrt(self.axis_ratio)
        return _covariance(major, major * self.axis_ratio, self.angle)


def draw_morphology(
    radio_excess_dex: Floats, starburst: Booleans, random: np.random.Generator
) -> Integers:
    """Index into MORPHOLOGIES: doubles and jets where active nuclei outshine star formation.

    Of the others, starbursts are compact, and galaxies on the main sequence extended
    (Jimenez-Andrade et al. 2019, A&A 625 A114).

    Args:
        radio_excess_dex: log10 of the radio emission over that of star formation, shape (N,).
        starburst: whether a galaxy is above the main sequence, shape (N,).
        random: where chance comes from.
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
    """Components of sources.

    Compact ones are smaller than a third of the beam. A double is two lobes, brightest away from
    the middle (class II of Fanaroff & Riley 1974, MNRAS 167 31P), some with a faint core. A jet is
    a core and knots that fade along a bent line to one side, as of class I.

    Args:
        morphology: index into MORPHOLOGIES, shape (N,).
        flux_jy: total flux density, shape (N,).
        random: where chance comes from.
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
    """The same shapes in another size.

    Args:
        components: of N sources.
        extent_beams: largest distance between two components, or where there is one alone, its
            full width at half maximum along the major axis; in beams, shape (N,).
    """
    x, y = components.x_beams, components.y_beams
    # Where there is none, one may as well lie where the first one does.
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
    """Beams of 3 to 7 pixels with axis ratios of 0.6 to 1; assumed."""
    return Beam(
        pixels=random.uniform(3.0, 7.0, count),
        axis_ratio=random.uniform(0.6, 1.0, count),
        angle=random.uniform(0, np.pi, count),
    )


def images(components: Components, beam: Beam, side: int) -> Float32:
    """Noiseless maps in Jy/beam, float32, shape (N, side, side), rows along y."""
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
    """Noise with the autocorrelation of the beam's, shape (N, side, side).

    White noise convolved with the beam: what natural weighting makes of the noise of visibilities.

    Args:
        noise_jy: 1 sigma in Jy/beam, shape (N,).
        beam: of the maps.
        side: in pixels.
        random: where chance comes from.
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
    """The maps with residual sidelobes: each source again, fainter, at a few other places.

    Args:
        maps: noiseless, shape (N, side, side).
        level: of a sidelobe relative to the source, of either sign at random, shape (N,).
        random: where chance comes from.
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
        image_jy_per_beam: shape (N, side, side).
        morphology: index into MORPHOLOGIES, shape (N,).
        components: what is in them.
        beam: of each.
        noise_jy: 1 sigma, shape (N,).
        signal_to_noise: noiseless peak over noise, shape (N,).
    """

    image_jy_per_beam: Float32
    morphology: Integers
    components: Components
    beam: Beam
    noise_jy: Floats
    signal_to_noise: Floats


def simulate_maps(count: int, random: np.random.Generator, side: int = 56) -> SimulatedMaps:
    """Maps with one source each: all morphologies alike, peaks of 4 to 200 sigma, off the middle.

    Peaks, noise, offsets and sidelobes are assumed: wide enough for what a parser may meet.

    Args:
        count: how many.
        random: where chance comes from.
        side: in pixels.
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
    """Second moments of elliptical Gaussians of given full widths, shape (N, 2, 2) as (x, y)."""
    a, b = (major / FWHM_PER_SIGMA) ** 2, (minor / FWHM_PER_SIGMA) ** 2
    cosine, sine = np.cos(angle), np.sin(angle)
    xx = a * cosine**2 + b * sine**2
    yy = a * sine**2 + b * cosine**2
    xy = (a - b) * cosine * sine
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
