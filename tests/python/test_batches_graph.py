"""An iteration's CUDA graph, where torch runs on the CPU: a stand-in puts results in one place."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from batch_instances import instance, relaxed_instance
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim.batches import _graph_cuda, _newton_cuda, _relaxed_cuda, relaxed
from cliquesim.batches.problem import BatchProblem, StepSettings, as_problem
from cliquesim.batches.relaxed import grad_v, solve_step
from cliquesim.errors import RunError

CPU = torch.device("cpu")
Array = NDArray[np.float64]
InteriorPoint = _relaxed_cuda.InteriorPoint


def tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    else:
        for value in values:
            yield from tensors(value)


class StandIn:
    """Has its results where they were first, as a graph has, and destroys the last ones before."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.body, self.replays = body, 0
        self.results = body()
        self._forget()

    def _forget(self) -> None:
        for kept in tensors(self.results):
            kept.fill_(torch.nan if kept.is_floating_point() else 0)

    def replay(self) -> None:
        self.replays += 1
        self._forget()
        for kept, new in zip(tensors(self.results), tensors(self.body()), strict=True):
            kept.copy_(new)


@pytest.fixture
def graphs(monkeypatch) -> list[StandIn]:
    """Those made so far."""
    made: list[StandIn] = []

    def capture(body, device, need):
        made.append(StandIn(body))
        return made[-1], made[-1].results

    monkeypatch.setattr(_relaxed_cuda, "can_capture", lambda *_: True)
    monkeypatch.setattr(_relaxed_cuda, "capture", capture)
    return made


@pytest.fixture
def torch_cpu_as_cuda(monkeypatch):
    """`device="cuda"` runs on torch's CPU device."""
    monkeypatch.setattr(relaxed, "check_device", lambda *_: "cuda")
    monkeypatch.setattr(_relaxed_cuda, "current_device", lambda: CPU)
    monkeypatch.setattr(_relaxed_cuda, "memory", lambda _: (1 << 40, 1 << 40))


def problems(B: int, K: int, r: int, n: int, size: int = 6) -> tuple[BatchProblem, list[Any]]:
    """(linear term, start) of the same problem, one of them so large that it changes the scale."""
    C, S, _ = relaxed_instance(B, K, 3 * K, r, 0, size=size)
    problem = as_problem(C, S, 1 / 16)
    pairs = []
    for seed in range(n):
        X = relaxed_instance(B, K, 3 * K, r, seed, size=size)[2]
        lambda3 = 40.0 if seed == 1 else 0.5
        pairs.append((grad_v(X, problem.similarity, lambda3), X))
    return problem, pairs


def eager(problem: BatchProblem, linear: Array, start: Array, r: float, settings: StepSettings):
    """Launched one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_relaxed_cuda, "can_capture", lambda *_: False)
        return InteriorPoint(problem, linear, r, settings, CPU).run(start)


def assert_same(found, expected) -> None:
    assert found.status == expected.status
    np.testing.assert_allclose(found.X, expected.X, rtol=0, atol=1e-12)
    assert found.info["iterations"] == expected.info["iterations"]
    np.testing.assert_allclose(found.info["log"], expected.info["log"], rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize(("B", "K", "r"), [(1, 8, 3), (6, 24, 6)])
@pytest.mark.parametrize("lambdas", [(0.5, 0.7), (0.5, 0.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_graph_for_several_linear_terms(graphs, B, K, r, lambdas, smoothing):
    problem, pairs = problems(B, K, r, 4)
    settings = StepSettings(*lambdas, smoothing)
    solver = InteriorPoint(problem, pairs[0][0], float(r), settings, CPU)
    scales, found, iterations = set(), [], 0
    for linear, start in pairs:
        solver.relinearize(linear)
        scales.add(solver._objective.scale)
        found.append(solver.run(start))
        iterations += found[-1].info["iterations"]
    assert len(scales) == 2
    assert len(graphs) == 1
    assert graphs[0].replays == iterations - 1
    for one, (linear, start) in zip(found, pairs, strict=True):
        assert one.status == "SOLVED"
        assert_same(one, eager(problem, linear, start, float(r), settings))
        reference = solve_step(problem, linear, start, r, settings)
        np.testing.assert_allclose(one.X, reference.X, rtol=0, atol=1e-8)


def test_hard_steps(graphs, monkeypatch):
    """Linearised, and begun, at a corner: halvings and the barrier function."""
    taken = []

    def count(name: str) -> None:
        plain = getattr(InteriorPoint, name)

        def counted(*arguments):
            taken.append(name)
            return plain(*arguments)

        monkeypatch.setattr(InteriorPoint, name, counted)

    for name in ("_carefully", "_halve", "_search_barrier"):
        count(name)
    settings = StepSettings(5.0, 2.0, 0.0)
    for seed in range(6):
        C, S, X_t = relaxed_instance(4, 24, 50, 6, seed, size=9)
        problem = as_problem(C, S, 1 / 16)
        corner = (X_t > np.sort(X_t, axis=1)[:, [-6]] - 1e-12).astype(float)
        linear = grad_v(corner, problem.similarity, 40.0)
        found = InteriorPoint(problem, linear, 6.0, settings, CPU).run(corner)
        assert_same(found, eager(problem, linear, corner, 6.0, settings))
    assert len(graphs) == 6
    assert {"_carefully", "_halve", "_search_barrier"} == set(taken)


@pytest.mark.parametrize("barrier", [True, False])
def test_first_steps_refused(graphs, monkeypatch, barrier):
    """Every second one, so that an iterate from the graph and one from elsewhere take turns."""
    plain, calls = InteriorPoint._acceptable, []

    def refuse(self, found, step, merit):
        calls.append(step)
        return len(calls) % 3 != 0 and plain(self, found, step, merit)

    monkeypatch.setattr(InteriorPoint, "_acceptable", refuse)
    if not barrier:
        monkeypatch.setattr(InteriorPoint, "_search_barrier", lambda *_: None)
    problem, pairs = problems(5, 20, 5, 3)
    settings = StepSettings(0.5, 0.7, 0.1)
    solver = InteriorPoint(problem, pairs[0][0], 5.0, settings, CPU)
    for linear, start in pairs:
        solver.relinearize(linear)
        calls.clear()
        found = solver.run(start)
        calls.clear()
        assert_same(found, eager(problem, linear, start, 5.0, settings))
        assert found.status == "SOLVED"
    assert len(graphs) == 1


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_the_iterate_before_a_failure_is_the_result(graphs, monkeypatch, fails):
    plain, calls = _newton_cuda.DenseNewton.is_positive, []

    def is_positive(factored):
        calls.append(factored)
        return len(calls) != fails and plain(factored)

    monkeypatch.setattr(_newton_cuda.DenseNewton, "is_positive", staticmethod(is_positive))
    problem, pairs = problems(4, 16, 4, 1)
    settings = StepSettings(0.5, 0.7, 0.1)
    found = InteriorPoint(problem, pairs[0][0], 4.0, settings, CPU).run(pairs[0][1])
    calls.clear()
    assert found.status == "NUMERICAL_ERROR"
    assert np.isfinite(found.X).all()
    assert_same(found, eager(problem, *pairs[0], 4.0, settings))


def test_results_stay_when_the_next_problem_is_solved(graphs):
    problem, pairs = problems(4, 16, 4, 2)
    solver = InteriorPoint(problem, pairs[0][0], 4.0, StepSettings(0.5, 0.7, 0.1), CPU)
    first = solver.run(pairs[0][1])
    kept = first.X.copy()
    solver.relinearize(pairs[1][0])
    solver.run(pairs[1][1])
    np.testing.assert_array_equal(first.X, kept)


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_a_selection_makes_one_graph_and_leaves_nothing(graphs, monkeypatch):
    solvers = []
    plain = InteriorPoint.__init__

    def remember(self, *arguments):
        plain(self, *arguments)
        solvers.append(weakref.ref(self))

    monkeypatch.setattr(InteriorPoint, "__init__", remember)
    C, S = instance(30, 90, 0, size=8, rank=10)
    expected = cs.select_batches(C, S, 6, 5, kicks=0)
    gc.collect()
    gc.disable()
    try:
        found = cs.select_batches(C, S, 6, 5, kicks=0, device="cuda")
        assert len(graphs) == len(solvers) == 1
        graphs.pop().body = lambda: None  # a graph does not hold the solver, the stand-in does
        assert solvers[0]() is None
    finally:
        gc.enable()
    np.testing.assert_allclose(found.X_relaxed, expected.X_relaxed, rtol=0, atol=1e-8)


class Refused:
    """In place of torch's graph."""

    begun = ended = 0

    def __init__(self, at: str, error: Exception) -> None:
        self.at, self.error = at, error

    def capture_begin(self, pool, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.begun += 1
        if self.at == "begin":
            raise self.error

    def capture_end(self):
        self.ended += 1
        if self.at in ("begin", "end"):
            raise RuntimeError("Invalid capture.")


@pytest.fixture
def refuse(monkeypatch):
    """Have a graph fail at "begin", "body" or "end"; what the allocator is told."""

    def prepare(at: str, error: Exception) -> tuple[Refused, list[Any]]:
        graph, told = Refused(at, error), []
        monkeypatch.setattr(_graph_cuda, "graphs", _graph_cuda.Graphs())
        monkeypatch.setattr(_relaxed_cuda, "can_capture", lambda *_: _graph_cuda.graphs.wanted)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 40, 1 << 40))
        monkeypatch.setattr(
            torch._C, "_cuda_endAllocateToPool", lambda *a: told.append(a), raising=False
        )
        if at == "body":
            plain = InteriorPoint._compute

            def compute(self, now):
                if graph.begun > graph.ended:
                    raise error
                return plain(self, now)

            monkeypatch.setattr(InteriorPoint, "_compute", compute)
        return graph, told

    return prepare


@pytest.mark.parametrize(("need", "emptied"), [(1 << 30, 0), (1 << 50, 1)])
def test_cached_memory_is_given_back_where_it_may_be_short(refuse, monkeypatch, need, emptied):
    graph, told = refuse("nowhere", RuntimeError())
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(graph.begun))
    made = _graph_cuda.capture(lambda: "results", CPU, need)
    assert made == (graph, "results")
    assert graph.begun == graph.ended == 1
    assert calls == [0] * emptied
    assert told == []
    assert _graph_cuda.graphs == _graph_cuda.Graphs(made=1)


@pytest.mark.parametrize("at", ["begin", "body", "end"])
def test_without_a_graph_where_none_can_be_made(refuse, at):
    problem, pairs = problems(4, 16, 4, 2)
    settings = StepSettings(0.5, 0.7, 0.1)
    expected = [eager(problem, *pair, 4.0, settings) for pair in pairs]
    graph, told = refuse(at, RuntimeError("not permitted when stream is capturing"))
    solver = InteriorPoint(problem, pairs[0][0], 4.0, settings, CPU)
    with pytest.warns(RuntimeWarning, match="go on without a CUDA graph"):
        found = [solver.run(pairs[0][1])]
    solver.relinearize(pairs[1][0])
    found.append(solver.run(pairs[1][1]))
    assert graph.begun == graph.ended == 1
    assert (len(told) == 1) == (at != "body")
    assert not _graph_cuda.graphs.wanted
    assert _graph_cuda.graphs.made == 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.usefixtures("torch_cpu_as_cuda")
def test_out_of_memory_while_the_graph_is_made(refuse):
    graph, _ = refuse("body", torch.cuda.OutOfMemoryError("CUDA out of memory"))
    C, S, X_t = relaxed_instance(5, 40, 60, 4, 0)
    with pytest.raises(RunError, match=r"B = 5 batches of K = 40 .* device='cpu' needs less"):
        cs.solve_relaxed(X_t, C, S, 4, 0.5, 0.4, 0.3, device="cuda")
    assert graph.ended == 1
    assert _graph_cuda.graphs.wanted


def test_where_there_can_be_a_graph(monkeypatch):
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(_graph_cuda, "graphs", _graph_cuda.Graphs())
    assert _graph_cuda.can_capture(cuda, 512)
    assert not _graph_cuda.can_capture(cuda, 513)
    assert not _graph_cuda.can_capture(CPU, 10)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        magma = torch._C._LinalgBackend.Magma
        patch.setattr(torch.backends.cuda, "preferred_linalg_library", lambda: magma)
        assert not _graph_cuda.can_capture(cuda, 10)
    _graph_cuda.graphs.wanted = False
    assert not _graph_cuda.can_capture(cuda, 10)
