"""Several similarities as one: standardised features, and their weights without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_groups, as_matrix
from cliquesim.errors import InputError

_BLOCK = 4096  # rows worked on at a time, so that memory-mapped features stay on disk


def standardize(
    features: ArrayLike, dtype: type[np.floating[Any]] = np.float32, *, center: bool = True
) -> NDArray[Any]:
    """Rows without their mean, of length 1: dot products become Pearson correlations.

    With `center=False` the mean stays, and dot products become cosines. A row without a direction
    (constant, or 0) becomes 0. (N, E) in, a new array (N, E) of `dtype` out; the arithmetic is
    float64.
    """
    X = np.array(as_matrix(features, "features", dtype))
    for start in range(0, len(X), _BLOCK):
        block = X[start : start + _BLOCK].astype(np.float64)
        # What rounding leaves of a constant row is no direction.
        negligible = 1e-12 * np.abs(block).max(axis=1, keepdims=True, initial=0.0)
        if center:
            block -= block.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(block, axis=1, keepdims=True)
        X[start : start + _BLOCK] = block / np.where(norm > negligible, norm, np.inf)
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
    return weighted(features, shares), tuple(float(s) for s in shares)


def weighted(features: Sequence[NDArray[np.float32]], weights: ArrayLike) -> NDArray[np.float32]:
    """Unit rows (N, sum of E_i) whose dot product is the mean, by `weights`, of the parts'."""
    shares = np.asarray(weights, np.float64)
    shares = shares / shares.sum()
    if len(features) == 1:
        return features[0]
    return np.concatenate(
        [part * np.float32(np.sqrt(s)) for s, part in zip(shares, features, strict=True)], axis=1
    )
