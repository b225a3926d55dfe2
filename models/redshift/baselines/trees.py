"""Predict with boosted regression trees kept as arrays, without the library that fitted them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.redshift.grids import Array

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """T trees of at most K nodes, the first of each its root; all arrays but one shape (T, K).

    At a node a row goes left if its value is at most the threshold, or, where it is NaN, if the
    node says so.

    Attributes:
        start: what the leaves' values are added to, shape (1,).
        value: of the leaves.
        column: that a node looks at, of the table.
        threshold: of its values.
        missing_left: where NaN goes.
        left: the node's left child; a leaf's is itself.
        right: the same.
    """

    start: Array
    value: Array
    column: Indices
    threshold: Array
    missing_left: NDArray[np.bool_]
    left: Indices
    right: Indices

    def predict(self, rows: Array) -> Array:
        """What the trees say together of N rows, shape (N,).

        Args:
            rows: NaN where not observed, shape (N, columns).
        """
        tree = np.arange(len(self.value))[:, None]
        node = np.zeros((len(self.value), len(rows)), int)
        while True:
            seen = rows[np.arange(len(rows)), self.column[tree, node]]
            left = np.where(
                np.isnan(seen), self.missing_left[tree, node], seen <= self.threshold[tree, node]
            )
            below = np.where(left, self.left[tree, node], self.right[tree, node])
            if (below == node).all():
                leaves = self.value[tree, node]
                return np.asarray(self.start + leaves.sum(axis=0))
            node = below

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
