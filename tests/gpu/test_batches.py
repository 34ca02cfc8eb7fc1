"""Batches on a CUDA device against the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.batches import _graph_cuda, _kicks_cuda, _relaxed_cuda
from cliquesim.batches._coverage_cuda import Rows, RowSums
from cliquesim.batches.problem import StepSettings, as_problem
from cliquesim.batches.relaxed import StepSolver, grad_v, solve_step
from cliquesim.batches.search import DiscreteSearch
from cliquesim.errors import RunError

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]

Array = NDArray[np.float64]


def instance(n_cliques: int, n_samples: int, rank: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    C = np.zeros((n_cliques, n_samples))
    for k in range(n_cliques):
        C[k, rng.choice(n_samples, rng.integers(2, 12), replace=False)] = 1
    V = rng.standard_normal((n_cliques, rank)) / np.sqrt(rank)
    return C, V @ V.T


def start(n_batches: int, n_cliques: int, r: float, seed: int) -> Array:
    X = np.random.default_rng(seed).uniform(0.5, 1.5, (n_batches, n_cliques))
    return np.minimum(X * r / X.sum(axis=1, keepdims=True), 1.0)


@pytest.mark.parametrize(
    ("B", "K", "r"), [(1, 8, 3), (7, 33, 4.5), (5, 80, 10), (100, 100, 20), (16, 256, 20)]
)
@pytest.mark.parametrize("lambdas", [(0.1, 1.0, 0.5), (0.7, 0.0, 0.3), (0.0, 0.5, 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_relaxed_solutions_are_those_of_the_cpu(
    B: int, K: int, r: float, lambdas: tuple[float, float, float], smoothing: float
) -> None:
    C, S = instance(K, 6 * K, min(K, 40), K)
    X_t = start(B, K, r, 1)
    expected = cs.solve_relaxed(X_t, C, S, r, *lambdas, smoothing=smoothing)
    found = cs.solve_relaxed(X_t, C, S, r, *lambdas, smoothing=smoothing, device="cuda")
    assert found.status == expected.status
    assert found.info["iterations"] == expected.info["iterations"]
    assert found.objective == pytest.approx(expected.objective, rel=1e-8)
    np.testing.assert_allclose(found.X, expected.X, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("B", "K", "r"), [(1, 8, 3), (4, 70, 9), (20, 60, 8), (12, 200, 20)])
@pytest.mark.parametrize("lambda2", [0.0, 1.0])
@pytest.mark.parametrize("at_corner", [False, True])
def test_one_graph_does_what_single_launches_do(
    monkeypatch: pytest.MonkeyPatch, B: int, K: int, r: int, lambda2: float, at_corner: bool
) -> None:
    """For several linear terms in turn; at a corner the first steps are too long."""
    C, S = instance(K, 3 * K, min(K, 40), K)
    problem = as_problem(C, S, 1 / 16)
    settings = StepSettings(0.5, lambda2, 0.0 if at_corner else 0.1, device="cuda")
    solver = StepSolver(problem, r, settings)
    made = _graph_cuda.graphs.made
    for seed, lambda3 in enumerate((0.5, 40.0, 2.0, 0.5)):
        X_t = start(B, K, r, seed)
        if at_corner:
            X_t = (X_t >= np.sort(X_t, axis=1)[:, [-r]]).astype(np.float64)
        linear = grad_v(X_t, problem.similarity, lambda3)
        found = solver.solve(linear, X_t)
        with monkeypatch.context() as patch:
            patch.setattr(_graph_cuda.graphs, "wanted", False)
            single = solve_step(problem, linear, X_t, r, settings)
        assert found.status == single.status == "SOLVED"
        assert found.info["iterations"] == single.info["iterations"]
        np.testing.assert_allclose(found.X, single.X, rtol=0, atol=1e-8)
    assert _graph_cuda.graphs.wanted
    assert _graph_cuda.graphs.made == made + 1


def test_the_memory_of_a_graph_is_free_afterwards() -> None:
    C, S = instance(300, 900, 40, 0)
    arguments = (start(40, 300, 20, 0), C, S, 20, 0.1, 1.0, 0.5)
    left = []
    for _ in range(4):
        made = _graph_cuda.graphs.made
        cs.solve_relaxed(*arguments, device="cuda")
        assert _graph_cuda.graphs.made == made + 1
        torch.cuda.empty_cache()
        left.append(torch.cuda.memory_reserved())
    assert max(left[1:]) <= left[0]


def test_every_run_is_the_same_on_any_stream() -> None:
    C, S = instance(60, 200, 20, 0)
    X_t = torch.from_numpy(start(20, 60, 8, 0)).cuda()
    arguments = (C, torch.from_numpy(S).cuda(), 8, 0.1, 1.0, 0.5)
    first = cs.solve_relaxed(X_t, *arguments, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = cs.solve_relaxed(X_t, *arguments, device="cuda")
    np.testing.assert_array_equal(first.X, second.X)
    assert first.objective == second.objective


def test_sums_over_rows() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 5000)
    rows = Rows(np.concatenate([[0], np.cumsum(counts)]), rng.integers(0, 700, counts.sum()))
    values = torch.from_numpy(rng.random((33, 700)))
    expected = RowSums.on(torch.device("cpu"), rows)(values)
    found = RowSums.on(torch.device("cuda"), rows)(values.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-14, atol=1e-14)


def test_memory_is_as_told() -> None:
    C, S = instance(400, 2000, 100, 3)
    problem = as_problem(C, S + 1e-3 * np.eye(400), 1 / 16)
    X_t = start(30, 400, 20, 3)
    arguments = (X_t, C, problem.similarity, 20, 0.1, 1.0, 0.5)
    cs.solve_relaxed(*arguments, device="cuda")  # cuBLAS keeps its workspace
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    cs.solve_relaxed(*arguments, device="cuda")
    taken = torch.cuda.max_memory_allocated() - before
    told = _relaxed_cuda.device_memory(problem, 30)
    assert 0.4 * told < taken < 1.2 * told


def test_too_large() -> None:
    K = 3000
    n_batches = int(torch.cuda.mem_get_info()[1] / (24 * K * K)) + 1
    X_t = start(n_batches, K, 20, 0)
    with pytest.raises(RunError, match="bytes of device memory"):
        cs.solve_relaxed(X_t, np.eye(K), np.eye(K), 20, 0.1, 0.1, 0.1, device="cuda")


def local_optimum(n_samples: int, seed: int) -> tuple[DiscreteSearch, NDArray[np.int64], float]:
    C, S = instance(40, n_samples, 10, seed)
    if n_samples > 1000:  # few samples have the same cliques
        C = (np.random.default_rng(seed).random(C.shape) < 0.1).astype(np.float64)
    search = DiscreteSearch(as_problem(C, S, 1 / 16), 0.1, 1.0, 12, 6, 0)
    optimum = search.improve(search.random(np.random.default_rng(seed), 1))
    return search, optimum.cliques[0], float(optimum.objectives[0])


@pytest.mark.parametrize("n_samples", [150, 9000])  # scratch in shared memory, and in global
def test_kicks(n_samples: int) -> None:
    search, cliques, before = local_optimum(n_samples, 0)
    assert (search.problem.weights.size > 2500) == (n_samples > 1000)
    found = _kicks_cuda.kick_batches(search, cliques, 1000, 3, 0.0)
    assert found.complete
    assert (np.diff(found.cliques[0], axis=1) > 0).all()
    assert found.objectives[0] == pytest.approx(search.objective(found.cliques[0]), rel=1e-10)
    one_by_one = search.improve(cliques[None], 1000, 3)
    assert found.objectives[0] < before
    gained = before - found.objectives[0]
    assert gained > 0.7 * (before - one_by_one.objectives[0])
    again = _kicks_cuda.kick_batches(search, cliques, 1000, 3, 0.0)
    np.testing.assert_array_equal(found.cliques, again.cliques)
    few = _kicks_cuda.kick_batches(search, cliques, 1, 3, 0.0)
    assert few.objectives[0] <= before + 1e-9


def test_kicks_stop_in_time() -> None:
    search, cliques, before = local_optimum(150, 1)
    found = _kicks_cuda.kick_batches(search, cliques, 1_000_000, 0, 0.2)
    assert not found.complete
    assert found.objectives[0] <= before + 1e-9


@pytest.mark.filterwarnings("ignore::cliquesim.batches.BatchWarning")
def test_selections() -> None:
    for seed in range(3):
        C, S = instance(60, 300, 20, seed)
        expected = cs.select_batches(C, S, 20, 8, seed=seed)
        made = _graph_cuda.graphs.made
        found = cs.select_batches(
            torch.from_numpy(C).cuda(), torch.from_numpy(S).cuda(), 20, 8, seed=seed, device="cuda"
        )
        assert _graph_cuda.graphs.made == made + 1
        assert found.status == expected.status
        assert (found.X.sum(axis=1) == 8).all()
        value = cs.batch_objective(
            found.X, C, S, found.lambdas["lambda1"], found.lambdas["lambda2"]
        )
        assert found.objective == pytest.approx(value, rel=1e-12)
        assert found.X_relaxed is not None
        np.testing.assert_allclose(found.X_relaxed, expected.X_relaxed, rtol=0, atol=1e-6)
        greedy = expected.info["comparison"]["greedy+swaps"]
        gained = greedy - expected.objective
        assert greedy - found.objective > 0.8 * gained - 1e-9


def test_all_cliques_in_every_batch() -> None:
    C, S = instance(5, 20, 3, 0)
    with pytest.warns(cs.batches.BatchWarning, match="distinct"):
        found = cs.select_batches(C, S, 2, 5, device="cuda", kicks=10)
    assert found.X.all()
