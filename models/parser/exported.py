"""Runs the packaged parsers of spectra and maps on onnxruntime, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.packaged.silent_onnxruntime import onnxruntime
from mmbroker.processors.features.lines import UNCALIBRATED, LineCalibration
from mmbroker.processors.features.maps import MapCalibration, MapInput
from mmbroker.processors.features.patches import PATCH, Array32, Patches, batch

_LARGEST_PADDING = 1.25  # length of the longest spectrum of a batch over that of the shortest


class ExportedSpectrumParser:
    """Runs the network for spectra on one core.

    Args:
        path: the ONNX file.
    """

    def __init__(self, path: Path = WEIGHTS / "parser.onnx") -> None:
        self._session = _session(path)

    def outputs(self, spectra: Sequence[Patches]) -> list[Array32]:
        """Compute the outputs for each spectrum.

        Args:
            spectra: the spectra, in any order of length.

        Returns:
            For each spectrum float32, shape (channels, OUTPUTS); see ``processors.features.lines``.
        """
        results: list[Array32] = [np.empty(0, np.float32)] * len(spectra)
        for rows in batches_of_like_length([len(each) for each in spectra]):
            channels, patches, present = batch([spectra[row] for row in rows])
            (output,) = self._session.run(
                None, {"channels": channels, "patches": patches, "present": present}
            )
            for place, row in enumerate(rows):
                results[row] = output[place, : len(spectra[row]) * PATCH]
        return results


class ExportedMapParser:
    """Runs the network for maps on one core.

    Args:
        path: the ONNX file.
    """

    def __init__(self, path: Path = WEIGHTS / "map_parser.onnx") -> None:
        self._session = _session(path)

    def outputs(self, maps: Sequence[MapInput]) -> tuple[Array32, Array32]:
        """Compute the outputs for N maps.

        Args:
            maps: the maps.

        Returns:
            Logits of morphologies, float32, shape (N, MORPHOLOGIES), and cells, float32, shape
            (N, CELL_GRID, CELL_GRID, CELL_OUTPUTS).
        """
        morphology, cells = self._session.run(
            None,
            {
                "pixels": np.array([each.pixels for each in maps], np.float32),
                "beam": np.array([each.beam for each in maps], np.float32),
            },
        )
        return morphology, cells


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batches_of_like_length(lengths: Sequence[int], largest: int = 32) -> list[list[int]]:
    """Sort spectra by length into batches that need little padding.

    Args:
        lengths: the length of each spectrum.
        largest: the most spectra in a batch.

    Returns:
        The indices of the spectra in each batch.
    """
    batches: list[list[int]] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if (
            batches
            and len(batches[-1]) < largest
            and lengths[row] <= _LARGEST_PADDING * lengths[batches[-1][0]]
        ):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def packaged_calibration(path: Path = WEIGHTS / "parser.json") -> LineCalibration:
    """Read the calibration on the card of the parser of spectra.

    Args:
        path: the card.

    Returns:
        The calibration; ``UNCALIBRATED`` if the card has none.
    """
    card = json.loads(path.read_text())
    stored = card.get("calibration")
    return UNCALIBRATED if stored is None else LineCalibration.from_card(stored)


def packaged_map_calibration(path: Path = WEIGHTS / "map_parser.json") -> MapCalibration:
    """Read the calibration on the card of the parser of maps.

    Args:
        path: the card.

    Raises:
        KeyError: the card has none.
    """
    return MapCalibration.from_card(json.loads(path.read_text())["calibration"])
