"""Rows to whiten, and whitening in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def correlated(seed: int, n: int, d: int, offset: float = 3.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    # Condition number about 10: the comparison is then of the kernels, not of the problem.
    mixing = 0.15 * rng.normal(size=(d, d)) / np.sqrt(d) + np.diag(rng.uniform(0.5, 2, d))
    return (rng.normal(size=(n, d)) @ mixing + offset * rng.normal(size=d)).astype(np.float32)


def reference(
    X: NDArray[Any], relative: float, covariance: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    X = X.astype(np.float64)
    sigma = np.cov(X.T) if covariance is None else covariance
    ridge = relative * np.trace(sigma) / len(sigma)
    upper = np.linalg.cholesky(sigma + ridge * np.eye(len(sigma))).T  # R with R^T R = Sigma + ridge
    return np.linalg.solve(upper.T, (X - X.mean(axis=0)).T).T


def reference_stationary(
    covariance: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    h, w, c = shape
    blocks = covariance.reshape(h * w, c, h * w, c)
    cells = [(y, x) for y in range(h) for x in range(w)]
    by_offset: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            by_offset.setdefault((v - y, u - x), []).append(blocks[i, :, j])
    result = np.empty_like(blocks)
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            result[i, :, j] = np.mean(by_offset[v - y, u - x], axis=0)
    return result.reshape(covariance.shape)


def assert_close(got: NDArray[Any], expected: NDArray[Any], tolerance: float = 1e-5) -> None:
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()
