"""Computes fluxes of published templates through bands, over redshift: ``template_library.npz``.

The templates are the 31 of COSMOS (Ilbert et al. 2009, ApJ 690 1236, after Polletta et al. 2007,
ApJ 663 81, and Bruzual & Charlot 2003) in the package ``pz-rail-base``, and the twelve of EAZY
made with FSPS ("QSF 12 v3", Brammer et al. 2008, ApJ 686 1503; Conroy & Gunn 2010, ApJ 712 833)
in ``grizli``; the bands are those of ``astro-sedpy``; the intergalactic absorption (Inoue et al.
2014, MNRAS 442 1805) is that of ``eazy``. All four are under the MIT licence.

    pip install --no-deps eazy astro-sedpy
    pip download --no-deps --dest ARCHIVES grizli==1.14.3 pz-rail-base==2.0.11
    python -m mmbroker.models.redshift.templates.library ARCHIVES

Nothing that runs needs them: the table is packaged.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmbroker.models.packaged.arrays import read_packaged, write_packaged
from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.processors.redshift.templates import GRID

Array = NDArray[np.float64]
NAME = "template_library"
COMMAND = "python -m mmbroker.models.redshift.templates.library"
CARD = {
    "name": NAME,
    "templates": {
        "31 of COSMOS": "Ilbert et al. 2009, ApJ 690 1236; in pz-rail-base 2.0.11, MIT licence",
        "12 of EAZY, QSF 12 v3": "Brammer et al. 2008, ApJ 686 1503; in grizli 1.14.3, MIT licence",
    },
    "bands": "astro-sedpy, MIT licence",
    "intergalactic absorption": "Inoue et al. 2014, MNRAS 442 1805; in eazy, MIT licence",
    **about(NAME),
}

BANDS = (
    *("galex_FUV", "galex_NUV", "cfht_megacam_us_9301", "acs_wfc_f435w", "subaru_suprimecam_B"),
    *("hsc_g", "subaru_suprimecam_V", "acs_wfc_f606w", "subaru_suprimecam_rp", "hsc_r"),
    *("subaru_suprimecam_ip", "acs_wfc_f775w", "acs_wfc_f814w", "subaru_suprimecam_zp", "hsc_y"),
    *("ukirt_wfcam_J", "wfc3_ir_f105w", "wfc3_ir_f125w", "wfc3_ir_f140w", "wfc3_ir_f160w"),
    *("ukirt_wfcam_H", "cfht_wircam_Ks_8302", "jwst_f070w", "jwst_f090w", "jwst_f115w"),
    *("jwst_f150w", "jwst_f200w", "jwst_f277w", "jwst_f356w", "jwst_f410m", "jwst_f444w"),
    *("jwst_f560w", "jwst_f770w", "jwst_f1000w", "jwst_f1280w", "jwst_f1500w", "jwst_f1800w"),
    *("jwst_f2100w", "jwst_f2550w", "wise_w1", "wise_w2", "wise_w3", "wise_w4"),
    *("spitzer_irac_ch1", "spitzer_irac_ch2", "spitzer_irac_ch3", "spitzer_irac_ch4"),
    *("spitzer_irs_16", "spitzer_mips_24"),
)
"""The bands, by their names in sedpy."""

_ENERGY_COUNTERS = ("spitzer_mips_24",)
_RAIL_SEDS = "rail/examples_data/estimation_data/data/SED/"
_GRIZLI_SEDS = "grizli/data/templates/fsps/fsps_QSF_12_v3_{:03d}.dat"
_EAZY_TEMPLATES = 12

_LOG_STEP = 0.001
_LOG_WAVELENGTH: Array = np.arange(np.log(200.0), np.log(6e6), _LOG_STEP)  # Angstrom
_NORMALISATION = np.log(16_000.0)
_LYMAN_ALPHA = 1216.0
"""The wavelength in Angstrom, rounded from ``relations.LYMAN_SERIES_MICRON`` as in the table."""

_END_OF_COSMOS = (1.7e5, 3e5)  # Angstrom
"""Templates that end before 30 um are continued by a power law, fitted beyond 17 um."""


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """The fluxes of T templates through F bands.

    Attributes:
        names: the names of the templates.
        bands: the names of the bands, by ascending wavelength.
        wavelength_um: the pivot wavelengths of the bands, float64, shape (F,).
        flux: flux densities per unit of frequency, in units of the one at rest 1.6 um, float64,
            shape (F, GRID, T).
    """

    names: tuple[str, ...]
    bands: tuple[str, ...]
    wavelength_um: Array
    flux: Array

    def save(self, folder: Path) -> None:
        """Write the table and its card; fluxes are kept to half a per cent.

        Args:
            folder: the folder to write to; made if it is missing.
        """
        arrays = {
            "names": np.array(self.names),
            "bands": np.array(self.bands),
            "wavelength_um": self.wavelength_um,
            "log_flux": np.log(self.flux + 1e-13).astype(np.float16),
        }
        write_packaged(folder, NAME, arrays, CARD)


def load_library(folder: Path = WEIGHTS) -> Library:
    """Load the packaged library.

    Args:
        folder: the folder with template_library.npz and its card.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to another library.
    """
    arrays, _ = read_packaged(folder, NAME, COMMAND)
    return Library(
        tuple(arrays["names"].tolist()),
        tuple(arrays["bands"].tolist()),
        arrays["wavelength_um"],
        np.exp(arrays["log_flux"].astype(float)),
    )


def make_library(spectra: dict[str, tuple[Array, Array]]) -> Library:
    """Integrate templates through the bands at every redshift of the grid.

    Args:
        spectra: the templates by name, each as rest wavelengths in Angstrom, ascending, and flux
            densities per unit of wavelength in any unit; both float64, shape (points,).
    """
    from eazy.igm import Inoue14

    wavelength, response = _responses()
    rest = np.array([_resampled(*each) for each in spectra.values()])
    absorption = Inoue14()
    flux = np.empty((len(BANDS), len(GRID), len(spectra)))
    for place, log_stretch in enumerate(GRID):
        position = np.maximum((_LOG_WAVELENGTH - log_stretch - _LOG_WAVELENGTH[0]) / _LOG_STEP, 0)
        left = np.minimum(position.astype(int), len(_LOG_WAVELENGTH) - 2)
        part = position - left
        observed = rest[:, left] * (1 - part) + rest[:, left + 1] * part
        wavelengths = np.exp(_LOG_WAVELENGTH)
        blue = wavelengths < _LYMAN_ALPHA * np.exp(log_stretch)
        observed[:, blue] *= absorption.full_IGM(np.expm1(log_stretch), wavelengths[blue])
        flux[:, place] = response @ observed.T
    order = np.argsort(wavelength)
    return Library(
        tuple(spectra), tuple(BANDS[k] for k in order), wavelength[order] / 1e4, flux[order]
    )


def _responses() -> tuple[Array, Array]:
    """The pivot wavelengths in Angstrom, and each band's weights for flux per unit of frequency.

    Returns:
        Shape (F,), and shape (F, cells of ``_LOG_WAVELENGTH``), whose rows sum to 1.
    """
    from sedpy.observate import Filter

    pivots, responses = [], []
    for name in BANDS:
        band = Filter(name)
        shares = np.interp(
            np.exp(_LOG_WAVELENGTH),
            np.asarray(band.wavelength, float),
            np.asarray(band.transmission, float),
            left=0.0,
            right=0.0,
        ).clip(0.0)
        if name in _ENERGY_COUNTERS:
            shares /= np.exp(_LOG_WAVELENGTH)
        pivots.append(float(band.wave_pivot))
        responses.append(shares / shares.sum())
    return np.array(pivots), np.array(responses)


def _resampled(wavelength: Array, flux: Array) -> Array:
    """The flux density per unit of frequency in logarithmic cells, in units of that at 1.6 um."""
    start, end = _END_OF_COSMOS
    if wavelength[-1] < end:
        last = wavelength > start
        slope = np.polyfit(np.log(wavelength[last]), np.log(flux[last]), 1)[0]
        beyond = np.geomspace(1.01 * wavelength[-1], np.exp(_LOG_WAVELENGTH[-1]) * 1.1, 60)
        flux = np.concatenate([flux, flux[-1] * (beyond / wavelength[-1]) ** slope])
        wavelength = np.concatenate([wavelength, beyond])
    area = np.diff(wavelength) * (flux[1:] + flux[:-1]) / 2
    cumulative = np.concatenate([[0.0], np.cumsum(area)])
    edges = np.exp(np.append(_LOG_WAVELENGTH, _LOG_WAVELENGTH[-1] + _LOG_STEP) - _LOG_STEP / 2)
    mean = np.diff(np.interp(edges, wavelength, cumulative)) / np.diff(edges)
    per_frequency = mean * np.exp(2 * _LOG_WAVELENGTH)
    return np.asarray(per_frequency / np.interp(_NORMALISATION, _LOG_WAVELENGTH, per_frequency))


def read_archives(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Read the templates in the archives of ``pz-rail-base`` and ``grizli``.

    Args:
        folder: the folder with both archives.

    Returns:
        The templates as ``make_library`` takes them.

    Raises:
        FileNotFoundError: an archive is missing.
    """
    found = {}
    with zipfile.ZipFile(_archive(folder, "pz_rail_base*.whl")) as archive:
        listed = archive.read(f"{_RAIL_SEDS}COSMOS_seds.list").decode().split()
        for name in listed:
            found[f"COSMOS {name.removesuffix('.sed')}"] = _spectrum(
                archive.read(_RAIL_SEDS + name)
            )
    path = _archive(folder, "grizli*.tar.gz")
    with tarfile.open(path) as archive:
        top = path.name.removesuffix(".tar.gz")
        for number in range(1, _EAZY_TEMPLATES + 1):
            member = archive.extractfile(f"{top}/{_GRIZLI_SEDS.format(number)}")
            assert member is not None
            found[f"EAZY {number:02d}"] = _spectrum(member.read())
    return found


def _archive(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{folder} has no {pattern}: see the documentation of this module")
    return found[-1]


def _spectrum(text: bytes) -> tuple[Array, Array]:
    wavelength, flux = np.loadtxt(io.BytesIO(text)).T[:2]
    ascending = np.concatenate([[True], np.diff(wavelength) > 0])
    return wavelength[ascending], flux[ascending]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("archives", type=Path, help="folder with the downloaded archives")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder for table and card")
    options = parser.parse_args(arguments)
    library = make_library(read_archives(options.archives))
    library.save(options.output)
    print(f"{options.output}: {len(library.names)} templates through {len(library.bands)} bands")


if __name__ == "__main__":
    main()
