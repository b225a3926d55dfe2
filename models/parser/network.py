"""Defines the parser's networks: Transformers over patches of a spectrum and of a map.

They need torch, and are for training only. ``processors.features`` makes their inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbroker.processors.features import maps
from mmbroker.processors.features.lines import OUTPUTS
from mmbroker.processors.features.maps import MORPHOLOGIES
from mmbroker.processors.features.patches import CHANNEL_INPUTS, PATCH, PATCH_INPUTS

_HEADS = 4


class _Linear(nn.Linear):
    """A linear layer on a matrix of rows, so that onnxruntime adds the bias in the same pass."""

    def forward(self, tokens: Tensor) -> Tensor:
        rows = nn.functional.linear(tokens.flatten(end_dim=-2), self.weight, self.bias)
        return rows.reshape(*tokens.shape[:-1], self.out_features)


class _Block(nn.Module):
    """Self-attention and a small perceptron, each after a normalisation (Xiong et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.projections = _Linear(width, 3 * width)
        self.mixed = _Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), _Linear(width, 2 * width), nn.ReLU(), _Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        each = self.projections(self.before_attention(tokens))
        each = each.reshape(batch, count, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4)
        scale = (width // _HEADS) ** -0.5
        attention = torch.softmax(each[0] @ each[1].transpose(-1, -2) * scale + hidden, dim=-1)
        seen = (attention @ each[2]).transpose(1, 2).reshape(batch, count, width)
        tokens = tokens + self.mixed(seen)
        result: Tensor = tokens + self.perceptron(tokens)
        return result


class SpectrumParser(nn.Module):
    """Reads what is in each channel from the channel, its neighbours, and the whole spectrum.

    Two convolutions look at some channels around each one. A patch of their outputs becomes a
    token, to which frequency, channel width and noise are added. The tokens attend to each other,
    and each gives what it knows back to its channels.

    Args:
        width: the length of a token.
        depth: the number of layers of attention.
        stem: the number of outputs of the convolutions.
    """

    def __init__(self, width: int = 64, depth: int = 2, stem: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(CHANNEL_INPUTS, stem, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(stem, stem, 7, padding=6, dilation=2),
            nn.ReLU(),
        )
        self.token = _Linear(stem * PATCH, width)
        self.surroundings = nn.Sequential(
            _Linear(PATCH_INPUTS, width), nn.ReLU(), _Linear(width, width)
        )
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.back = _Linear(width, stem * PATCH)
        self.head = nn.Sequential(
            _Linear(2 * stem, 2 * stem), nn.ReLU(), _Linear(2 * stem, OUTPUTS)
        )

    def forward(self, channels: Tensor, patches: Tensor, present: Tensor) -> Tensor:
        """Compute the outputs for B spectra of P patches.

        Args:
            channels: inputs of the channels, float32, shape (B, P * PATCH, CHANNEL_INPUTS).
            patches: inputs of the patches, float32, shape (B, P, PATCH_INPUTS).
            present: 1 for a patch and 0 for padding, float32, shape (B, P).

        Returns:
            float32, shape (B, P * PATCH, OUTPUTS), see ``processors.features.lines``.
        """
        batch, count = patches.shape[0], patches.shape[1]
        # Padding stays empty between the convolutions, so that a spectrum sees no batch around it.
        inside = present[:, :, None].expand(-1, -1, PATCH).reshape(batch, 1, -1)
        first, last = self.stem[:2], self.stem[2:]
        local = last(first(channels.transpose(1, 2)) * inside).transpose(1, 2)
        tokens = self.token(local.reshape(batch, count, -1)) + self.surroundings(patches)
        hidden = ((present - 1.0) * 1e4)[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, hidden)
        known = self.back(tokens).reshape(batch, count * PATCH, -1)
        outputs: Tensor = self.head(torch.cat([local, known], dim=-1))
        return outputs


class MapParser(nn.Module):
    """Reads the morphology of a map and its components, from patches that attend to each other.

    Args:
        width: the length of a token.
        depth: the number of layers of attention.
    """

    def __init__(self, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        side = maps.SIDE // maps.PATCH
        self.stem = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()
        )
        self.token = nn.Conv2d(12, width, maps.PATCH, stride=maps.PATCH)
        self.place = nn.Parameter(torch.randn(1, side * side, width) * 0.02)
        self.beam = _Linear(maps.MAP_INPUTS, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.morphology = nn.Sequential(
            _Linear(2 * width, width), nn.ReLU(), _Linear(width, len(MORPHOLOGIES))
        )
        self.cells = nn.Sequential(
            _Linear(width, 2 * width),
            nn.ReLU(),
            _Linear(2 * width, maps.CELLS**2 * maps.CELL_OUTPUTS),
        )

    def forward(self, pixels: Tensor, beam: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs for B maps.

        Args:
            pixels: scaled pixels, float32, shape (B, SIDE, SIDE).
            beam: inputs that describe the beam, float32, shape (B, MAP_INPUTS).

        Returns:
            Logits of morphologies, float32, shape (B, MORPHOLOGIES), and cells, float32, shape
            (B, CELL_GRID, CELL_GRID, CELL_OUTPUTS).
        """
        tokens = self.token(self.stem(pixels[:, None])).flatten(2).transpose(1, 2)
        tokens = tokens + self.place + self.beam(beam)[:, None, :]
        nothing_hidden = torch.zeros(1, 1, 1, 1, device=pixels.device)
        for block in self.blocks:
            tokens = block(tokens, nothing_hidden)
        pooled = torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)
        side, cells = maps.SIDE // maps.PATCH, maps.CELLS
        grid = self.cells(tokens).reshape(-1, side, side, cells, cells, maps.CELL_OUTPUTS)
        grid = grid.permute(0, 1, 3, 2, 4, 5)
        return self.morphology(pooled), grid.reshape(
            -1, maps.CELL_GRID, maps.CELL_GRID, maps.CELL_OUTPUTS
        )
