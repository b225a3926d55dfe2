"""Where the pixels of a map lie, from a header that anybody may have written."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from mmbroker.processors.fingerprint.errors import UnusableError
from mmbroker.processors.fingerprint.map_wcs import celestial_wcs

PIXEL = 2e-4
CARDS = {
    "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 150.0, "CRVAL2": 2.0,
    "CRPIX1": 8.5, "CRPIX2": 7.0, "CDELT1": -PIXEL, "CDELT2": PIXEL,
}  # fmt: skip


def header(**changes: Any) -> str:
    """A header of 80 characters a card; None leaves a card out."""
    cards = {key: value for key, value in {**CARDS, **changes}.items() if value is not None}
    return fits.Header(list(cards.items())).tostring()


def of_astropy(text: str) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(fits.Header.fromstring(text)).celestial


def types(longitude: str, latitude: str, projection: str) -> dict[str, str]:
    return {
        "CTYPE1": f"{longitude:-<4}-{projection}",
        "CTYPE2": f"{latitude:-<4}-{projection}",
    }


zenithal = st.sampled_from(["SIN", "TAN", "ARC", "STG", "ZEA"])
scales = st.sampled_from(
    [
        {},
        {"CROTA2": 33.3},
        {"PC1_1": 0.8, "PC1_2": 0.6, "PC2_1": -0.6, "PC2_2": 0.8},
        {"PC001001": 0.8, "PC001002": 0.6, "PC002001": -0.6, "PC002002": 0.8},
        {"CDELT1": None, "CDELT2": None, "CD1_1": -PIXEL, "CD1_2": 1e-5, "CD2_1": 2e-5,
         "CD2_2": PIXEL},
        {"CDELT1": -0.72, "CDELT2": 0.72, "CRVAL1": 540_000.0, "CRVAL2": 7200.0,
         "CUNIT1": "arcsec", "CUNIT2": "arcsec"},
        {"LONPOLE": 170.0},
        {"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CTYPE4": "STOKES", "PC3_3": 1.0},
    ]
)  # fmt: skip
frames = st.sampled_from(
    [
        {"RADESYS": "ICRS"}, {}, {"EQUINOX": 2000.0}, {"EQUINOX": 1950.0},
        {"RADESYS": "FK5", "EQUINOX": 1985.5}, {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"RADESYS": "FK4-NO-E"}, {"RADECSYS": "FK5"},
    ]
)  # fmt: skip


@given(zenithal, scales, frames, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_a_position_lies_where_astropy_finds_it(
    projection: str, scale: dict[str, Any], frame: dict[str, Any], east: float, north: float
) -> None:
    text = header(**types("RA", "DEC", projection), **scale, **frame)
    theirs = of_astropy(text)
    place = theirs.pixel_to_world(8.0 + east / PIXEL, 7.0 + north / PIXEL).icrs
    found = celestial_wcs(text).pixel_of(place.ra.deg, place.dec.deg)
    assert found == pytest.approx((8.0 + east / PIXEL, 7.0 + north / PIXEL), abs=1e-4)


def test_a_position_in_a_galactic_map_is_found() -> None:
    text = header(**types("GLON", "GLAT", "TAN"), CRVAL1=236.0, CRVAL2=42.0)
    place = SkyCoord(l=236.001, b=42.002, unit="deg", frame="galactic").icrs
    found = celestial_wcs(text).pixel_of(place.ra.deg, place.dec.deg)
    expected = of_astropy(text).world_to_pixel(place)
    assert found == pytest.approx([float(each) for each in expected], abs=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_numbers_in_icrs_are_those_of_wcslib_to_the_bit(order: int) -> None:
    axes = ["CTYPE", "CRVAL", "CRPIX", "CDELT"]
    swapped = {f"{each}{k}": CARDS[f"{each}{3 - k if order < 0 else k}"] for each in axes
               for k in (1, 2)}  # fmt: skip
    text = header(**swapped)
    world = [150.0012, 2.0034][::order]
    expected = of_astropy(text).wcs.s2p([world], 0)["pixcrd"][0].tolist()
    assert list(celestial_wcs(text).pixel_of(150.0012, 2.0034)) == expected


def test_position_angles_turn_with_the_pole_of_the_projection() -> None:
    plain, turned = celestial_wcs(header()), celestial_wcs(header(LONPOLE=160.0))
    step = 5 * PIXEL
    for wcs in (plain, turned):
        middle = np.array(wcs.pixel_of(150.0, 2.0))
        along = np.array(wcs.pixel_of(150.0, 2.0 + step)) - middle
        expected = np.arctan2(along[1], along[0])
        assert wcs.angle_on_pixels_rad(0.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"A_0_2": "abc"}, "A_0_2 = \"'abc"),
        ({"A_ORDER": 2}, "A_ORDER = '2'"),
        ({"CPDIS1": "LOOKUP"}, "CPDIS1"),
        ({"PROJP1": 1.0}, "PROJP1"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "CTYPE1 = 'RA---TAN-SIP'"),
        ({"CTYPE1": "RA---TAN"}, "CTYPE2 = 'DEC--SIN'"),
        ({"CTYPE1": "ELON-SIN", "CTYPE2": "ELAT-SIN"}, "ELON-SIN"),
        ({"CTYPE1": "FREQ"}, "CTYPE1 = 'FREQ'"),
        ({"CTYPE1": None}, "CTYPE1 = ''"),
        ({"CRVAL1": "150"}, "CRVAL1"),
        ({"CRVAL2": 91.0}, "no sense: .* CRVAL2 = 91.0"),
        ({"CRPIX1": 1e12}, "CRPIX1 = '1000000000000.0'"),
        ({"CDELT1": 0.0}, "no sense: .* CDELT1 = 0.0"),
        ({"CDELT1": -30.0, "CDELT2": 30.0}, "pixels of 108000"),
        ({"CDELT1": None, "CDELT2": None}, "neither CDELT1 and CDELT2 nor CD1_1"),
        ({"CD1_1": PIXEL, "CD1_2": PIXEL, "CD2_1": PIXEL, "CD2_2": PIXEL}, "(parallel|no sense)"),
        ({"PV2_1": 1e6}, "PV2_1"),
        ({"PV2_3": 0.5}, "PV2_3"),
        ({"PV1_1": 0.5}, "PV1_1"),
        ({"PC1_3": 0.5, "CTYPE3": "FREQ"}, "PC1_3"),
        ({"WCSAXES": 5}, "WCSAXES = '5', which is over 4"),
        ({"CTYPE5": "STOKES"}, "CTYPE5"),
        ({"CUNIT1": "parsec"}, "CUNIT1 = 'parsec'"),
        ({"RADESYS": "GAPPT"}, "RADESYS = 'GAPPT'"),
        ({"EQUINOX": 20.0}, "EQUINOX = 20.0"),
    ],
)
def test_what_is_not_understood_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableError, match=said) as error:
        celestial_wcs(header(**changes))
    assert "continuum_map.wcs_header" in str(error.value)


@pytest.mark.parametrize("value", ["1e400", "nan", "inf", "1.5e", "'1'", "1 2", "", "T", "\xb2"])
def test_only_finite_numbers_are_numbers(value: str) -> None:
    card = "CRVAL1  =  " + value
    with pytest.raises(UnusableError, match="CRVAL1"):
        celestial_wcs(header(CRVAL1=None).replace("END", card.ljust(80) + "END", 1))


def test_exponents_may_be_written_with_d() -> None:
    text = header().replace(f" {-PIXEL!r}", "-2.0D-04")
    assert celestial_wcs(text).pixel_of(150.001, 2.0) == celestial_wcs(header()).pixel_of(
        150.001, 2.0
    )
