"""Fits the joint distribution of line and infrared luminosities to galaxies that lack some.

It is a normal distribution with few parameters. All lines share the luminosity of their galaxy. CO
lines share its excitation and, with their neighbours in energy, departures from a common shape.
[CI] lines share a departure of their own. Unobserved luminosities are integrated over, errors of
measurement are part of the covariance, and the errors of the mean luminosities are kept for the
prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mmbroker.models.real_data.line_tables import LineSample
from mmbroker.processors import relations
from mmbroker.processors.lines.joint import INFRARED, QUANTITIES, evolution, log_luminosity_per_flux
from mmbroker.processors.lines.measure import LINES

Array = NDArray[np.float64]

_COUNT = len(QUANTITIES)
_CO = np.array([name.startswith("CO") for name in QUANTITIES])
_CI = np.array([name.startswith("[CI]") for name in QUANTITIES])
_CII = np.array([name == "[CII]" for name in QUANTITIES])
_IR = np.array([name == "infrared" for name in QUANTITIES])
_UPPER = np.array(
    [float(name[3 : name.index("-")]) if name.startswith("CO") else 1.0 for name in QUANTITIES]
)
_ENERGY = np.where(_CO, np.log(_UPPER * (_UPPER + 1) / 2) / np.log(28.0), 0.0)
"""The ln of the upper level's energy over that of CO(1-0), scaled to 1 for CO(7-6)."""

_REFERENCE = 10.5
"""The log10 of L' of CO(1-0) around which luminosities are expanded."""

PARAMETERS: dict[str, tuple[float, float]] = {
    # The ln of a scatter in dex, or a slope: the mean of its prior and the prior's width.
    "luminosity": (0.0, 1.0),
    "slope with luminosity, infrared": (1.1, 0.1),
    "slope with luminosity, excitation": (0.0, 0.05),
    "slope with luminosity, [CI]": (1.0, 0.05),
    "slope with luminosity, [CII]": (1.0, 0.07),
    "excitation": (np.log(0.2), 0.7),
    "excitation, of [CI](1-0)": (0.4, 0.25),
    "excitation, of [CI](2-1)": (0.6, 0.25),
    "excitation, of [CII]": (0.3, 0.25),
    "excitation, of infrared": (0.7, 0.3),
    "hot gas": (np.log(0.2), 0.7),
    "hot gas, of [CI](1-0)": (0.0, 0.25),
    "hot gas, of [CI](2-1)": (0.2, 0.25),
    "hot gas, of [CII]": (0.0, 0.25),
    "hot gas, of infrared": (0.5, 0.3),
    "neighbours": (np.log(0.1), 0.7),
    "range of neighbours": (np.log(0.4), 0.5),
    "CO": (np.log(0.07), 0.5),
    "[CI], both": (np.log(0.15), 0.7),
    "[CI]": (np.log(0.07), 0.5),
    "[CII]": (np.log(0.3), 0.5),
    "infrared": (np.log(0.2), 0.5),
    # The ln of the ratio of the scatter at z = 2 and more to the local one.
    "evolution of excitation": (0.0, 0.5),
    "evolution of hot gas": (0.0, 0.5),
    "evolution of neighbours": (0.0, 0.5),
    "evolution of CO": (0.0, 0.5),
    "evolution of [CI], both": (0.0, 0.5),
    "evolution of [CI]": (0.0, 0.5),
}
"""The parameters of the covariance with their normal priors.

The priors were chosen with cross-validation in view. With wider ones, the slopes of the infrared,
[CI] and [CII] rest on a few galaxies.
"""

_NAMES = list(PARAMETERS)
_EXPECTED = np.array([each[0] for each in PARAMETERS.values()])
_WIDTH = np.array([each[1] for each in PARAMETERS.values()])


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The logarithms of N galaxies; float64 arrays, NaN where a quantity was not measured.

    Attributes:
        value: the log10 of L' in K km/s pc2 and of L_IR in Lsun, shape (N, QUANTITIES).
        error: the 1 sigma errors in dex, shape (N, QUANTITIES).
        stage: the ``evolution`` of each galaxy, shape (N,).
    """

    value: Array
    error: Array
    stage: Array

    @classmethod
    def of(cls, sample: LineSample) -> Table:
        """Make the table of the measured lines and infrared luminosities of a sample.

        Args:
            sample: the galaxies.
        """
        lines = np.log10(np.where(sample.detected, sample.flux, np.nan))
        lines += log_luminosity_per_flux(sample.redshift)
        error = sample.total_error / np.where(sample.detected, sample.flux, np.nan) / np.log(10)
        known = np.isfinite(sample.infrared_error)
        infrared = np.where(known, sample.log_infrared, np.nan)
        infrared_error = np.where(known, sample.infrared_error, np.nan)
        return cls(
            np.column_stack([lines, infrared]),
            np.column_stack([error, infrared_error]),
            evolution(sample.redshift),
        )


def covariance(theta: Array) -> Array:
    """The covariance between galaxies, local and evolved, in dex**2.

    Args:
        theta: the values of PARAMETERS, shape (PARAMETERS,).

    Returns:
        float64, shape (2, QUANTITIES, QUANTITIES).
    """
    return np.stack([_covariance(theta, evolved) for evolved in (0.0, 1.0)])


def _covariance(theta: Array, evolved: float) -> Array:
    p = dict(zip(_NAMES, theta, strict=True))

    def variance(name: str) -> float:
        return float(np.exp(2 * (p[name] + evolved * p.get(f"evolution of {name}", 0.0))))

    slope = np.where(_CO, 1.0 + p["slope with luminosity, excitation"] * _ENERGY, 0.0)
    slope = slope + p["slope with luminosity, infrared"] * _IR
    slope = slope + p["slope with luminosity, [CI]"] * _CI
    slope = slope + p["slope with luminosity, [CII]"] * _CII
    excitation = _ENERGY.copy()
    hot = np.square(excitation)
    for name in ("[CI](1-0)", "[CI](2-1)", "[CII]", "infrared"):
        excitation[QUANTITIES.index(name)] = p[f"excitation, of {name}"]
        hot[QUANTITIES.index(name)] = p[f"hot gas, of {name}"]
    apart = (_ENERGY[:, None] - _ENERGY) / np.exp(p["range of neighbours"])
    neighbours = np.exp(-0.5 * np.square(apart)) * np.outer(_CO, _CO)
    own = sum(
        each * variance(name)
        for name, each in (("CO", _CO), ("[CI]", _CI), ("[CII]", _CII), ("infrared", _IR))
    )
    return np.asarray(
        variance("luminosity") * np.outer(slope, slope)
        + variance("excitation") * np.outer(excitation, excitation)
        + variance("hot gas") * np.outer(hot, hot)
        + variance("neighbours") * neighbours
        + variance("[CI], both") * np.outer(_CI, _CI)
        + np.diag(own)
    )


def mean_prior() -> tuple[Array, Array]:
    """The normal prior of the mean luminosities and of their slopes with evolution.

    Returns:
        Its mean, float64, shape (2 QUANTITIES,), and its covariance, shape (2 QUANTITIES,
        2 QUANTITIES): first the log10 of the luminosities at evolution 0, then the slopes in dex.
    """
    ratio = np.log10([relations.LINE_RATIOS[name] for name in LINES])
    infrared = relations.CO_LUMINOSITY_SLOPE * _REFERENCE + relations.CO_LUMINOSITY_INTERCEPT
    mean = np.append(_REFERENCE + ratio, infrared)
    width = np.concatenate([np.where(_CO, 0.2, 0.3), np.full(_COUNT, 0.2)])
    # What all lines of all galaxies have in common is not known beforehand.
    shift = np.concatenate([np.append(np.ones(INFRARED), 1.1), np.zeros(_COUNT)])
    prior = np.diag(width**2) + np.outer(shift, shift)
    return np.concatenate([mean, np.zeros(_COUNT)]), prior


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """The marginal likelihood at given parameters.

    Attributes:
        value: its ln, up to a constant.
        mean: the coefficients of the mean luminosities, shape (2 QUANTITIES,).
        spread: their covariance, shape (2 QUANTITIES, 2 QUANTITIES).
        gradient: the gradient of the value by the local and the evolved covariance, shape (2,
            QUANTITIES, QUANTITIES).
    """

    value: float
    mean: Array
    spread: Array
    gradient: Array


def _evidence(theta: Array, table: Table) -> _Evidence:
    seen = np.isfinite(table.value)
    pair = seen[:, :, None] & seen[:, None, :]
    local, evolved = covariance(theta)
    stage = table.stage[:, None, None]
    total = np.where(pair, (1 - stage) * local + stage * evolved, 0.0)
    # A quantity that was not observed has unit variance, and no covariance with others.
    noise = np.where(seen, np.square(np.where(seen, table.error, 0.0)), 1.0)
    total[:, np.arange(_COUNT), np.arange(_COUNT)] += noise
    expected, prior = mean_prior()
    identity = np.eye(_COUNT) * seen[:, :, None]
    design = np.concatenate([identity, identity * stage], axis=2)
    value = np.where(seen, table.value, 0.0) - design @ expected
    inverse = np.linalg.inv(total)
    solved = inverse @ design
    precision = np.linalg.inv(prior) + np.einsum("nij,nik->jk", design, solved)
    weighted = np.einsum("nij,ni->j", solved, value)
    spread = np.linalg.inv(precision)
    found = spread @ weighted
    residual = np.einsum("nij,nj->ni", inverse, value - design @ found)
    evidence = -0.5 * (
        np.einsum("ni,nij,nj->", value, inverse, value)
        - weighted @ found
        + np.linalg.slogdet(total)[1].sum()
        + np.linalg.slogdet(precision)[1]
        + np.linalg.slogdet(prior)[1]
    )
    uncertain = inverse - solved @ spread @ np.swapaxes(solved, 1, 2)
    slopes = 0.5 * (residual[:, :, None] * residual[:, None, :] - uncertain) * pair
    gradient = np.stack([((1 - stage) * slopes).sum(axis=0), (stage * slopes).sum(axis=0)])
    return _Evidence(float(evidence), expected + found, spread, gradient)


def fit(sample: LineSample) -> tuple[dict[str, NDArray[Any]], Array]:
    """Fit the distribution by maximum posterior.

    Args:
        sample: the galaxies.

    Returns:
        The weights for ``LineRecovery``, and the values of PARAMETERS, float64, shape
        (PARAMETERS,).
    """
    table = Table.of(sample)

    def loss(theta: Array) -> tuple[float, Array]:
        found = _evidence(theta, table)
        steps = 1e-5 * np.eye(len(theta))
        slopes = [(covariance(theta + step) - covariance(theta - step)) / 2e-5 for step in steps]
        from_data = np.einsum("tsij,sij->t", np.array(slopes), found.gradient)
        from_prior = (theta - _EXPECTED) / _WIDTH**2
        value = -found.value + 0.5 * float(np.square((theta - _EXPECTED) / _WIDTH).sum())
        return value, from_prior - from_data

    found = minimize(loss, _EXPECTED, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return weights_of(found.x, table), found.x


def weights_of(theta: Array, table: Table) -> dict[str, NDArray[Any]]:
    """Make the weights for ``LineRecovery``; their intervals are not calibrated yet.

    Args:
        theta: the values of PARAMETERS, shape (PARAMETERS,).
        table: the galaxies.

    Returns:
        The arrays by name.
    """
    found = _evidence(theta, table)
    mean, spread = found.mean, found.spread
    quarter = spread.reshape(2, _COUNT, 2, _COUNT)
    return {
        "lines": np.array(LINES),
        "mean": mean[:_COUNT],
        "slope": mean[_COUNT:],
        "covariance": covariance(theta),
        "mean_covariance": np.stack(
            [quarter[0, :, 0], quarter[0, :, 1] + quarter[1, :, 0], quarter[1, :, 1]]
        ),
        "width_68": np.array(1.0),
        "width_95": np.array(1.96),
    }
