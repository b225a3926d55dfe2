"""The error that a client of Triton raises."""

from __future__ import annotations


class ModelUnavailable(RuntimeError):  # noqa: N818 - reads better where it is caught
    """Raised when a server does not answer in time, or its model is not one that can be used."""
