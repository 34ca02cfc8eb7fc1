"""The two ways to solve the Newton system of Eq. (5)-(6): dense blocks and conjugate gradients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim.batches.problem import as_problem
from cliquesim.batches.relaxed import grad_v


def gram_instance(
    n_cliques: int, rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S' of a given rank, and a membership with overlaps."""
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(n_cliques, rank)) / np.sqrt(rank)
    C = (rng.random((n_cliques, 3 * n_cliques)) < 4 / n_cliques).astype(np.float64)
    C[np.arange(n_cliques), np.arange(n_cliques)] = 1
    return V @ V.T, C


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("rank", [1, 8, 60])  # 60: S' has full rank, of which 768 columns are all
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize(("lambda1", "lambda2"), [(0.1, 0.3), (0.0, 0.3), (0.1, 0.0)])
def test_both_regimes_find_the_same_minimum(
    level: str, rank: int, smoothing: float, lambda1: float, lambda2: float
) -> None:
    S, C = gram_instance(60, rank, rank)
    problem = as_problem(C, S + 1e-3 * np.eye(60), 1 / 16)
    X = np.full((7, 60), 5 / 60)
    X[:, :30] *= 1 + 0.1 * np.random.default_rng(0).random((7, 30))
    linear = grad_v(X, problem.similarity, 0.2)
    solve = _core.load_level(level).solve_relaxed
    found = [
        solve(
            linear, X, 5.0, *problem.arrays, lambda1, lambda2, 1 / 16, smoothing, 1e-8, 200, 0.0,
            threads, regime,
        )
        for regime, threads in [("dense", 1), ("iterative", 1), ("iterative", 3)]
    ]  # fmt: skip
    values = [value for _, value, _, _ in found]
    assert [status for _, _, status, _ in found] == ["SOLVED"] * 3
    assert values[1] == pytest.approx(values[0], rel=1e-7)
    np.testing.assert_array_equal(found[1][0], found[2][0])  # for any number of threads
    info = found[1][3]
    assert info["regime"] == "iterative"
    assert info["inner_iterations"] > 0
    for name in ("primal_residual", "dual_residual", "gap"):
        assert info[name] <= 1e-7


def test_a_gram_matrix_is_recognised_as_one() -> None:
    S, C = gram_instance(60, 8, 3)
    problem = as_problem(C, S, 1 / 16)
    X = np.full((2, 60), 5 / 60)
    arguments = (0.1, 0.3, 1 / 16, 1.0, 1e-6, 100, 0.0, 1, "iterative")
    info = _core.solve_relaxed(X, X, 5.0, *problem.arrays, *arguments)[3]
    assert info["rank"] == 8
    assert info["low_rank"]
