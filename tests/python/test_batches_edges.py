"""Odd input of the batch selection: a right status or a clear error, and properties that hold for
any input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from batch_instances import Reference, instance, objective, relaxed_instance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import cliquesim as cs
from cliquesim.batches.cccp import noisy_start

METHODS = ("cccp", "greedy", "random")
lambdas = st.sampled_from([0.0, 1e-3, 0.3, 1.0, 30.0])


@pytest.fixture(autouse=True)
def no_batch_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.BatchWarning)
        yield


@st.composite
def problems(draw):
    """Overlapping cliques, some of them twice, uncovered frames, S' of any sign and rank."""
    K = draw(st.integers(1, 9))
    N = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    C = (rng.random((K, N)) < draw(st.sampled_from([0.1, 0.5]))).astype(float)
    C[np.arange(K), rng.integers(0, N, K)] = 1  # no empty clique
    V = rng.standard_normal((K, draw(st.integers(1, 5))))
    S = V @ V.T
    twice = rng.integers(0, K, K) if draw(st.booleans()) else np.arange(K)
    C, S = C[twice], S[np.ix_(twice, twice)]
    S = S * draw(st.sampled_from([0.0, 1e-9, 1.0, 1e9]))
    return C, S, rng


# ---- properties ----


@given(
    problems(),
    st.integers(1, 4),
    st.data(),
    st.sampled_from(METHODS),
    st.sampled_from(["default", "paper"]),
    st.sampled_from(["shift", "project"]),
    lambdas,
    lambdas,
)
@settings(max_examples=150, deadline=None)
def test_any_selection_is_valid(problem, B, data, method, mode, psd, lambda1, lambda2):
    C, S, rng = problem
    r = data.draw(st.integers(1, len(C)))
    if data.draw(st.booleans()):
        S = S + rng.standard_normal(S.shape)  # neither symmetric nor positive semi-definite
    selection = cs.select_batches(
        C, S, B, r, lambda1, lambda2, method=method, mode=mode, psd=psd, n_starts=2
    )
    # The printed t^p has no end to its slope at 0; beside an S' of 1e9 rounding stops its solver.
    stalled = ("MAX_ITER",) if mode == "paper" and method == "cccp" else ()
    if stalled and np.abs(S).max() > 1e6:
        stalled = (*stalled, "NUMERICAL_ERROR")
    assert selection.status in ("SOLVED", "ALMOST_SOLVED", *stalled)
    assert selection.X.shape == (B, len(C))
    assert (selection.X.sum(axis=1) == r).all()
    value = objective(selection.X, C, S, lambda1, lambda2)
    scale = 1e-12 * max(1.0, np.abs(S).max() * B * r * r)
    assert selection.objective == pytest.approx(value, rel=1e-9, abs=scale)
    summary = selection.summary()
    assert 0 < summary["coverage"] <= 1
    assert 1 <= summary["distinct_batches"] <= B
    if method == "cccp":
        relaxed = selection.X_relaxed
        assert relaxed.min() >= 0
        assert relaxed.max() <= 1
        assert relaxed.sum(axis=1) == pytest.approx(np.full(B, r), rel=1e-4)
    if mode == "default":
        best = min(selection.info["comparison"].values())
        assert selection.objective <= best + scale


@given(problems(), st.integers(1, 3), st.data(), st.sampled_from([0.0, 0.1, 1.0]), lambdas, lambdas)
@settings(max_examples=150, deadline=None)
def test_no_feasible_point_lies_below_the_minimum(problem, B, data, smoothing, lambda1, lambda2):
    C, S, rng = problem
    K = len(C)
    r = data.draw(st.sampled_from([1.0, K / 2, float(K)]))
    lambda3 = data.draw(lambdas)

    def feasible():
        X = rng.uniform(0.0, 1.0, (B, K)) ** rng.choice([0.2, 1.0, 5.0])
        for _ in range(50):
            X = np.clip(X * (r / X.sum(axis=1, keepdims=True)), 0.0, 1.0)
        short = r - X.sum(axis=1, keepdims=True)
        room = 1.0 - X
        return X + room * np.clip(short / np.maximum(room.sum(axis=1, keepdims=True), 1e-12), 0, 1)

    X_t = feasible()
    weights = (lambda1, lambda2, lambda3)
    solution = cs.solve_relaxed(X_t, C, S, r, *weights, smoothing=smoothing)
    # A lambda of 1e-13 times S' is lost to rounding.
    assert solution.status in ("SOLVED", "ALMOST_SOLVED")
    assert solution.X.min() >= 0
    assert solution.X.max() <= 1
    assert solution.X.sum(axis=1) == pytest.approx(np.full(B, r), rel=1e-6)
    reference = Reference(X_t, C, S, *weights, smoothing)
    slack = 1e-6 * max(abs(solution.objective), np.abs(S).max() * r * r, 1e-300)
    assert solution.objective == pytest.approx(reference.value(solution.X.ravel()), abs=slack)
    for _ in range(5):
        assert solution.objective <= reference.value(feasible().ravel()) + slack


def test_an_infinite_slope_beside_a_bound_does_not_stall():
    """The norm of the conditions lets t^p end only after hundreds of steps."""
    rng = np.random.default_rng(5)
    for _ in range(400):
        B, K, N = rng.integers(1, 4), rng.integers(2, 9), rng.integers(1, 12)
        r = int(rng.integers(1, K))
        C = (rng.random((K, N)) < rng.uniform(0.1, 0.6)).astype(float)
        V = rng.normal(size=(K, rng.integers(1, 9)))
        weights = 10.0 ** rng.uniform(-4, 2, 3) * (rng.random(3) < 0.8)
        X = rng.random((B, K))
        X *= r / X.sum(axis=1, keepdims=True)
        solution = cs.solve_relaxed(X, C, V @ V.T, r, *weights, smoothing=0.0)
        assert solution.status == "SOLVED"
        assert solution.info["iterations"] <= 40


@given(problems(), st.integers(0, 6), lambdas, lambdas)
@settings(max_examples=50, deadline=None)
def test_uncovered_frames_and_the_order_of_frames_do_not_matter(problem, extra, lambda1, lambda2):
    C, S, rng = problem
    X = (rng.random((3, len(C))) < 0.5).astype(float)
    wide = np.hstack([C, np.zeros((len(C), extra))])
    shuffled = sparse.csc_array(wide[:, rng.permutation(wide.shape[1])])
    expected = objective(X, C, S, lambda1, lambda2)
    scale = max(1.0, np.abs(S).max() * X.sum() ** 2)
    value = cs.batch_objective(X, shuffled, S, lambda1, lambda2)
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


# ---- edges, one by one ----


def test_similarity_of_zero_is_positive_semidefinite():
    C, S, X_t = relaxed_instance(3, 8, 20, 3, 0)
    for weights in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        solution = cs.solve_relaxed(X_t, C, 0 * S, 3, *weights)
        assert solution.status == "SOLVED"
        assert solution.X.sum(axis=1) == pytest.approx(np.full(3, 3))


@pytest.mark.parametrize("mode", ["default", "paper"])
@pytest.mark.parametrize(("B", "r"), [(1, 3), (1, 1), (4, 1), (3, 8), (3, 7), (1, 8)])
def test_few_batches_and_extreme_r(mode, B, r):
    C, S = instance(8, 20, 1)
    selection = cs.select_batches(C, S, B, r, mode=mode)
    assert selection.status == "SOLVED"
    assert (selection.X.sum(axis=1) == r).all()
    assert selection.info["monotone"]
    assert np.isfinite(selection.objective)


@pytest.mark.parametrize("r", range(1, 9))
def test_cccp_starts_at_a_feasible_point(r):
    X = noisy_start(5, 8, r, 0.1, 0)
    assert X.min() >= 0
    assert X.max() <= 1
    assert X.sum(axis=1) == pytest.approx(np.full(5, r))
    assert len(np.unique(X, axis=0)) == (5 if r < 8 else 1)


def test_more_batches_than_there_are_different_ones():
    C, S = instance(3, 8, 2)
    with pytest.warns(cs.BatchWarning, match="batches are distinct"):
        selection = cs.select_batches(C, S, 20, 2)
    assert selection.n_distinct_batches <= 3


def test_one_clique():
    for mode in ("default", "paper"):
        assert cs.select_batches([[1, 1]], [[0.5]], 2, 1, mode=mode).X.all()
    assert cs.solve_relaxed([[1.0]], [[1]], [[0.5]], 1, 1, 1, 1).status == "SOLVED"


def test_lambda3_of_zero():
    C, S = instance(10, 30, 0)
    selection = cs.select_batches(C, S, 3, 3, lambda3=0.0)
    assert selection.lambdas["lambda3"] == 0
    assert (selection.X.sum(axis=1) == 3).all()


@pytest.mark.parametrize("shift", [-3.0, -1e-12, 1e3])
def test_non_psd_similarity(shift):
    C, S = instance(10, 30, 3)
    moved = S + shift * np.eye(10)
    for psd in ("shift", "project"):
        selection = cs.select_batches(C, moved, 3, 4, psd=psd)
        assert selection.status == "SOLVED"
        lambda1, lambda2 = selection.lambdas["lambda1"], selection.lambdas["lambda2"]
        expected = cs.batch_objective(selection.X, C, S, lambda1, lambda2)
        assert selection.objective == pytest.approx(expected)


def changed(array, index, value):
    array = array.astype(float)
    array[index] = value
    return array


C8, S8, X8 = relaxed_instance(2, 8, 20, 3, 4)
BAD = [
    ({"similarity": changed(S8, (4, 2), np.nan)}, "similarity has NaN in row 4"),
    ({"similarity": changed(S8, (4, 2), np.inf)}, "similarity has an infinite value in row 4"),
    ({"similarity": changed(S8, (4, 2), 1e101)}, r"an entry beyond 1e\+100 in row 4"),
    ({"similarity": S8.astype(complex)}, "similarity must be an array of real numbers"),
    ({"similarity": S8[:7]}, "similarity must be square"),
    ({"similarity": np.zeros((0, 0)), "membership": np.zeros((0, 3))}, "at least one clique"),
    ({"membership": changed(C8, (5, 0), np.nan)}, "membership has NaN in row 5"),
    ({"membership": sparse.csr_array(changed(C8, (5, 0), np.nan))}, "row 5 holds nan"),
    ({"membership": changed(C8, (5, 0), 2)}, "row 5 holds 2.0"),
    ({"membership": changed(C8, (5, 0), -1)}, "row 5 holds -1.0"),
    ({"membership": C8[0]}, "membership must have 2 dimensions"),
    ({"membership": C8[:7]}, "membership has 7 cliques"),
    ({"lambda1": np.inf}, "lambda1 must be in"),
    ({"lambda2": -1e-9}, "lambda2 must be in"),
    ({"lambda3": np.nan}, "lambda3 must be in"),
    ({"lambda1": "much"}, "lambda1 must be a number"),
    ({"p": 1.5}, "p must be in"),
    ({"smoothing": -1.0}, "smoothing must be in"),
]
SELECTION = [
    ({"cliques_per_batch": 9}, "only 8 cliques"),
    ({"membership": changed(C8, 6, 0)}, "membership has no sample in row 6: an empty clique"),
    ({"membership": np.zeros((8, 0))}, "membership has no sample in row 0"),
    ({"n_batches": 0}, "n_batches must be at least 1"),
]
RELAXED = [
    ({"X_t": changed(X8, (1, 3), np.nan)}, "X_t has NaN in row 1"),
    ({"X_t": X8[:0]}, "X_t must have one row per batch"),
    ({"X_t": X8[:, :7]}, "X_t must have one row per batch and 8 columns"),
    ({"r": np.nan}, "r must be in"),
    ({"tol": 0.0}, "tol must be in"),
    ({"similarity": S8 - np.eye(8)}, "its smallest eigenvalue is -"),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("change", "message"), BAD + SELECTION)
def test_selection_refuses(method, change, message):
    arguments = {"membership": C8, "similarity": S8, "n_batches": 2, "cliques_per_batch": 3}
    with pytest.raises(cs.errors.InputError, match=message):
        cs.select_batches(**arguments | change, method=method)


@pytest.mark.parametrize(("change", "message"), BAD + RELAXED)
def test_relaxed_refuses(change, message):
    arguments = {"X_t": X8, "membership": C8, "similarity": S8, "r": 3}
    arguments |= {"lambda1": 1.0, "lambda2": 1.0, "lambda3": 1.0}
    with pytest.raises(cs.errors.InputError, match=message):
        cs.solve_relaxed(**arguments | change)


@pytest.mark.parametrize(("change", "message"), BAD[:12])
def test_objective_refuses(change, message):
    arguments = {"X": np.eye(8)[:2], "membership": C8, "similarity": S8}
    with pytest.raises(cs.errors.InputError, match=message):
        cs.batch_objective(**arguments | {"lambda1": 1.0, "lambda2": 1.0} | change)
