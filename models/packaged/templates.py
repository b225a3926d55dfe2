"""Saves and loads the packaged template fit, ``weights/templates.npz``."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mmbroker.models.packaged.arrays import read_packaged
from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.processors.redshift.templates import TemplateFit, Templates

_NUMBERS = ("temper", "floor", "beside_published", "alone")


def save_templates(templates: Templates, folder: Path = WEIGHTS) -> str:
    """Write templates.npz, which keeps fluxes to half a per cent, and return its SHA-256.

    Args:
        templates: the templates.
        folder: a folder that exists; its templates.npz is replaced.
    """
    arrays: dict[str, Any] = {
        field.name: np.array(getattr(templates, field.name)) for field in fields(templates)
    }
    arrays["flux"] = np.log(templates.flux + 1e-13).astype(np.float16)
    path = folder / "templates.npz"
    np.savez_compressed(path, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_templates(folder: Path = WEIGHTS) -> TemplateFit:
    """Load the template fit in a folder.

    Args:
        folder: the folder with templates.npz and its card templates.json.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the card belongs to another fit.
    """
    arrays, _ = read_packaged(
        folder, "templates", "python -m mmbroker.models.redshift.templates.train"
    )
    values: dict[str, Any] = dict(arrays)
    values["flux"] = np.exp(values["flux"].astype(np.float32))
    values["names"] = tuple(values["names"].tolist())
    values["prior"] = tuple(values["prior"].tolist())
    values.update({name: float(values[name]) for name in _NUMBERS})
    return TemplateFit(Templates(**values))
