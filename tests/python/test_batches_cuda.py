"""The batches' code for CUDA devices, in torch on the CPU: against the C++ solver and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batch_instances import Reference, instance, relaxed_instance
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _core
from cliquesim._device import cuda_status
from cliquesim.batches import _kicks_cuda, _newton_cuda, _relaxed_cuda, relaxed
from cliquesim.batches._coverage_cuda import Rows, RowSums, cliques_of_samples, overlaps
from cliquesim.batches.problem import BatchProblem, StepSettings, as_problem
from cliquesim.batches.relaxed import grad_v, solve_step
from cliquesim.batches.result import RelaxedSolution
from cliquesim.batches.search import DiscreteSearch
from cliquesim.errors import InputError, RunError

CPU = torch.device("cpu")
Array = NDArray[np.float64]


def both(
    X_t: Array,
    C: Array,
    S: Array,
    r: float,
    lambdas: tuple[float, float, float],
    smoothing: float,
    tol: float = 1e-8,
    max_iterations: int = 200,
    p: float = 1 / 16,
) -> tuple[RelaxedSolution, RelaxedSolution]:
    """Solutions of the C++ solver and of torch."""
    problem = as_problem(C, S, p)
    linear = grad_v(X_t, problem.similarity, lambdas[2])
    settings = StepSettings(lambdas[0], lambdas[1], smoothing, tol, max_iterations)
    ours = _relaxed_cuda.InteriorPoint(problem, linear, float(r), settings, CPU).run(X_t)
    return solve_step(problem, linear, X_t, r, settings), ours


def assert_same(theirs: RelaxedSolution, ours: RelaxedSolution, tol: float) -> None:
    assert ours.status == theirs.status
    assert ours.info["iterations"] == theirs.info["iterations"]
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-10, abs=1e-10)
    np.testing.assert_allclose(ours.X, theirs.X, rtol=0, atol=1e-8)
    # All iterations are alike, not the last one only; rounding is all of a residual near 0.
    scale = np.maximum(np.abs(theirs.info["log"]), tol)
    assert (np.abs(ours.info["log"] - theirs.info["log"]) <= 1e-4 * scale + 1e-10).all()


@pytest.mark.parametrize(("B", "K", "r"), [(1, 8, 3), (3, 12, 4), (5, 20, 6), (10, 60, 12.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "lambdas", [(0.7, 0.4, 0.3), (0.7, 0.0, 0.0), (0.0, 0.5, 1.0), (0.0, 0.0, 0.0)]
)
def test_relaxed_solutions_are_those_of_the_cpp_solver(B, K, r, smoothing, lambdas):
    for seed in range(2):
        C, S, X_t = relaxed_instance(B, K, 3 * K, int(r), seed)
        for tol in (1e-8, 1e-11):
            assert_same(*both(X_t, C, S, r, lambdas, smoothing, tol), tol)


def test_size_of_the_paper():
    C, S, X_t = relaxed_instance(100, 100, 600, 20, 0, size=12, rank=40)
    theirs, ours = both(X_t, C, S, 20, (0.1, 1.0, 0.5), 0.1)
    assert_same(theirs, ours, 1e-8)
    assert ours.status == "SOLVED"
    assert ours.info["regime"] == "dense"


def test_more_cliques_than_the_cpu_has_dense_factors_for():
    B, K = 3, 300
    C, S, X_t = relaxed_instance(B, K, 900, 20, 0, rank=30)
    problem = as_problem(C, S, 1 / 16)
    linear = grad_v(X_t, problem.similarity, 0.5)
    settings = StepSettings(0.1, 1.0, 0.1)
    ours = _relaxed_cuda.InteriorPoint(problem, linear, 20.0, settings, CPU).run(X_t)
    X, value, status, info = _core.solve_relaxed(
        linear, X_t, 20.0, *problem.arrays, 0.1, 1.0, 1 / 16, 0.1, 1e-8, 200, 0.0, 1, "dense"
    )
    assert_same(RelaxedSolution(X, value, status, info), ours, 1e-8)
    iterative = cs.solve_relaxed(X_t, C, S, 20, 0.1, 1.0, 0.5, smoothing=0.1)
    assert iterative.info["regime"] == "iterative"
    assert ours.status == iterative.status
    assert ours.objective == pytest.approx(iterative.objective, rel=1e-8)


@pytest.mark.parametrize("p", [1 / 16, 0.3, 1.0])
def test_printed_objective(p):
    """Eq. (5) as printed, in NumPy."""
    C, S, X_t = relaxed_instance(4, 16, 40, 5, 3)
    lambdas = (0.6, 0.3, 0.4)
    _, ours = both(X_t, C, S, 5, lambdas, 0.2, p=p)
    reference = Reference(X_t, C, S, *lambdas, 0.2, p)
    assert ours.objective == pytest.approx(reference.value(ours.X.ravel()), rel=1e-12)
    gradient = reference.gradient(ours.X.ravel()).reshape(ours.X.shape)
    for x, g in zip(ours.X, gradient, strict=True):
        inside = (x > 1e-4) & (x < 1 - 1e-4)
        if inside.any():
            assert np.ptp(g[inside]) < 1e-3
    np.testing.assert_allclose(ours.X.sum(axis=1), 5)


def test_value_and_derivatives_by_differences():
    C, S, X_t = relaxed_instance(3, 10, 24, 4, 1)
    problem = as_problem(C, S, 1 / 16)
    linear = grad_v(X_t, problem.similarity, 0.3)
    objective = _newton_cuda.RelaxedObjective(problem, linear, 0.5, 0.7, 0.05, CPU)
    x = torch.from_numpy(0.8 * X_t + 0.05)
    at = objective.evaluate(x)
    step = 1e-6
    numeric = torch.empty_like(x)
    for b in range(3):
        for k in range(10):
            moved = x.clone()
            moved[b, k] += step
            up = objective.evaluate(moved).value
            moved[b, k] -= 2 * step
            numeric[b, k] = (up - objective.evaluate(moved).value) / (2 * step)
    torch.testing.assert_close(at.gradient, numeric, rtol=1e-6, atol=1e-8)


def system(problem: BatchProblem, objective, curvature, diagonal) -> Array:
    """The Newton system of `csrc/batches/newton_system.hpp` as one dense matrix."""
    B, K = diagonal.shape
    C = np.zeros((K, problem.weights.size))
    for k in range(K):
        C[k, problem.indices[problem.offsets[k] : problem.offsets[k + 1]]] = 1
    whole = np.kron(np.ones((B, B)), (C * curvature[B]) @ C.T)
    for b in range(B):
        block = slice(b * K, (b + 1) * K)
        own = objective.twice_similarity.numpy() + (C * curvature[b]) @ C.T
        whole[block, block] += own + np.diag(diagonal[b])
    sums = np.kron(np.eye(B), np.ones((1, K)))
    return np.block([[whole, sums.T], [sums, np.zeros((B, B))]])


@pytest.mark.parametrize("lambda2", [0.0, 0.7])
def test_newton_steps_solve_the_whole_system(lambda2):
    rng = np.random.default_rng(0)
    B, K = 4, 12
    C, S = instance(K, 30, 0)
    problem = as_problem(C, S, 1 / 16)
    objective = _newton_cuda.RelaxedObjective(problem, np.zeros((B, K)), 0.5, lambda2, 0.1, CPU)
    newton = _newton_cuda.DenseNewton(problem, objective)
    curvature = rng.uniform(0.1, 2, (B + 1, problem.weights.size))
    curvature[B] *= lambda2
    diagonal = rng.uniform(0.01, 3, (B, K))
    factored = newton.factor(torch.from_numpy(curvature), torch.from_numpy(diagonal))
    assert newton.is_positive(factored.tolist())
    f, e = rng.standard_normal((B, K)), rng.standard_normal(B)
    A = system(problem, objective, (1 - problem.p) * curvature, diagonal)
    expected = np.linalg.solve(A, np.concatenate([f.ravel(), e]))
    for refine in (False, True):
        dx, dnu = newton.solve(torch.from_numpy(f), torch.from_numpy(e), refine)
        found = np.concatenate([dx.numpy().ravel(), dnu.numpy()])
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    diagonal[2] = -5
    factored = newton.factor(torch.from_numpy(curvature), torch.from_numpy(diagonal))
    assert not newton.is_positive(factored.tolist())


@pytest.mark.parametrize("n", [5, 9, 16, 23])
def test_large_factors_are_made_panel_by_panel(n, monkeypatch):
    monkeypatch.setattr(_newton_cuda, "_LARGEST_AT_ONCE", 8)
    monkeypatch.setattr(_newton_cuda, "_PANEL", 4)
    half = torch.randn(3, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    blocks = half @ half.mT + torch.diag(torch.logspace(-3, 6, n, dtype=torch.float64))
    inverse, info = _newton_cuda.inverse_factors(blocks)
    assert info.tolist() == [0, 0, 0]
    expected = torch.linalg.inv(torch.linalg.cholesky(blocks))
    torch.testing.assert_close(inverse, expected, rtol=1e-9, atol=1e-12)
    blocks[1, n - 1, n - 1] = -1.0
    assert (_newton_cuda.inverse_factors(blocks)[1] > 0).tolist() == [False, True, False]


def hard(seed: int) -> tuple[Array, Array, Array, float, tuple[float, float, float], float]:
    """Linearised, and begun, at a corner."""
    C, S, X_t = relaxed_instance(4, 24, 50, 6, seed, size=9)
    corner = (X_t > np.sort(X_t, axis=1)[:, [-6]] - 1e-12).astype(float)
    return corner, C, S, 6, (5.0, 2.0, 40.0), 0.0


def test_hard_steps_are_the_same(monkeypatch):
    """Where the first step is not taken: halvings and the barrier function."""
    taken = []
    careful = _relaxed_cuda.InteriorPoint._carefully

    def counted(self, now, target):
        taken.append(target)
        return careful(self, now, target)

    monkeypatch.setattr(_relaxed_cuda.InteriorPoint, "_carefully", counted)
    for seed in range(12):
        for p in (1 / 16, 0.01):
            assert_same(*both(*hard(seed), p=p), 1e-8)
    assert len(taken) > 5


def test_many_halvings_where_the_barrier_function_does_not_help(monkeypatch):
    """The last resort; the way is another, the minimum the same."""
    arguments = hard(1)
    theirs, ours = both(*arguments)
    assert_same(theirs, ours, 1e-8)
    monkeypatch.setattr(_relaxed_cuda.InteriorPoint, "_search_barrier", lambda *_: None)
    _, halved = both(*arguments)
    assert halved.info["iterations"] != ours.info["iterations"]
    assert halved.status == "SOLVED"
    assert halved.objective == pytest.approx(ours.objective, rel=1e-8)
    monkeypatch.setattr(_relaxed_cuda.InteriorPoint, "_halve", lambda *_: None)
    _, stuck = both(*arguments)
    assert stuck.status in ("NUMERICAL_ERROR", "ALMOST_SOLVED")


def test_limits():
    C, S, X_t = relaxed_instance(20, 100, 400, 16, 0, rank=24)
    theirs, ours = both(X_t, C, S, 16, (1.0, 1.0, 0.3), 0.0, max_iterations=2)
    assert ours.status == theirs.status == "MAX_ITER"
    assert ours.info["iterations"] == 2
    problem = as_problem(C, S, 1 / 16)
    solver = _relaxed_cuda.InteriorPoint(
        problem, np.zeros((20, 100)), 16.0, StepSettings(1.0, 1.0, 0.0), CPU
    )
    assert solver.run(X_t, time_limit=1e-9).status == "TIME_LIMIT"


def test_a_matrix_that_is_not_positive_definite():
    C, S, X_t = relaxed_instance(2, 8, 20, 3, 0)
    theirs, ours = both(X_t, C, S - 100 * np.eye(8), 3, (0.1, 0.1, 0.1), 0.1)
    assert ours.status == theirs.status == "NUMERICAL_ERROR"
    assert np.isfinite(ours.X).all()


def test_cliques_without_samples():
    C, S, X_t = relaxed_instance(3, 12, 30, 4, 5)
    C[3] = C[4] = 0
    assert_same(*both(X_t, C, S, 4, (0.5, 0.5, 0.1), 0.1), 1e-8)
    theirs, ours = both(X_t, np.zeros_like(C), S, 4, (0.5, 0.5, 0.1), 0.1)
    assert_same(theirs, ours, 1e-8)


def test_overlaps_are_the_pattern_of_c_ct():
    C, _ = instance(15, 20, 2, size=6)
    problem = as_problem(C, np.eye(15), 0.5)
    merged = np.zeros((15, problem.weights.size))
    for k in range(15):
        merged[k, problem.indices[problem.offsets[k] : problem.offsets[k + 1]]] = 1
    by_sample = cliques_of_samples(problem)
    values = np.random.default_rng(0).random((3, 15))
    sums = RowSums.on(CPU, by_sample)(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(sums, values @ merged)
    curvature = np.random.default_rng(1).random((2, problem.weights.size))
    pattern = overlaps(problem)
    found = np.zeros((2, 15 * 15))
    found[:, pattern.places] = RowSums.on(CPU, pattern.shared)(torch.from_numpy(curvature)).numpy()
    for row, q in zip(found, curvature, strict=True):
        np.testing.assert_allclose(row.reshape(15, 15), (merged * q) @ merged.T)
    assert pattern.places.size == ((merged @ merged.T) > 0).sum()


def test_sums_over_empty_rows():
    rows = Rows(np.array([0, 0, 2, 2]), np.array([1, 0]))
    sums = RowSums.on(CPU, rows)(torch.tensor([[1.0, 2.0], [4.0, 8.0]], dtype=torch.float64))
    assert sums.tolist() == [[0, 3, 0], [0, 12, 0]]


def make_search(seed: int) -> tuple[DiscreteSearch, NDArray[np.int64]]:
    C, S = instance(14, 30, seed, size=6)
    search = DiscreteSearch(as_problem(C, S, 1 / 16), 0.3, 0.8, 4, 5, 1)
    return search, search.random(np.random.default_rng(seed), 1)[0]


def test_what_the_kicks_start_with():
    search, cliques = make_search(0)
    state = _kicks_cuda.make_state(search, cliques)
    problem = search.problem
    C = np.zeros((14, problem.weights.size))
    for k in range(14):
        C[k, problem.indices[problem.offsets[k] : problem.offsets[k + 1]]] = 1
    X = search.binary(cliques)
    np.testing.assert_array_equal(state.selected, X)
    np.testing.assert_array_equal(state.total, X.sum(axis=0) @ C)
    np.testing.assert_allclose(state.similarity, X @ problem.similarity)
    tables = _kicks_cuda.make_tables(search)
    for k in range(14):
        row = slice(tables.pair_offsets[k], tables.pair_offsets[k + 1])
        others = tables.others[row]
        np.testing.assert_array_equal(others, np.flatnonzero(C[k] @ C.T))
        for i, other in zip(range(row.start, row.stop), others, strict=True):
            shared = tables.shared[tables.shared_offsets[i] : tables.shared_offsets[i + 1]]
            np.testing.assert_array_equal(np.sort(shared), np.flatnonzero(C[k] * C[other]))
    assert tables.batch_gain.size == 5 + 2
    assert tables.total_gain.size == 4 * 5 + 2
    np.testing.assert_allclose(
        np.cumsum(tables.batch_gain)[1:], 0.3 * np.arange(1, 7) ** (1 / 16), rtol=1e-12
    )
    for values in (*state, *tables):
        assert values.flags.c_contiguous
    kinds = [values.dtype for values in tables]
    assert kinds == [np.dtype(np.float64)] * 4 + [np.dtype(np.int64)] * 8


@pytest.fixture
def torch_cpu_as_cuda(monkeypatch):
    """`device="cuda"` runs on torch's CPU device."""
    monkeypatch.setattr(relaxed, "check_device", lambda *_: "cuda")
    monkeypatch.setattr(_relaxed_cuda, "current_device", lambda: CPU)
    monkeypatch.setattr(_relaxed_cuda, "memory", lambda _: (1 << 40, 1 << 40))


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_selections_follow_the_same_path():
    C, S = instance(40, 120, 0, size=8, rank=10)
    arguments = {"n_batches": 8, "cliques_per_batch": 6, "kicks": 0}
    theirs = cs.select_batches(C, S, **arguments)
    ours = cs.select_batches(torch.from_numpy(C), torch.from_numpy(S), device="cuda", **arguments)
    assert ours.status == theirs.status
    assert [step["iterations"] for step in ours.history] == [
        step["iterations"] for step in theirs.history
    ]
    np.testing.assert_allclose(ours.X_relaxed, theirs.X_relaxed, rtol=0, atol=1e-8)
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-9)


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_public_call():
    C, S, X_t = relaxed_instance(3, 12, 30, 4, 0)
    theirs = cs.solve_relaxed(X_t, C, S, 4, 0.5, 0.4, 0.3)
    ours = cs.solve_relaxed(torch.from_numpy(X_t), C, S, 4, 0.5, 0.4, 0.3, device="cuda")
    assert_same(theirs, ours, 1e-8)
    assert set(theirs.info) <= set(ours.info)
    assert len(ours.format_log().splitlines()) == len(theirs.format_log().splitlines())
    full = cs.solve_relaxed(X_t, C, S, 12, 1, 1, 1, device="cuda")
    assert (full.X == 1).all()
    with pytest.raises(InputError, match="device='cuda' takes solver='native', got 'ipopt'"):
        cs.solve_relaxed(X_t, C, S, 4, 1, 1, 1, device="cuda", solver="ipopt")


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_too_little_memory_says_what_fits(monkeypatch):
    C, S, X_t = relaxed_instance(5, 40, 60, 4, 0)
    monkeypatch.setattr(_relaxed_cuda, "memory", lambda _: (100_000, 120_000))
    message = r"B = 5 batches of K = 40 cliques takes \d+ bytes .* 120000 are .* K = 31 at most"
    with pytest.raises(RunError, match=message):
        cs.solve_relaxed(X_t, C, S, 4, 0.5, 0.4, 0.3, device="cuda")


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_out_of_memory_on_the_way(monkeypatch):
    def fail(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_relaxed_cuda.InteriorPoint, "run", fail)
    C, S, X_t = relaxed_instance(5, 40, 60, 4, 0)
    with pytest.raises(RunError, match=r"B = 5 batches of K = 40 .* device='cpu' needs less"):
        cs.solve_relaxed(X_t, C, S, 4, 0.5, 0.4, 0.3, device="cuda")
    search, cliques = make_search(0)
    monkeypatch.setattr(_kicks_cuda, "_kick", fail)
    monkeypatch.setattr(_kicks_cuda, "current_device", lambda: CPU)
    monkeypatch.setattr(_kicks_cuda, "memory", lambda _: (5, 10))
    message = r"128 kicks at a time take \d+ bytes of device memory, and 5 are free; kicks=0"
    with pytest.raises(RunError, match=message):
        _kicks_cuda.kick_batches(search, cliques, 10, 0, 0.0)


def test_the_number_of_kicks_depends_on_the_device(monkeypatch):
    made = []

    def kick_batches(search, cliques, kicks, seed, time_limit):
        made.append((kicks, seed, time_limit))
        return search.improve(cliques[None])

    monkeypatch.setattr(relaxed, "check_device", lambda *_: "cuda")
    monkeypatch.setattr(_relaxed_cuda, "current_device", lambda: CPU)
    monkeypatch.setattr(_relaxed_cuda, "memory", lambda _: (1 << 40, 1 << 40))
    monkeypatch.setattr(_kicks_cuda, "kick_batches", kick_batches)
    C, S = instance(20, 60, 0)
    on_cpu = cs.select_batches(C, S, 3, 4, seed=7)
    found = cs.select_batches(C, S, 3, 4, seed=7, device="cuda")
    assert made == [(6000, 7, 0.0)]
    assert on_cpu.info["kicks"] == 3000
    assert found.info["kicks"] == 6000
    assert cs.select_batches(C, S, 3, 4, device="cuda", kicks=5).info["kicks"] == 5
    cs.select_batches(C, S, 3, 4, device="cuda", method="greedy")
    assert len(made) == 2


def test_without_a_gpu():
    available, reason = cuda_status()
    if available:
        pytest.skip("CUDA can be used here")
    for call in (
        lambda: cs.select_batches(np.eye(4), np.eye(4), 2, 2, device="cuda"),
        lambda: cs.solve_relaxed(
            np.full((1, 3), 2 / 3), np.eye(3), np.eye(3), 2, 0.1, 0.1, 0.1, device="cuda"
        ),
    ):
        with pytest.raises(RunError) as error:
            call()
        assert reason in str(error.value)
    with pytest.raises(InputError, match="device must be one of 'cpu', 'cuda', got 'tpu'"):
        cs.select_batches(np.eye(4), np.eye(4), 2, 2, device="tpu")
