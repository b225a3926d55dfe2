"""Calibrates probabilities: a monotonic, piecewise-linear map from an output to a probability.

The map is fitted to labelled outputs that the network was not trained on, by isotonic regression
(Barlow et al. 1972, Statistical Inference under Order Restrictions) or by logistic regression.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from mmbroker.schemas.events import Floats

BINS = 24
"""Number of quantile bins of the outputs that an isotonic fit starts from."""


LEAST_PROBABILITY = 1e-3
"""The probabilities of a logistic calibration are at least this, and at most 1 minus this."""

LOGISTIC_KNOTS = 129


@dataclass(frozen=True, eq=False)
class Calibration:
    """A monotonic map from output to probability.

    Attributes:
        outputs: knots, strictly ascending; float64, shape (knots,).
        probabilities: probability at each knot, in (0, 1), non-decreasing; float64, shape (knots,).

    Raises:
        ValueError: the knots are not finite and ascending, or the probabilities do not fit them.
    """

    outputs: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        knots, values = self.outputs, self.probabilities
        if knots.ndim != 1 or knots.shape != values.shape or not knots.size:
            raise ValueError(f"knots {knots.shape} and probabilities {values.shape} do not match")
        if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
            raise ValueError("outputs of a calibration must be finite and strictly ascending")
        if not ((values > 0).all() and (values < 1).all() and (np.diff(values) >= 0).all()):
            raise ValueError("probabilities of a calibration must be in (0, 1) and not decrease")

    def apply(self, output: Floats) -> Floats:
        """Probability of each output, constant beyond the knots; NaN stays NaN.

        Args:
            output: outputs, any shape.

        Returns:
            Probabilities, float64, the same shape.
        """
        return np.asarray(np.interp(output, self.outputs, self.probabilities))

    @cached_property
    def calibration_id(self) -> str:
        """Hash of the map, 16 hexadecimal digits."""
        return hashlib.sha256(self._knots().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The map and its id as JSON."""
        knots = json.loads(self._knots())
        return json.dumps({"calibration_id": self.calibration_id, **knots}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: the text is not a calibration, or its id is not the hash of its knots.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            calibration = cls(
                np.array(content["outputs"], float), np.array(content["probabilities"], float)
            )
            stated = content["calibration_id"]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a calibration: {error!r}") from error
        if stated != calibration.calibration_id:
            raise ValueError(
                f"calibration_id {stated} is not the hash {calibration.calibration_id} of its knots"
            )
        return calibration

    def _knots(self) -> str:
        return json.dumps(
            {"outputs": self.outputs.tolist(), "probabilities": self.probabilities.tolist()}
        )


def fit(outputs: Floats, genuine: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration by isotonic regression on quantile bins of the outputs.

    To the cases of each bin, half a genuine case and half another one are added, so that no
    probability is 0 or 1.

    Args:
        outputs: finite outputs, shape (cases,).
        genuine: whether each case is genuine, bool, shape (cases,).

    Raises:
        ValueError: all cases are of one kind, or an output is not finite.
    """
    from scipy.optimize import isotonic_regression  # see fit_logistic

    if not np.isfinite(outputs).all():
        raise ValueError("an output to calibrate on is not finite")
    if genuine.all() or not genuine.any():
        raise ValueError("a calibration needs both genuine and other cases")
    order = np.argsort(outputs, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    centres = np.array([outputs[part].mean() for part in parts])
    shares = np.array([(genuine[part].sum() + 0.5) / (len(part) + 1) for part in parts])
    probabilities = isotonic_regression(shares, weights=[len(part) for part in parts]).x
    distinct = np.concatenate([[True], np.diff(centres) > 0])
    return Calibration(centres[distinct], probabilities[distinct])


def fit_logistic(probabilities: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Fit a calibration by logistic regression on the log odds of a probability (Platt 1999).

    Two constants stretch and shift the log odds. Unlike isotonic regression, this keeps the order
    of the highest probabilities, and it also applies to probabilities nearer to 1 than those of the
    fit.

    Args:
        probabilities: probabilities in [0, 1], shape (cases,).
        right: whether each case came true, bool, shape (cases,).

    Raises:
        ValueError: all cases are of one kind.
    """
    from scipy.optimize import minimize  # imported late: the import takes longer than most commands

    if right.all() or not right.any():
        raise ValueError("a calibration needs both right and wrong cases")
    log_odds = logit(np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))

    def loss(constants: Floats) -> float:
        stretched = constants[0] * log_odds + constants[1]
        return float(np.mean(np.logaddexp(0.0, stretched) - right * stretched))

    slope, shift = minimize(loss, x0=[1.0, 0.0], bounds=[(1e-3, None), (None, None)]).x
    knots = expit(np.linspace(logit(LEAST_PROBABILITY), -logit(LEAST_PROBABILITY), LOGISTIC_KNOTS))
    calibrated = expit(slope * logit(knots) + shift)
    return Calibration(knots, np.clip(calibrated, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
