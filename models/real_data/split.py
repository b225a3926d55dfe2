"""Says by its name whether a galaxy is for training, for validation or for the test."""

from __future__ import annotations

import hashlib

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_SHARES = (0.70, 0.15, 0.15)
SPLIT = b"critic 2"
"""The name of this split.

The recipe was settled on another split, without a look at the test part of this one.
"""


def split_of(name: str) -> int:
    """TRAIN, VALIDATION or TEST, by a hash of the galaxy's name."""
    return int(np.searchsorted(np.cumsum(SPLIT_SHARES[:2]), name_hash(name) / 2**64, side="right"))


def name_hash(name: str) -> int:
    """A 64-bit hash of a galaxy's name, which says its part of the split."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=SPLIT).digest()
    return int.from_bytes(digest, "little")
