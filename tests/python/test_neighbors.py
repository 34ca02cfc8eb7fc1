"""Exact neighbours against a plain NumPy reference, and faiss where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_reference import (
    LEVELS,
    assert_correct,
    assert_same,
    reference,
    sequences,
    similarity_matrix,
)

import cliquesim as cs
from cliquesim import _core
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize(("n", "dimensions"), [(50, 3), (385, 17), (1000, 64)])
def test_against_numpy(
    level: str, metric: str, n: int, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    for seed in range(3):
        X = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
        found = cs.neighbors(X, k=20, n_bottom=7, metric=metric, num_threads=2)
        assert_correct(found, reference(X, 20, 7, metric), 1e-5 * dimensions**0.5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("radius", [0, 1, 3, 200])
def test_groups_and_pooling_against_numpy(
    level: str, window: int | None, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    rng = np.random.default_rng(radius)
    n = 470 if radius < 200 else 120
    X = rng.standard_normal((n, 8)).astype(np.float32)
    groups = sequences(rng, n, 90)
    arguments: dict[str, Any] = {
        "k": 9,
        "n_bottom": 4,
        "groups": groups,
        "group_window": window,
        "pool_radius": radius,
    }
    found = cs.neighbors(X, num_threads=2, **arguments)
    assert_correct(found, reference(X, **arguments), 1e-5)


def test_wide_halo_crosses_several_tiles() -> None:
    rng = np.random.default_rng(0)
    n, radius = 1500, 70
    X = rng.standard_normal((n, 2)).astype(np.float32)
    groups = np.repeat([5, 6, 1], [700, 100, 700])
    found = cs.neighbors(X, k=3, groups=groups, pool_radius=radius)
    S = similarity_matrix(X, X, "dot")
    for row in rng.choice(n, 12, replace=False):
        for col, value in zip(found.indices[row], found.similarities[row], strict=True):
            offsets = range(-radius, radius + 1)
            inside = [
                (row + o, col + o)
                for o in offsets
                if 0 <= row + o < n
                and 0 <= col + o < n
                and groups[row + o] == groups[row]
                and groups[col + o] == groups[col]
            ]
            assert value == pytest.approx(np.mean([S[a, b] for a, b in inside]), abs=1e-5)


@pytest.mark.parametrize("radius", [0, 2])
def test_queries_against_numpy(radius: int) -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((800, 12)).astype(np.float32)
    Q = rng.standard_normal((431, 12)).astype(np.float32)
    arguments: dict[str, Any] = {
        "k": 11,
        "n_bottom": 5,
        "groups": sequences(rng, 800, 40),
        "queries": Q,
        "query_groups": sequences(rng, 431, 5),
        "pool_radius": radius,
    }
    assert_correct(cs.neighbors(X, **arguments), reference(X, **arguments), 1e-5)
    if radius == 0:
        arguments.update(groups=None, query_groups=None, metric="correlation")
        assert_correct(cs.neighbors(X, **arguments), reference(X, **arguments), 1e-5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ties_are_ordered_by_index(data: st.DataObject) -> None:
    """Small integers: float32 sums are exact, so order and values must match exactly."""
    n = data.draw(st.integers(1, 460))
    dimensions = data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    X = rng.integers(-2, 3, (n, dimensions)).astype(np.float32)
    arguments: dict[str, Any] = {
        "k": data.draw(st.sampled_from([0, 1, 5, 40, n, n + 3])),
        "n_bottom": data.draw(st.sampled_from([0, 1, 6])),
    }
    if data.draw(st.booleans()):
        arguments["groups"] = sequences(rng, n, data.draw(st.integers(1, 40)))
        arguments["group_window"] = data.draw(st.sampled_from([None, 0, 3]))
    assert_same(cs.neighbors(X, num_threads=2, **arguments), reference(X, **arguments)[2])


@pytest.mark.parametrize("seed", range(3))
def test_windows_run_along_sequences_where_these_are_not_the_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=7)
    sequence = np.repeat(np.arange(7), lengths)
    X = rng.normal(size=(2 * len(sequence), 12)).astype(np.float32)
    arguments = {
        "k": 9,
        "n_bottom": 4,
        "pool_radius": 2,
        "groups": np.tile(sequence, 2),  # a frame and its mirror image exclude each other
        "sequences": np.concatenate([sequence, sequence + 7]),
    }
    assert_correct(cs.neighbors(X, **arguments), reference(X, **arguments), 1e-5)
    del arguments["groups"]
    assert_correct(cs.neighbors(X, **arguments), reference(X, **arguments), 1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_any_thread_count_gives_the_same_bits(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    rng = np.random.default_rng(7)
    X = rng.standard_normal((1700, 33)).astype(np.float32)
    X[rng.integers(0, 1700, 400)] = X[0]  # ties
    groups = sequences(rng, 1700, 60)
    for radius in (0, 2):
        results = [
            cs.neighbors(X, 25, 10, groups=groups, pool_radius=radius, num_threads=threads)
            for threads in (1, 2, 5)
        ]
        assert_same(results[1], results[0])
        assert_same(results[2], results[0])


@pytest.mark.parametrize("level", LEVELS)
def test_a_similarity_depends_on_its_two_rows_alone(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits in whichever tile, place and orientation; so equal rows tie exactly."""
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    rng = np.random.default_rng(3)
    distinct = rng.standard_normal((11, 517)).astype(np.float32)
    which = rng.integers(0, 11, 1000)
    found = cs.neighbors(distinct[which], k=999, num_threads=1)
    table: dict[tuple[int, int], set[float]] = {}
    for row in range(1000):
        values = found.similarities[row]
        for other, value in zip(which[found.indices[row]], values, strict=True):
            pair = (min(which[row], other), max(which[row], other))
            table.setdefault(pair, set()).add(float(value))
    assert {len(values) for values in table.values()} == {1}
    asked = cs.neighbors(distinct[which], k=999, queries=distinct[which][:5], num_threads=1)
    for row in range(5):
        values = {
            (min(which[row], which[c]), max(which[row], which[c])): float(v)
            for c, v in zip(asked.indices[row], asked.similarities[row], strict=True)
        }
        assert all(table[pair] == {value} for pair, value in values.items())


def test_against_faiss() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    faiss.omp_set_num_threads(1)
    X = np.random.default_rng(5).standard_normal((3000, 48)).astype(np.float32)
    index = faiss.IndexFlatIP(48)
    index.add(X)
    values, indices = index.search(X, 31)
    found = cs.neighbors(X, k=30, num_threads=1)
    for i in range(3000):
        keep = indices[i] != i
        np.testing.assert_allclose(found.similarities[i], values[i][keep][:30], atol=1e-4)
        assert len(np.setxor1d(found.indices[i], indices[i][keep][:30])) <= 2


def test_many_rows() -> None:
    """More than 65,536 rows; N^2 exceeds 32 bits."""
    rng = np.random.default_rng(11)
    n = 70_000
    X = rng.standard_normal((n, 4)).astype(np.float32)
    found = cs.neighbors(X, k=3, n_bottom=2, num_threads=2)
    for row in [0, 1, n - 1, *rng.integers(0, n, 60)]:
        S = X[row].astype(np.float64) @ X.T.astype(np.float64)
        S[row] = np.nan
        order = np.argsort(S)[:-1]
        np.testing.assert_allclose(found.similarities[row], S[order[::-1][:3]], atol=1e-5)
        np.testing.assert_allclose(S[found.indices[row]], S[order[::-1][:3]], atol=1e-5)
        np.testing.assert_allclose(S[found.bottom_indices[row]], S[order[:2]], atol=1e-5)


def test_one_row_and_no_allowed_neighbours() -> None:
    found = cs.neighbors([[1.0, 2.0]], k=2, n_bottom=1)
    np.testing.assert_array_equal(found.indices, [[-1, -1]])
    np.testing.assert_array_equal(found.similarities, [[-np.inf, -np.inf]])
    np.testing.assert_array_equal(found.bottom_indices, [[-1]])
    np.testing.assert_array_equal(found.bottom_similarities, [[np.inf]])
    X = np.random.default_rng(0).standard_normal((500, 3))
    assert (cs.neighbors(X, k=4, groups=np.zeros(500, int)).indices == -1).all()


def test_all_rows_equal() -> None:
    found = cs.neighbors(np.ones((900, 5)), k=3, n_bottom=2, num_threads=2)
    np.testing.assert_array_equal(found.indices[0], [1, 2, 3])
    np.testing.assert_array_equal(found.indices[899], [0, 1, 2])
    np.testing.assert_array_equal(found.bottom_indices[1], [0, 2])
    assert (found.similarities == 5).all()
    constant = cs.neighbors(np.full((900, 7), 0.1), k=3, metric="correlation")
    assert (constant.similarities == 0).all()


def test_other_layouts_and_types_of_input() -> None:
    X = np.random.default_rng(2).standard_normal((300, 20))
    expected = cs.neighbors(X.astype(np.float32), k=5)
    assert_same(cs.neighbors(np.asfortranarray(X), k=5), expected)
    assert_same(cs.neighbors(np.repeat(X, 2, axis=0)[::2], k=5), expected)
    assert_same(cs.neighbors(X.astype(np.float32).tolist(), k=5), expected)


def test_no_queries_and_no_corpus() -> None:
    X = np.ones((3, 2), np.float32)
    assert cs.neighbors(X, k=2, queries=np.empty((0, 2))).indices.shape == (0, 2)
    empty = cs.neighbors(np.empty((0, 2)), k=2, queries=X)
    assert (empty.indices == -1).all()
    assert cs.neighbors(np.empty((0, 2)), k=2).indices.shape == (0, 2)


def test_progress_reaches_one() -> None:
    seen: list[float] = []
    cs.neighbors(np.ones((400, 3)), k=1, progress=seen.append)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.array([[0.0], [np.nan]])}, "X has NaN in row 1"),
        ({"X": np.zeros(3)}, "X must have 2 dimensions"),
        ({"X": np.zeros((3, 0))}, "X must have at least one column"),
        ({"X": np.array([[1.0], [2.0], [1e30]])}, "X has too large values in row 2"),
        ({"X": np.zeros((2, 1)), "k": -1}, "k must be at least 0"),
        ({"X": np.zeros((2, 1)), "k": 1.5}, "k must be an integer"),
        ({"X": np.zeros((2, 1)), "metric": "cosine"}, "metric must be one of"),
        ({"X": np.zeros((2, 1)), "groups": [1]}, r"groups must have shape \(2,\)"),
        ({"X": np.zeros((2, 1)), "group_window": 1}, "group_window needs groups"),
        ({"X": np.zeros((2, 1)), "pool_radius": 1}, "pool_radius needs groups"),
        (
            {"X": np.zeros((3, 1)), "pool_radius": 1, "groups": [4, 2, 4]},
            "sequence 4 must be contiguous and in time order .* row 2 returns to it after row 0",
        ),
        ({"X": np.zeros((2, 2)), "queries": np.zeros((1, 3))}, "queries must have 2 columns"),
        ({"X": np.zeros((2, 1)), "query_groups": [1]}, "query_groups needs queries"),
        ({"X": np.zeros((2, 1)), "num_threads": 0}, "num_threads must be at least 1"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cs.neighbors(**arguments)


@pytest.mark.skipif(cuda_status()[0], reason="CUDA can be used here")
def test_cuda_is_refused_with_a_reason() -> None:
    with pytest.raises(RunError) as error:
        cs.neighbors(np.zeros((2, 1)), device="cuda")
    assert str(error.value) == f"neighbors cannot run with device='cuda': {cuda_status()[1]}"
    with pytest.raises(RunError, match="similarity_quantiles cannot run with device='cuda'"):
        cs.similarity_quantiles(np.zeros((2, 1)), [0.5], device="cuda")
