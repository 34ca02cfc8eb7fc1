"""Complete linkage against SciPy, fastcluster, a replay of the definition, and its edge cases."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import cliquesim as cs
from cliquesim import _core
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError

MANY = 2500  # more than are linked on a resident square at once: lists and contraction


def link_level(level: str, y: NDArray[Any], n: int, threads: int = 1) -> NDArray[np.float64]:
    """Condensed distances at one SIMD level."""
    return _core.load_level(level).linkage_distances(y, n, False, False, 1 << 33, threads, None)[0]


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
        Z = link_level(level, y, n, 1 + seed % 3)
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


@given(
    n=st.integers(2, 60),
    levels=st.integers(1, 40),
    listed=st.integers(1, 6),
    few=st.integers(1, 20),
    seed=st.integers(0, 10**6),
    overwrite=st.booleans(),
    never=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_short_lists_lead_to_a_valid_complete_linkage(
    n: int, levels: int, listed: int, few: int, seed: int, overwrite: bool, never: bool
) -> None:
    """Lists of a few items and no early square: many passes of lists and contraction."""
    rng = np.random.default_rng(seed)
    if seed % 2:  # points of a grid, so that near is near from both sides
        y = pdist(rng.integers(levels, size=(n, 2)).astype(np.float64)).round(1)
    else:
        y = rng.integers(levels, size=n * (n - 1) // 2).astype(np.float64)
    if never and levels > 1:
        y[y == y.max()] = np.inf
    given_y = y.copy()
    Z, passes, _ = _core.linkage_distances(
        given_y, n, False, overwrite, 1 << 30, 1, None, listed, few
    )
    assert passes[0] == n
    replay(squareform(y), Z)
    if not overwrite:
        np.testing.assert_array_equal(given_y, y)


@given(
    n=st.integers(2, 60),
    listed=st.integers(1, 6),
    few=st.integers(1, 20),
    room=st.integers(0, 3000),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=200, deadline=None)
def test_short_lists_of_vectors_lead_to_the_same_tree(
    n: int, listed: int, few: int, room: int, seed: int
) -> None:
    X = np.random.default_rng(seed).normal(size=(n, 3))
    expected = cs.linkage(X, storage="square")
    tuning = (1, None, listed, few)
    try:
        Z = _core.linkage_vectors(X, "euclidean", "none", room, *tuning)[0]
    except ValueError as error:
        assert "memory_limit is too small" in str(error)  # noqa: PT017
    else:
        np.testing.assert_array_equal(Z, expected)
    Z = _core.linkage_vectors(X, "euclidean", "triangle", 0, *tuning)[0]
    np.testing.assert_array_equal(Z, expected)


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
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["clustered", "gaussian", "no metric"])
def test_equals_scipy_where_lists_and_contraction_are_used(
    level: str, dtype: Any, kind: str
) -> None:
    rng = np.random.default_rng(3)
    points = clustered(MANY, 6, 3) if kind == "clustered" else rng.normal(size=(MANY, 6))
    y = pdist(points)
    if dtype == np.float32 or kind == "no metric":  # ranks: no ties, exact in float32
        y = np.argsort(np.argsort(y if kind != "no metric" else rng.random(y.size)))
    y = y.astype(dtype)
    expected = hierarchy.linkage(y.astype(np.float64), "complete")
    np.testing.assert_array_equal(link_level(level, y, MANY, 2), expected)


@pytest.mark.parametrize("name", ["duplicates", "gaps", "even gaps", "integers", "all never"])
def test_ties_and_adversaries_of_many_points(name: str) -> None:
    points = {
        "duplicates": np.zeros((MANY, 1)),
        "gaps": np.cumsum(np.arange(MANY, dtype=float))[:, None],
        "even gaps": np.arange(MANY, dtype=float)[:, None],
        "integers": np.random.default_rng(0).integers(5, size=(MANY, 3)).astype(float),
        "all never": np.zeros((MANY, 1)),
    }[name]
    y = pdist(points)
    if name == "all never":
        y[:] = np.inf
    Z = cs.linkage(y, num_threads=2)
    valid_linkage(squareform(y), Z)
    np.testing.assert_array_equal(cs.linkage(y, num_threads=1), Z)
    np.testing.assert_array_equal(cs.linkage(y.copy(), overwrite=True)[:, 2].max(), Z[:, 2].max())


def valid_linkage(square: NDArray[np.float64], Z: NDArray[np.float64]) -> None:
    """Like `replay`, for many points: minima are kept per row instead of sought in the matrix."""
    n = len(square)
    distance = square.copy()
    np.fill_diagonal(distance, np.inf)
    slot = {i: i for i in range(n)}
    nearest = distance.min(axis=1)
    for step, (a, b, height, _) in enumerate(Z):
        i, j = slot.pop(int(a)), slot.pop(int(b))
        assert height == distance[i, j]
        assert height == nearest.min() or np.isinf(height)
        merged = np.maximum(distance[i], distance[j])
        lost = np.minimum(distance[i], distance[j]) <= nearest  # had i or j as the nearest,
        lost &= merged > nearest  # and the union is farther away
        distance[i], distance[:, i] = merged, merged
        distance[j], distance[:, j] = np.inf, np.inf
        distance[i, i] = np.inf
        slot[n + step] = i
        lost[[i, j]] = True
        nearest[lost] = distance[lost].min(axis=1)


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("n", [600, MANY])
def test_bit_identical_over_thread_counts(level: str, n: int) -> None:
    kernel = _core.load_level(level)
    X = clustered(n, 40, 1).astype(np.float32)
    y = pdist(X.astype(np.float64)).round(1).astype(np.float32)

    def vectors(threads: int, storage: str) -> NDArray[np.float64]:
        return kernel.linkage_vectors(X, "euclidean", storage, 1 << 33, threads, None)[0]

    for threads in (2, 3, 5):
        np.testing.assert_array_equal(link_level(level, y, n, threads), link_level(level, y, n))
        for storage in ("none", "triangle", "triangle16", "square"):
            np.testing.assert_array_equal(vectors(threads, storage), vectors(1, storage))


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "correlation", "dot"])
def test_all_storages_give_the_same_tree(metric: str) -> None:
    X = np.random.default_rng(5).normal(size=(MANY, 7))
    expected = cs.linkage(X, metric=metric, storage="square")
    assert len(np.unique(expected[:, 2])) == MANY - 1
    for storage in ("none", "triangle"):
        np.testing.assert_array_equal(cs.linkage(X, metric=metric, storage=storage), expected)


def test_a_small_limit_costs_passes_but_no_exactness() -> None:
    X = np.random.default_rng(5).normal(size=(6000, 7))
    expected, info = cs.linkage(X, storage="none", return_info=True)
    assert len(info["levels"]) > 2
    room = info["levels"][2] ** 2 * 8 // 2
    limit = info["memory"] + room
    Z, limited = cs.linkage(X, storage="none", memory_limit=limit, return_info=True)
    np.testing.assert_array_equal(Z, expected)
    assert limited["levels"][:2] == info["levels"][:2]


def test_rounded_distances_are_linked_exactly() -> None:
    X = clustered(MANY, 5, 2).astype(np.float32)
    Z, info = cs.linkage(X, storage="triangle16", return_info=True)
    step = info["step"]
    assert step > 0
    codes = np.rint(pdist(X.astype(np.float64)) / step)
    np.testing.assert_allclose(np.rint(Z[:, 2] / step) * step, Z[:, 2], rtol=1e-12)
    # The last bit of a float32 distance may lie on either side of a rounding limit.
    expected = hierarchy.linkage(codes, "complete")[:, 2] * step
    assert np.abs(np.sort(Z[:, 2]) - expected).max() <= 0.02 * expected.max()
    assert np.median(np.abs(np.sort(Z[:, 2]) - expected)) <= step


def test_squares_similarities_and_overwriting() -> None:
    for n in (5, 300, MANY):
        y = pdist(clustered(n, 4, n))
        square = squareform(y)
        square[np.tril_indices(n)] = np.nan  # is not read
        expected = hierarchy.linkage(y, "complete")
        for precomputed in (y, square):
            link = {"metric": "precomputed", "num_threads": 2}
            np.testing.assert_array_equal(cs.linkage(precomputed, **link), expected)
            np.testing.assert_array_equal(
                cs.linkage(precomputed.copy(), overwrite=True, **link), expected
            )
            for overwrite in (False, True):
                Z, info = cs.linkage(
                    -precomputed, similarity=True, overwrite=overwrite, return_info=True, **link
                )
                np.testing.assert_array_equal(Z[:, [0, 1, 3]], expected[:, [0, 1, 3]])
                assert Z[0, 2] == 0
                assert info["largest_similarity"] == -y.min()
                np.testing.assert_allclose(
                    info["largest_similarity"] - Z[:, 2], -expected[:, 2], rtol=1e-12
                )
        assert np.isfinite(y).all()


def test_dot_products_are_merged_most_similar_first() -> None:
    X = np.random.default_rng(1).normal(size=(400, 6))
    products = X @ X.T
    Z, info = cs.linkage(X, metric="dot", return_info=True)
    top = products[np.triu_indices(400, 1)].max()
    expected = hierarchy.linkage(top - products[np.triu_indices(400, 1)], "complete")
    assert info["largest_similarity"] == pytest.approx(top)
    np.testing.assert_allclose(Z[:, 2], expected[:, 2], atol=1e-9)


@pytest.mark.parametrize("similar", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_graph_is_a_matrix_with_absent_pairs_never(seed: int, similar: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    points = clustered(n, 3, seed)
    y = pdist(points) + 1
    present = y <= np.quantile(y, rng.uniform(0.02, 0.6))
    square = squareform(np.where(present, y, 0))
    dense = cs.linkage(np.where(present, y, np.inf))
    i, j = np.nonzero(np.triu(square))
    rows, cols = np.where(rng.random(len(i)) < 0.5, (i, j), (j, i))  # either direction will do
    values = -square[i, j] if similar else square[i, j]
    graph = sparse.csr_array((values, (rows, cols)), shape=(n, n))
    Z, info = cs.linkage(graph, metric="precomputed", similarity=similar, return_info=True)
    finite = np.isfinite(dense[:, 2])
    offset = info["largest_similarity"] or 0.0
    np.testing.assert_allclose(Z[finite, 2] - offset, dense[finite, 2], rtol=1e-12)
    np.testing.assert_array_equal(Z[finite][:, [0, 1, 3]], dense[finite][:, [0, 1, 3]])
    assert np.isinf(Z[~finite, 2]).all()
    assert hierarchy.is_valid_linkage(Z)


def test_both_directions_of_an_edge_may_be_given_and_the_larger_counts() -> None:
    graph = sparse.csr_array(np.array([[9.0, 1, 4], [2, 0, 3], [0, 0, 0]]))
    Z = cs.linkage(graph, metric="precomputed")
    np.testing.assert_array_equal(Z, [[0, 1, 2, 2], [2, 3, 4, 3]])
    with pytest.raises(InputError, match="metric='precomputed'"):
        cs.linkage(graph)
    graph.data[1] = np.nan
    with pytest.raises(InputError, match="y has NaN in row 0, column 1"):
        cs.linkage(graph, metric="precomputed")


@pytest.mark.parametrize("n", [46_341, 65_537])
def test_offsets_of_64_bits(n: int) -> None:
    """n (n - 1) / 2 of a 32-bit integer overflows at 46,342 and at 65,537 of an unsigned one."""
    X = np.sort(np.random.default_rng(0).random(n)).astype(np.float32)[:, None]
    X[-3:, 0] = [10, 20, 40]
    Z = cs.linkage(X, storage="none")
    np.testing.assert_array_equal(Z[-3:, 3], [n - 2, n - 1, n])
    np.testing.assert_allclose(Z[-3:, 2], [10, 20, 40], rtol=1e-4)


@pytest.mark.skipif(
    os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") < 12 << 30,
    reason="needs 12 GiB of free memory for a condensed matrix of 65,537 observations",
)
def test_condensed_offsets_of_64_bits() -> None:
    n = 65_537
    y = np.empty(n * (n - 1) // 2, np.float32)
    position = 0
    for i in range(n - 1):  # points on a line, the last ones far away
        y[position : position + n - 1 - i] = np.arange(1, n - i, dtype=np.float32)
        position += n - 1 - i
    Z, info = cs.linkage(y, overwrite=True, return_info=True)
    assert info["levels"][0] == n
    assert Z[-1, 2] == n - 1
    assert Z[-1, 3] == n


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "correlation"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-5), (np.float64, 1e-10)])
def test_vectors_have_the_heights_of_pdist(
    level: str, metric: str, dtype: Any, rtol: float
) -> None:
    for seed, n in enumerate((2, 3, 255, 600)):
        X = (clustered(n, 33, seed) + 50).astype(dtype)
        kernel = _core.load_level(level)
        Z = kernel.linkage_vectors(X, metric, "none", 1 << 33, 2, None)[0]
        expected = hierarchy.linkage(pdist(X.astype(np.float64), metric), "complete")
        np.testing.assert_allclose(Z[:, 2], expected[:, 2], rtol=rtol)


@pytest.mark.parametrize("copies", [5, 80])
def test_duplicate_vectors_are_exactly_zero_apart(copies: int) -> None:
    X = np.repeat(clustered(40, 100, 0).astype(np.float32) + 1000, copies, axis=0)
    for metric in ("euclidean", "cosine", "correlation"):
        heights = cs.linkage(X, metric=metric)[:, 2]
        assert (heights[: 40 * (copies - 1)] == 0).all()
        assert heights[40 * (copies - 1)] > 0


@pytest.mark.parametrize("n", [200, MANY])
def test_permutation_changes_no_height(n: int) -> None:
    square = squareform(pdist(clustered(n, 4, 3)))
    order = np.random.default_rng(0).permutation(n)
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
    y = np.ones(MANY * (MANY - 1) // 2, np.float32)
    y[1_234_567] = np.nan
    with pytest.raises(InputError, match=r"y has NaN at position 1234567 "):
        cs.linkage(y)
    square = np.ones((4, 4))
    square[1, 3] = np.nan
    with pytest.raises(InputError, match="y has NaN in row 1, column 3"):
        cs.linkage(square, metric="precomputed")
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
        ({"y": [1, -np.inf, 1]}, "y has -inf at position 1"),
        ({"y": [1, np.inf, 1], "similarity": True}, "y has inf at position 1"),
        ({"y": np.ones((3, 2)), "metric": "precomputed"}, "must be square"),
        ({"y": np.ones((3, 2)), "similarity": True}, "for precomputed y"),
        ({"y": np.ones((3, 2)), "storage": "disk"}, "storage must be one of"),
        ({"y": np.ones(3), "storage": "triangle"}, "y is precomputed"),
        ({"y": np.ones((9, 2)), "memory_limit": 100}, "memory_limit: storage='none' needs"),
        ({"y": np.ones(MANY * (MANY - 1) // 2), "memory_limit": 10}, "memory_limit is too small"),
        ({"y": [1.0, 2.0, 3.0], "overwrite": True}, "overwrite needs a writable"),
        ({"y": np.array([[1e30], [-1e30]], np.float32)}, "squared length"),
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
    if not cuda_status()[0]:
        with pytest.raises(RunError, match="linkage cannot run with device='cuda'"):
            cs.linkage(X, device="cuda")


@pytest.mark.parametrize("n", [500, MANY])
def test_progress_rises_to_one(n: int) -> None:
    seen: list[float] = []
    cs.linkage(clustered(n, 10, 0), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_memory_is_told_beforehand() -> None:
    need = cs.linkage_memory(20_000, 1024)
    assert need["none"] < need["triangle16"] < need["triangle"] < need["square"]
    X = clustered(300, 4, 0).astype(np.float32)
    plenty = cs.linkage_memory(300, 4)["triangle"]
    assert cs.linkage(X, return_info=True)[1]["storage"] == "none"
    assert cs.linkage(X, memory_limit=plenty, return_info=True)[1]["storage"] == "triangle"
