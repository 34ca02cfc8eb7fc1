"""Several similarities as one dot product."""

from __future__ import annotations

import numpy as np
import pytest

from cliquesim.errors import InputError
from cliquesim.fusion import fuse, standardize


def test_standardized_rows_multiply_to_correlations():
    X = np.random.default_rng(0).normal(5, 2, (8, 12))
    X[3] = 4.0
    Z = standardize(X)
    assert (Z[3] == 0).all()
    rows = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_allclose((Z @ Z.T)[np.ix_(rows, rows)], np.corrcoef(X[rows]), atol=1e-5)


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
