"""The error of observations that cannot be used."""

from __future__ import annotations


class UnusableError(ValueError):
    """Raised for a well-formed observation that cannot be used; the message says why."""
