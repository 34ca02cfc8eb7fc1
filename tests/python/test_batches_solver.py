"""The convex problem of one CCCP step, Eq. (5)-(6), against a NumPy reference and other solvers."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from batch_instances import Reference
from batch_instances import relaxed_instance as instance
from scipy import optimize

import cliquesim as cs
from cliquesim import _core

LEVELS = [_core.load_level(name) for name in _core.runnable_levels()]


def kkt_error(reference, X, r):
    """Largest violation of the optimality conditions, by the best row multipliers."""
    gradient = reference.gradient(X.ravel()).reshape(X.shape)
    worst = 0.0
    for x, g in zip(X, gradient, strict=True):
        inside = (x > 1e-5) & (x < 1 - 1e-5)
        nu = np.median(g[inside]) if inside.any() else (g[x > 0.5].max() + g[x < 0.5].min()) / 2
        worst = max(worst, np.abs(g[inside] - nu).max(initial=0.0))
        worst = max(worst, (nu - g[x <= 1e-5]).max(initial=0.0))
        worst = max(worst, (g[x >= 1 - 1e-5] - nu).max(initial=0.0))
    return worst, np.abs(X.sum(axis=1) - r).max()


CASES = [
    (B, K, r, smoothing, lambdas, seed)
    for B, K, r in ((1, 8, 3), (3, 12, 4), (5, 20, 6))
    for smoothing in (0.0, 0.3, 1.0)
    for lambdas, seed in (((0.7, 0.4, 0.3), 0), ((0.7, 0.0, 0.0), 1), ((0.0, 0.5, 1.0), 2))
]


@pytest.mark.parametrize(("B", "K", "r", "smoothing", "lambdas", "seed"), CASES)
def test_optimality_and_ipopt(B, K, r, smoothing, lambdas, seed):
    pytest.importorskip("cyipopt")
    C, S, X_t = instance(B, K, 3 * K, r, seed)
    solution = cs.solve_relaxed(X_t, C, S, r, *lambdas, smoothing=smoothing)
    assert solution.status == "SOLVED"
    for key in ("primal_residual", "dual_residual", "gap"):
        assert solution.info[key] <= 1e-8 * max(1, r)
    reference = Reference(X_t, C, S, *lambdas, smoothing)
    assert solution.objective == pytest.approx(reference.value(solution.X.ravel()), rel=1e-12)
    assert (solution.X >= 0).all()
    assert (solution.X <= 1).all()
    exact = cs.solve_relaxed(X_t, C, S, r, *lambdas, smoothing=smoothing, tol=1e-11)
    stationarity, feasibility = kkt_error(reference, exact.X, r)
    assert feasibility < 1e-9
    assert stationarity < 1e-4
    ipopt = cs.solve_relaxed(X_t, C, S, r, *lambdas, smoothing=smoothing, solver="ipopt")
    assert ipopt.status == "SOLVED"
    assert ipopt.info["solver"] == "ipopt"
    assert solution.objective == pytest.approx(ipopt.objective, rel=1e-8, abs=1e-8)
    assert np.abs(solution.X - ipopt.X).max() < 1e-3


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_nothing_better(level, seed, monkeypatch):
    monkeypatch.setattr("cliquesim._core.solve_relaxed", level.solve_relaxed)
    C, S, X_t = instance(2, 8, 16, 3, seed)
    lambdas = (0.6, 0.3, 0.4)
    solution = cs.solve_relaxed(X_t, C, S, 3, *lambdas, smoothing=0.5)
    reference = Reference(X_t, C, S, *lambdas, 0.5)
    rows = np.kron(np.eye(2), np.ones((1, 8)))
    best = optimize.minimize(
        reference.value,
        X_t.ravel(),
        jac=reference.gradient,
        method="SLSQP",
        bounds=[(0, 1)] * 16,
        constraints={"type": "eq", "fun": lambda x: rows @ x - 3, "jac": lambda x: rows},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solution.objective == pytest.approx(best.fun, rel=1e-8)


@pytest.mark.parametrize("level", LEVELS)
def test_thread_counts_agree_bit_for_bit(level, monkeypatch):
    monkeypatch.setattr("cliquesim._core.solve_relaxed", level.solve_relaxed)
    C, S, X_t = instance(21, 90, 200, 8, 0)
    first, *others = (
        cs.solve_relaxed(X_t, C, S, 8, 0.6, 0.3, 0.4, num_threads=threads) for threads in (1, 2, 5)
    )
    for other in others:
        assert np.array_equal(first.X, other.X)
        assert first.objective == other.objective


def test_middle_size_and_log():
    C, S, X_t = instance(20, 100, 400, 16, 0, rank=24)
    solution = cs.solve_relaxed(X_t, C, S, 16, 1.0, 1.0, 0.3)
    assert solution.status == "SOLVED"
    log = solution.info["log"]
    assert log.shape == (solution.info["iterations"] + 1, 6)
    assert log[-1, 3] <= 1e-8
    assert solution.info["iterations"] <= 30
    lines = solution.format_log().splitlines()
    assert len(lines) == len(log) + 2
    assert lines[0].split()[:3] == ["iter", "objective", "inf_pr"]
    assert float(lines[-2].split()[1]) == pytest.approx(solution.objective, rel=1e-7)
    assert lines[-1].startswith("SOLVED after")
    exact = cs.solve_relaxed(X_t, C, S, 16, 1.0, 1.0, 0.3, tol=1e-11)
    assert kkt_error(Reference(X_t, C, S, 1.0, 1.0, 0.3, 0.0), exact.X, 16)[0] < 1e-4


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_of_the_objective_does_not_matter(scale):
    C, S, X_t = instance(3, 12, 30, 4, 1)
    unit = cs.solve_relaxed(X_t, C, S, 4, 0.7, 0.4, 0.3)
    scaled = cs.solve_relaxed(X_t, C, scale * S, 4, 0.7 * scale, 0.4 * scale, 0.3 * scale)
    assert scaled.status == "SOLVED"
    assert scaled.objective == pytest.approx(scale * unit.objective, rel=1e-7)
    assert np.allclose(scaled.X, unit.X, atol=1e-5)


def test_equal_rows_stay_equal():
    """The symmetry trap: the problem is strictly convex and its rows are exchangeable."""
    C, S, _ = instance(3, 12, 30, 4, 2)
    solution = cs.solve_relaxed(np.full((3, 12), 1 / 3), C, S + np.eye(12), 4, 0.7, 0.4, 0.3)
    assert np.allclose(solution.X, solution.X[0], atol=1e-9)


def test_single_points_and_infeasible():
    C, S, X_t = instance(2, 6, 12, 3, 3)
    full = cs.solve_relaxed(X_t, C, S, 6, 1, 1, 1)
    assert full.status == "SOLVED"
    assert (full.X == 1).all()
    assert cs.solve_relaxed(X_t, C, S, 0, 1, 1, 1).X.sum() == 0
    for r in (7, -1):
        impossible = cs.solve_relaxed(X_t, C, S, r, 1, 1, 1)
        assert impossible.status == "INFEASIBLE"
        assert np.isnan(impossible.X).all()


@pytest.mark.parametrize("lambdas", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_zero_lambdas(lambdas):
    C, S, X_t = instance(3, 10, 20, 3, 4)
    solution = cs.solve_relaxed(X_t, C, S, 3, *lambdas)
    assert solution.status == "SOLVED"
    exact = cs.solve_relaxed(X_t, C, S, 3, *lambdas, tol=1e-11)
    assert kkt_error(Reference(X_t, C, S, *lambdas, 0.0), exact.X, 3)[0] < 1e-4


@pytest.mark.parametrize("r", [1, 5, 11])
def test_odd_memberships(r):
    C, S, X_t = instance(3, 12, 30, r, 5)
    C[3] = C[4] = 0  # two cliques without samples
    C[7], S[7], S[:, 7] = C[6], S[6], S[:, 6]  # one clique twice
    S[7, 7] = S[6, 6]
    for smoothing in (0.0, 1.0):
        solution = cs.solve_relaxed(X_t, C, S, r, 0.5, 0.5, 0.1, smoothing=smoothing)
        assert solution.status == "SOLVED"


def test_limits():
    C, S, X_t = instance(20, 100, 400, 16, 0, rank=24)
    few = cs.solve_relaxed(X_t, C, S, 16, 1.0, 1.0, 0.3, max_iterations=1)
    assert few.status in ("MAX_ITER", "ALMOST_SOLVED")
    assert few.info["iterations"] == 1
    short = cs.solve_relaxed(X_t, C, S, 16, 1.0, 1.0, 0.3, time_limit=1e-6)
    assert short.status == "TIME_LIMIT"


def test_a_looser_tolerance_takes_fewer_iterations():
    C, S, X_t = instance(5, 40, 100, 8, 0)
    tight, loose = (cs.solve_relaxed(X_t, C, S, 8, 1, 1, 0.3, tol=tol) for tol in (1e-10, 1e-3))
    assert loose.info["iterations"] < tight.info["iterations"]
    assert loose.objective == pytest.approx(tight.objective, rel=1e-3)


def test_errors():
    C, S, X_t = instance(2, 6, 12, 3, 6)
    with pytest.raises(cs.errors.InputError, match="positive semi-definite"):
        cs.solve_relaxed(X_t, C, S - np.eye(6), 3, 1, 1, 1)
    with pytest.raises(cs.errors.InputError, match="lambda1 must be in"):
        cs.solve_relaxed(X_t, C, S, 3, -1, 1, 1)
    with pytest.raises(cs.errors.InputError, match="X_t must have one row per batch and 6 columns"):
        cs.solve_relaxed(X_t[:, :5], C, S, 3, 1, 1, 1)
    with pytest.raises(cs.errors.InputError, match="X_t has NaN in row 1"):
        cs.solve_relaxed(np.vstack([X_t[0], np.full(6, np.nan)]), C, S, 3, 1, 1, 1)
    with pytest.raises(cs.errors.InputError, match="solver must be one of"):
        cs.solve_relaxed(X_t, C, S, 3, 1, 1, 1, solver="scs")


@pytest.mark.parametrize("module", ["objective", "relaxed", "selection"])
def test_examples_in_the_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"cliquesim.batches.{module}"))
    assert results.attempted
    assert results.failed == 0
