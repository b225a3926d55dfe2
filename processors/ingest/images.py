"""Opens FITS files, finds the data in them, and reads only the part of an image that is wanted."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS

from mmbroker.processors.ingest.beams import TABLE as BEAMS
from mmbroker.processors.ingest.coordinates import (
    axis_keywords,
    coordinate_system,
    long_axes,
    sky_axes,
    stokes_plane,
)
from mmbroker.processors.ingest.headers import (
    Given,
    Header,
    HeaderError,
    in_file,
    stated_unit,
)
from mmbroker.processors.ingest.uncertainties import (
    error_kind,
    is_mask,
    looks_like_errors,
    rank,
    standard_deviation,
    stated_kind,
)
from mmbroker.schemas.events import Floats
from mmbroker.schemas.wording import fits_problem

Content = Literal["map", "spectrum", "cube", "table"]
Index = tuple[slice | int, ...]

_SUFFIXES = frozenset({".fits", ".fit", ".fts", ".fz"})
_UNPACK = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_OTHERS = frozenset({BEAMS, "COVERAGE", "EXPOSURE", "EXP", "HITS", "PB"})
"""Extensions beside the data that are neither errors nor masks."""


def is_fits(path: Path) -> bool:
    """Whether the name of a file is that of a FITS file, compressed or not."""
    inner = path.with_suffix("") if path.suffix.lower() in _UNPACK else path
    return inner.suffix.lower() in _SUFFIXES


@contextmanager
def opened(path: Path) -> Iterator[fits.HDUList]:
    """The extensions of a FITS file. What astropy cannot read raises a ``HeaderError``."""
    with in_file(path):
        try:
            with (
                warnings.catch_warnings(action="ignore", category=AstropyWarning),
                _unpacked(path) as file,
                fits.open(file) as extensions,
            ):
                yield extensions
        except HeaderError:
            raise
        except Exception as error:  # astropy raises errors of every kind for broken files
            reason = (fits_problem(error).strip().splitlines() or [type(error).__name__])[0]
            raise HeaderError(f"cannot be read: {reason}") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A file that can be read at any place: where it is packed, a copy on the disk that is not.

    Each row of a cut-out would be looked for from the beginning of the packed file.
    """
    unpack: Any = _UNPACK.get(path.suffix.lower())
    if unpack is None:
        yield path
        return
    with unpack(path) as packed, tempfile.NamedTemporaryFile(suffix=".fits") as plain:
        shutil.copyfileobj(packed, plain)
        plain.flush()
        yield Path(plain.name)


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a FITS file, of which nothing has been read but the header.

    Attributes:
        extension: where it is.
        header: its header.
        wcs: its coordinate system.
        extensions: all extensions of the file.
    """

    extension: Any
    header: Header
    wcs: WCS
    extensions: fits.HDUList

    @property
    def content(self) -> Content:
        """What it is, from its axes longer than one pixel.

        Raises:
            HeaderError: it runs along other axes than those of the sky and of the spectrum.
        """
        axes, sky, wcs = long_axes(self.wcs), sky_axes(self.wcs), self.wcs
        if axes == [wcs.wcs.spec]:
            return "spectrum"
        if axes == sky:
            return "map"
        if wcs.wcs.spec in axes and set(axes) <= {*sky, wcs.wcs.spec}:
            return "cube"
        if not axes:  # one pixel
            raise HeaderError(f"{axis_keywords(wcs, range(wcs.naxis))}: the image has one pixel")
        there = "celestial" if sky else "spectral" if wcs.wcs.spec >= 0 else "celestial or spectral"
        raise HeaderError(
            f"{axis_keywords(wcs, axes)}: this is no map of the sky and no spectrum: these are not "
            f"its {there} axes. If other data are meant, give --hdu"
        )

    def index(self, wanted: Mapping[int, slice | int]) -> Index:
        """Index of a part of the array, by axes of the header counted from 0.

        Of polarisations it is Stokes I, of all axes that are not wanted the first pixel.

        Raises:
            HeaderError: there is no Stokes I.
        """
        stokes = stokes_plane(self.wcs)
        chosen = {**({} if stokes is None else {stokes[0]: stokes[1]}), **wanted}
        return tuple(chosen.get(axis, 0) for axis in reversed(range(len(self.extension.shape))))

    def read(self, index: Index) -> Floats:
        """A part of the image, NaN where a mask says that it was not observed; float64."""
        values = _section(self.extension, index)
        for mask in self._beside(is_mask):
            values[self._read_beside(mask, index) != 0] = np.nan
            self.header.note("mask", "not 0 is not observed", f"extension {mask.name}")
        return values

    def errors(self, index: Index, flux_unit: u.UnitBase) -> u.Quantity | None:
        """Standard deviations of a part of the image, from another extension; None without one.

        Raises:
            HeaderError: an extension that may hold errors does not say what they are.
        """
        found = self._beside(lambda name: error_kind(name) is not None or looks_like_errors(name))
        if self.header.given.measure_noise or not found:
            return None
        best = min(found, key=lambda extension: rank(extension.name))
        own, name = Header(best.header, given=self.header.given), f"extension {best.name}"
        kind = stated_kind(best.name, own.text("UTYPE", "HDUCLAS3"))
        stated = own.text("BUNIT")
        unit = None if stated is None else stated_unit(f"{name}: BUNIT", stated)
        values = self._read_beside(best, index)
        error, kind = standard_deviation(name, kind, values, unit, flux_unit)
        self.header.note("error", f"{kind} in {unit or 'the unit of the data'}", name)
        return error

    def _beside(self, wanted: Callable[[str], bool]) -> list[Any]:
        """Images beside this one, with names that fulfil a condition."""
        return [
            other
            for other in self.extensions
            if other is not self.extension and wanted(other.name) and _has_image(other)
        ]

    def _read_beside(self, other: Any, index: Index) -> Floats:
        """The same part of another image, which may lack the axes of length one."""
        shape, own = self.extension.shape, other.shape
        if [length for length in shape if length > 1] != [length for length in own if length > 1]:
            raise HeaderError(f"extension {other.name} has shape {own}, the data {shape}")
        parts = (part for part, length in zip(index, shape, strict=True) if length > 1)
        return _section(other, tuple(next(parts) if length > 1 else 0 for length in own))


def find_data(extensions: fits.HDUList, given: Given) -> Any:
    """The extension with the data: the one that is given, or else the only one there is.

    Errors, masks and beams are not meant. An image goes before tables.

    Raises:
        HeaderError: there is none, or more than one.
    """
    if given.hdu is not None:
        try:
            return extensions[int(given.hdu) if given.hdu.isdecimal() else given.hdu]
        except (KeyError, IndexError) as error:
            names = ", ".join(extension.name or "-" for extension in extensions)
            raise HeaderError(f"--hdu {given.hdu}: there is none; there are {names}") from error
    others = [extension for extension in extensions if not _is_beside(extension.name)]
    images = [extension for extension in others if _has_image(extension)]
    tables = [extension for extension in others if isinstance(extension, fits.BinTableHDU)]
    found = images or [table for table in tables if not isinstance(table, fits.CompImageHDU)]
    if not found:
        raise HeaderError("holds neither an image nor a table")
    if len(found) > 1:
        names = ", ".join(
            f"{extensions.index(each)} ({each.name or 'without a name'})" for each in found
        )
        raise HeaderError(f"holds more than one: {names}: give --hdu")
    return found[0]


def image_in(extensions: fits.HDUList, extension: Any, given: Given) -> Image:
    """An image with its header and its coordinate system.

    Raises:
        HeaderError: its header makes no sense.
    """
    header = header_of(extensions, extension, given)
    return Image(extension, header, coordinate_system(header, extension.shape), extensions)


def header_of(extensions: fits.HDUList, extension: Any, given: Given) -> Header:
    """The header of an extension, and after it that of the file."""
    own = [] if extension is extensions[0] else [extensions[0].header]
    header = Header(extension.header, *own, given=given)
    if len(extensions) > 1:
        name = extension.name or "without a name"
        header.note("data", name, f"extension {extensions.index(extension)}")
    return header


def content_of(path: Path, given: Given) -> Content:
    """What a FITS file holds.

    Raises:
        HeaderError: it cannot be read, or an image runs along other axes than sky and spectrum.
    """
    with opened(path) as extensions:
        extension = find_data(extensions, given)
        if not extension.is_image:
            return "table"
        return image_in(extensions, extension, given).content


def cube_problem(axes: str) -> HeaderError:
    """An error that says what to do with a cube."""
    return HeaderError(
        f"{axes}: this is neither a map nor one spectrum but a cube, or a slice of one: give "
        "--right-ascension and --declination for the spectrum there"
    )


def _is_beside(name: str) -> bool:
    return (
        name.upper() in _OTHERS
        or is_mask(name)
        or error_kind(name) is not None
        or looks_like_errors(name)
    )


def _has_image(extension: Any) -> bool:
    return bool(extension.is_image and extension.shape and all(extension.shape))


def _section(extension: Any, index: Index) -> Floats:
    """A part of an image, as float64 in the byte order of the machine; no more of it is read."""
    lengths = [
        len(range(*part.indices(length)))
        for part, length in zip(index, extension.shape, strict=True)
        if isinstance(part, slice)
    ]
    # Of axes of length one astropy keeps some that have an index, and drops others.
    return np.array(extension.section[index], dtype=np.float64).reshape(lengths)
