"""Simulates radio emission: of star formation and of active nuclei."""

from __future__ import annotations

import numpy as np

from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

_SYNCHROTRON_END_GHZ = 300.0
"""Assumed frequency around which the emission of active nuclei ends, because electrons age."""


def star_formation_radio(
    wavelength_um: Floats, luminosity_at_1_4_ghz: Floats, synchrotron_index: Floats
) -> Floats:
    """L_nu of star formation: steep synchrotron emission and flat thermal emission.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        luminosity_at_1_4_ghz: L_nu of both together at 1.4 GHz, in Lsun/Hz, shape (N,).
        synchrotron_index: the index of the synchrotron emission, S ~ nu**-index, shape (N,).

    Returns:
        L_nu in Lsun/Hz, float64, shape (N, wavelengths).
    """
    frequency_ghz = relations.SPEED_OF_LIGHT_KM_S / wavelength_um
    ratio = relations.THERMAL_RADIO_RATIO
    flat = relations.THERMAL_RADIO_INDEX

    def relative(frequency: Floats) -> Floats:
        thermal = frequency**-flat
        return np.asarray(thermal + ratio * frequency ** -synchrotron_index[:, None])

    emission: Floats = (
        luminosity_at_1_4_ghz[:, None] * relative(frequency_ghz) / relative(np.array([1.4]))
    )
    return emission


def active_nucleus_radio(
    wavelength_um: Floats, luminosity_at_1_4_ghz: Floats, index: Floats
) -> Floats:
    """L_nu of cores, jets and lobes: a power law that ends around 1 mm.

    Args:
        wavelength_um: rest wavelengths in um, shape (wavelengths,).
        luminosity_at_1_4_ghz: L_nu at 1.4 GHz, in Lsun/Hz, shape (N,).
        index: the index of the power law, S ~ nu**-index, shape (N,).

    Returns:
        L_nu in Lsun/Hz, float64, shape (N, wavelengths).
    """
    frequency_ghz = relations.SPEED_OF_LIGHT_KM_S / wavelength_um
    power_law = (frequency_ghz / 1.4) ** -index[:, None]
    emission: Floats = (
        luminosity_at_1_4_ghz[:, None] * power_law * np.exp(-frequency_ghz / _SYNCHROTRON_END_GHZ)
    )
    return emission
