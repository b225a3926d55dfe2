"""Reads the beam: from BMAJ, from HISTORY as AIPS writes it, or from CASA's table of beams."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits

from mmbroker.processors.ingest.headers import Header, HeaderError, number
from mmbroker.schemas.events import Floats

TABLE = "BEAMS"
"""Name of CASA's table with a beam for every channel and polarisation."""

_NUMBER = r"\s*([-+.\dEeDd]+)"
_OF_AIPS = re.compile(rf"BMAJ\s*={_NUMBER}\s+BMIN\s*={_NUMBER}\s+BPA\s*={_NUMBER}")
_GAUSSIAN = np.pi / (4.0 * np.log(2.0))


@dataclass(frozen=True, slots=True)
class Beam:
    """A Gaussian beam.

    Attributes:
        axes: major and minor axis in arcsec, full widths at half maximum, and position angle in
            degrees. Of beams that vary it is the largest.
        areas: solid angle of each channel's beam in arcsec**2, float64, shape (channels,), NaN
            where a channel has none; None where they do not vary.
    """

    axes: tuple[float, float, float]
    areas: Floats | None = None

    @property
    def solid_angle(self) -> u.Quantity:
        """Solid angle: a number, or shape (channels,) where beams vary."""
        if self.areas is not None:
            return self.areas * u.arcsec**2
        return _GAUSSIAN * self.axes[0] * self.axes[1] * u.arcsec**2


def read_beam(
    header: Header,
    extensions: Iterable[fits.hdu.base.ExtensionHDU] = (),
    plane: int = 0,
    channels: int = 1,
) -> Beam | None:
    """The beam of an image or a spectrum.

    Args:
        header: its header.
        extensions: extensions of the file, of which one may be the table of beams.
        plane: which plane of polarisation is read, counted from 0.
        channels: number of channels.

    Returns:
        The beam; None if nothing says one.

    Raises:
        HeaderError: a keyword is no number, or the table does not have one beam for each channel.
    """
    if (given := header.given.beam) is not None:
        return _told(header, given, "--beam")
    varies = header.get("CASAMBM") == ("CASAMBM", True)
    table = next((each for each in extensions if each.name.upper() == TABLE), None)
    if table is not None and (varies or header.get("BMAJ") is None):
        return _of_table(header, table, plane, channels)
    major, minor = (header.quantity(u.deg, name) for name in ("BMAJ", "BMIN"))
    if major:
        minor = major if minor is None else minor
        angle = header.quantity(u.deg, "BPA") or 0.0
        if major < 0.0 or minor < 0.0:
            raise HeaderError(f"BMAJ = {major:g}, BMIN = {minor:g}: give --beam")
        if minor:
            stated = "BMAJ, BMIN, BPA" if header.get("BMIN") else "BMAJ alone: a round beam"
            return _told(header, (major * 3600.0, minor * 3600.0, angle), stated)
    lines = [found for line in header.history() if (found := _OF_AIPS.search(line.upper()))]
    if lines:
        values = [number("BMAJ in HISTORY", text.replace("D", "E")) for text in lines[-1].groups()]
        if values[0] > 0.0 and values[1] > 0.0:
            axes = (values[0] * 3600.0, values[1] * 3600.0, values[2])
            return _told(header, axes, "HISTORY, CLEAN BMAJ= BMIN= BPA=")
    return None


def _told(header: Header, axes: tuple[float, float, float], source: str) -> Beam:
    header.note("beam", f"{axes[0]:g} x {axes[1]:g} arcsec, {axes[2]:g} deg", source)
    return Beam(axes)


def _of_table(header: Header, table: fits.BinTableHDU, plane: int, channels: int) -> Beam:
    columns = {column.name.upper(): column for column in table.columns}
    missing = [name for name in ("BMAJ", "BMIN", "BPA") if name not in columns]
    if missing:
        raise HeaderError(f"extension {TABLE} has no column {', '.join(missing)}: give --beam")
    rows = np.ones(len(table.data), dtype=bool)
    if "POL" in columns:
        rows = np.asarray(table.data["POL"]) == plane
    if rows.sum() != channels:
        raise HeaderError(
            f"extension {TABLE} has {rows.sum()} beams for {channels} channels: give --beam"
        )
    order = np.argsort(table.data["CHAN"][rows]) if "CHAN" in columns else slice(None)
    values = [
        u.Quantity(
            np.asarray(table.data[name][rows], dtype=np.float64)[order], columns[name].unit or unit
        ).to_value(target)
        for name, unit, target in (
            ("BMAJ", "arcsec", "arcsec"), ("BMIN", "arcsec", "arcsec"), ("BPA", "deg", "deg"),
        )
    ]  # fmt: skip
    areas = np.asarray(_GAUSSIAN * values[0] * values[1])
    areas[~(areas > 0.0)] = np.nan  # CASA's beam of a channel without data
    if np.isnan(areas).all():
        raise HeaderError(f"extension {TABLE} has no beam above 0: give --beam")
    major, minor, angle = (float(column[np.nanargmax(areas)]) for column in values)
    beam = _told(header, (major, minor, angle), f"extension {TABLE}, the largest")
    return Beam(beam.axes, areas if channels > 1 else None)
