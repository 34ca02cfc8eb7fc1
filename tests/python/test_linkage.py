"""Complete linkage against SciPy, fastcluster, a replay of the definition, and its edge cases."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import cliquesim as cs
from cliquesim import _core
from cliquesim.errors import InputError, RunError

Kernel = Any


def clustered(n: int, dim: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, n // 20), dim)) * 4
    return centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, dim))


def replay(square: NDArray[Any], Z: NDArray[np.float64]) -> None:
    """Every merge must be a current minimum, its height the largest distance of two leaves."""
    n = len(square)
    distance = square.astype(np.float64)
    np.fill_diagonal(distance, np.inf)
    slots = {i: i for i in range(n)}
    leaves = {i: [i] for i in range(n)}
    for step, (a, b, height, size) in enumerate(Z):
        i, j = slots.pop(int(a)), slots.pop(int(b))
        assert a < b
        assert height == distance.min() == distance[i, j]
        assert height == max(square[p, q] for p in leaves[i] for q in leaves[j])
        leaves[i] = leaves[i] + leaves[j]
        assert size == len(leaves[i])
        merged = np.maximum(distance[i], distance[j])
        distance[i], distance[:, i] = merged, merged
        distance[j], distance[:, j] = np.inf, np.inf
        distance[i, i] = np.inf
        slots[n + step] = i
    assert len(slots) == 1


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scipy_without_ties_over_many_inputs(level: str, dtype: Any) -> None:
    kernel = _core.load_level(level)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 120))
        kind = seed % 3
        points = clustered(n, 5, seed) if kind else rng.random((n, 2))
        y = pdist(points).astype(dtype)
        if kind == 2:  # no metric at all
            y = rng.permutation(y.size).astype(dtype)
        if len(np.unique(y)) < y.size:
            continue
        expected = hierarchy.linkage(y.astype(np.float64), "complete")
        Z = kernel.linkage_condensed(y, n, 1 + seed % 3, None)
        np.testing.assert_array_equal(Z, expected)


@pytest.mark.parametrize("seed", range(3))
def test_heights_equal_fastcluster(seed: int) -> None:
    fastcluster = pytest.importorskip("fastcluster")
    y = pdist(clustered(700, 8, seed))
    np.testing.assert_array_equal(
        cs.linkage(y)[:, 2], np.asarray(fastcluster.linkage(y, "complete"))[:, 2]
    )


def test_larger_input_and_cophenetic_distances() -> None:
    y = pdist(clustered(1500, 6, 7))
    Z = cs.linkage(y)
    expected = hierarchy.linkage(y, "complete")
    np.testing.assert_array_equal(Z, expected)
    np.testing.assert_array_equal(hierarchy.cophenet(Z), hierarchy.cophenet(expected))
    assert hierarchy.is_valid_linkage(Z)


@given(
    n=st.integers(2, 24), levels=st.integers(1, 5), seed=st.integers(0, 10**6), never=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_ties_are_a_valid_complete_linkage(n: int, levels: int, seed: int, never: bool) -> None:
    y = np.random.default_rng(seed).integers(levels, size=n * (n - 1) // 2).astype(np.float32)
    if never:
        y[y == levels - 1] = np.inf
    replay(squareform(y), cs.linkage(y))


def adversarial() -> dict[str, NDArray[np.float64]]:
    n = 300
    rng = np.random.default_rng(0)
    grid = np.array(list(itertools.product(range(17), range(17))), dtype=float)
    star = np.ones((n, n)) + rng.random((n, n)) * 1e-3
    star[0] = star[:, 0] = np.linspace(0.1, 0.9, n)
    return {
        "duplicates": np.zeros(n * (n - 1) // 2),
        "growing gaps": pdist(np.cumsum(np.arange(n, dtype=float))[:, None]),
        "shrinking gaps": pdist(np.cumsum(1.0 / np.arange(1, n + 1))[:, None]),
        "even gaps": pdist(np.arange(n, dtype=float)[:, None]),
        "grid": pdist(grid),
        "star": squareform(np.maximum(star, star.T), checks=False),
        "all never": np.full(n * (n - 1) // 2, np.inf),
        "half duplicates": pdist(rng.integers(3, size=(n, 3)).astype(float)),
    }


@pytest.mark.parametrize("name", adversarial())
def test_adversarial_inputs(name: str) -> None:
    y = adversarial()[name]
    Z = cs.linkage(y)
    replay(squareform(y, checks=False), Z)
    np.testing.assert_array_equal(cs.linkage(y, num_threads=3), Z)


@pytest.mark.parametrize("level", _core.runnable_levels())
def test_bit_identical_over_thread_counts(level: str) -> None:
    kernel = _core.load_level(level)
    X = clustered(600, 40, 1).astype(np.float32)
    y = pdist(X.astype(np.float64)).round(1).astype(np.float32)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(
            kernel.linkage_condensed(y, 600, threads, None),
            kernel.linkage_condensed(y, 600, 1, None),
        )
        np.testing.assert_array_equal(
            kernel.linkage_vectors(X, "euclidean", threads, None),
            kernel.linkage_vectors(X, "euclidean", 1, None),
        )


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "correlation"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-5), (np.float64, 1e-10)])
def test_vectors_have_the_heights_of_pdist(
    level: str, metric: str, dtype: Any, rtol: float
) -> None:
    for seed, n in enumerate((2, 3, 255, 600)):
        X = (clustered(n, 33, seed) + 50).astype(dtype)
        Z = _core.load_level(level).linkage_vectors(X, metric, 2, None)
        expected = hierarchy.linkage(pdist(X.astype(np.float64), metric), "complete")
        np.testing.assert_allclose(Z[:, 2], expected[:, 2], rtol=rtol)


def test_duplicate_vectors_are_exactly_zero_apart() -> None:
    X = np.repeat(clustered(40, 100, 0).astype(np.float32) + 1000, 5, axis=0)
    for metric in ("euclidean", "cosine", "correlation"):
        heights = cs.linkage(X, metric=metric)[:, 2]
        assert (heights[:160] == 0).all()
        assert heights[160] > 0


def test_permutation_changes_no_height() -> None:
    square = squareform(pdist(clustered(200, 4, 3)))
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(
        cs.linkage(squareform(square))[:, 2],
        cs.linkage(squareform(square[np.ix_(order, order)]))[:, 2],
    )


def test_few_observations() -> None:
    assert cs.linkage(np.empty(0)).shape == (0, 4)
    assert cs.linkage(np.ones((1, 3))).shape == (0, 4)
    np.testing.assert_array_equal(cs.linkage([2.5]), [[0, 1, 2.5, 2]])
    np.testing.assert_array_equal(cs.linkage([[0, 0], [3, 4]]), [[0, 1, 5, 2]])
    with pytest.raises(InputError, match="at least one observation"):
        cs.linkage(np.empty((0, 3)))


def test_nan_is_refused_with_its_position() -> None:
    n = 9
    for position, (i, j) in enumerate(itertools.combinations(range(n), 2)):
        y = np.ones(n * (n - 1) // 2)
        y[position] = np.nan
        with pytest.raises(InputError, match=rf"position {position} .*observations {i} and {j}"):
            cs.linkage(y)
    X = np.ones((5, 2), np.float32)
    X[3, 1] = np.nan
    with pytest.raises(InputError, match="y has NaN in row 3"):
        cs.linkage(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.ones(4)}, "4 entries"),
        ({"y": np.ones((2, 2, 2))}, "1-D condensed distances or 2-D vectors"),
        ({"y": np.ones((3, 0))}, "no columns"),
        ({"y": ["a", "b"]}, "real numbers"),
        ({"y": np.ones(3), "method": "ward"}, "method must be one of 'complete'"),
        ({"y": np.ones((3, 2)), "metric": "hamming"}, "metric must be one of"),
        ({"y": np.ones(3), "num_threads": 0}, "num_threads must be at least 1"),
        ({"y": np.eye(3)[[0, 1, 1]] * [[1], [0], [1]], "metric": "cosine"}, "row 1 is zero"),
        ({"y": [[1, 2], [3, 3]], "metric": "correlation"}, "row 1 is constant"),
        ({"y": [[np.inf, 0], [0, 0]]}, "infinite value in row 0"),
        ({"y": [1, -np.inf, 1]}, "position 1"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cs.linkage(**arguments)


def test_other_dtypes_layouts_and_devices() -> None:
    X = clustered(30, 3, 0)
    expected = cs.linkage(X)
    np.testing.assert_array_equal(cs.linkage(np.asfortranarray(X)), expected)
    np.testing.assert_array_equal(cs.linkage(np.repeat(X, 2, axis=0)[::2]), expected)
    y = np.arange(1, 7)
    np.testing.assert_array_equal(cs.linkage(y), cs.linkage(y.astype(np.float32)))
    with pytest.raises(RunError, match="device='cpu'"):
        cs.linkage(X, device="cuda")


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    cs.linkage(clustered(500, 10, 0), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
