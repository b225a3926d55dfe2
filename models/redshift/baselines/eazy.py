"""Runs EAZY itself on the fluxes that the template fit is judged on: ``eazy_reference.npz``.

EAZY (Brammer, van Dokkum & Coppi 2008, ApJ 686 1503) combines its twelve templates freely at each
redshift. That takes a hundred times as long as the fit of ``processors.redshift.templates``, in
which a galaxy is like one of many templates. EAZY's packages have no errors of templates and no
prior by magnitude, so it is given those of that fit.

    pip install --no-deps eazy peakutils astro-sedpy dust_extinction
    pip download --no-deps --dest ARCHIVES grizli==1.14.3 pz-rail-base==2.0.11
    MMBROKER_DATA=FOLDER python -m mmbroker.models.redshift.baselines.eazy ARCHIVES

This takes some minutes. Nothing that runs needs these packages: the results are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from mmbroker.models.packaged.arrays import read_packaged, write_packaged
from mmbroker.models.packaged.comparison import COMPARISON, kept_to_compare
from mmbroker.models.packaged.templates import load_templates
from mmbroker.models.real_data.catalogues import goods_north, zcosmos
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.real_data.split import TEST, VALIDATION, split_of
from mmbroker.models.redshift.sample import Estimate
from mmbroker.models.redshift.templates.library import load_library, read_archives
from mmbroker.processors.fingerprint.merge import build
from mmbroker.processors.redshift import templates as fitting
from mmbroker.processors.redshift.grids import COARSE, Array
from mmbroker.processors.redshift.templates import (
    ERROR_KNOTS_UM,
    PRIOR_UM,
    BandFluxes,
    Templates,
    photometry,
)

NAME = "eazy_reference"
COMMAND = "python -m mmbroker.models.redshift.baselines.eazy"

LEAST_BANDS = 4
"""Galaxies with fewer bands are left out."""

_TABLES = {"GOODS-N": goods_north, "zCOSMOS": zcosmos}
_PARTS = {"validation": VALIDATION, "test": TEST}
_OWN = "EAZY "  # the names of its templates in the library begin so
_FIELDS = ("redshift", "crps", "covered_68", "covered_95")
_MAGNITUDES: Array = np.arange(14.0, 28.0, 0.5)
_REDSHIFTS: Array = np.expm1(COARSE)
_MISSING = -99.0


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """N galaxies of one part of a table, to which templates were not fitted.

    Attributes:
        truth: the spectroscopic redshifts, shape (N,).
        measured: their fluxes in bands of the templates.
    """

    truth: Array
    measured: BandFluxes

    @property
    def identity(self) -> str:
        """A hexadecimal hash over bands, fluxes, errors and redshifts."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (self.measured.band, self.measured.flux, self.measured.error, self.truth):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def unfitted_parts(tables: Path, templates: Templates) -> dict[str, Part]:
    """Read the validation and test parts of GOODS-N and of zCOSMOS, by name.

    Args:
        tables: the folder of the published tables.
        templates: the templates whose bands count.
    """
    found = {}
    for table, read in _TABLES.items():
        known = [one for one in read(tables) if one.spectroscopic_redshift is not None]
        for name, part in _PARTS.items():
            chosen = [one for one in known if split_of(one.name) == part]
            many = [build(one.name, one.observations) for one in chosen]
            enough = photometry(many, templates.wavelength_um).count >= LEAST_BANDS
            rows = np.flatnonzero(enough).tolist()
            found[f"{table}, {name} part"] = Part(
                np.array([chosen[row].spectroscopic_redshift for row in rows], float),
                photometry([many[row] for row in rows], templates.wavelength_um),
            )
    return found


def eazy_estimates(given: dict[str, Part]) -> dict[str, Estimate]:
    """Read EAZY's estimates of the galaxies of each part.

    Args:
        given: the parts by name, see ``unfitted_parts``.

    Returns:
        The estimates by the same names.

    Raises:
        FileNotFoundError: the results are missing, as in an installed package.
        ValueError: the results are of other fluxes, or their card belongs to others.
    """
    folder = kept_to_compare(f"{NAME}.npz").parent
    arrays, card = read_packaged(folder, NAME, COMMAND)
    for name, part in given.items():
        if card["fluxes"].get(name) != part.identity:
            raise ValueError(f"{NAME}: made of other fluxes than those of {name}: {COMMAND}")
    return {
        name: Estimate(*(arrays[f"{name}: {field}"].astype(float) for field in _FIELDS))
        for name in given
    }


def write(
    given: dict[str, Part],
    templates: Templates,
    spectra: dict[str, tuple[Array, Array]],
    folder: Path = COMPARISON,
) -> None:
    """Run EAZY on every part, and keep its estimates.

    Args:
        given: the parts by name.
        templates: the templates whose errors and prior EAZY is given.
        spectra: EAZY's templates, as ``log_densities`` takes them.
        folder: the folder to write to.
    """
    import eazy

    arrays = {}
    for name, part in given.items():
        density = log_densities(part.measured, templates, spectra)
        estimate = Estimate.of_densities(density, part.truth)
        for field in _FIELDS:
            arrays[f"{name}: {field}"] = getattr(estimate, field).astype(np.float32)
    card = {
        "name": NAME,
        "made_by": f"eazy {eazy.__version__}, MIT licence (Brammer et al. 2008, ApJ 686 1503)",
        "templates": list(spectra),
        "fluxes": {name: part.identity for name, part in given.items()},
    }
    write_packaged(folder, NAME, arrays, card)


def log_densities(
    measured: BandFluxes, templates: Templates, spectra: dict[str, tuple[Array, Array]]
) -> Array:
    """Run EAZY.

    Args:
        measured: the fluxes of N galaxies, in bands of ``templates``.
        templates: the templates whose errors and prior EAZY is given.
        spectra: EAZY's templates by name: wavelengths in Angstrom, and flux densities per unit of
            wavelength.

    Returns:
        The ln of the densities in ln(1 + z), float64, shape (N, COARSE).
    """
    from eazy.photoz import PhotoZ

    with tempfile.TemporaryDirectory() as made, contextlib.chdir(made), _quiet():
        _write_bands()
        _write_spectra(spectra)
        _write_errors_and_prior(templates)
        _galaxies(measured).write("galaxies.fits")
        Path("translate").touch()
        nearest = int(np.argmin(np.abs(templates.wavelength_um - PRIOR_UM)))
        fit = PhotoZ(
            translate_file="translate",
            n_proc=0,
            params={
                "CATALOG_FILE": "galaxies.fits",
                "FILTERS_RES": "bands",
                "TEMPLATES_FILE": "spectra",
                "TEMP_ERR_FILE": "errors",
                "TEMP_ERR_A2": 1.0,
                "SYS_ERR": 0.0,
                "PRIOR_FILE": "prior",
                "PRIOR_FILTER": nearest + 1,
                "PRIOR_ABZP": 23.9,  # of fluxes in uJy
                "N_MIN_COLORS": LEAST_BANDS,
                "Z_MIN": float(_REDSHIFTS[0]),
                "Z_MAX": float(_REDSHIFTS[-1]),
            },
        )
        fit.fit_catalog(n_proc=0, prior=True, get_best_fit=False)
    per_logarithm = fit.lnp + np.log1p(fit.zgrid)
    return np.array([np.interp(_REDSHIFTS, fit.zgrid, one) for one in per_logarithm])


def _write_bands() -> None:
    from sedpy.observate import Filter

    with Path("bands").open("w") as file:
        for name in load_library().bands:
            band = Filter(name)
            print(f"{len(band.wavelength)} {name} lambda_c= {band.wave_pivot:.1f}", file=file)
            rows = zip(band.wavelength, band.transmission, strict=True)
            for number, (wavelength, transmission) in enumerate(rows, 1):
                print(number, wavelength, transmission, file=file)


def _write_spectra(spectra: dict[str, tuple[Array, Array]]) -> None:
    with Path("spectra").open("w") as file:
        for number, spectrum in enumerate(spectra.values(), 1):
            np.savetxt(f"{number}.dat", np.transpose(spectrum))
            print(number, f"{number}.dat", 1.0, file=file)


def _write_errors_and_prior(templates: Templates) -> None:
    # As many short straight lines, because EAZY lays a spline through what it is given.
    wavelength = np.geomspace(ERROR_KNOTS_UM[0], ERROR_KNOTS_UM[-1], 400)
    error = np.interp(np.log(wavelength), np.log(ERROR_KNOTS_UM), templates.error)
    np.savetxt("errors", np.transpose([1e4 * wavelength, error]))
    per_redshift = np.exp(fitting.log_prior(templates.prior, _MAGNITUDES)) / (1 + _REDSHIFTS)
    heading = " ".join(map(str, ["z", *_MAGNITUDES]))
    np.savetxt("prior", np.column_stack([_REDSHIFTS, per_redshift.T]), header=heading)


def _galaxies(measured: BandFluxes) -> Table:
    """Make EAZY's table of fluxes and errors in uJy; columns are named by the bands' numbers."""
    count = len(measured.start) - 1
    owner = np.repeat(np.arange(count), measured.count)
    table = Table({"id": np.arange(count)})
    for band in np.unique(measured.band):
        there = measured.band == band
        for letter, values in (("F", measured.flux), ("E", measured.error)):
            column = np.full(count, _MISSING)
            column[owner[there]] = 1e6 * values[there]
            table[f"{letter}{band + 1}"] = column
    return table


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("archives", type=Path, help="folder with the downloaded archives")
    add_data_option(parser)
    options = parser.parse_args(arguments)
    spectra = read_archives(options.archives.absolute())
    own = {name: one for name, one in spectra.items() if name.startswith(_OWN)}
    templates = load_templates().templates
    write(unfitted_parts(options.data.absolute(), templates), templates, own)


if __name__ == "__main__":
    main()
