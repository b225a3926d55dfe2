"""Reads positions from the columns of a table: their units, their parts, their frame.

What the table states is taken; what it states and the mapping does not deal with is asked for.
"""

from __future__ import annotations

import re

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord, frame_transform_graph
from astropy.table import Column

from mmbroker.processors.ingest.columns import MAPPING, Columns, Numbers
from mmbroker.processors.ingest.designations import MINUS_SIGNS, position_in
from mmbroker.processors.ingest.headers import Origin
from mmbroker.processors.ingest.mapping import Position
from mmbroker.processors.ingest.table_files import FRAME
from mmbroker.processors.ingest.units import degrees_per, sexagesimal_unit
from mmbroker.schemas.wording import meant

_SEXAGESIMAL = re.compile(r"\d[:hd ]\s*\d")
_PART = re.compile(r"(.*)(RA|DE)([hmsd])(\d*)")
_SIGNS = {"": 1.0, "+": 1.0, "-": -1.0}

_FIXED_EPOCH = ("fk4", "fk4noeterms")
_SAME_AS_ICRS = re.compile(r"ICRS|(eq_)?FK5( J?2000(\.0*)?)?|J?2000(\.0*)?", re.IGNORECASE)
"""Frames within 0.03 arcsec of ICRS."""

_OTHER_FRAME = re.compile(
    r"B(?:18|19)\d\d|(?<!\d)1950(?:\.0)?(?!\d)|FK4|eq(?:uinox|\.)?[ =]*J?(?!2000)(?:18|19|20)\d\d"
    r"|(?<![a-z])(?:super)?galactic|ecliptic",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(
    r"(?:^|[_.])(?:(?:S?G|E)(?:LON|LAT)|SG[LB]|[lb]II)(?:$|[_.])", re.IGNORECASE
)
"""Names and descriptions of columns that say that they are not ICRS or J2000."""


def positions(columns: Columns, position: Position) -> tuple[Numbers, Numbers, Numbers]:
    """Right ascension and declination (ICRS, degrees) and error (arcsec); NaN where unknown.

    Raises:
        MappingError: a column lacks or has a wrong unit, or a frame is stated and not dealt with.
    """
    if position.designation is not None:
        longitude, latitude, error = _designated(columns, position.designation)
        of_longitude = of_latitude = f"designation in {' or '.join(position.designation)}"
    else:
        assert position.right_ascension is not None
        assert position.declination is not None
        longitude, of_longitude = _degrees(
            columns,
            "position.right_ascension",
            position.right_ascension,
            position.right_ascension_unit,
            u.hourangle,
        )
        latitude, of_latitude = _degrees(
            columns, "position.declination", position.declination, position.declination_unit, u.deg
        )
        error = np.zeros(columns.rows)
    errors, of_errors = _errors(columns, position, latitude)
    error = np.hypot(error, errors)
    _require_frame(columns, position)
    if position.frame not in (None, "icrs"):
        _convert(columns, position, longitude, latitude)
    columns.origin("right ascension", longitude, "deg ICRS", of_longitude)
    columns.origin("declination", latitude, "deg ICRS", of_latitude)
    columns.origin("position error", error, "arcsec", of_errors)
    columns.origins.append(_frame_origin(columns, position))
    return longitude, latitude, error


def _frame_origin(columns: Columns, position: Position) -> Origin:
    if position.frame is not None:
        words = filter(None, (position.frame, position.equinox, position.epoch))
        return Origin("frame", " ".join(words), MAPPING)
    stated = (columns.column("position", name).meta.get(FRAME) for name in position.columns)
    found = next(filter(None, stated), None)
    return Origin("frame", found or "icrs", "table" if found else "default")


def _degrees(
    columns: Columns, key: str, named: str | list[str], said: str | None, sexagesimal: u.UnitBase
) -> tuple[Numbers, str]:
    """An angle in degrees, and where it is from."""
    if isinstance(named, list):
        return _from_parts(columns, key, named, said, sexagesimal)
    _require_whole(columns, key, named)
    texts = columns.texts(key, named) if columns.is_text(key, named) else []
    is_sexagesimal = [_SEXAGESIMAL.search(text) is not None for text in texts]
    stated = columns.unit_text(key, named)
    form = sexagesimal_unit(said or stated or "")
    if any(is_sexagesimal):
        if form is not None:
            sexagesimal = form
        elif (unit := columns.unit(f"{key}_unit", named, said)) is not None:
            sexagesimal = _sexagesimal(columns, key, named, said, unit, sexagesimal)
        degrees = _from_texts(columns, named, texts, is_sexagesimal, sexagesimal)
        return degrees, f"sexagesimal {columns.read_in(named, sexagesimal, said)}"
    numbers = columns.measured(key, named)
    if form is not None:
        if np.isfinite(numbers).any():
            unit_text = said or stated
            raise columns.wrong(key, f"= {named!r}: {unit_text!r} is the unit of sexagesimal text")
        return numbers, f"column {named}"
    unit = columns.unit(f"{key}_unit", named, said)
    source = columns.read_in(named, unit or u.deg, said)
    if unit is None or unit == u.deg:
        return numbers, source
    return numbers * _degrees_per(columns, key, named, unit, sexagesimal), source


def _degrees_per(
    columns: Columns, key: str, named: str, unit: u.UnitBase, sexagesimal: u.UnitBase
) -> float:
    factor = degrees_per(unit)
    if factor is None or (sexagesimal == u.deg and unit.is_equivalent(u.s)):
        raise columns.wrong(
            f"{key}_unit", f": column {named!r} is in {unit}, which is no unit of it: say another"
        )
    return factor


def _sexagesimal(
    columns: Columns,
    key: str,
    named: str,
    said: str | None,
    unit: u.UnitBase,
    usual: u.UnitBase,
) -> u.UnitBase:
    """Unit of the first number of sexagesimal text in a column that has a unit."""
    if unit in (u.h, u.hourangle) and usual == u.hourangle:
        return u.hourangle
    if unit == u.deg and (said is not None or usual == u.deg):
        return u.deg
    raise columns.wrong(
        f"{key}_unit",
        f": column {named!r} holds sexagesimal text and has the unit {unit}: say h or deg",
    )


def _from_texts(
    columns: Columns,
    name: str,
    texts: list[str],
    is_sexagesimal: list[bool],
    sexagesimal: u.UnitBase,
) -> Numbers:
    degrees = np.full(columns.rows, np.nan)
    for index, text in enumerate(texts):
        if sexagesimal == u.hourangle and not is_sexagesimal[index]:
            if text:  # hours, as in the other rows, or degrees?
                columns.note(index, f"{name} = {text!r} is not sexagesimal, as other rows are")
            continue
        try:
            degrees[index] = Angle(text.translate(MINUS_SIGNS), sexagesimal).deg
        except ValueError:
            columns.note(index, f"{name} = {text!r} is not an angle")
    return degrees


def _require_whole(columns: Columns, key: str, name: str) -> None:
    """Refuse a column such as RAh or DEd, which holds only the first part of a position."""
    found = _PART.fullmatch(name)
    if found is None:
        return
    before, axis, _, after = found.groups()
    parts = [f"{before}{axis}{part}{after}" for part in ("hms" if axis == "RA" else "-dms")]
    there = [part for part in parts if part in columns.names]
    if len(there) > 1:
        raise columns.wrong(key, f"= {name!r} is a part of a position: write {key} = {there}")


def _from_parts(
    columns: Columns, key: str, names: list[str], said: str | None, sexagesimal: u.UnitBase
) -> tuple[Numbers, str]:
    """Degrees from columns with hours or degrees, minutes and seconds, the sign perhaps before."""
    signs, parts = _signs(columns, key, names)
    if not 1 <= len(parts) <= 3:
        raise columns.wrong(key, f"= {names} has {len(parts)} parts besides a sign, not 1 to 3")
    usual = (u.h, u.min, u.s) if sexagesimal == u.hourangle else (u.deg, u.arcmin, u.arcsec)
    if said is not None and (first := columns.unit(f"{key}_unit", parts[0], said)) is not None:
        usual = (first, first / 60, first / 3600)
    degrees = np.zeros(columns.rows)
    sources = [] if signs is None else [f"sign in column {names[0]}"]
    for place, name in enumerate(parts):
        values = columns.measured(key, name)
        unit = None if said is not None else columns.unit(f"{key}_unit", name)
        factor = _degrees_per(columns, key, name, unit or usual[place], sexagesimal)
        sources.append(columns.read_in(name, unit or usual[place], said))
        negative = np.signbit(values)
        if place:
            for index in np.flatnonzero((values < 0) | (values > 60)).tolist():
                columns.note(index, f"{name} = {values[index]:g} is not between 0 and 60")
            values = np.where((values < 0) | (values > 60), np.nan, values)
        elif signs is None:
            signs = np.where(negative, -1.0, 1.0)
            if columns.column(key, name).dtype.kind in "iu" and sexagesimal == u.deg:
                for index in np.flatnonzero(values == 0).tolist():
                    columns.note(
                        index,
                        f"{name} = 0 has no sign: name the column of the sign first in {key}",
                    )
                values = np.where(values == 0, np.nan, values)
        elif negative.any():
            at = int(np.flatnonzero(negative)[0])
            raise columns.wrong(
                key, f": {name} = {values[at]:g} in row {at + 1} has a sign of its own"
            )
        degrees = degrees + np.abs(values) * factor
    assert signs is not None
    return signs * degrees, ", ".join(sources)


def _signs(columns: Columns, key: str, names: list[str]) -> tuple[Numbers | None, list[str]]:
    """Signs from the first column if it holds nothing else, and the other columns."""
    if len(names) < 2 or not columns.is_text(key, names[0]):
        return None, names
    texts = [text.translate(MINUS_SIGNS) for text in columns.texts(key, names[0])]
    if not set(texts) <= set(_SIGNS):
        return None, names
    return np.array([_SIGNS[text] for text in texts], dtype=float), names[1:]


def _errors(columns: Columns, position: Position, latitude: Numbers) -> tuple[Numbers, str]:
    """Errors in arcsec, and where they are from."""
    key = "position.error_arcsec"
    if not isinstance(position.error_arcsec, str):
        return columns.constant_or_column(key, position.error_arcsec), MAPPING
    errors = columns.measured(key, position.error_arcsec)
    unit = columns.unit("position.error_unit", position.error_arcsec, position.error_unit)
    source = columns.read_in(position.error_arcsec, unit or u.arcsec, position.error_unit)
    if unit is None or unit == u.arcsec:
        return errors, source
    factor = degrees_per(unit)
    if factor is None:
        raise columns.wrong(
            "position.error_unit",
            f": column {position.error_arcsec!r} is in {unit}, which is no angle: say another",
        )
    if unit.is_equivalent(u.s):  # of right ascension
        return errors * factor * 3600.0 * np.cos(np.radians(latitude)), source
    return errors * float(unit.to(u.arcsec)), source


def _designated(columns: Columns, names: list[str]) -> tuple[Numbers, Numbers, Numbers]:
    texts = [columns.texts(f"position.designation[{i}]", name) for i, name in enumerate(names)]
    found = np.full((3, columns.rows), np.nan)
    for index in range(columns.rows):
        places = (position_in(column[index]) for column in texts)
        found[:, index] = next(filter(None, places), (np.nan, np.nan, np.nan))
    return found[0], found[1], found[2]


def _require_frame(columns: Columns, position: Position) -> None:
    """Refuse what the table states of the frame, if it is another than the mapping takes it for."""
    if position.designation is not None:
        return
    for name in position.columns:
        column = columns.column("position", name)
        if position.frame is not None:
            if column.meta.get(FRAME) == "ICRS" and position.frame != "icrs":
                raise columns.wrong(
                    "position.frame", f"= {position.frame!r}: {name} is in ICRS already"
                )
        elif said := _other_frame(name, column):
            raise _frame_wanted(columns, f"column {name!r} says {said!r}")
    if position.frame is None:
        header = {str(key).upper(): str(value).strip() for key, value in columns.said.items()}
        for key in ("RADESYS", "RADECSYS", "EQUINOX"):
            if key in header and not _SAME_AS_ICRS.fullmatch(header[key]):
                raise _frame_wanted(columns, f"the table says {key} = {header[key]}")
        if _OTHER_FRAME.fullmatch(header.get("EPOCH", "")):  # of old the word for the equinox
            raise _frame_wanted(columns, f"the table says EPOCH = {header['EPOCH']}")


def _other_frame(name: str, column: Column) -> str | None:
    """What says that a column is in another frame than ICRS; None if nothing does."""
    stated = column.meta.get(FRAME)
    if stated is not None and not _SAME_AS_ICRS.fullmatch(stated):
        return str(stated)
    texts = (name, column.description or "", str(column.meta.get("ucd", "")))
    found = next(filter(None, map(_OTHER_FRAME.search, texts)), None)
    found = found or _OTHER_NAME.search(name)
    return found and found[0]


def _frame_wanted(columns: Columns, said: str) -> Exception:
    return columns.wrong(
        "position.frame",
        f'is not set, and {said}: set it (frame = "fk4" for B1950, "galactic", and so on; "icrs" '
        "if the positions are in ICRS or J2000)",
    )


def _convert(columns: Columns, position: Position, longitude: Numbers, latitude: Numbers) -> None:
    """Convert positions to ICRS in place."""
    frame = position.frame
    with np.errstate(invalid="ignore"):
        known = (longitude >= -180.0) & (longitude <= 360.0) & (np.abs(latitude) <= 90.0)
    for index in np.flatnonzero(np.isfinite(longitude) & ~known).tolist():
        columns.note(
            index, f"position: {longitude[index]:g}, {latitude[index]:g} is no place in {frame}"
        )
    longitude[~known] = np.nan
    stated = {"equinox": position.equinox, "obstime": position.epoch}
    options = {name: value for name, value in stated.items() if value is not None}
    try:
        _require_fixed(frame or "", options)
        place = SkyCoord(longitude[known], latitude[known], unit="deg", frame=frame, **options).icrs
    except (ValueError, TypeError) as problem:
        raise columns.wrong("position.frame", f"= {frame!r}: {problem}") from problem
    longitude[known], latitude[known] = place.ra.deg, place.dec.deg


def _require_fixed(frame: str, options: dict[str, str]) -> None:
    """Refuse frames that depend on when and where from was observed.

    Raises:
        ValueError: there is no such frame, or it needs more than the options.
    """
    frames = frame_transform_graph.get_names()
    if frame not in frames:
        raise ValueError(f"no frame of astropy.coordinates{meant(frame, frames)}")
    has = set(frame_transform_graph.lookup_name(frame).frame_attributes)
    if not has <= ({"equinox", "obstime"} if frame in _FIXED_EPOCH else {"equinox"}):
        raise ValueError("it depends on when, or from where, was observed")
    if unknown := sorted({"obstime": "epoch"}.get(name, name) for name in set(options) - has):
        raise ValueError(f"it has no {unknown[0]}")
