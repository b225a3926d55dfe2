"""Reads the file of a table into columns of numbers and texts, each with what the file says of it.

A column of times becomes MJDs, one of sky coordinates two columns in ICRS, ``NAME.ra`` and
``NAME.dec``. A cell that a reader of astropy would quietly mask is an error here.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import ascii, fits  # noqa: A004 - astropy's name
from astropy.io.votable import parse as parse_votable
from astropy.io.votable.exceptions import VOWarning
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time, TimeDelta

from mmbroker.processors.ingest.mapping import (
    COMPRESSED,
    MappingError,
    TableFormat,
)

FRAME = "mmbroker.frame"
"""Key in the ``meta`` of a column: the frame that the file states for it."""

_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
    ".mrt": "ascii.mrt",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
_TYPED = {"ascii.ecsv": ascii.Ecsv, "ascii.mrt": ascii.Mrt, "ascii.cds": ascii.Cds}
"""Text formats whose header says which columns hold numbers."""

_INVALID_CELL = re.compile(r"\d+:\d+: W30: Invalid literal for \w+ '(.*?)'")
"""Said of a cell that is no number; the cell would be taken for an empty one."""

NO_NUMBER = frozenset({"", "-", "--", "---", "...", "nan", "null", "none", "n/a"})
"""Texts that stand for no value, in lower case."""

_UNCONVERTED = re.compile(r"column '?(.+?)'? failed to convert", re.IGNORECASE)


def not_a_file(path: Path) -> str | None:
    """Why a path cannot be read as a file; None if it can."""
    if path.is_dir():
        return "is a directory: name the files in it"
    if not path.exists():
        return "there is no such file"
    return None if path.is_file() else "is no regular file"


def read_columns(
    path: Path, form: TableFormat, mapping: str, time_scale: str, texts: list[str]
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Read a table.

    Args:
        path: the file.
        form: how it is read.
        mapping: name of the mapping, for messages.
        time_scale: scale of the MJDs that columns of times become.
        texts: columns to keep as text, where the format leaves a choice.

    Returns:
        The columns by name, what the file says of the whole table, and the number of rows. What
        can be neither number nor text is left as it is.

    Raises:
        MappingError: the table cannot be read; the message names the file, and a cell that is at
            fault by column and row.
    """
    if reason := not_a_file(path):
        raise MappingError(f"{path}, mapping {mapping}: {reason}")
    suffix = path.with_suffix("").suffix if path.suffix.lower() in COMPRESSED else path.suffix
    name = form.format or _FORMATS.get(suffix.lower(), "ascii")
    try:
        if name == "fits":
            table = _read_fits(path, form)
        elif name == "votable":
            table = _read_votable(path, form)
        elif name.startswith("ascii"):
            table = _read_text(path, form, name, texts)
        else:
            table = Table.read(path, format=name)
    except Exception as error:  # astropy's readers raise errors of every kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MappingError(f"{path}, mapping {mapping}: cannot be read: {reason}") from error
    return _plain(table, time_scale), dict(table.meta), len(table)


def _read_text(path: Path, form: TableFormat, name: str, texts: list[str]) -> Table:
    options: dict[str, Any] = {"format": name}
    options |= {"names": form.columns} if form.columns else {}
    options |= {"delimiter": form.delimiter} if form.delimiter else {}
    options |= {"comment": form.comment} if form.comment else {}
    if name not in _TYPED and texts:
        options["converters"] = dict.fromkeys(texts, str)
    if name != "ascii.ecsv":
        options |= {"guess": name == "ascii", "encoding": "utf-8-sig"}
    try:
        return Table.read(path, **options)
    except ValueError as error:
        if (found := _UNCONVERTED.search(str(error))) and name in _TYPED:
            raise ValueError(_bad_cell(path, name, found[1])) from error
        raise


class _Texts(ascii.TableOutputter):  # type: ignore[misc]
    """Leaves all cells as text."""

    def __call__(self, cols: list[Any], meta: dict[str, Any]) -> Table:
        return Table({column.name: [str(cell) for cell in column.str_vals] for column in cols})


def _bad_cell(path: Path, name: str, column: str) -> str:
    reader = ascii.get_reader(reader_cls=_TYPED[name], outputter_cls=_Texts)
    for row, text in enumerate(reader.read(str(path))[column], 1):
        try:
            float(text or 0)
        except ValueError:
            return f"row {row}: {column} = {str(text)!r} is not a number"
    return f"column {column!r} holds other values than its header says"


def _read_fits(path: Path, form: TableFormat) -> Table:
    with fits.open(path) as extensions:
        if form.hdu is not None:
            hdu = extensions[form.hdu]
        else:
            tables = [each for each in extensions if is_table_extension(each)]
            if len(tables) != 1:
                there = ", ".join(f"{extensions.index(e)} ({e.name or 'no name'})" for e in tables)
                raise ValueError(
                    f"it has several tables, {there}: say which with hdu in [table]"
                    if tables
                    else "it has no table"
                )
            (hdu,) = tables
        if not is_table_extension(hdu):
            raise ValueError(f"hdu = {form.hdu!r} is no table")
        nulls = _scaled_nulls(hdu)
        table = Table.read(hdu, format="fits")
    for name, null in nulls.items():
        table[name] = MaskedColumn(table[name])
        table[name].mask = np.ma.getmaskarray(table[name]) | null
    return table


def is_table_extension(extension: Any) -> bool:
    """Whether an extension of a FITS file is a table, and no compressed image."""
    is_one = isinstance(extension, fits.BinTableHDU | fits.TableHDU)
    return is_one and not isinstance(extension, fits.CompImageHDU)


def _scaled_nulls(hdu: Any) -> dict[str, Any]:
    """Where columns with a scale hold TNULL, which is of the values as stored; TNULL is removed.

    Astropy compares TNULL with the scaled values.
    """
    nulls = {}
    for column in hdu.columns:
        if isinstance(column.bzero, float) and column.bzero.is_integer():
            column.bzero = int(column.bzero)  # as astropy knows unsigned numbers
        scaled = column.bscale not in ("", None, 1) or column.bzero not in ("", None, 0)
        if scaled and column.null not in ("", None):
            nulls[column.name] = hdu.data.view(np.ndarray)[column.name] == column.null
            column.null = None
    return nulls


def _read_votable(path: Path, form: TableFormat) -> Table:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        file = parse_votable(path, verify="warn")
    for each in told:
        found = _INVALID_CELL.search(str(each.message))
        if isinstance(each.message, VOWarning) and found and found[1].lower() not in NO_NUMBER:
            raise ValueError(f"line {found[0]}")
    tables = list(file.iter_tables())
    if form.hdu is None and len(tables) > 1:
        there = ", ".join(each.ID or each.name or str(n) for n, each in enumerate(tables))
        raise ValueError(f"it has several tables, {there}: say which with hdu in [table]")
    table = Table.read(file, format="votable", table_id=form.hdu)
    source = file.get_first_table() if form.hdu is None else _named(file, form.hdu)
    systems = {each.ID: each for each in file.iter_coosys()}
    for field, name in zip(source.fields, table.colnames, strict=True):
        if (system := systems.get(field.ref)) is not None:
            table[name].meta[FRAME] = " ".join(filter(None, (system.system, system.equinox)))
    return table


def _named(file: Any, table: int | str) -> Any:
    if isinstance(table, int):
        return file.get_table_by_index(table)
    return file.get_table_by_id(table)


def _plain(table: Table, time_scale: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in table.colnames:
        plain |= _columns_of(name, table[name], time_scale)
    return plain


def _columns_of(name: str, cells: Any, time_scale: str) -> dict[str, Any]:
    if isinstance(cells, Column):
        return {name: cells}
    if isinstance(cells, TimeDelta):
        return {name: Column(np.ma.filled(cells.to_value(u.day), np.nan), name, unit=u.day)}
    if isinstance(cells, Time) and cells.scale != "local":
        mjd = getattr(cells, time_scale.lower()).mjd
        return {name: Column(np.ma.filled(_unmasked(mjd), np.nan), name)}
    if isinstance(cells, SkyCoord):
        try:
            place = cells.icrs
        except Exception:  # a frame that needs more than the file says
            return {name: cells}
        return {name: cells} | {
            f"{name}.{axis}": Column(
                np.ma.filled(_unmasked(angle.to_value(u.deg)), np.nan),
                unit=u.deg,
                meta={FRAME: "ICRS"},
            )
            for axis, angle in (("ra", place.ra), ("dec", place.dec))
        }
    if isinstance(cells, u.Quantity) and cells.dtype.names is None:
        return {name: MaskedColumn(_unmasked(cells.value), name, unit=cells.unit)}
    return {name: cells}


def _unmasked(values: Any) -> Any:
    """Astropy's own masked arrays as those of numpy."""
    if hasattr(values, "unmasked"):
        return np.ma.MaskedArray(values.unmasked, values.mask)
    return values
