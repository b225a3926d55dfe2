"""Predicts with boosted regression trees kept as arrays, without the library that fitted them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmbroker.processors.redshift.grids import Array

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """T trees of at most K nodes; all arrays but one have shape (T, K).

    The first node of a tree is its root. At a node a row goes left if its value is at most the
    threshold. If its value is NaN, the node says where it goes.

    Attributes:
        start: the number that the leaves' values are added to, shape (1,).
        value: the values of the leaves.
        column: the column of the table that a node looks at.
        threshold: the largest value with which a row goes left.
        missing_left: whether a row with NaN goes left.
        left: the index of the left child; a leaf is its own child.
        right: the index of the right child; a leaf is its own child.
    """

    start: Array
    value: Array
    column: Indices
    threshold: Array
    missing_left: NDArray[np.bool_]
    left: Indices
    right: Indices

    def predict(self, rows: Array) -> Array:
        """Predict from N rows of the table.

        Args:
            rows: the rows, NaN where nothing was observed, float64, shape (N, columns).

        Returns:
            The sum of the trees' leaves and ``start``, float64, shape (N,).
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
        """All arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
