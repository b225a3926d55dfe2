"""Simulate radio emission: of star formation and of active nuclei."""

from __future__ import annotations

import numpy as np

from mmbroker.processors import relations
from mmbroker.schemas.events import Floats

_SYNCHROTRON_END_GHZ = 300.0
"""Assumed frequency about which the emission of active nuclei ends, as synchrotron emission
ages."""


def star_formation_radio(
    wavelength_um: Floats, luminosity_at_1_4_ghz: Floats, synchrotron_index: Floats
) -> Floats:
    """L_nu of star formation in Lsun/Hz: steep synchrotron emission and flat thermal emission.

    Args:
        wavelength_um: rest wavelengths, shape (wavelengths,).
        luminosity_at_1_4_ghz: both together, in Lsun/Hz, shape (N,).
        synchrotron_index: S ~ nu**-index, shape (N,).

    Returns:
        Shape (N, wavelengths).
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
    """L_nu of cores, jets and lobes in Lsun/Hz, a power law nu**-index; (N, wavelengths).

    It ends below 1 mm.
    """
    frequency_ghz = relations.SPEED_OF_LIGHT_KM_S / wavelength_um
    power_law = (frequency_ghz / 1.4) ** -index[:, None]
    emission: Floats = (
        luminosity_at_1_4_ghz[:, None] * power_law * np.exp(-frequency_ghz / _SYNCHROTRON_END_GHZ)
    )
    return emission
