"""Recovers the lines of scored galaxies, measured or not, from all that is known of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmbroker.processors.lines.joint import LineRecovery
from mmbroker.processors.lines.measure import LINES, measure
from mmbroker.processors.redshift.estimator import Estimated
from mmbroker.processors.redshift.evidence_kind import NO_REDSHIFT, evidence_kind
from mmbroker.schemas.events import RecoveredLines

LEAST_REDSHIFT = 0.001
"""At or below this redshift, a redshift does not give a distance."""


def recovered_lines(
    recovery: LineRecovery, model: str, estimated: Sequence[Estimated]
) -> list[RecoveredLines | None]:
    """Recover all lines of the comb at the best redshift of each galaxy.

    Args:
        recovery: the joint distribution of line luminosities.
        model: name, version and hash of that distribution.
        estimated: redshifts of the galaxies with intermediate results.

    Returns:
        The lines of each galaxy. None if neither the frequency of a line nor the dust continuum was
        observed, where no redshift is in force, and at redshifts too small for a distance.
    """
    result: list[RecoveredLines | None] = [None] * len(estimated)
    rows = [
        row
        for row, one in enumerate(estimated)
        if (one.spectrum is not None or math.isfinite(one.infrared_error_dex))
        and one.posterior.best > LEAST_REDSHIFT
        and evidence_kind(one.posterior) not in NO_REDSHIFT
    ]
    if not rows:
        return result
    chosen = [estimated[row] for row in rows]
    redshift = np.array([one.posterior.best for one in chosen])
    measured = measure([one.spectrum for one in chosen], redshift)
    recovered = recovery.recover(
        redshift,
        measured.flux_jy_km_s,
        measured.error_jy_km_s,
        np.array([one.log_infrared for one in chosen]),
        np.array([one.infrared_error_dex for one in chosen]),
    )
    names = list(LINES)
    luminosity = recovered.log_luminosity.astype(np.float32)
    half_68 = recovered.half_width_68.astype(np.float32)
    half_95 = recovered.half_width_95.astype(np.float32)
    flux = recovered.flux_jy_km_s.astype(np.float32)
    for place, row in enumerate(rows):
        if recovered.known[place]:
            result[row] = RecoveredLines(
                names, luminosity[place], half_68[place], half_95[place], flux[place], model
            )
    return result
