"""Several similarities as one dot product."""

from __future__ import annotations

import numpy as np
import pytest

from cliquesim import fusion
from cliquesim.errors import InputError
from cliquesim.fusion import expanded, fuse, standardize


def test_standardized_rows_multiply_to_correlations():
    X = np.random.default_rng(0).normal(5, 2, (8, 12))
    X[3] = 4.0
    Z = standardize(X)
    assert (Z[3] == 0).all()
    rows = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_allclose((Z @ Z.T)[np.ix_(rows, rows)], np.corrcoef(X[rows]), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_a_direction_whatever_its_scale(dtype):
    rng = np.random.default_rng(0)
    row = rng.normal(size=7)
    # Rounding leaves a little of the constant row in float64, which must not be blown up.
    X = np.stack([row, row * 1e-20, row * 1e20, np.full(7, 0.1), np.zeros(7)]).astype(dtype)
    Z = standardize(X, dtype)
    assert Z.dtype == dtype
    assert (Z[3:] == 0).all()
    np.testing.assert_allclose(Z[:3], np.tile(Z[0], (3, 1)), rtol=1e-5, atol=1e-7)


def test_rows_that_keep_their_mean_multiply_to_cosines():
    X = np.random.default_rng(0).normal(5, 2, (8, 12))
    X[3], X[4] = 4.0, 0.0
    Z = standardize(X, center=False)
    assert (Z[4] == 0).all()
    unit = X[[3, 5]] / np.linalg.norm(X[[3, 5]], axis=1, keepdims=True)
    np.testing.assert_allclose(Z[[3, 5]], unit, atol=1e-6)


def test_any_number_of_threads_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fusion, "_THREAD_VALUES", 100)
    X = np.random.default_rng(0).normal(5, 2, (50, 12)).astype(np.float32)
    for num_threads in (3, None):
        np.testing.assert_array_equal(standardize(X, num_threads=num_threads), standardize(X))
        few, _ = fuse([X, X[:, :5]], num_threads=num_threads)
        np.testing.assert_array_equal(few, fuse([X, X[:, :5]])[0])
        rows, nearest = np.arange(50), np.arange(100).reshape(50, 2) % 50
        np.testing.assert_array_equal(
            expanded(X, rows, nearest, num_threads), expanded(X, rows, nearest)
        )


@pytest.mark.parametrize("seed", range(3))
def test_fused_dot_products_add_up_the_scaled_similarities(seed):
    rng = np.random.default_rng(seed)
    A, B = (standardize(rng.normal(size=(60, d))) for d in (9, 4))
    groups = np.arange(60) // 5
    fused, shares = fuse([A, B], groups, weights=[1.0, 2.0])
    far = groups[:, None] != groups[None, :]
    raw = np.array([1.0 / (A @ A.T)[far].std(), 2.0 / (B @ B.T)[far].std()])
    np.testing.assert_allclose(shares, raw / raw.sum(), rtol=0.03)
    expected = shares[0] * A @ A.T + shares[1] * B @ B.T
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1.0, atol=1e-5)


def test_fuse_needs_a_weight_for_each_feature():
    X = standardize(np.eye(4))
    with pytest.raises(InputError, match="same length"):
        fuse([X, X], weights=[1.0])


@pytest.mark.parametrize("block", [1, 100])
def test_a_row_is_averaged_with_its_nearest_that_there_are(
    block: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fusion, "_THREAD_VALUES", block)
    X = standardize(np.random.default_rng(0).normal(size=(30, 7)))
    rows = np.array([4, 0, 29, 7])
    nearest = np.array([[1, 2, 3], [5, -1, 9], [-1, -1, -1], [8, 8, 0]])
    for row, near, found in zip(rows, nearest, expanded(X, rows, nearest), strict=True):
        near = near[near >= 0]
        expected = 2 * X[row] + (X[near].mean(axis=0) if len(near) else 0)
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_row_without_a_direction_stays_without_one():
    X = np.array([[1, 0], [0, 0], [-1, 0], [-1, 0]], np.float32)
    assert (expanded(X, np.array([1]), np.array([[0, 2]])) == 0).all()
