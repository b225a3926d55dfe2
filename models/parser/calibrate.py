"""Calibrates the parsers on validation simulations, and writes their cards.

``python -m mmbroker.models.parser.calibrate`` reads the networks in ``models/weights`` and writes
``parser.json`` and ``map_parser.json`` beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from mmbroker.models.packaged.cards import about
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.parser.exported import ExportedMapParser, ExportedSpectrumParser
from mmbroker.models.parser.judged.line_detections import (
    VALIDATION_SEED,
    VALIDATION_SPECTRA,
    judge,
    line_pulls,
    neural_finder,
    purity_and_completeness,
    threshold_at_purity,
)
from mmbroker.models.parser.judged.map_detections import (
    VALIDATION_MAPS,
    VALIDATION_MAPS_SEED,
    judge_maps,
)
from mmbroker.models.parser.measures import PURITY, VERSIONS, central_half_width
from mmbroker.models.serving.parsers import MapParserClient, ParserClient, SpectrumParserClient
from mmbroker.processors.features.lines import UNCALIBRATED, LineCalibration
from mmbroker.processors.features.maps import MapCalibration
from mmbroker.schemas import __version__
from mmbroker.schemas.events import Floats

TRAINED_BY = {"parser": "train_spectra", "map_parser": "train_maps"}
"""The module that trains each network."""

BRIGHT_MAP = 10.0
"""The lowest peak signal-to-noise ratio of the maps whose morphologies stand on the card."""

RANGE = (4.0, 8.0)
"""The range of signal-to-noise ratios of the lines whose completeness stands on the card."""

_STEPS = 5
_LOGITS = np.linspace(-12.0, 12.0, 49)


def calibrate(
    network: ExportedSpectrumParser, spectra: int = VALIDATION_SPECTRA
) -> tuple[LineCalibration, dict[str, float]]:
    """Calibrate probabilities, errors and threshold on validation spectra.

    Args:
        network: the parser of spectra.
        spectra: the number of simulated spectra.

    Returns:
        The calibration, and figures for the card.
    """
    judged = judge({"parser": neural_finder(network, UNCALIBRATED)}, spectra, VALIDATION_SEED)
    found = judged.found["parser"]
    slope, offset = _logistic(found.score, found.matched >= 0)
    threshold = threshold_at_purity(found, PURITY)
    true = found.matched >= 0
    score = found.score[true]
    pulls = line_pulls(found, judged.truth)
    # Fifths of the true lines above the threshold.
    edges = np.percentile(score[score >= threshold], np.linspace(0, 100, _STEPS + 1))
    inside = [(score >= low) & (score <= high) for low, high in pairwise(edges)]
    scale = [[central_half_width(each[part]) for each in pulls.values()] for part in inside]
    calibration = LineCalibration(
        logit=_LOGITS,
        probability=np.asarray(expit(slope * _LOGITS + offset)),
        detection_logit=threshold,
        error_logit=np.array([float(np.median(score[part])) for part in inside]),
        error_scale=np.array(scale),
    )
    purity, completeness = purity_and_completeness(
        judged, "parser", threshold, *RANGE, np.arange(spectra)
    )
    return calibration, {"purity": purity, "completeness_4_8": completeness}


def calibrate_maps(
    network: ExportedMapParser, maps: int = VALIDATION_MAPS
) -> tuple[MapCalibration, dict[str, float]]:
    """Calibrate the morphology's temperature, and the threshold and errors of components.

    Args:
        network: the parser of maps.
        maps: the number of simulated maps.

    Returns:
        The calibration, and figures for the card.
    """
    judged = judge_maps(network, MapCalibration(component_logit=-4.0), maps, VALIDATION_MAPS_SEED)
    logits = np.log(np.maximum(judged.probabilities, 1e-9))

    def cross_entropy(log_temperature: Floats) -> float:
        scaled = logits / np.exp(log_temperature[0])
        scaled = scaled - np.logaddexp.reduce(scaled, axis=1)[:, None]
        return -float(scaled[np.arange(len(scaled)), judged.morphology].mean())

    temperature = float(np.exp(minimize(cross_entropy, [0.0], method="Nelder-Mead").x[0]))
    order = np.argsort(-judged.component_logit)
    true = judged.component_matched[order]
    share = np.cumsum(true) / np.arange(1, len(true) + 1)
    last = np.flatnonzero(share >= PURITY)
    threshold = float(judged.component_logit[order][last[-1]]) if len(last) else 0.0
    reported = judged.component_matched & (judged.component_logit >= threshold)
    calibration = MapCalibration(
        temperature, threshold, central_half_width(judged.component_flux_pull[reported])
    )
    bright = judged.signal_to_noise > BRIGHT_MAP
    right = judged.probabilities.argmax(axis=1) == judged.morphology
    return calibration, {"right_above_10": float(right[bright].mean())}


def _logistic(logit: Floats, true: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit the slope and the offset that turn scores into logits (Platt 1999)."""

    def loss(both: Floats) -> float:
        x = both[0] * logit + both[1]
        return -float(np.where(true, log_expit(x), log_expit(-x)).mean())

    best = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(best[0]), float(best[1])


def card_of(
    path: Path,
    parser: type[ParserClient],
    calibration: dict[str, Any],
    validation: dict[str, float],
) -> dict[str, Any]:
    """The card of a network: its version, its training, its calibration and its figures.

    Args:
        path: the file of the network.
        parser: the client that asks it.
        calibration: the calibration as it is stored; with the network it makes a version.
        validation: figures on the simulations that it was calibrated on.
    """
    return {
        "name": path.stem,
        "version": VERSIONS[path.stem],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "code_version": __version__,
        "trained_on": "simulated data alone",
        "recipe": f"python -m mmbroker.models.parser.{TRAINED_BY[path.stem]}",
        **parser.tensors,
        "calibration": calibration,
        "validation": {name: round(value, 4) for name, value in validation.items()},
        **about(path.stem),
    }


def main(arguments: list[str] | None = None) -> None:
    """Calibrate both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    folder = parser.parse_args(arguments).weights
    path = folder / "parser.onnx"
    found, figures = calibrate(ExportedSpectrumParser(path))
    stored: dict[str, Any] = {
        "logit": found.logit.tolist(),
        "probability": np.round(found.probability, 6).tolist(),
        "detection_logit": found.detection_logit,
        "error_logit": np.round(found.error_logit, 4).tolist(),
        "error_scale": np.round(found.error_scale, 4).tolist(),
        "on": f"{VALIDATION_SPECTRA} simulated spectra, seed {VALIDATION_SEED}",
    }
    card = card_of(path, SpectrumParserClient, stored, figures)
    (folder / "parser.json").write_text(json.dumps(card, indent=1) + "\n")
    path = folder / "map_parser.onnx"
    if path.is_file():
        maps, figures = calibrate_maps(ExportedMapParser(path))
        stored = {
            "temperature": maps.temperature,
            "component_logit": maps.component_logit,
            "flux_error_scale": maps.flux_error_scale,
            "on": f"{VALIDATION_MAPS} simulated maps, seed {VALIDATION_MAPS_SEED}",
        }
        card = card_of(path, MapParserClient, stored, figures)
        (folder / "map_parser.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
