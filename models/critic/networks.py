"""Defines the generator and the critic over the fingerprint vector, in torch, for training only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmbroker.processors.fingerprint import vector
from mmbroker.schemas.events import Floats

LATENT = 32
NOISE = LATENT + vector.LENGTH + vector.BROADBAND.stop
"""The length of the generator's noise: what the galaxy is, the noise of each measurement, and the
chance of each flux to be detected."""

KNOTS = 9
"""The number of quantiles between which a flux is encoded."""

NARROWEST = 0.3
"""The least distance of two knots, in depths: finer steps are steeper than the penalty allows."""

LEAST_TOGETHER = 30
"""The fewest galaxies with both of two intervals for their correlation to be measured."""

LEAST_EIGENVALUE = 0.02
"""The least eigenvalue of the correlation: no direction has a smaller share of the variance."""

NOT_DETECTED = 0.1
"""The critic sees fluxes nearer to zero than this, in depths, as not detected."""

LEAK = 0.2
"""The slope of the rectifiers below zero."""

LEAST_LOG_ODDS = -2.0
"""The least log odds of a flux to be detected, so that none is shut off for good."""

_TEMPERATURE = 0.5
_INTERVALS = vector.BROADBAND.stop
_SPECTRAL = vector.LENGTH - _INTERVALS
_SUMMARY = 48
_READ = [_INTERVALS] * 3 + [_INTERVALS * (KNOTS - 1), _SUMMARY, vector.REDSHIFT_CELLS]

_WINDOW_SIZES = np.bincount(vector.WINDOW_OF_ELEMENT, minlength=vector.WINDOWS).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """Statistics of the vectors of the training data, over where they were observed.

    Attributes:
        mean: the mean of each element, float64, shape (LENGTH,).
        scatter: the standard deviation of each element, at least 0.1, float64, shape (LENGTH,).
        knots: quantiles of each broadband interval, ascending, at least NARROWEST apart; float64,
            shape (intervals, KNOTS).
        correlation: the correlation matrix of the broadband intervals, positive definite; float64,
            shape (intervals, intervals).
    """

    mean: Floats
    scatter: Floats
    knots: Floats
    correlation: Floats

    @classmethod
    def of(
        cls, vectors: vector.FingerprintVectors, correlated: vector.FingerprintVectors | None = None
    ) -> Normalisation:
        """Measure the statistics on training data; elements that were never observed have mean 0.

        Args:
            vectors: the vectors of the training data.
            correlated: the vectors to measure the correlation on; ``vectors`` by default.
        """
        count = vectors.mask.sum(axis=0).clip(1.0)
        mean = (vectors.values * vectors.mask).sum(axis=0) / count
        square = ((vectors.values - mean) ** 2 * vectors.mask).sum(axis=0) / count
        knots = np.zeros((_INTERVALS, KNOTS))
        for interval, row in enumerate(knots):
            seen = vectors.values[vectors.mask[:, interval] > 0, interval]
            if len(seen):
                row[:] = np.quantile(seen, np.linspace(0.01, 0.99, KNOTS))
        apart = NARROWEST * np.arange(KNOTS)
        knots = np.maximum.accumulate(knots - apart, axis=1) + apart
        correlation = _correlation(correlated or vectors)
        return cls(mean, np.sqrt(square).clip(0.1), knots, correlation)


def _correlation(vectors: vector.FingerprintVectors) -> Floats:
    """The correlation of the broadband values, each pair over where both were observed."""
    seen = (vectors.mask[:, : vector.BROADBAND.stop] > 0).astype(float)
    values = vectors.values[:, : vector.BROADBAND.stop] * seen
    values = (values - values.sum(axis=0) / seen.sum(axis=0).clip(1.0)) * seen
    together = seen.T @ seen
    covariance = values.T @ values / together.clip(1.0)
    scatter = np.sqrt(np.diag(covariance)).clip(1e-6)
    correlation = np.where(together >= LEAST_TOGETHER, covariance / np.outer(scatter, scatter), 0.0)
    np.fill_diagonal(correlation, 1.0)
    # Correlations that are measured on different galaxies may not make a positive matrix.
    eigenvalues, axes = np.linalg.eigh(correlation)
    positive = (axes * eigenvalues.clip(LEAST_EIGENVALUE)) @ axes.T
    size = np.sqrt(np.diag(positive))
    return np.asarray(positive / np.outer(size, size))


class Critic(nn.Module):
    """Judges how much a vector looks like a real galaxy, by a number on no particular scale.

    Fluxes go in as they are, and encoded piecewise linearly between quantiles (Gorishniy et al.
    2022, arXiv:2203.05556): without these a network sees less in tables than trees do. The whole
    network is piecewise linear, so that ``slope`` can be written out.

    Args:
        normalisation: the statistics of the training data.
        width: the width of its two layers.

    Attributes:
        dropout: the dropout of its layers.
    """

    mean: Tensor
    scatter: Tensor
    low: Tensor
    step: Tensor
    root: Tensor

    def __init__(self, normalisation: Normalisation, width: int = 192) -> None:
        super().__init__()
        _register(self, normalisation)
        self.register_buffer("low", _tensor(normalisation.knots[:, :-1]))
        self.register_buffer("step", _tensor(np.diff(normalisation.knots, axis=1)))
        self.register_buffer("root", _tensor(np.linalg.cholesky(normalisation.correlation)))
        self.spectrum = nn.Linear(2 * _SPECTRAL, _SUMMARY)
        read = _INTERVALS * (KNOTS + 2) + _SUMMARY + vector.REDSHIFT_CELLS
        self.first = nn.Linear(read, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 1)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        values: Tensor,
        mask: Tensor,
        condition: Tensor,
        absent: Tensor | None = None,
    ) -> Tensor:
        """Compute the output for N vectors.

        Args:
            values: the values, float32, shape (N, LENGTH).
            mask: 1 where there is a value, else 0; float32, shape (N, LENGTH).
            condition: the redshift conditions, float32, shape (N, REDSHIFT_CELLS).
            absent: how far each flux is not detected, in [0, 1], float32, shape (N, intervals). By
                default ``not_detected`` of the values; a generator gives its own, which has a
                slope.

        Returns:
            float32, shape (N, 1).
        """
        if absent is None:
            absent = not_detected(values)
        output: Tensor = self._layers(values, mask, condition, absent)[0]
        return output

    def slope(
        self, values: Tensor, mask: Tensor, condition: Tensor, absent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The slope of the output, without dropout.

        It is what automatic differentiation would give, in a fraction of the time if the slope
        itself has to be differentiated. The arguments are those of ``forward``.

        Returns:
            The slope in each value, in units of its scatter, float32, shape (N, LENGTH), and in
            each ``absent``, float32, shape (N, intervals).
        """
        _, spectrum, first, second = self._layers(values, mask, condition, absent, dropped=False)
        back = (self.last.weight * _leak(second)) @ self.second.weight
        back = (back * _leak(first)) @ self.first.weight
        flux = values[:, :_INTERVALS]
        scaled, _, of_absent, steps, summary, _ = back.split(_READ, dim=1)
        place = (flux[:, :, None] - self.low) / self.step
        within = (place > 0) & (place < 1)
        steep = (steps.unflatten(1, (_INTERVALS, -1)) * within / self.step).sum(dim=2)
        broadband = scaled + steep * self.scatter[:_INTERVALS]
        rest = (summary * _leak(spectrum)) @ self.spectrum.weight[:, :_SPECTRAL]
        return torch.cat([broadband, rest], dim=1) * mask, of_absent * mask[:, :_INTERVALS]

    def steepness(self, values: Tensor, mask: Tensor, condition: Tensor, absent: Tensor) -> Tensor:
        """The norm of the slope, float32, shape (N,).

        Fluxes are measured by their correlation (Mahalanobis 1936): a step across a narrow relation
        between two bands counts as much as a step along it that is as improbable. From detected to
        not detected is a step of one. The arguments are those of ``forward``.
        """
        slope, of_absent = self.slope(values, mask, condition, absent)
        square = (slope[:, :_INTERVALS] @ self.root).square().sum(dim=1)
        square = square + of_absent.square().sum(dim=1)
        # The small number keeps the slope of the root finite at zero.
        return (square + slope[:, _INTERVALS:].square().sum(dim=1) + 1e-12).sqrt()

    def _layers(
        self,
        values: Tensor,
        mask: Tensor,
        condition: Tensor,
        absent: Tensor,
        dropped: bool = True,
    ) -> list[Tensor]:
        dropout = self.dropout if dropped else nn.Identity()
        scaled = (values - self.mean) / self.scatter * mask
        flux, seen = values[:, :_INTERVALS], mask[:, :_INTERVALS]
        steps = ((flux[:, :, None] - self.low) / self.step).clamp(0.0, 1.0) * seen[:, :, None]
        spectrum = self.spectrum(torch.cat([scaled[:, _INTERVALS:], mask[:, _INTERVALS:]], dim=1))
        summary = nn.functional.leaky_relu(spectrum, LEAK)
        parts = [scaled[:, :_INTERVALS], seen, absent * seen, steps.flatten(1), summary, condition]
        first = self.first(torch.cat(parts, dim=1))
        second = self.second(dropout(nn.functional.leaky_relu(first, LEAK)))
        output = self.last(dropout(nn.functional.leaky_relu(second, LEAK)))
        return [output, spectrum, first, second]


class Generator(nn.Module):
    """Draws vectors for a mask and a condition.

    Args:
        normalisation: the statistics of the training data.
        width: the width of its two layers.
    """

    mean: Tensor
    scatter: Tensor
    window: Tensor

    def __init__(self, normalisation: Normalisation, width: int = 256) -> None:
        super().__init__()
        _register(self, normalisation)
        window = np.equal(vector.WINDOW_OF_ELEMENT, np.arange(vector.WINDOWS)[:, None])
        self.register_buffer("window", _tensor(window))
        self.observed = nn.Linear(_SPECTRAL, _SUMMARY)
        self.layers = nn.Sequential(
            nn.Linear(LATENT + _INTERVALS + _SUMMARY + vector.REDSHIFT_CELLS, width),
            nn.LeakyReLU(LEAK),
            nn.Linear(width, width),
            nn.LeakyReLU(LEAK),
        )
        self.broadband = nn.Linear(width, 3 * _INTERVALS)
        # A spectrum has some dozen degrees of freedom besides its noise.
        self.spectrum = nn.Sequential(
            nn.Linear(width, _SUMMARY), nn.Linear(_SUMMARY, 2 * _SPECTRAL)
        )

    def forward(self, noise: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Draw the values of N vectors.

        Args:
            noise: normal random numbers, float32, shape (N, NOISE).
            mask: 1 where there is a value, else 0; float32, shape (N, LENGTH).
            condition: the redshift conditions, float32, shape (N, REDSHIFT_CELLS).

        Returns:
            float32, shape (N, LENGTH); 0 where the mask is 0.
        """
        return self.drawn(noise, mask, condition)[0]

    def drawn(self, noise: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Draw values as ``forward`` does, and say how far each flux is not detected.

        The latter is ``not_detected`` of the values, float32, shape (N, intervals). Its peak is too
        narrow to learn from; so its slope is that of the chance of a flux to be detected.
        """
        galaxy, measurement, chance = noise.split([LATENT, vector.LENGTH, _INTERVALS], dim=1)
        observed = self.observed(mask[:, _INTERVALS:])
        hidden = self.layers(torch.cat([galaxy, mask[:, :_INTERVALS], observed, condition], dim=1))
        flux, flux_error, log_odds = self.broadband(hidden).chunk(3, dim=1)
        rest, rest_error = self.spectrum(hidden).chunk(2, dim=1)
        signal = torch.cat([flux, rest], dim=1)
        log_error = torch.cat([flux_error, rest_error], dim=1)
        # Every element has noise of its own, which no layer narrower than the vector could draw.
        drawn = signal + measurement * torch.exp(log_error.clamp(-6.0, 2.0) - 1.0)
        values = self.mean + self.scatter * drawn
        spectrum = _min_max(drawn[:, vector.SPECTRUM], mask[:, vector.SPECTRUM], self.window)
        limits = values[:, vector.WINDOW_LIMITS]
        low, other = limits.chunk(2, dim=1)
        high = low + nn.functional.softplus(other - low)
        # Tables are full of upper limits, which the vector has as zeros.
        gate = _gate(log_odds + 4.0, chance)
        broadband = values[:, vector.BROADBAND] * gate
        generated = torch.cat([broadband, spectrum, low, high], dim=1) * mask
        return generated, not_detected(generated).detach() + (gate.detach() - gate)


def not_detected(values: Tensor) -> Tensor:
    """How far each flux is not detected: 1 for a flux of zero, falling to 0 at NOT_DETECTED.

    Args:
        values: the values, float32, shape (N, LENGTH).

    Returns:
        float32, shape (N, intervals).
    """
    return nn.functional.relu(1 - values[:, :_INTERVALS].abs() / NOT_DETECTED)


def _gate(log_odds: Tensor, chance: Tensor) -> Tensor:
    """Draw 1 with a probability of given log odds, else 0, from normal random numbers."""
    # From normal to logistic: the difference is at most 0.02 in probability.
    soft = torch.sigmoid((log_odds.clamp(min=LEAST_LOG_ODDS) + 1.702 * chance) / _TEMPERATURE)
    # A step has no slope; it gets the slope of a smooth one (Jang et al. 2017, arXiv:1611.01144).
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def _register(network: nn.Module, normalisation: Normalisation) -> None:
    network.register_buffer("mean", _tensor(normalisation.mean))
    network.register_buffer("scatter", _tensor(normalisation.scatter))


def _tensor(array: Floats) -> Tensor:
    return torch.tensor(array, dtype=torch.float32)


def _leak(before: Tensor) -> Tensor:
    """The slope of the rectifier at its input."""
    return torch.where(before > 0, 1.0, LEAK)


def _min_max(spectrum: Tensor, mask: Tensor, of_element: Tensor) -> Tensor:
    """Scale each spectral window to [0, 1], as ``processors.fingerprint.vector.scale`` does."""
    unseen = (1 - mask) * 1e6
    low = [part.amin(dim=1) for part in (spectrum + unseen).split(_WINDOW_SIZES, dim=1)]
    high = [part.amax(dim=1) for part in (spectrum - unseen).split(_WINDOW_SIZES, dim=1)]
    lowest, highest = torch.stack(low, dim=1) @ of_element, torch.stack(high, dim=1) @ of_element
    return (spectrum - lowest) / (highest - lowest).clamp(min=1e-3) * mask
