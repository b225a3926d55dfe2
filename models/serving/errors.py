"""Errors of models on Triton."""

from __future__ import annotations


class ModelUnavailable(RuntimeError):  # noqa: N818 - reads better where it is caught
    """The server is away, not ready, too slow, or answers with something else than outputs."""
