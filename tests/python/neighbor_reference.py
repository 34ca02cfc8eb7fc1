"""Neighbours in plain NumPy, from the whole similarity matrix, and how results are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _core

LEVELS = _core.runnable_levels()


def similarity_matrix(X: NDArray[Any], Q: NDArray[Any], metric: str) -> NDArray[np.float64]:
    X, Q = X.astype(np.float64), Q.astype(np.float64)
    if metric == "dot":
        return Q @ X.T
    standardized = []
    for rows in (Q, X):
        centred = rows - rows.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        standardized.append(np.divide(centred, length, where=length > 0, out=np.zeros_like(rows)))
    return standardized[0] @ standardized[1].T


def pool(
    S: NDArray[np.float64], row_sequence: NDArray[Any], col_sequence: NDArray[Any], radius: int
) -> NDArray[np.float64]:
    """Eq. (9), one offset at a time."""

    def shifted(sequence: NDArray[Any], n: int) -> NDArray[np.int64]:
        """The rows whose n-th next row exists and is of the same sequence."""
        rows = np.arange(len(sequence))
        rows = rows[(rows + n >= 0) & (rows + n < len(sequence))]
        return rows[sequence[rows + n] == sequence[rows]]

    total, count = np.zeros_like(S), np.zeros_like(S)
    for n in range(-radius, radius + 1):
        rows, cols = shifted(row_sequence, n), shifted(col_sequence, n)
        total[np.ix_(rows, cols)] += S[np.ix_(rows + n, cols + n)]
        count[np.ix_(rows, cols)] += 1
    return total / count


def reference(
    X: NDArray[Any],
    k: int,
    n_bottom: int = 0,
    metric: str = "dot",
    groups: NDArray[Any] | None = None,
    group_window: int | None = None,
    pool_radius: int = 0,
    queries: NDArray[Any] | None = None,
    query_groups: NDArray[Any] | None = None,
    sequences: NDArray[Any] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], cs.Neighbors]:
    """The whole similarity matrix, which pairs are allowed, and the neighbours."""
    Q = X if queries is None else queries
    row_groups = groups if queries is None else query_groups
    S = similarity_matrix(X, Q, metric)
    if pool_radius:
        col_runs = groups if sequences is None else sequences
        row_runs = col_runs if queries is None else query_groups
        assert col_runs is not None
        assert row_runs is not None
        S = pool(S, row_runs, col_runs, pool_radius)
    allowed = np.ones(S.shape, bool)
    if queries is None:
        np.fill_diagonal(allowed, False)
    if groups is not None and row_groups is not None:
        same = row_groups[:, None] == groups[None, :]
        if group_window is not None:
            same &= np.abs(np.subtract.outer(range(len(Q)), range(len(X)))) <= group_window
        allowed &= ~same

    def ends(sign: float, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        indices = np.full((len(Q), count), -1)
        values = np.full((len(Q), count), sign * np.inf, np.float32)
        for i in range(len(Q)):
            cols = np.flatnonzero(allowed[i])
            cols = cols[np.argsort(sign * S[i, cols], kind="stable")][:count]
            indices[i, : len(cols)] = cols
            values[i, : len(cols)] = S[i, cols]
        return indices, values

    return S, allowed, cs.Neighbors(*ends(-1.0, k), *ends(1.0, n_bottom))


def assert_same(found: cs.Neighbors, expected: cs.Neighbors) -> None:
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    np.testing.assert_array_equal(found.bottom_indices, expected.bottom_indices)
    np.testing.assert_array_equal(found.bottom_similarities, expected.bottom_similarities)


def assert_correct(
    found: cs.Neighbors,
    truth: tuple[NDArray[np.float64], NDArray[np.bool_], cs.Neighbors],
    tolerance: float,
) -> None:
    """Near-ties may swap places in float32: values must agree at each rank, indices must be
    distinct, allowed and have the reported value."""
    S, allowed, expected = truth
    for indices, values, right_indices, right_values in (
        (found.indices, found.similarities, expected.indices, expected.similarities),
        (
            found.bottom_indices,
            found.bottom_similarities,
            expected.bottom_indices,
            expected.bottom_similarities,
        ),
    ):
        assert indices.dtype == np.int64
        assert values.dtype == np.float32
        np.testing.assert_array_equal(indices == -1, right_indices == -1)
        np.testing.assert_allclose(values, right_values, atol=tolerance, rtol=0)
        for i, row in enumerate(indices):
            row = row[row >= 0]
            assert len(np.unique(row)) == len(row)
            assert allowed[i, row].all()
            np.testing.assert_allclose(values[i, : len(row)], S[i, row], atol=tolerance, rtol=0)


def sequences(rng: np.random.Generator, n: int, longest: int) -> NDArray[np.int64]:
    """Contiguous runs of random lengths under shuffled labels."""
    lengths = []
    while sum(lengths) < n:
        lengths.append(int(rng.integers(1, longest + 1)))
    labels = rng.permutation(len(lengths)) - 3
    return np.repeat(labels, lengths)[:n].astype(np.int64)
