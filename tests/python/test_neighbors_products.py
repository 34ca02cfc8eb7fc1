"""Int16 products that choose and float32 products that decide; mirrored rows; quantiles; memory."""

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
    pool,
    reference,
    sequences,
    similarity_matrix,
)
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _core
from cliquesim.errors import InputError

Array = NDArray[np.float32]


def rows_of(kind: str, n: int, dimensions: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, dimensions))
    if kind == "clustered":
        X = 0.3 * X + rng.standard_normal((12, dimensions))[rng.integers(0, 12, n)]
    elif kind == "duplicates":
        X = X[rng.integers(0, min(40, n), n)]
    elif kind == "lengths":
        X *= 10.0 ** rng.uniform(-6, 6, (n, 1))
    elif kind == "sparse":
        X *= rng.random((n, dimensions)) < 3 / dimensions
    elif kind == "peaks":
        X[np.arange(n), rng.integers(0, dimensions, n)] = 1e4
    elif kind == "constant":
        X[:] = 0.1
    return X.astype(np.float32)


KINDS = ["gaussian", "clustered", "duplicates", "lengths", "sparse", "peaks", "constant"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_int16_gives_the_bits_of_float32(
    level: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    for metric, dimensions in (("dot", 600), ("correlation", 45)):
        X = rows_of(kind, 1300, dimensions)
        plain = cs.neighbors(X, 12, 7, metric, num_threads=2, precision="float32")
        for threads in (1, 3):
            found = cs.neighbors(X, 12, 7, metric, num_threads=threads, precision="int16")
            assert found.info["products"] == "int16"
            assert_same(found, plain)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("radius", [0, 1, 3, 200])
def test_int16_gives_the_bits_of_float32_pooled_and_mirrored(
    level: str, radius: int, mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "neighbors", _core.load_level(level).neighbors)
    rng = np.random.default_rng(radius)
    n = 900 if radius < 200 else 300
    X = rows_of("clustered", n, 530, seed=1)
    arguments: dict[str, Any] = {
        "k": 9,
        "n_bottom": 4,
        "groups": sequences(rng, n, 60),
        "pool_radius": radius,
        "mirrored": rows_of("clustered", n, 530, seed=2) if mirror else None,
    }
    plain = cs.neighbors(X, precision="float32", num_threads=1, **arguments)
    found = cs.neighbors(X, precision="int16", num_threads=2, **arguments)
    assert radius == 200 or found.info["float32_tiles"] < found.info["tiles"]
    assert_same(found, plain)
    if mirror:
        np.testing.assert_array_equal(found.flips, plain.flips)
        np.testing.assert_array_equal(found.bottom_flips, plain.bottom_flips)
    asked = {**arguments, "queries": X[:70], "query_groups": arguments["groups"][:70]}
    assert_same(
        cs.neighbors(X, precision="int16", **asked), cs.neighbors(X, precision="float32", **asked)
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_int16_is_float32_for_any_rows(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 900))
    dimensions = data.draw(st.sampled_from([1, 2, 31, 512, 700]))
    X = rows_of(data.draw(st.sampled_from(KINDS)), n, dimensions, data.draw(st.integers(0, 99)))
    arguments: dict[str, Any] = {
        "k": data.draw(st.sampled_from([0, 1, 5, 40, n + 3])),
        "n_bottom": data.draw(st.sampled_from([0, 1, 6])),
        "metric": data.draw(st.sampled_from(["dot", "correlation"])),
    }
    if data.draw(st.booleans()):
        arguments["groups"] = sequences(np.random.default_rng(n), n, 40)
        arguments["pool_radius"] = data.draw(st.sampled_from([0, 2]))
    assert_same(
        cs.neighbors(X, precision="int16", num_threads=2, **arguments),
        cs.neighbors(X, precision="float32", num_threads=2, **arguments),
    )


def test_levels_agree() -> None:
    X = rows_of("clustered", 700, 1984)
    groups = np.repeat(np.arange(70), 10)
    for radius in (0, 3):
        found = [
            _core.load_level(level).neighbors(
                X, None, None, 5, 5, True, groups, None, -1, radius, None, "auto", 0, 1, None
            )
            for level in LEVELS
        ]
        for other in found[:-1]:
            np.testing.assert_allclose(other[1], found[-1][1], rtol=1e-6)
            np.testing.assert_allclose(other[3], found[-1][3], rtol=0, atol=1e-6)


def test_int16_is_chosen_where_it_pays_and_said() -> None:
    X = rows_of("gaussian", 1200, 640)
    info = cs.neighbors(X, k=3).info
    assert info["products"] == ("int16" if _core.has_vnni() else "float32")
    assert info["instructions"]
    if info["products"] == "int16":
        assert 0 < info["error_bound"] < 1e-3
        assert 1200 <= info["recomputed"] < 1200 * 40
    assert cs.neighbors(X, k=600).info["products"] == "float32"
    assert cs.neighbors(X[:, :8], k=3).info["products"] == "float32"


def test_rows_beyond_int16s_range_are_multiplied_in_float32() -> None:
    for scale in (1e-18, 1e16):
        X = (scale * rows_of("gaussian", 300, 40)).astype(np.float32)
        found = cs.neighbors(X, k=3, precision="int16")
        assert found.info["products"] == "float32"
        assert_same(found, cs.neighbors(X, k=3, precision="float32"))


@pytest.mark.parametrize("radius", [0, 2])
@pytest.mark.parametrize("with_queries", [False, True])
def test_mirrored_against_numpy(radius: int, with_queries: bool) -> None:
    rng = np.random.default_rng(radius)
    n = 430
    X, M = (rng.standard_normal((n, 9)).astype(np.float32) for _ in range(2))
    Q = rng.standard_normal((51, 9)).astype(np.float32) if with_queries else X
    groups = sequences(rng, n, 30)
    query_groups = sequences(rng, 51, 9) if with_queries else groups
    arguments: dict[str, Any] = {"groups": groups, "pool_radius": radius}
    if with_queries:
        arguments |= {"queries": Q, "query_groups": query_groups}
    found = cs.neighbors(X, 8, 5, mirrored=M, **arguments)
    plain, other = (similarity_matrix(Y, Q, "dot") for Y in (X, M))
    if radius:
        plain, other = (pool(S, query_groups, groups, radius) for S in (plain, other))
    best = np.maximum(plain, other)
    allowed = query_groups[:, None] != groups[None, :]
    for indices, values, flips, sign in (
        (found.indices, found.similarities, found.flips, -1.0),
        (found.bottom_indices, found.bottom_similarities, found.bottom_flips, 1.0),
    ):
        assert flips is not None
        assert flips.dtype == np.bool_
        ordered = np.sort(np.where(allowed, sign * best, np.inf), axis=1)[:, : indices.shape[1]]
        np.testing.assert_allclose(sign * values, ordered, atol=1e-5)
        taken = np.where(flips, *(np.take_along_axis(S, indices, 1) for S in (other, plain)))
        np.testing.assert_allclose(values, taken, atol=1e-5)


def test_without_mirrored_rows_there_are_no_flips() -> None:
    found = cs.neighbors(np.eye(4), k=2)
    assert found.flips is None
    assert found.bottom_flips is None
    again = cs.neighbors(np.eye(4), k=2, mirrored=np.eye(4))
    assert again.flips is not None
    assert not again.flips.any()  # a tie is no flip


@pytest.mark.parametrize("precision", ["float32", "int16"])
def test_memory_limit(precision: str) -> None:
    X = rows_of("gaussian", 2000, 700)
    free = cs.neighbors(X, 9, 3, "correlation", num_threads=2, precision=precision)
    assert free.info["memory_bytes"] > 0
    with pytest.raises(InputError, match=r"memory_limit is 1000 bytes, but this search needs \d+"):
        cs.neighbors(X, 9, memory_limit=1000, num_threads=2, precision=precision)
    limit = free.info["memory_bytes"] - (1 if precision == "float32" else 0)
    found = cs.neighbors(
        X, 9, 3, "correlation", num_threads=2, precision=precision, memory_limit=limit
    )
    assert found.info["memory_bytes"] <= limit
    assert_same(found, free)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("radius", [0, 2])
def test_quantiles_against_numpy(level: str, radius: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _core.load_level(level)
    monkeypatch.setattr(_core, "similarity_quantiles", module.similarity_quantiles)
    rng = np.random.default_rng(radius)
    X = rng.standard_normal((500, 6)).astype(np.float32)
    groups = sequences(rng, 500, 40)
    levels = [0, 0.01, 0.3, 0.3, 0.5, 1]
    arguments: dict[str, Any] = {"metric": "correlation", "groups": groups, "pool_radius": radius}
    found = cs.similarity_quantiles(X, levels, num_threads=2, **arguments)
    S, allowed, _ = reference(X, 1, **arguments)
    expected = [np.quantile(S[i, allowed[i]], levels) for i in range(500)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found, cs.similarity_quantiles(X, levels, num_threads=1, **arguments)
    )


def test_quantiles_of_queries_and_of_nothing() -> None:
    X = np.array([[1.0], [2.0]])
    asked = cs.similarity_quantiles(X, [0, 0.5, 1], queries=[[3.0]])
    np.testing.assert_array_equal(asked, [[3, 4.5, 6]])
    assert np.isnan(cs.similarity_quantiles(X[:1], [0.5])).all()
    assert cs.similarity_quantiles(X, []).shape == (2, 0)
    for wrong in ([0.5, 0.1], [1.5], [np.nan], [[0.1]], ["a"]):
        with pytest.raises(InputError, match="quantiles must"):
            cs.similarity_quantiles(X, wrong)
    with pytest.raises(InputError, match="memory_limit is 10 bytes"):
        cs.similarity_quantiles(X, [0.5], memory_limit=10)


def test_against_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    X = rows_of("clustered", 1500, 640)
    oracle = neighbors.NearestNeighbors(n_neighbors=11, metric="correlation", algorithm="brute")
    distances, _ = oracle.fit(X.astype(np.float64)).kneighbors()
    found = cs.neighbors(X, k=11, metric="correlation", precision="int16")
    np.testing.assert_allclose(found.similarities, 1 - distances, atol=1e-5)


def test_read_only_and_strided_rows_and_other_types() -> None:
    X = rows_of("gaussian", 300, 24)
    expected = cs.neighbors(X, k=5)
    locked = X.copy()
    locked.flags.writeable = False
    wide = np.repeat(X, 2, axis=1)
    for same in (locked, wide[:, ::2], X[::-1][::-1], X.astype(np.float64), X.astype(">f4")):
        assert_same(cs.neighbors(same, k=5), expected)
    assert_same(cs.neighbors(np.rint(X).astype(np.int8), k=5), cs.neighbors(np.rint(X), k=5))
    for wrong in (X.astype(complex), X.astype(str), X.astype(object)):
        with pytest.raises(InputError, match="X must be an array of real numbers"):
            cs.neighbors(wrong, k=5)
    found = cs.neighbors(X[:1], k=3, n_bottom=2, precision="int16")
    assert (found.indices == -1).all()
    assert (found.bottom_indices == -1).all()
    assert_correct(cs.neighbors(X, k=400, n_bottom=300), reference(X, 400, 300), 1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "bf16"}, "precision must be one of"),
        ({"memory_limit": 0}, "memory_limit must be at least 1"),
        ({"memory_limit": 1.5}, "memory_limit must be an integer"),
        ({"mirrored": np.zeros((3, 2))}, r"mirrored must have shape \(4, 2\)"),
        ({"mirrored": np.full((4, 2), np.nan)}, "mirrored has NaN in row 0"),
        ({"mirrored": np.full((4, 2), 1e30)}, "mirrored has too large values in row 0"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cs.neighbors(np.ones((4, 2)), **arguments)
