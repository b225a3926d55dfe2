"""Computes the value V of a galaxy and its HyperScore.

HyperScore = 100 (1 + sigma(beta ln V + gamma)^kappa), with sigma the logistic function,
beta = 5, gamma = -ln 2, kappa = 1.5. There are three forms:

- ``plus-gamma``: as above. It rises with V from 100 (V = 0) to 119.2 (V = 1).
- ``printed``: sigma(beta ln V * gamma), as the source prints it. It *falls* as V rises, from 200 to
  135.4.
- ``centred``: gamma = +beta ln 2, so that the midpoint of the logistic is at V = 1/2. It rises from
  100 to 195.5.

The HyperScore is above 100 for every V > 0, so it is a scale, not a probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy.special import expit

from mmbroker.schemas.events import Floats

Form = Literal["plus-gamma", "printed", "centred"]

BETA = 5.0
GAMMA = -math.log(2.0)
KAPPA = 1.5

RISES: Mapping[Form, bool] = {"plus-gamma": True, "printed": False, "centred": True}
"""Whether each form rises with V."""


def hyperscore(value: Floats | float, form: Form = "plus-gamma") -> Floats:
    """HyperScore of V.

    Args:
        value: V in [0, 1], any shape.
        form: see the module's docstring.

    Returns:
        HyperScore, float64, same shape.

    Raises:
        ValueError: a value lies outside of [0, 1] or is not a number.
    """
    v = np.asarray(value, dtype=float)
    if not np.all((v >= 0) & (v <= 1)):
        raise ValueError(f"V = {value} is not in [0, 1]")
    with np.errstate(divide="ignore"):
        scaled = BETA * np.log(v)
    argument = {
        "plus-gamma": lambda: scaled + GAMMA,
        "printed": lambda: scaled * GAMMA,
        "centred": lambda: scaled + BETA * math.log(2.0),
    }[form]()
    scores: Floats = 100.0 * (1.0 + expit(argument) ** KAPPA)
    return scores


def renormalised(
    weights: Mapping[str, float], scores: Mapping[str, float | None]
) -> dict[str, float]:
    """Weights of the scores that are present, scaled to a sum of one; 0 for the absent ones."""
    present = {name: weights[name] for name, score in scores.items() if score is not None}
    total = sum(present.values())
    return {name: present.get(name, 0.0) / total if total else 0.0 for name in scores}


def value(
    weights: Mapping[str, float],
    scores: Mapping[str, float | None],
    genuine_probability: float | None,
) -> float:
    """V: the weighted mean of the scores present, times the critic's probability of genuineness.

    Args:
        weights: weights by name, from ``renormalised``.
        scores: scores by name, each in [0, 1], or None when absent.
        genuine_probability: the critic's probability in [0, 1]; None without a critic, which leaves
            the mean as it is.

    Returns:
        V in [0, 1]; 0 when every score is absent.
    """
    mean = sum(weights[name] * score for name, score in scores.items() if score is not None)
    modulated = mean if genuine_probability is None else mean * genuine_probability
    return min(max(modulated, 0.0), 1.0)
