"""The kernels behind the whitening against NumPy, at every SIMD level."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from whitening_reference import assert_close, correlated, reference_stationary

from cliquesim import _core

levels = pytest.mark.parametrize(
    "core", [_core.load_level(name) for name in _core.runnable_levels()], ids=lambda m: m.__name__
)


@levels
@pytest.mark.parametrize(("n", "d"), [(3, 1), (2500, 7), (700, 300), (40, 270)])
def test_moments_match_numpy(core: ModuleType, n: int, d: int) -> None:
    X = correlated(n, n, d, offset=30.0)
    shift = X[: n // 2].mean(axis=0)
    results = []
    for threads in (1, 2, 5):
        total, scatter = np.zeros(d), np.zeros((d, d))
        core.add_moments(X, shift, total, scatter, threads, None)
        results.append((total, scatter))
    centred = X.astype(np.float64) - shift
    assert_close(results[0][0], centred.sum(axis=0), 1e-6)
    assert_close(np.tril(results[0][1]), np.tril(centred.T @ centred), 1e-6)
    for total, scatter in results[1:]:
        np.testing.assert_array_equal(total, results[0][0])
        np.testing.assert_array_equal(np.tril(scatter), np.tril(results[0][1]))


@levels
@pytest.mark.parametrize("d", [1, 5, 128, 129, 450])
def test_cholesky_matches_numpy(core: ModuleType, d: int) -> None:
    sigma = np.cov(correlated(d, 3 * d + 9, d, 0.0).astype(np.float64).T).reshape(d, d)
    factors = []
    for threads in (1, 3):
        factor = sigma.copy()
        assert core.cholesky(factor, threads)
        factors.append(np.tril(factor))
    assert_close(factors[0], np.linalg.cholesky(sigma), 1e-9)
    np.testing.assert_array_equal(factors[0], factors[1])
    indefinite = sigma.copy()
    indefinite[-1, -1] = -1.0
    assert not core.cholesky(indefinite, 2)


@levels
@pytest.mark.parametrize("d", [1, 63, 64, 65, 200])
def test_inverse_of_the_factor(core: ModuleType, d: int) -> None:
    rng = np.random.default_rng(d)
    lower = np.tril(rng.normal(size=(d, d))) / np.sqrt(d) + 2 * np.eye(d)
    scratch = lower + np.triu(rng.normal(size=(d, d)), 1)  # what cholesky leaves above
    got = core.invert_transposed(scratch, 1)
    assert_close(got, np.linalg.inv(lower).T, 1e-6)
    assert not np.tril(got, -1).any()
    np.testing.assert_array_equal(core.invert_transposed(scratch, 3), got)


@levels
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (500, 180, 180), (113, 1100, 7), (9, 33, 90)])
@pytest.mark.parametrize("triangular", [False, True])
def test_projection_matches_numpy(
    core: ModuleType, n: int, d: int, k: int, triangular: bool
) -> None:
    X, mean = correlated(1, n, d), np.full(d, 0.3, np.float32)
    P = np.random.default_rng(2).normal(size=(d, k)).astype(np.float32)
    P = np.triu(P) if triangular else P
    outs = []
    for threads in (1, 2, 4):
        out = np.full((n, k), np.nan, np.float32)
        assert core.project(X, mean, P, out, threads, None) == -1
        outs.append(out)
    assert_close(outs[0], (X - mean).astype(np.float64) @ P, 1e-6 * np.sqrt(d))
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


@levels
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_kernels_name_the_first_broken_row(core: ModuleType, value: float) -> None:
    X = correlated(2, 3000, 250)
    X[2500, 249] = X[1701, 3] = X[2999, 100] = value
    d, zeros = X.shape[1], np.zeros(X.shape[1], np.float32)
    for threads in (1, 3):
        assert core.add_moments(X, zeros, np.zeros(d), np.zeros((d, d)), threads, None) == 1701
        eye, out = np.eye(d, dtype=np.float32), np.empty_like(X)
        assert core.project(X, zeros, eye, out, threads, None) == 1701


def test_levels_agree() -> None:
    X = correlated(14, 1500, 130)
    mean = X.mean(axis=0)
    P = np.random.default_rng(3).normal(size=(130, 50)).astype(np.float32)
    scatters, outs = [], []
    for name in _core.runnable_levels():
        core = _core.load_level(name)
        total, scatter, out = np.zeros(130), np.zeros((130, 130)), np.empty((1500, 50), np.float32)
        core.add_moments(X, mean, total, scatter, 2, None)
        core.project(X, mean, P, out, 2, None)
        scatters.append(np.tril(scatter))
        outs.append(out)
    for scatter, out in zip(scatters[1:], outs[1:], strict=True):
        assert_close(scatter, scatters[0], 1e-6)
        assert_close(out, outs[0], 1e-6)


@levels
@pytest.mark.parametrize("shape", [(1, 1, 4), (3, 4, 5), (4, 1, 3)])
def test_average_over_offsets_matches_a_loop(core: ModuleType, shape: tuple[int, int, int]) -> None:
    d = int(np.prod(shape))
    sigma = np.cov(correlated(2, 100, d).astype(np.float64).T)
    got = core.average_over_offsets(sigma, *shape, 2)
    np.testing.assert_allclose(got, reference_stationary(sigma, shape), atol=1e-12)
    np.testing.assert_allclose(got, got.T, atol=1e-12)
