"""The comb of lines as the parser's list weighs it.

The comb believes the stated errors: a ripple or a bad channel of six sigma is a line to it. Where
the parser is less sure than that, the evidence of a bin is lowered to the parser's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..frequency_grid import BIN_WIDTH_KM_S, bin_of
from ..redshift.lines import Filtered
from .tree import SpectralLine

PRIOR_LOG_ODDS = -5.2
"""Of a line at some place: one in 200, in the spectra that the parser is trained on."""

UNLISTED_LOG_ODDS = -4.0
"""Of a line where the list has none: as much as its faintest have."""


def weighed(
    copy: Filtered, first_bin: int, lines: Sequence[SpectralLine], scatter: float = 1.0
) -> Filtered:
    """A filtered spectrum whose evidence for lines is no stronger than the parser's.

    The ln of the likelihood ratio of a line is half its squared signal-to-noise ratio for the
    filter, and posterior over prior odds for the parser.

    Args:
        copy: on the frequency grid.
        first_bin: bin of its first element.
        lines: the parser's list, down to improbable ones.
        scatter: of the filter's output in units of the stated errors; below 1 it is not used.
    """
    log_odds = np.full(len(copy.flux), UNLISTED_LOG_ODDS)
    for line in lines:
        middle = int(bin_of(np.array(line.frequency_hz))) - first_bin
        reach = 1 + int(line.width_km_s / 2 / BIN_WIDTH_KM_S)
        probability = min(max(line.probability, 1e-6), 1 - 1e-6)
        part = slice(max(middle - reach, 0), max(middle + reach + 1, 0))
        log_odds[part] = np.maximum(log_odds[part], np.log(probability / (1 - probability)))
    most = np.sqrt(2 * np.maximum(log_odds - PRIOR_LOG_ODDS, 0.0))
    # Where the parser, too, would bet on a line, how bright it is remains for the filter to say.
    most[log_odds > 0] = np.inf
    inverse = copy.inverse_variance / max(scatter, 1.0) ** 2
    ratio = copy.flux * np.sqrt(inverse)
    excess = np.where(ratio > most, ratio / np.maximum(most, 0.5), 1.0)
    return Filtered(copy.flux, inverse / np.square(excess), copy.width_km_s)
