"""Generator and critic over the fingerprint vector. Needs torch: for training only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from processors import vector
from schemas.events import Floats

LATENT = 32
NOISE = LATENT + vector.LENGTH
"""Length of the generator's noise: what the galaxy is, and the noise of each measurement."""

_WINDOWS = [
    (int(part[0]), int(part[-1]) + 1)
    for window in range(vector.WINDOWS)
    for part in [np.flatnonzero(np.equal(vector.WINDOW_OF_ELEMENT, window))]
]


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """Mean and scatter of each element of the vectors, over where it was observed."""

    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, vectors: vector.FingerprintVectors) -> Normalisation:
        """Measure it on training data; elements never observed get 0 and 1."""
        count = vectors.mask.sum(axis=0).clip(1.0)
        mean = (vectors.values * vectors.mask).sum(axis=0) / count
        square = ((vectors.values - mean) ** 2 * vectors.mask).sum(axis=0) / count
        return cls(mean, np.sqrt(square).clip(0.1))


class Critic(nn.Module):
    """How much a vector looks like a real galaxy: a number on no particular scale."""

    mean: Tensor
    scatter: Tensor

    def __init__(self, normalisation: Normalisation, width: int = 192) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalisation.mean, dtype=torch.float32))
        self.register_buffer("scatter", torch.tensor(normalisation.scatter, dtype=torch.float32))
        self.layers = nn.Sequential(
            nn.Linear(2 * vector.LENGTH + vector.REDSHIFT_CELLS, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, values: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """The output for values and mask (N, LENGTH), condition (N, REDSHIFT_CELLS): (N, 1)."""
        scaled = (values - self.mean) / self.scatter * mask
        output: Tensor = self.layers(torch.cat([scaled, mask, condition], dim=1))
        return output


class Generator(nn.Module):
    """Draws vectors for a mask and a condition."""

    mean: Tensor
    scatter: Tensor

    def __init__(self, normalisation: Normalisation, width: int = 192) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalisation.mean, dtype=torch.float32))
        self.register_buffer("scatter", torch.tensor(normalisation.scatter, dtype=torch.float32))
        self.layers = nn.Sequential(
            nn.Linear(LATENT + vector.LENGTH + vector.REDSHIFT_CELLS, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 2 * vector.LENGTH),
        )

    def forward(self, noise: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Values (N, LENGTH), 0 where the mask is, for noise (N, NOISE)."""
        galaxy, measurement = noise[:, :LATENT], noise[:, LATENT:]
        signal, log_error = self.layers(torch.cat([galaxy, mask, condition], dim=1)).chunk(2, dim=1)
        # Every element has noise of its own, which no layer narrower than the vector could draw.
        drawn = signal + measurement * torch.exp(log_error.clamp(-6.0, 2.0) - 1.0)
        values = self.mean + self.scatter * drawn
        spectrum = _min_max(drawn[:, vector.SPECTRUM], mask[:, vector.SPECTRUM])
        limits = values[:, vector.WINDOW_LIMITS]
        low, other = limits.chunk(2, dim=1)
        high = low + nn.functional.softplus(other - low)
        parts = [values[:, vector.BROADBAND], spectrum, low, high]
        generated: Tensor = torch.cat(parts, dim=1) * mask
        return generated


def _min_max(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Scale each spectral window to [0, 1], as ``processors.vector.scale`` does."""
    parts = []
    for start, stop in _WINDOWS:
        part, seen = spectrum[:, start:stop], mask[:, start:stop] > 0
        low = torch.where(seen, part, torch.full_like(part, 1e6)).amin(dim=1, keepdim=True)
        high = torch.where(seen, part, torch.full_like(part, -1e6)).amax(dim=1, keepdim=True)
        scaled = (part - low) / (high - low).clamp(min=1e-3)
        parts.append(torch.where(seen, scaled, torch.zeros_like(part)))
    return torch.cat(parts, dim=1)
