"""Reads and writes the packaged model of how reliable redshifts are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.processors.scoring.reliability import ReliabilityModel

NAME = "redshift_reliability"
PATH = WEIGHTS / f"{NAME}.json"


def load_reliability(path: Path = PATH) -> ReliabilityModel:
    """Read a model of reliability.

    Args:
        path: the file that ``save_reliability`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none, or its identity is not that of its numbers.
    """
    try:
        content = json.loads(path.read_text())
        model, stated = ReliabilityModel.from_json(content["model"]), content["identity"]
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a model of reliability: {error!r}") from error
    if stated != model.identity:
        raise ValueError(f"{path}: identity {stated} is not that of its numbers, {model.identity}")
    return model


def save_reliability(model: ReliabilityModel, card: Mapping[str, Any], path: Path = PATH) -> None:
    """Write a model with its card.

    Args:
        model: the model.
        card: what the file says besides: what it was fitted on, figures, caveats.
        path: the file to write.
    """
    content = {"name": NAME, "identity": model.identity, **card, "model": model.as_json()}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
