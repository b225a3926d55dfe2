"""The rules that decide which observations are possible.

The publisher applies them before sending, the stream before merging. An observation that breaks a
rule goes to quarantine with the messages made here. A rule refuses only values that cannot be
measurements, never unusual ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, get_args
from urllib.parse import urlsplit

import numpy as np

from mmbroker.processors.frequency_grid import CHUNKS
from mmbroker.processors.sky import MAX_POSITION_ERROR_ARCSEC
from mmbroker.schemas.events import (
    Acquisition,
    BandMeasurement,
    BandStatistics,
    ContinuumMap,
    Document,
    Fingerprint,
    Floats,
    MapStatistics,
    Observation,
    PhotometricRedshift,
    Photometry,
    Quality,
    Score,
    SpectralFrame,
    Spectrum,
    TimeScale,
)

LEAST_POSITION_ERROR_ARCSEC = 1e-6
"""A microarcsecond, better than any interferometer. The limit keeps inverse variances finite."""

LONGEST_NAME = 256
"""Most characters in an id, a band, an instrument or any other short string."""

LONGEST_URL = 2048
LONGEST_WCS_HEADER = 16_384

LONGEST_GALAXY_ID = 64

EARLIEST_MJD = 33_282.0
"""1950 January 1."""

LATEST_MJD = 106_331.0
"""2150 January 1."""

LONGEST_INTEGRATION_S = (LATEST_MJD - EARLIEST_MJD) * 86_400.0

FEWEST_CHANNELS, MOST_CHANNELS = 2, 65_536
SMALLEST_SIDE, LARGEST_SIDE = 4, 1024
MOST_MEASUREMENTS = 64
MOST_REDSHIFT_POINTS = 16_384

SPECTRUM_FREQUENCIES_HZ = (1e9, 1e13)
MAP_FREQUENCIES_HZ = (1e7, 1e13)
BAND_FREQUENCIES_HZ = (1e7, 1e16)

BRIGHTEST_JY = 1e6
FAINTEST_ERROR_JY = 1e-15
"""A million times below what any telescope reaches. The limit keeps inverse variances finite."""

NARROWEST_BEAM_ARCSEC = 1e-6
"""A microarcsecond, a tenth of the finest beam of any array. The limit keeps areas above 0."""

WIDEST_BEAM_ARCSEC = 7200.0
REDSHIFTS = (-0.01, 20.0)
URL_SCHEMES = ("http", "https", "file", "doi")

_QUALITIES = frozenset(get_args(Quality))
_FRAMES = frozenset(get_args(SpectralFrame))
_TIME_SCALES = frozenset(get_args(TimeScale))


class InvalidObservation(ValueError):  # noqa: N818 - reads better where it is raised
    """An observation that breaks a rule.

    Attributes:
        observation_id: id of the observation.
        problems: one message for each broken rule.
    """

    def __init__(self, observation_id: str, problems: list[str]) -> None:
        super().__init__(f"observation {observation_id!r}: {'; '.join(problems)}")
        self.observation_id = observation_id
        self.problems = problems


def problems(observation: Observation) -> list[str]:
    """What is wrong with an observation: for each broken rule a message that names field and value.

    This takes some tens of microseconds. The WCS header of a map is only searched for keywords
    here; it is parsed where the map is measured.

    Returns:
        The messages; empty for a valid observation.
    """
    return list(_problems(observation))


def _problems(observation: Observation) -> Iterator[str]:
    yield from _name("observation_id", observation.observation_id)
    yield from _name("instrument", observation.instrument)
    yield from _position(observation)
    yield from _within("time_mjd", observation.time_mjd, EARLIEST_MJD, LATEST_MJD)
    yield from _one_of("time_scale", observation.time_scale, _TIME_SCALES)
    if observation.replaces is not None:
        yield from _name("replaces", observation.replaces)
        if observation.replaces == observation.observation_id:
            yield f"replaces = {_shown(observation.replaces)} is the observation itself"
    yield from _acquisition(observation.acquisition)
    yield from _one_payload(observation)
    if observation.spectrum is not None:
        yield from _spectrum(observation.spectrum)
    if observation.continuum_map is not None:
        yield from _continuum_map(observation.continuum_map)
    if observation.photometry is not None:
        yield from _photometry(observation.photometry)
    if observation.photometric_redshift is not None:
        yield from _photometric_redshift(observation.photometric_redshift)
    if observation.document is not None:
        yield from _document(observation.document)


def _position(observation: Observation) -> Iterator[str]:
    right_ascension = observation.right_ascension_deg
    if not (_is_number(right_ascension) and 0.0 <= right_ascension < 360.0):
        yield f"right_ascension_deg = {_shown(right_ascension)} is not in [0, 360)"
    yield from _within("declination_deg", observation.declination_deg, -90.0, 90.0)
    yield from _within(
        "position_error_arcsec",
        observation.position_error_arcsec,
        LEAST_POSITION_ERROR_ARCSEC,
        MAX_POSITION_ERROR_ARCSEC,
    )


def _acquisition(acquisition: Acquisition) -> Iterator[str]:
    for name in ("project", "observing_unit", "calibration", "array", "bibcode"):
        value = getattr(acquisition, name)
        if value is not None:
            yield from _name(f"acquisition.{name}", value)
    if acquisition.data_url is not None:
        yield from _name("acquisition.data_url", acquisition.data_url, LONGEST_URL)
    yield from _one_of("acquisition.quality", acquisition.quality, _QUALITIES)
    if acquisition.integration_time_s is not None:
        yield from _positive(
            "acquisition.integration_time_s",
            acquisition.integration_time_s,
            LONGEST_INTEGRATION_S,
        )


def _one_payload(observation: Observation) -> Iterator[str]:
    payloads = observation.payloads
    if len(payloads) > 1:
        yield f"payloads = {', '.join(payloads)}: an observation has only one"
    elif not payloads and observation.replaces is None:
        choice = ", ".join(Observation.PAYLOADS)
        yield f"payloads = none: set one of {choice}, or replaces to withdraw an observation"


def _spectrum(spectrum: Spectrum) -> Iterator[str]:
    yield from _one_of("spectrum.frame", spectrum.frame, _FRAMES)
    for axis in ("beam_major_arcsec", "beam_minor_arcsec"):
        if getattr(spectrum, axis) is not None:
            yield from _beam(f"spectrum.{axis}", getattr(spectrum, axis))
    angle = spectrum.beam_position_angle_deg
    if angle is not None:
        yield from _within("spectrum.beam_position_angle_deg", angle, -360.0, 360.0)

    frequency = np.asarray(spectrum.frequency_hz)
    flux = np.asarray(spectrum.flux_density_jy)
    error = np.asarray(spectrum.flux_error_jy)
    if not frequency.shape == flux.shape == error.shape or frequency.ndim != 1:
        yield (
            f"spectrum.frequency_hz, flux_density_jy, flux_error_jy have shapes {frequency.shape}, "
            f"{flux.shape}, {error.shape}, which are not one number of channels"
        )
        return
    if not FEWEST_CHANNELS <= len(frequency) <= MOST_CHANNELS:
        yield (
            f"spectrum.frequency_hz has {len(frequency)} channels, "
            f"not between {FEWEST_CHANNELS} and {MOST_CHANNELS}"
        )
        return
    yield from _frequency_axis(frequency)
    yield from _brightness("spectrum.flux_density_jy", flux)
    too_small = error < FAINTEST_ERROR_JY
    if too_small.any():
        channel = int(too_small.argmax())
        yield (
            f"spectrum.flux_error_jy[{channel}] = {_shown(error[channel])} "
            f"is not positive (at least {FAINTEST_ERROR_JY:g})"
        )
    if not (np.isfinite(flux) & np.isfinite(error)).any():
        yield "spectrum.flux_density_jy and flux_error_jy are finite together in no channel"


def _frequency_axis(frequency: Floats) -> Iterator[str]:
    lowest, highest = SPECTRUM_FREQUENCIES_HZ
    possible = (frequency >= lowest) & (frequency <= highest)
    if not possible.all():
        channel = int(possible.argmin())
        yield (
            f"spectrum.frequency_hz[{channel}] = {_shown(frequency[channel])} "
            f"is not between {lowest:g} and {highest:g}"
        )
        return
    rises = frequency[1:] > frequency[:-1]
    in_order = rises if frequency[-1] > frequency[0] else frequency[1:] < frequency[:-1]
    if not in_order.all():
        channel = int(in_order.argmin()) + 1
        yield (
            f"spectrum.frequency_hz[{channel}] = {_shown(frequency[channel])} follows "
            f"{_shown(frequency[channel - 1])}: the axis is not strictly monotonic"
        )


def _continuum_map(continuum_map: ContinuumMap) -> Iterator[str]:
    sides_are_possible = True
    for side in ("height", "width"):
        length = getattr(continuum_map, side)
        if not (_is_number(length) and SMALLEST_SIDE <= length <= LARGEST_SIDE):
            sides_are_possible = False
            yield (
                f"continuum_map.{side} = {_shown(length)} is not between "
                f"{SMALLEST_SIDE} and {LARGEST_SIDE} pixels"
            )
    image = np.asarray(continuum_map.image_jy_per_beam)
    if sides_are_possible and image.size != continuum_map.height * continuum_map.width:
        yield (
            f"continuum_map.image_jy_per_beam has {image.size} pixels, not height × width = "
            f"{continuum_map.height} × {continuum_map.width}"
        )
    if not np.isfinite(image).any():
        yield f"continuum_map.image_jy_per_beam has no finite pixel among {image.size}"
    yield from _brightness("continuum_map.image_jy_per_beam", image.ravel())
    yield from _wcs_header(continuum_map.wcs_header)
    yield from _within(
        "continuum_map.frequency_hz", continuum_map.frequency_hz, *MAP_FREQUENCIES_HZ
    )
    for axis in ("beam_major_arcsec", "beam_minor_arcsec"):
        yield from _beam(f"continuum_map.{axis}", getattr(continuum_map, axis))
    angle = continuum_map.beam_position_angle_deg
    yield from _within("continuum_map.beam_position_angle_deg", angle, -360.0, 360.0)
    noise = continuum_map.noise_jy_per_beam
    if noise is not None:
        yield from _within(
            "continuum_map.noise_jy_per_beam", noise, FAINTEST_ERROR_JY, BRIGHTEST_JY
        )


def _wcs_header(header: str) -> Iterator[str]:
    if not isinstance(header, str) or len(header) > LONGEST_WCS_HEADER:
        yield (
            f"continuum_map.wcs_header = {_shown(header)} is not text of at most "
            f"{LONGEST_WCS_HEADER} characters"
        )
        return
    for card in ("CTYPE1", "CTYPE2"):
        if card not in header:
            yield f"continuum_map.wcs_header = {_shown(header)} has no {card}"
    if not ("CDELT" in header or "CD1_1" in header):
        yield f"continuum_map.wcs_header = {_shown(header)} has neither CDELT nor CD cards"


def _photometry(photometry: Photometry) -> Iterator[str]:
    measurements = photometry.measurements
    if not 1 <= len(measurements) <= MOST_MEASUREMENTS:
        yield (
            f"photometry.measurements has {len(measurements)} entries, "
            f"not between 1 and {MOST_MEASUREMENTS}"
        )
        return
    seen = set()
    for index, measurement in enumerate(measurements):
        yield from _measurement(f"photometry.measurements[{index}]", measurement)
        key = (measurement.band, measurement.frequency_hz)
        if key in seen:
            yield (
                f"photometry.measurements[{index}].band = {_shown(measurement.band)} at "
                f"{_shown(measurement.frequency_hz)} Hz is there twice"
            )
        seen.add(key)


def _measurement(at: str, measurement: BandMeasurement) -> Iterator[str]:
    yield from _name(f"{at}.band", measurement.band)
    yield from _within(f"{at}.frequency_hz", measurement.frequency_hz, *BAND_FREQUENCIES_HZ)
    error = measurement.flux_error_jy
    yield from _within(f"{at}.flux_error_jy", error, FAINTEST_ERROR_JY, BRIGHTEST_JY)
    flux, limit = measurement.flux_density_jy, measurement.upper_limit_jy
    if flux is not None:
        yield from _within(f"{at}.flux_density_jy", flux, -BRIGHTEST_JY, BRIGHTEST_JY)
        if limit is not None:
            yield (
                f"{at}.upper_limit_jy = {_shown(limit)} beside flux_density_jy = {_shown(flux)}: "
                "a band is either measured or limited"
            )
    elif limit is None:
        yield f"{at}.flux_density_jy = None, and upper_limit_jy is None too: set one of them"
    else:
        yield from _positive(f"{at}.upper_limit_jy", limit, BRIGHTEST_JY)


def _photometric_redshift(estimate: PhotometricRedshift) -> Iterator[str]:
    yield from _name("photometric_redshift.method", estimate.method)
    redshift, lower, upper = estimate.redshift, estimate.lower_68, estimate.upper_68
    yield from _possible_redshift("photometric_redshift.redshift", redshift)
    if lower is not None and upper is not None:
        yield from _possible_redshift("photometric_redshift.lower_68", lower)
        yield from _possible_redshift("photometric_redshift.upper_68", upper)
        numbers = _is_number(lower) and _is_number(redshift) and _is_number(upper)
        if numbers and not lower <= redshift <= upper:
            yield (
                f"photometric_redshift.redshift = {_shown(redshift)} is outside lower_68 = "
                f"{_shown(lower)} to upper_68 = {_shown(upper)}"
            )
    elif lower is not None or upper is not None:
        yield (
            f"photometric_redshift.lower_68 = {_shown(lower)}, upper_68 = {_shown(upper)}: "
            "set both or none"
        )
    if estimate.grid_redshift is not None and estimate.grid_density is not None:
        yield from _redshift_grid(
            np.asarray(estimate.grid_redshift), np.asarray(estimate.grid_density)
        )
    elif estimate.grid_redshift is not None or estimate.grid_density is not None:
        missing = "grid_redshift" if estimate.grid_redshift is None else "grid_density"
        yield f"photometric_redshift.{missing} = None: set both grids or none"


def _redshift_grid(redshift: Floats, density: Floats) -> Iterator[str]:
    if redshift.shape != density.shape or redshift.ndim != 1:
        yield (
            f"photometric_redshift.grid_redshift, grid_density have shapes {redshift.shape}, "
            f"{density.shape}, which are not one number of points"
        )
        return
    if not 2 <= len(redshift) <= MOST_REDSHIFT_POINTS:
        yield (
            f"photometric_redshift.grid_redshift has {len(redshift)} points, "
            f"not between 2 and {MOST_REDSHIFT_POINTS}"
        )
        return
    if not (redshift[1:] > redshift[:-1]).all():
        point = int((redshift[1:] > redshift[:-1]).argmin()) + 1
        yield (
            f"photometric_redshift.grid_redshift[{point}] = {_shown(redshift[point])} follows "
            f"{_shown(redshift[point - 1])}: the grid does not increase"
        )
    else:
        for end in (0, -1):
            yield from _possible_redshift(
                f"photometric_redshift.grid_redshift[{end}]", redshift[end]
            )
    possible = (density >= 0.0) & np.isfinite(density)
    if not possible.all():
        point = int(possible.argmin())
        yield (
            f"photometric_redshift.grid_density[{point}] = {_shown(density[point])} "
            "is not finite and at least 0"
        )
    elif not density.any():
        yield "photometric_redshift.grid_density = 0 everywhere"


def _document(document: Document) -> Iterator[str]:
    yield from _name("document.url", document.url, LONGEST_URL)
    yield from _name("document.media_type", document.media_type)
    if isinstance(document.url, str) and _scheme(document.url) not in URL_SCHEMES:
        yield f"document.url = {_shown(document.url)} is not one of {', '.join(URL_SCHEMES)}"
    checksum = document.sha256
    if checksum is not None and not (
        isinstance(checksum, str)
        and len(checksum) == 64
        and set(checksum) <= set("0123456789abcdefABCDEF")
    ):
        yield f"document.sha256 = {_shown(checksum)} is not 64 hexadecimal digits"
    if document.title is not None:
        yield from _name("document.title", document.title, LONGEST_URL)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _name(field: str, value: Any, longest: int = LONGEST_NAME) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{field} = {_shown(value)} is not text"
    elif not value.strip():
        yield f"{field} = {_shown(value)} is empty"
    elif len(value) > longest:
        yield f"{field} = {_shown(value)} has {len(value)} characters, more than {longest}"
    elif not value.isprintable():
        yield f"{field} = {_shown(value)} holds a character that cannot be printed"


def _one_of(field: str, value: Any, allowed: frozenset[str]) -> Iterator[str]:
    if not isinstance(value, str) or value not in allowed:
        yield f"{field} = {_shown(value)} is not one of {', '.join(sorted(allowed))}"


def _within(field: str, value: Any, lowest: float, highest: float) -> Iterator[str]:
    if not (_is_number(value) and lowest <= value <= highest):
        yield f"{field} = {_shown(value)} is not between {_bound(lowest)} and {_bound(highest)}"


def _positive(field: str, value: Any, largest: float = math.inf) -> Iterator[str]:
    if _is_number(value) and 0.0 < value <= largest and value < math.inf:
        return
    limit = "finite" if math.isinf(largest) else f"at most {_bound(largest)}"
    yield f"{field} = {_shown(value)} is not positive and {limit}"


def _beam(field: str, value: Any) -> Iterator[str]:
    yield from _within(field, value, NARROWEST_BEAM_ARCSEC, WIDEST_BEAM_ARCSEC)


def _possible_redshift(field: str, value: Any) -> Iterator[str]:
    lowest, highest = REDSHIFTS
    if not (_is_number(value) and lowest < value < highest):
        yield f"{field} = {_shown(value)} is not between {_bound(lowest)} and {_bound(highest)}"


def _brightness(field: str, flux: Floats) -> Iterator[str]:
    too_bright = np.abs(flux) >= BRIGHTEST_JY  # False for NaN, which is a flagged value
    if too_bright.any():
        index = int(too_bright.argmax())
        yield f"{field}[{index}] = {_shown(flux[index])} is not below {BRIGHTEST_JY:g} in size"


def _is_number(value: Any) -> bool:
    return type(value) is float or isinstance(value, Real)


def _shown(value: Any) -> str:
    if _is_number(value):
        return repr(value.item() if isinstance(value, np.generic) else value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bound(value: float) -> str:
    digits = 6 if abs(value) < 1e6 else 3
    return f"{value:.{digits}g}".replace("-", "−")


def fingerprint_problems(fingerprint: Fingerprint) -> list[str]:
    """Why a fingerprint from the topic cannot be scored; empty when it can.

    The broker makes the fingerprints, but anyone who may write to the topic could send another one.
    This check keeps an impossible one from stopping the stage.
    """
    found = _id_problems("galaxy_id", fingerprint.galaxy_id)
    if fingerprint.version < 1:
        found.append(f"version = {fingerprint.version} is not positive")
    index = fingerprint.chunk_index
    if index.size and (index[0] < 0 or index[-1] >= CHUNKS or (np.diff(index) <= 0).any()):
        found.append(f"chunk_index is not ascending within 0 ... {CHUNKS - 1}")
    for name in ("chunk_weight", "chunk_weighted_flux"):
        sums = getattr(fingerprint, name)
        if len(sums) != len(index) or not np.isfinite(sums).all():
            found.append(f"{name} is not {len(index)} finite chunks")
    if (fingerprint.chunk_weight < 0).any():
        found.append("chunk_weight has a negative value")
    parts: list[BandStatistics | MapStatistics] = [*fingerprint.bands, *fingerprint.maps]
    for part in parts:
        sums = [part.weight, part.weighted_flux, part.weighted_square]
        if not all(map(math.isfinite, sums)) or part.weight < 0:
            found.append(f"the sums of {_name_of(part)} are {sums}")
    found += [
        f"parsed.model = {tree.model[:80]!r} is not name, version and hash"
        for tree in fingerprint.parsed
        if len(tree.model.split(" ")) != 3
    ]
    return found


def score_problems(galaxy: Score) -> list[str]:
    """Why no alerts can be made of a scored galaxy from the topic; empty when they can."""
    found = _id_problems("galaxy_id", galaxy.galaxy_id)
    if (galaxy.redshift is None) != (galaxy.probability is None):
        found.append("redshift and probability are not both there, or both absent")
    if galaxy.probability is not None and not 0 <= galaxy.probability <= 1:
        found.append(f"probability = {galaxy.probability} is not between 0 and 1")
    values = {"hyperscore": galaxy.hyperscore}
    if galaxy.redshift is not None:
        values["redshift.best"] = galaxy.redshift.best
    found += [
        f"{name} = {value} is not finite"
        for name, value in values.items()
        if not math.isfinite(value)
    ]
    return found


def _id_problems(name: str, text: str) -> list[str]:
    if 0 < len(text) <= LONGEST_GALAXY_ID and text.isascii() and text.isprintable():
        return []
    return [f"{name} = {text[:80]!r} is not 1 to {LONGEST_GALAXY_ID} printable ASCII characters"]


def _name_of(part: BandStatistics | MapStatistics) -> str:
    return part.band if isinstance(part, BandStatistics) else f"map bin {part.frequency_bin}"
