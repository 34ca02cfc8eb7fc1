"""Several similarities as one: standardised features, and their weights without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._threads import over_blocks
from cliquesim._validation import as_groups, as_matrix
from cliquesim.errors import InputError

_BLOCK = 4096  # rows worked on at a time, so that memory-mapped features stay on disk
_OWN = np.float32(2)  # weight of a row beside the mean of its nearest
_THREAD_VALUES = 1 << 18  # that a thread works on at a time: they stay in its cache


def standardize(
    features: ArrayLike,
    dtype: type[np.floating[Any]] = np.float32,
    *,
    center: bool = True,
    num_threads: int | None = 1,
) -> NDArray[Any]:
    """Rows without their mean, of length 1: dot products become Pearson correlations.

    With `center=False` the mean stays, and dot products become cosines. A row without a direction
    (constant, or 0) becomes 0. (N, E) in, a new array (N, E) of `dtype` out; the arithmetic is
    float64.
    """
    X = np.array(as_matrix(features, "features", dtype))

    def some(rows: slice) -> None:
        block = X[rows].astype(np.float64)
        # What rounding leaves of a constant row is no direction.
        negligible = 1e-12 * np.abs(block).max(axis=1, keepdims=True, initial=0.0)
        if center:
            block -= block.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(block, axis=1, keepdims=True)
        X[rows] = block / np.where(norm > negligible, norm, np.inf)

    over_blocks(len(X), _rows_of(X.shape[1]), some, num_threads)
    return X


def similarity_spread(
    features: NDArray[np.float32],
    groups: ArrayLike | None = None,
    n_pairs: int = 50_000,
    seed: int = 0,
) -> float:
    """Standard deviation of the dot product of random rows, of different groups where possible.

    The unit in which similarities of different descriptors are compared; 1 if all are equal.
    """
    n = len(features)
    labels = as_groups(groups, n)
    a, b = np.random.default_rng(seed).integers(0, n, (2, n_pairs))
    apart = a != b
    if labels is not None and (labels[a] != labels[b]).any():
        apart = labels[a] != labels[b]
    a, b = a[apart], b[apart]
    similar = [
        np.einsum("ij,ij->i", features[a[s : s + _BLOCK]], features[b[s : s + _BLOCK]])
        for s in range(0, len(a), _BLOCK)
    ]
    spread = float(np.concatenate(similar).std(dtype=np.float64)) if similar else 0.0
    return spread if spread > 0 else 1.0


def fuse(
    features: Sequence[NDArray[np.float32]],
    groups: ArrayLike | None = None,
    weights: Sequence[float] | None = None,
    num_threads: int | None = 1,
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """One vector per row whose dot product sums several similarities, each in units of its spread.

    Parameters
    ----------
    features : arrays (N, E_i) of unit rows (`standardize`).
    groups : int (N,), sequence of each row; spreads are over pairs of different sequences.
    weights : importance of each similarity, default equal.

    Returns
    -------
    fused : float32 (N, sum of E_i), unit rows.
    shares : what each dot product was multiplied by, summing to 1.
    """
    weights = [1.0] * len(features) if weights is None else list(weights)
    if len(weights) != len(features) or not features:
        raise InputError("features and weights must be of the same length, at least 1")
    raw = np.array(
        [w / similarity_spread(part, groups) for w, part in zip(weights, features, strict=True)]
    )
    shares = raw / raw.sum()
    return weighted(features, shares, num_threads), tuple(float(s) for s in shares)


def weighted(
    features: Sequence[NDArray[np.float32]], weights: ArrayLike, num_threads: int | None = 1
) -> NDArray[np.float32]:
    """Unit rows (N, sum of E_i) whose dot product is the mean, by `weights`, of the parts'."""
    shares = np.asarray(weights, np.float64)
    shares = shares / shares.sum()
    if len(features) == 1:
        return features[0]
    widths = [part.shape[1] for part in features]
    joined = np.empty((len(features[0]), sum(widths)), np.float32)
    factors = np.sqrt(shares).astype(np.float32)
    columns = np.split(joined, np.cumsum(widths)[:-1], axis=1)

    def some(rows: slice) -> None:
        for part, factor, out in zip(features, factors, columns, strict=True):
            np.multiply(part[rows], factor, out=out[rows])

    over_blocks(len(joined), _rows_of(joined.shape[1]), some, num_threads)
    return joined


def expanded(
    features: NDArray[np.float32],
    rows: NDArray[np.int64],
    nearest: NDArray[np.int64],
    num_threads: int | None = 1,
) -> NDArray[np.float32]:
    """Vectors of some rows, each twice, plus the mean of those of its nearest rows.

    What search engines call database-side feature augmentation (Arandjelovic and Zisserman, 2012):
    what the frames around a frame have in common outweighs what it has for itself. A row that
    counts twice loses less where its nearest are of something else.

    Parameters
    ----------
    features : float32 (N, E), unit rows.
    rows : int64 (n,), those asked for.
    nearest : int64 (n, k), for each of them the rows near it; -1 for none.

    Returns
    -------
    float32 (n, E), unit rows.
    """
    out = np.empty((len(rows), features.shape[1]), np.float32)
    found = nearest >= 0
    share = (1 / np.maximum(1, found.sum(axis=1))).astype(np.float32)

    def some(block: slice) -> None:
        mean = np.zeros_like(out[block])
        for one, is_one in zip(nearest[block].T, found[block].T, strict=True):
            mean += np.where(is_one[:, None], features[one], np.float32(0))
        mean *= share[block, None]
        mean += _OWN * features[rows[block]]
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        np.divide(mean, np.where(norm > 0, norm, 1), out=out[block])

    over_blocks(len(rows), _rows_of(features.shape[1]), some, num_threads)
    return out


def _rows_of(width: int) -> int:
    return max(1, _THREAD_VALUES // max(1, width))
