"""Imports onnxruntime so that it counts nothing for Microsoft and leaves no files in the home."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
