"""Batch selection: Eq. (1), discrete search and the whole of select_batches.

The NumPy reference here follows the printed formulas term by term.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from batch_instances import instance, objective
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import cliquesim as cs
from cliquesim import _core

LEVELS = [_core.load_level(name) for name in _core.runnable_levels()]


def random_batches(B, K, r, seed):
    rng = np.random.default_rng(seed)
    X = np.zeros((B, K), dtype=bool)
    for row in X:
        row[rng.choice(K, r, replace=False)] = True
    return X


def lists(X):
    return np.nonzero(X)[1].reshape(len(X), -1).astype(np.int64)


def merged(C, S):
    rows = sparse.csr_array(C)
    arrays = _core.merge_samples(
        rows.indptr.astype(np.int64), rows.indices.astype(np.int64), C.shape[1]
    )
    return (np.ascontiguousarray(S, dtype=float), *arrays)


def quiet_select(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.BatchWarning)
        return cs.select_batches(*args, **kwargs)


# ---- Eq. (1) ----


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", [1 / 16, 1 / 3, 1.0])
def test_objective_is_the_printed_one(seed, p):
    C, S = instance(12, 30, seed)
    S = S + np.random.default_rng(seed).standard_normal(
        S.shape
    )  # need be neither symmetric nor PSD
    X = random_batches(4, 12, 5, seed)
    expected = objective(X, C, S, 0.7, 0.3, p)
    assert cs.batch_objective(X, C, S, 0.7, 0.3, p) == pytest.approx(expected, rel=1e-12)
    assert cs.batch_objective(X, sparse.csr_matrix(C), S, 0.7, 0.3, p) == pytest.approx(expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_relaxed_terms(level, smoothing):
    C, S = instance(15, 40, 3)
    X = np.random.default_rng(0).uniform(0, 1, (6, 15))
    p = 1 / 16

    def g(t):
        return ((t + smoothing) ** p - smoothing**p * (smoothing > 0)) / (
            (1 + smoothing) ** p - smoothing**p * (smoothing > 0)
        )

    covered = C.sum(axis=0) > 0
    expected = (
        np.einsum("bi,ij,bj->", X, S - np.diag(np.diag(S)), X),
        g((X @ C)[:, covered]).sum(),
        g((X.sum(axis=0) @ C)[covered]).sum(),
    )
    terms = level.objective_terms(X, *merged(C, S), p, smoothing, 2)
    assert terms == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_merging_keeps_the_columns(seed, K, N):
    C = (np.random.default_rng(seed).random((K, N)) < 0.2).astype(float)
    rows = sparse.csr_array(C)
    offsets, indices, weights = _core.merge_samples(
        rows.indptr.astype(np.int64), rows.indices.astype(np.int64), N
    )
    small = sparse.csr_array(
        (np.ones(indices.size), indices, offsets), shape=(K, weights.size)
    ).toarray()
    columns, counts = np.unique(C[:, C.any(axis=0)], axis=1, return_counts=True)
    order = np.lexsort(small[::-1])
    assert np.array_equal(small[:, order], columns)
    assert np.array_equal(weights[order], counts)


# ---- discrete search ----


def best_exchange(X, C, S, lambda1, lambda2):
    best = 0.0
    for b in range(len(X)):
        for out, new in itertools.product(np.flatnonzero(X[b]), np.flatnonzero(~X[b])):
            Y = X.copy()
            Y[b, out], Y[b, new] = False, True
            change = objective(Y, C, S, lambda1, lambda2) - objective(X, C, S, lambda1, lambda2)
            best = min(best, change)
    return best


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(4))
def test_exchanges_end_at_a_local_optimum(level, seed):
    C, S = instance(9, 14, seed)
    X = random_batches(3, 9, 4, seed)
    cliques, values, swaps, complete = level.swap_batches(
        lists(X).reshape(1, -1), 4, *merged(C, S), 0.3, 0.2, 1 / 16, 0, 0, 0.0, 1
    )
    Y = np.zeros_like(X)
    np.put_along_axis(Y, cliques[0], True, axis=1)
    assert complete
    assert (Y.sum(axis=1) == 4).all()
    assert values[0] == pytest.approx(objective(Y, C, S, 0.3, 0.2), rel=1e-12)
    assert values[0] <= objective(X, C, S, 0.3, 0.2) + 1e-12
    assert swaps[0] > 0
    assert best_exchange(Y, C, S, 0.3, 0.2) > -1e-9


@pytest.mark.parametrize("level", LEVELS)
def test_kicks_never_end_higher(level):
    C, S = instance(20, 40, 1)
    starts = np.stack([lists(random_batches(4, 20, 5, seed)).ravel() for seed in range(6)])
    arguments = (starts, 5, *merged(C, S), 0.3, 0.2, 1 / 16)
    plain = level.swap_batches(*arguments, 0, 0, 0.0, 1)[1]
    cliques, kicked, _, _ = level.swap_batches(*arguments, 200, 5, 0.0, 1)
    assert (kicked <= plain + 1e-12).all()
    assert (kicked < plain - 1e-6).any()
    for batches, value in zip(cliques, kicked, strict=True):
        Y = np.zeros((4, 20), dtype=bool)
        np.put_along_axis(Y, batches, True, axis=1)
        assert value == pytest.approx(objective(Y, C, S, 0.3, 0.2), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_smallest_increase(level, seed):
    C, S = instance(8, 15, seed)
    B, r = 2, 3
    X = np.zeros((B, 8), dtype=bool)
    for _ in range(r):
        for b in range(B):
            values = np.full(8, np.inf)
            for k in np.flatnonzero(~X[b]):
                Y = X.copy()
                Y[b, k] = True
                values[k] = objective(Y, C, S, 0.4, 0.3)
            X[b, np.argmin(values)] = True
    first = np.full((1, B), -1, dtype=np.int64)
    cliques, value, _, _ = level.greedy_batches(first, r, *merged(C, S), 0.4, 0.3, 1 / 16, 1)
    assert np.array_equal(cliques[0], lists(X))
    assert value[0] == pytest.approx(objective(X, C, S, 0.4, 0.3))


def test_search_kernels_refuse_bad_starts():
    C, S = instance(6, 10, 0)
    problem = merged(C, S)
    for start in ([[0, 0]], [[0, 6]], [[0, -1]], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="start"):
            _core.swap_batches(
                np.array(start, dtype=np.int64), 2, *problem, 1.0, 1.0, 0.5, 0, 0, 0.0, 1
            )


# ---- select_batches ----


def brute_force(C, S, B, r, lambda1, lambda2):
    """Smallest Eq. (1) over all selections; batches are exchangeable."""
    K = len(C)
    rows = np.array([np.isin(np.arange(K), c) for c in itertools.combinations(range(K), r)], float)
    own = np.einsum("bi,ij,bj->b", rows, S - np.diag(np.diag(S)), rows)
    cover = rows @ C
    own -= lambda1 * np.where(cover > 0, cover, 0.0).clip(0).__pow__(1 / 16).sum(axis=1)
    assert B == 2
    pairs = np.array(list(itertools.combinations_with_replacement(range(len(rows)), 2)))
    total = cover[pairs[:, 0]] + cover[pairs[:, 1]]
    values = own[pairs].sum(axis=1) - lambda2 * (total ** (1 / 16)).sum(axis=1)
    return values.min()


def test_brute_force_agrees_with_eq_1():
    C, S = instance(5, 8, 0)
    best = min(
        objective([np.isin(np.arange(5), a), np.isin(np.arange(5), b)], C, S, 0.4, 0.3)
        for a in itertools.combinations(range(5), 2)
        for b in itertools.combinations(range(5), 2)
    )
    assert brute_force(C, S, 2, 2, 0.4, 0.3) == pytest.approx(best)


def test_tiny_instances_reach_the_optimum():
    gaps = []
    for seed in range(60):
        C, S = instance(8, 14, seed, rank=4)
        selection = quiet_select(C, S, 2, 3, seed=seed)
        lambdas = selection.lambdas
        best = brute_force(C, S, 2, 3, lambdas["lambda1"], lambdas["lambda2"])
        gaps.append((selection.objective - best) / abs(best))
    gaps = np.array(gaps)
    assert gaps.min() > -1e-10
    assert (gaps < 1e-9).mean() >= 0.9
    assert gaps.mean() <= 0.005


@pytest.mark.parametrize("seed", range(4))
def test_selection_is_consistent(seed):
    C, S = instance(40, 120, seed)
    selection = quiet_select(C, S, 6, 5, seed=seed)
    assert selection.X.shape == (6, 40)
    assert selection.X.dtype == bool
    assert (selection.X.sum(axis=1) == 5).all()
    assert selection.status == "SOLVED"
    lambdas = selection.lambdas
    value = objective(selection.X, C, S, lambdas["lambda1"], lambdas["lambda2"])
    assert selection.objective == pytest.approx(value, rel=1e-12)
    assert sum(selection.objective_terms.values()) == pytest.approx(value, rel=1e-12)
    assert selection.n_distinct_batches == len(np.unique(selection.X, axis=0))
    assert np.array_equal(selection.batches, lists(selection.X))
    assert selection.X_relaxed.shape == (6, 40)
    assert np.allclose(selection.X_relaxed.sum(axis=1), 5)
    comparison = selection.info["comparison"]
    assert set(comparison) >= {
        "cccp",
        "cccp+swaps",
        "greedy",
        "greedy+swaps",
        "random",
        "random+swaps",
    }
    assert selection.objective <= min(comparison.values()) + 1e-9


def test_relaxed_objective_falls_within_one_lambda3():
    C, S = instance(40, 120, 0)
    selection = quiet_select(C, S, 6, 5)
    assert selection.info["monotone"]
    assert len(selection.history) >= 8
    for before, after in itertools.pairwise(selection.history):
        if before["lambda3"] == after["lambda3"]:
            assert after["objective"] <= before["objective"] + 1e-4 * abs(before["objective"])
        else:
            assert after["lambda3"] > before["lambda3"]
    assert selection.integrality > 0.99


def test_equal_rows_are_told_apart():
    """From a uniform start all batches would be the same; the default start is not uniform."""
    C, S = instance(40, 160, 2)
    selection = quiet_select(C, S, 8, 5, local_search=False, n_starts=2)
    rounded = np.sort(np.argsort(-selection.X_relaxed, axis=1)[:, :5], axis=1)
    assert len(np.unique(rounded, axis=0)) >= 5


def test_any_thread_count_gives_the_same_bits():
    C, S = instance(60, 200, 4)
    one, three = (quiet_select(C, S, 20, 6, num_threads=threads) for threads in (1, 3))
    assert np.array_equal(one.X, three.X)
    assert np.array_equal(one.X_relaxed, three.X_relaxed)
    assert one.objective == three.objective


@pytest.mark.parametrize("method", ["cccp", "greedy", "random"])
def test_seed_decides(method):
    C, S = instance(30, 90, 5)
    first, again = (quiet_select(C, S, 5, 4, method=method, seed=3) for _ in range(2))
    assert np.array_equal(first.X, again.X)


def test_methods_and_exchanges_are_ordered():
    C, S = instance(50, 150, 6)
    value = {
        (method, local): quiet_select(C, S, 10, 6, method=method, local_search=local).objective
        for method in ("cccp", "greedy", "random")
        for local in (False, True)
    }
    for method in ("cccp", "greedy", "random"):
        assert value[method, True] < value[method, False]
    assert value["cccp", True] <= min(value["greedy", True], value["random", True])
    assert value["greedy", False] < value["random", False]


def test_kicks_lower_the_objective():
    C, S = instance(50, 150, 6)
    plain, some, default = (quiet_select(C, S, 10, 6, kicks=kicks) for kicks in (0, 100, None))
    assert "kicks" not in plain.info["comparison"]
    assert default.objective < some.objective < plain.objective
    assert default.objective == pytest.approx(default.info["comparison"]["kicks"])
    assert (plain.info["kicks"], some.info["kicks"], default.info["kicks"]) == (0, 100, 3000)
    for selection in (some, default):
        assert (selection.X.sum(axis=1) == 6).all()
        lambdas = selection.lambdas["lambda1"], selection.lambdas["lambda2"]
        assert selection.objective == pytest.approx(objective(selection.X, C, S, *lambdas))


def test_only_the_default_method_is_kicked_unasked():
    C, S = instance(30, 80, 7)
    for arguments in (
        {"method": "greedy"},
        {"method": "random"},
        {"mode": "paper", "kicks": 50},
        {"local_search": False},
    ):
        assert quiet_select(C, S, 5, 4, **arguments).info["kicks"] == 0
    asked = quiet_select(C, S, 5, 4, method="greedy", kicks=50)
    assert asked.objective <= asked.info["comparison"]["greedy+swaps"]
    with pytest.raises(cs.errors.InputError, match="need local_search"):
        cs.select_batches(C, S, 5, 4, local_search=False, kicks=50)


def test_large_problems_are_kicked_less(monkeypatch):
    monkeypatch.setattr("cliquesim.batches.selection_run.KICK_STEPS", 1e6)
    C, S = instance(50, 150, 6)
    assert 0 < quiet_select(C, S, 10, 6).info["kicks"] < 3000


def test_paper_mode():
    C, S = instance(30, 80, 7)
    S = S - 0.3 * np.eye(30)  # no longer positive semi-definite
    selection = quiet_select(C, S, 5, 4, mode="paper")
    assert {step["lambda3"] for step in selection.history} == {1.0}
    assert "cccp+swaps" not in selection.info["comparison"]
    assert selection.objective == pytest.approx(selection.info["comparison"]["cccp"])
    top = np.sort(np.argsort(-selection.X_relaxed, axis=1, kind="stable")[:, :4], axis=1)
    assert np.array_equal(selection.batches, top)


def test_shift_of_the_diagonal_changes_nothing():
    C, S = instance(30, 80, 8)
    moved = S - 2.0 * np.eye(30)
    lambdas = {"lambda1": 0.4, "lambda2": 0.3}
    a = quiet_select(C, S, 5, 4, **lambdas)
    b = quiet_select(C, moved, 5, 4, **lambdas)
    assert b.info["psd_shift"] > 0
    assert cs.batch_objective(a.X, C, moved, 0.4, 0.3) == pytest.approx(a.objective)
    assert b.objective == pytest.approx(a.objective, rel=0.02)
    projected = quiet_select(C, moved, 5, 4, psd="project", **lambdas)
    assert projected.objective == pytest.approx(cs.batch_objective(projected.X, C, moved, 0.4, 0.3))


def test_default_lambdas_follow_the_scales():
    C, S = instance(40, 120, 9)
    a = quiet_select(C, S, 6, 5)
    b = quiet_select(C, 250.0 * S, 6, 5)
    assert b.lambdas["lambda1"] == pytest.approx(250 * a.lambdas["lambda1"])
    assert np.array_equal(a.X, b.X)


@pytest.mark.parametrize("seed", range(3))
def test_default_lambdas_let_small_cliques_take_part(seed):
    """A few large cliques must not fill every batch for their coverage alone."""
    rng = np.random.default_rng(seed)
    sizes = np.r_[np.full(8, 24), np.full(52, 4)]
    C = np.zeros((60, 200))
    for row, size in zip(C, sizes, strict=True):
        row[rng.choice(200, size, replace=False)] = 1
    h = rng.normal(size=(60, 30))
    S = h @ h.T / 30
    selected = quiet_select(C, S, 20, 8, method="greedy")
    assert (C[selected.X.any(axis=0)].any(axis=0) == C.any(axis=0)).all()
    unit = 10 * selected.lambdas["lambda1"]
    assert selected.lambdas["lambda2"] == pytest.approx(10 * unit)
    heavy = quiet_select(C, S, 20, 8, method="greedy", lambda1=unit, lambda2=unit)
    large = sizes > 4
    assert heavy.X[:, large].mean() > 1.3 * selected.X[:, large].mean()


def test_each_term_has_its_effect():
    """Sect. 2.3, (i) to (iii): what leaving a term of Eq. (1) out does."""
    C, S = instance(40, 400, 10, size=12)
    unit = 10 * quiet_select(C, S, 6, 5).lambdas["lambda1"]  # where every term weighs the same
    lambdas = {"lambda1": unit, "lambda2": unit}
    full = quiet_select(C, S, 6, 5, **lambdas)

    def similar(selection):
        return selection.objective_terms["similarity"]

    no_similarity = quiet_select(C, 1e-9 * S, 6, 5, lambda1=1.0, lambda2=1.0)
    mean = objective(no_similarity.X, C, S, 0, 0)
    assert mean > similar(full) + 1.0  # (i) similar cliques in one batch
    no_coverage = quiet_select(C, S, 6, 5, lambda1=0.0, lambda2=lambdas["lambda2"])
    own = [(x @ C > 0).sum() for x in no_coverage.X]
    assert np.mean(own) < np.mean([(x @ C > 0).sum() for x in full.X])  # (ii) few samples
    no_total = quiet_select(C, S, 6, 5, lambda1=lambdas["lambda1"], lambda2=0.0)
    assert full.n_distinct_batches == 6
    assert no_total.n_distinct_batches == 1  # (iii) identical batches


# ---- edges ----


@pytest.mark.parametrize("method", ["cccp", "greedy", "random"])
def test_edges(method):
    C, S = instance(8, 20, 11)
    with pytest.warns(cs.BatchWarning, match="every batch holds all cliques"):
        selection = cs.select_batches(C, S, 3, 8, method=method)
    assert selection.X.all()
    for B, r in ((1, 3), (4, 1), (1, 1), (5, 7)):
        selection = quiet_select(C, S, B, r, method=method)
        assert selection.X.shape == (B, 8)
        assert (selection.X.sum(axis=1) == r).all()
    for lambdas in ({"lambda1": 0.0}, {"lambda2": 0.0}, {"lambda1": 0.0, "lambda2": 0.0}):
        assert (quiet_select(C, S, 3, 3, method=method, **lambdas).X.sum(axis=1) == 3).all()


@pytest.mark.parametrize("method", ["cccp", "greedy", "random"])
def test_odd_inputs(method):
    C, S = instance(8, 20, 12)
    twice = [*range(8), 7, 7]  # one clique three times
    selection = quiet_select(C[twice], S[np.ix_(twice, twice)], 3, 4, method=method)
    assert (selection.X.sum(axis=1) == 4).all()
    wide = np.hstack([C, np.zeros((8, 30))])  # samples without a clique
    a, b = (quiet_select(m, S, 3, 3, method=method) for m in (C, wide))
    assert np.array_equal(a.X, b.X)
    assert a.objective == b.objective
    equal = quiet_select(np.ones((6, 4)), np.ones((6, 6)), 3, 2, method=method)
    assert (equal.X.sum(axis=1) == 2).all()
    zero = quiet_select(C, np.zeros((8, 8)), 3, 3, method=method)
    assert (zero.X.sum(axis=1) == 3).all()
    assert quiet_select(C[:1], S[:1, :1], 2, 1, method=method).X.all()


def test_identical_batches_warn():
    C, S = instance(8, 12, 13)
    with pytest.warns(cs.BatchWarning, match="only 1 of the 3 batches are distinct"):
        cs.select_batches(C, S, 3, 6, lambda2=0.0)


def test_few_batches_warn():
    C, S = instance(40, 300, 13)
    with pytest.warns(cs.BatchWarning, match="n_batches=1 is too small"):
        cs.select_batches(C, S, 1, 4)


def test_a_relaxed_x_that_is_not_integral_warns():
    C, S = instance(60, 200, 0)
    with pytest.warns(cs.BatchWarning, match="not integral .* raise lambda3, now 0.01"):
        low = cs.select_batches(C, S, 10, 6, lambda3=0.01)
    assert low.integrality < 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error", cs.BatchWarning)
        assert cs.select_batches(C, S, 10, 6).integrality > 0.99


def test_warnings_point_at_the_caller():
    C, S = instance(40, 300, 13)
    with pytest.warns(cs.BatchWarning) as caught:
        cs.select_batches(C, S, 1, 4)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cliques_per_batch": 9}, "cliques_per_batch=9, but there are only 8 cliques"),
        ({"cliques_per_batch": 0}, "cliques_per_batch must be at least 1"),
        ({"n_batches": 0}, "n_batches must be at least 1"),
        ({"n_batches": 2.5}, "n_batches must be an integer"),
        ({"lambda1": -1.0}, "lambda1 must be in"),
        ({"lambda2": np.nan}, "lambda2 must be in"),
        ({"p": 0.0}, "p must be in"),
        ({"method": "best"}, "method must be one of"),
        ({"mode": "fast"}, "mode must be one of"),
        ({"solver": "scs"}, "solver must be one of"),
        ({"psd": "clip"}, "psd must be one of"),
        ({"n_starts": 0}, "n_starts must be at least 1"),
        ({"kicks": -1}, "kicks must be at least 0"),
        ({"time_limit": 0}, "time_limit must be in"),
        ({"similarity": np.ones((8, 7))}, "similarity must be square"),
        ({"similarity": np.ones((7, 7))}, "membership has 8 cliques"),
        ({"similarity": np.full((8, 8), np.nan)}, "similarity has NaN in row 0"),
        ({"membership": np.full((8, 20), 0.5)}, "row 0 holds 0.5"),
        ({"membership": np.zeros((8, 20))}, "membership has no sample in row 0"),
    ],
)
def test_errors_name_the_argument(change, message):
    C, S = instance(8, 20, 14)
    arguments = {
        "membership": C,
        "similarity": S,
        "n_batches": 2,
        "cliques_per_batch": 3,
        **change,
    }
    with pytest.raises(cs.errors.InputError, match=message):
        cs.select_batches(**arguments)


def test_batch_objective_refuses_bad_x():
    C, S = instance(8, 20, 15)
    with pytest.raises(cs.errors.InputError, match="row 1 does not"):
        cs.batch_objective([[1] * 8, [0.5] * 8], C, S, 1, 1)
    with pytest.raises(cs.errors.InputError, match="one column per clique"):
        cs.batch_objective(np.ones((2, 7)), C, S, 1, 1)


def test_time_limit_is_kept():
    C, S = instance(200, 900, 16, size=10)
    selection = quiet_select(C, S, 30, 10, time_limit=0.5)
    assert selection.info["times"]["total"] < 3
    assert selection.status == "TIME_LIMIT"
    assert (selection.X.sum(axis=1) == 10).all()


def test_large_problems_go_along_the_path_in_large_steps(monkeypatch):
    C, S = instance(60, 300, 17)
    usual = quiet_select(C, S, 10, 8, n_starts=2, kicks=0)
    monkeypatch.setattr("cliquesim.batches.selection_run.LARGE", 500)
    selection = quiet_select(C, S, 10, 8, n_starts=2, kicks=0)
    assert selection.info["regime"] == "dense interior point"
    lambdas = [step["lambda3"] for step in selection.history]
    assert len(set(lambdas)) == len(lambdas) >= 2
    assert len(selection.history) < len(usual.history)
    assert (selection.X.sum(axis=1) == 8).all()
    assert selection.objective <= min(selection.info["comparison"].values()) + 1e-9


def test_more_cliques_than_cccp_takes_are_left_to_exchanges(monkeypatch):
    monkeypatch.setattr("cliquesim.batches.selection_run.MAX_CLIQUES", 50)
    C, S = instance(60, 300, 17)
    selection = quiet_select(C, S, 10, 8, n_starts=2)
    assert "K = 60" in selection.info["message"]
    assert selection.info["regime"] == "discrete"
    assert selection.X_relaxed is None
    assert (selection.X.sum(axis=1) == 8).all()


def test_progress_rises_to_one():
    C, S = instance(30, 80, 18)
    seen: list[float] = []
    quiet_select(C, S, 4, 4, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_progress_can_stop():
    C, S = instance(30, 80, 18)

    def stop(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quiet_select(C, S, 4, 4, progress=stop)
