"""Reads position, time, instrument and project of an observation from the header of a file."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from astropy import units as u
from astropy.coordinates import FK4, FK5, ICRS, Angle, BaseCoordinateFrame, FK4NoETerms, SkyCoord
from astropy.io import fits
from astropy.time import Time

from mmbroker.processors.ingest.units import unit_from
from mmbroker.processors.relations import ASTROMETRIC_FLOOR_ARCSEC
from mmbroker.schemas.events import Acquisition, Observation, Quality, SpectralFrame, TimeScale

VelocityConvention = Literal["RADIO", "OPTICAL", "RELATIVISTIC"]

BEAM_FRACTION_OF_POSITION_ERROR = 0.1
"""Position error as a fraction of the beam, where none is given.

It is that of a source with a signal-to-noise ratio of 5, from beam / (2 S/N)."""

_ISO_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d*)?)?)Z?)?")
_OLD_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d\d)")
_CLOCK = re.compile(r"\d\d:\d\d(:\d\d(\.\d*)?)?")
_BRACKETS = re.compile(r"\s*\[([^\]]+)\]")
_EQUINOX = re.compile(r"[BJ]?(\d{4}(?:\.\d*)?)")


class HeaderError(ValueError):
    """Raised for an incomplete or senseless header; the message names keyword, value and file."""


class Origin(NamedTuple):
    """A value that was read from a file.

    Attributes:
        what: what it is, such as ``unit``.
        value: the value, with its unit.
        source: the keyword, column or extension that says it, or the option that replaces it.
    """

    what: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Given:
    """Values from the publisher, which replace those of the header; None keeps the header's.

    Attributes:
        instrument: name of the instrument; by default TELESCOP, or INSTRUME.
        right_ascension_deg, declination_deg: ICRS position in degrees.
        position_error_arcsec: 1 sigma on each axis; by default a tenth of the beam.
        time_mjd: mid-point of the observation in UTC; by default MJD-AVG, MJD-OBS, DATE-AVG or
            DATE-OBS.
        project, quality, calibration, data_url, bibcode: see ``Acquisition``.
        simulated: whether the data are simulated.
        frame: rest frame of a spectrum's axis; by default that of SPECSYS.
        rest_frequency_hz: rest frequency of a velocity axis; by default RESTFRQ or RESTFREQ.
        velocity_convention: what a velocity axis means whose header does not say it.
        frequency_hz: effective frequency of a map; by default that of its spectral axis, or else
            RESTFRQ, RESTFREQ, FREQ or OBSFREQ.
        side_arcsec: side of the cut-out from a map; by default 64 pixels. It is limited to between
            4 and 1024 pixels.
        unit: unit of the values; by default BUNIT, or that of the column of fluxes.
        beam: major and minor axis in arcsec, full widths at half maximum, and position angle in
            degrees; by default BMAJ, BMIN and BPA.
        hdu: name or number of the extension with the data; by default the only one there is.
        measure_noise: measure the noise of a spectrum, whatever the file says of its errors.

    Raises:
        HeaderError: one coordinate is missing, or the position is not on the sky; the beam has no
            area.
    """

    instrument: str | None = None
    right_ascension_deg: float | None = None
    declination_deg: float | None = None
    position_error_arcsec: float | None = None
    time_mjd: float | None = None
    project: str | None = None
    quality: Quality | None = None
    calibration: str | None = None
    data_url: str | None = None
    bibcode: str | None = None
    simulated: bool = False
    frame: SpectralFrame | None = None
    rest_frequency_hz: float | None = None
    velocity_convention: VelocityConvention | None = None
    frequency_hz: float | None = None
    side_arcsec: float | None = None
    unit: str | None = None
    beam: tuple[float, float, float] | None = None
    hdu: str | None = None
    measure_noise: bool = False

    def __post_init__(self) -> None:
        right_ascension, declination = self.right_ascension_deg, self.declination_deg
        if (right_ascension is None) != (declination is None):
            raise HeaderError("--right-ascension and --declination need each other")
        if right_ascension is not None and not 0.0 <= right_ascension < 360.0:
            raise HeaderError(f"--right-ascension {right_ascension:g}: must be in [0, 360)")
        if declination is not None and not -90.0 <= declination <= 90.0:
            raise HeaderError(f"--declination {declination:g}: must be in [-90, 90]")
        if self.beam is not None and not (0.0 < self.beam[1] <= self.beam[0] < math.inf):
            raise HeaderError(
                f"--beam {self.beam[0]:g} {self.beam[1]:g}: must be the major and the minor axis"
            )

    @property
    def position(self) -> tuple[float, float] | None:
        """The ICRS position in degrees, if it is given."""
        if self.right_ascension_deg is None or self.declination_deg is None:
            return None
        return self.right_ascension_deg, self.declination_deg


class Header:
    """What a file says beside its data, with what the publisher gives, and what was read of it.

    Args:
        cards: mappings from keywords to values. The first that has a keyword counts.
        given: values that replace those of the header.

    Attributes:
        cards: as above.
        given: as above.
        origins: what was read, and from where.
    """

    def __init__(self, *cards: Mapping[str, Any], given: Given) -> None:
        self.cards = cards
        self.given = given
        self.origins: list[Origin] = []

    def note(self, what: str, value: object, source: str) -> None:
        """Keep that a value was read, and from where."""
        origin = Origin(what, str(value), source)
        if origin not in self.origins:
            self.origins.append(origin)

    def get(self, *names: str) -> tuple[str, Any] | None:
        """The first of some keywords that is set, with its value.

        Raises:
            HeaderError: its value cannot be read.
        """
        for name in names:
            for cards in self.cards:
                try:
                    value = cards.get(name)
                except fits.VerifyError as error:
                    raise HeaderError(f"{name} cannot be read: mend its card") from error
                if isinstance(value, date):  # from a table's YAML; also a time
                    value = value.isoformat()
                if isinstance(value, str):
                    value = value.strip()
                if isinstance(value, str | Real) and value != "":
                    return name, value
        return None

    def text(self, *names: str) -> str | None:
        """The first of some keywords that is set, as text."""
        found = self.get(*names)
        return None if found is None else str(found[1])

    def number(self, *names: str) -> float | None:
        """The first of some keywords that is set, as a number.

        Raises:
            HeaderError: it is no finite number.
        """
        found = self.get(*names)
        return None if found is None else number(*found)

    def quantity(self, unit: u.UnitBase, *names: str) -> float | None:
        """The first of some keywords that is set, as a number in a unit.

        Its comment may begin with a unit in brackets (FITS standard 4.0, section 4.3.2). Hours are
        those of right ascension.

        Raises:
            HeaderError: it is no finite number.
        """
        found = self.get(*names)
        if found is None:
            return None
        value = number(*found)
        in_brackets = _BRACKETS.match(self._comment(found[0]))
        if in_brackets is None:
            return value
        try:
            stated = unit_from(in_brackets[1])
        except ValueError:  # a word
            return value
        if stated.is_equivalent(u.h) and unit.is_equivalent(u.deg):
            stated = stated / u.h * u.hourangle
        if stated == unit or not stated.is_equivalent(unit):
            return value
        return float(stated.to(unit, value))

    def _comment(self, name: str) -> str:
        cards = next(cards for cards in self.cards if name in cards)
        return str(cards.comments[name]) if isinstance(cards, fits.Header) else ""

    @property
    def own(self) -> Header:
        """The header without that of the whole file."""
        alone = Header(self.cards[0], given=self.given)
        alone.origins = self.origins
        return alone

    def history(self) -> Iterator[str]:
        """The lines of HISTORY, those of the whole file first."""
        for cards in reversed(self.cards):
            lines = cards.get("HISTORY", ())
            yield from [lines] if isinstance(lines, str) else map(str, lines)


def number(name: str, value: Any) -> float:
    """A value of a keyword as a number.

    Raises:
        HeaderError: it is no finite number.
    """
    try:
        if not isinstance(value, bool) and math.isfinite(found := float(value)):
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    raise HeaderError(f"{name} = {str(value)[:60]!r} is not a finite number")


def stated_unit(name: str, text: object) -> u.UnitBase:
    """The unit that a text means.

    Args:
        name: keyword, column or option that states it.
        text: the text.

    Raises:
        HeaderError: it is no unit, could mean two, or is that of magnitudes or other logarithms.
    """
    try:
        unit = unit_from(str(text))
        if isinstance(unit, u.function.FunctionUnitBase):
            raise ValueError("is a logarithm: convert it")
        return unit
    except ValueError as error:
        advice = "" if name == "--unit" else ": give --unit"
        raise HeaderError(f"{name} = {str(text).strip()!r} {error}{advice}") from error


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Have every ``HeaderError`` name the file."""
    try:
        yield
    except HeaderError as error:
        raise HeaderError(f"{path}: {error}") from error


def bare_observation(
    path: Path,
    header: Header,
    centre_deg: tuple[float, float] | None,
    beam_arcsec: tuple[float, float, float] | None,
    note: str = "",
    part: tuple[float, float] | None = None,
) -> Observation:
    """Make the observation in a file, without its payload.

    Its id follows from the content of the file. So publishing the file again, even under another
    name, changes nothing.

    Args:
        path: the file.
        header: its header.
        centre_deg: ICRS position from the coordinate system of the file; None without one.
        beam_arcsec: major and minor axis and position angle (deg) of the beam; None if unknown.
        note: how the payload was prepared; it is added to the calibration note.
        part: ICRS position at which the payload was cut out of the file, which is then part of the
            id; None for all there is.

    Raises:
        HeaderError: instrument, position, position error or time is neither given nor in the
            header.
    """
    given = header.given
    instrument = _given_or(header, "instrument", given.instrument, "TELESCOP", "INSTRUME")
    if not instrument:
        raise HeaderError("neither TELESCOP nor INSTRUME in the header: give --instrument")
    right_ascension, declination = _position(header, centre_deg)
    calibration = given.calibration or header.text("ORIGIN")
    time_mjd, time_scale = _time(header)
    place = "" if part is None else f"/{part[0]:.6f}{part[1]:+.6f}"
    with path.open("rb") as file:
        content = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    return Observation(
        observation_id=f"file/{content}{place}",
        instrument=instrument,
        right_ascension_deg=right_ascension % 360.0,
        declination_deg=declination,
        position_error_arcsec=_position_error(header, beam_arcsec),
        time_mjd=time_mjd,
        time_scale=time_scale,
        simulated=given.simulated,
        acquisition=Acquisition(
            project=given.project or header.text("PROJECT", "PROPOSID", "PROPID"),
            observing_unit=header.text("MEMBER", "OBSID", "OBSUNIT"),
            quality=given.quality or "UNKNOWN",
            calibration="; ".join(filter(None, (calibration, note))) or None,
            array=header.text("ARRAY", "ARRCFG"),
            integration_time_s=_positive(header, ("EXPTIME", "EXPOSURE", "INTTIME")),
            data_url=given.data_url,
            bibcode=given.bibcode or header.text("BIBCODE", "REFERENC"),
        ),
    )


def equatorial_frame(header: Header) -> BaseCoordinateFrame:
    """The equatorial frame of a header, as the FITS standard 4.0, section 8.3, has it.

    Raises:
        HeaderError: RADESYS or EQUINOX is none that can be converted to ICRS.
    """
    stated = (header.text("RADESYS", "RADECSYS") or "").upper()
    year = equinox(header)
    system = stated or ("ICRS" if year is None else "FK4" if year < 1984.0 else "FK5")
    if system not in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
        raise HeaderError(
            f"RADESYS = {stated!r} is none of ICRS, FK5, FK4, FK4-NO-E: give --right-ascension and "
            "--declination"
        )
    if system == "ICRS":
        return ICRS()
    if system == "FK5":
        return FK5(equinox=Time(2000.0 if year is None else year, format="jyear"))
    fk4 = FK4 if system == "FK4" else FK4NoETerms
    return fk4(equinox=Time(1950.0 if year is None else year, format="byear"))


def equinox(header: Header) -> float | None:
    """The year of EQUINOX, or of EPOCH; None if neither is set.

    Raises:
        HeaderError: it is no year.
    """
    found = header.get("EQUINOX", "EPOCH")
    if found is None:
        return None
    name, value = found
    if isinstance(value, str) and (year := _EQUINOX.fullmatch(value.upper())):
        value = year[1]
    year_number = number(name, value)
    if not 1800.0 <= year_number <= 2100.0:
        raise HeaderError(f"{name} = {value} is no year of an equinox")
    return year_number


def frame_words(frame: BaseCoordinateFrame) -> str:
    """Name and equinox of a frame of the sky."""
    year = getattr(frame, "equinox", None)
    return str(frame.name).upper() + ("" if year is None else f" {year.value:g}")


def _given_or(header: Header, what: str, given: str | None, *names: str) -> str | None:
    found = (f"--{what}", given) if given else header.get(*names)
    if found is None:
        return None
    header.note(what, found[1], found[0])
    return str(found[1]).strip()


def _position(header: Header, centre_deg: tuple[float, float] | None) -> tuple[float, float]:
    if (given := header.given.position) is not None:
        header.note("position", _place(given), "--right-ascension, --declination")
        return given
    if centre_deg is not None:
        header.note("position", _place(centre_deg), "coordinates of the data")
        return centre_deg
    for names in (("RA", "DEC"), ("OBSRA", "OBSDEC"), ("RA_TARG", "DEC_TARG")):
        if header.get(names[0]) is None or header.get(names[1]) is None:
            continue
        frame = equatorial_frame(header)
        longitude = _angle(header, names[0], u.hourangle)
        latitude = _angle(header, names[1], u.deg)
        try:
            place = SkyCoord(longitude, latitude, unit="deg", frame=frame).icrs
        except ValueError as error:
            raise HeaderError(f"{names[1]} = {latitude:g}: {error}") from error
        found = (
            (longitude, latitude)
            if isinstance(frame, ICRS)
            else (float(place.ra.deg), float(place.dec.deg))
        )
        header.note("position", _place(found), f"{', '.join(names)} in {frame_words(frame)}")
        return found
    raise HeaderError(
        "no position in the header (RA, DEC): give --right-ascension and --declination"
    )


def _place(position: tuple[float, float]) -> str:
    return f"{position[0]:.6f}, {position[1]:.6f} deg ICRS"


def _angle(header: Header, name: str, sexagesimal: u.UnitBase) -> float:
    """An angle in degrees: a number, or sexagesimal text."""
    stated = header.text(name) or ""
    if ":" not in stated and " " not in stated and not re.search("[hdms]", stated):
        return header.quantity(u.deg, name) or 0.0
    try:
        return float(Angle(stated, sexagesimal).deg)
    except ValueError as error:
        raise HeaderError(f"{name} = {stated!r}: {error}") from error


def _position_error(header: Header, beam_arcsec: tuple[float, float, float] | None) -> float:
    error, source = header.given.position_error_arcsec, "--position-error"
    if error is None:
        if beam_arcsec is None:
            raise HeaderError("no beam in the header (BMAJ): give --position-error, or --beam")
        error = max(BEAM_FRACTION_OF_POSITION_ERROR * beam_arcsec[0], ASTROMETRIC_FLOOR_ARCSEC)
        source = f"a tenth of the beam, at least {ASTROMETRIC_FLOOR_ARCSEC:g} arcsec"
    header.note("position error", f"{error:g} arcsec", source)
    return error


def _time(header: Header) -> tuple[float, TimeScale]:
    """MJD of the observation and its time scale."""
    if (given := header.given.time_mjd) is not None:
        header.note("time", f"MJD {given:.6f} UTC", "--time-mjd")
        return given, "UTC"
    scale = _time_scale(header)
    found = header.get("MJD-AVG", "MJD-OBS")
    if found is not None:
        mjd, source = number(*found), found[0]
    else:
        dated = header.get("DATE-AVG", "DATE-OBS")
        if dated is None:
            raise HeaderError("neither MJD-OBS nor DATE-OBS in the header: give --time-mjd")
        source, stated = dated[0], str(dated[1])
        clock = header.text("TIME-OBS")
        iso = fits_date(stated)
        if iso and "T" not in iso and clock and _CLOCK.fullmatch(clock):
            iso, source = f"{iso}T{clock}", f"{source}, TIME-OBS"
        try:
            mjd = float(Time(iso, scale="utc").mjd) if iso else math.nan
        except ValueError:
            mjd = math.nan
        if math.isnan(mjd):
            raise HeaderError(
                f"{dated[0]} = {stated[:60]!r} is no date as 2020-03-01T12:00:00 or DD/MM/YY: "
                "give --time-mjd"
            )
    header.note("time", f"MJD {mjd:.6f} {scale}", source)
    return mjd, scale


def fits_date(text: str) -> str | None:
    """A date as the FITS standard has it now; None if it is none.

    Until 2000 the form was DD/MM/YY, of years from 1900 (FITS standard 4.0, section 9.1).
    """
    if old := _OLD_DATE.fullmatch(text.strip()):
        return f"19{old[3]}-{int(old[2]):02}-{int(old[1]):02}"
    return iso_date(text.strip())


def iso_date(text: str) -> str | None:
    """A date, perhaps with a time, as ISO 8601 writes it with a T; None if it is none."""
    found = _ISO_DATE.fullmatch(text)
    return "T".join(filter(None, found.groups())) if found else None


def _time_scale(header: Header) -> TimeScale:
    stated = (header.text("TIMESYS") or "UTC").upper()
    scale: TimeScale | None = {"UT": "UTC", "IAT": "TAI", "TDT": "TT", "ET": "TT"}.get(stated)  # type: ignore[assignment]
    if stated in get_args(TimeScale):
        scale = stated  # type: ignore[assignment]
    if scale is None:
        known = ", ".join(get_args(TimeScale))
        raise HeaderError(f"TIMESYS = {stated!r} is none of {known}: give --time-mjd")
    return scale


def _positive(header: Header, names: Iterable[str]) -> float | None:
    found = header.get(*names)
    value = None if found is None else found[1]
    return float(value) if isinstance(value, Real) and float(value) > 0.0 else None
