"""Cliques against a plain NumPy version of the whole stage, SciPy's linkage, their invariants."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import cliquesim as cs
from cliquesim import _core
from cliquesim.cliques.build import sample_pairs
from cliquesim.errors import InputError, RunError

Clique = tuple[int, ...]


# --- the reference -------------------------------------------------------------------------------


def pooled_matrix(X: NDArray[Any], sequences: NDArray[Any] | None, radius: int) -> NDArray[Any]:
    """All similarities, Eq. (9), straight from the definition; the mean rounded to float32."""
    S = X.astype(np.float64) @ X.T.astype(np.float64)
    if not radius or sequences is None:
        return S
    n = len(X)
    inside = [
        [0 <= i + m < n and sequences[i + m] == sequences[i] for m in range(-radius, radius + 1)]
        for i in range(n)
    ]
    pooled = np.empty_like(S)
    for i in range(n):
        for j in range(n):
            window = [m - radius for m in range(2 * radius + 1) if inside[i][m] and inside[j][m]]
            total = np.float32(sum(S[i + m, j + m] for m in window))
            pooled[i, j] = total / np.float32(len(window))
    return pooled


def cap(frames: list[int], rules: dict[str, Any]) -> list[int]:
    """Those that may stay, the first ones first."""
    groups, kept = rules["groups"], list[int]()
    for frame in frames:
        same = [] if groups is None else [k for k in kept if groups[k] == groups[frame]]
        near = any(abs(k - frame) <= rules["group_window"] for k in same)
        if len(same) < rules["per_group"] and not near:
            kept.append(frame)
    return kept


def intra(S: NDArray[Any], clique: Clique) -> float:
    if len(clique) < 2:
        return 1.0
    block = np.maximum(S[np.ix_(clique, clique)], 0)
    return float(np.mean(block[np.triu_indices(len(clique), 1)]))


def candidate(
    S: NDArray[Any], frame: int, neighbors: NDArray[Any], rules: dict[str, Any], threshold: float
) -> Clique:
    listed = [frame, *(int(j) for j in neighbors if j >= 0 and j != frame)]
    members = cap(list(dict.fromkeys(listed)), rules)
    G = S[np.ix_(members, members)].copy()
    np.fill_diagonal(G, -np.inf)
    clusters = {c: [c] for c in range(len(members))}
    while len(clusters) > 1:
        a, b = np.unravel_index(np.argmax(G), G.shape)
        if G[a, b] < threshold:
            break
        clusters[int(a)] += clusters.pop(int(b))
        G[a] = np.minimum(G[a], G[b])
        G[:, a] = G[a]
        G[b], G[:, b] = -np.inf, -np.inf
        G[a, a] = -np.inf
    chosen = sorted(next(c for c in clusters.values() if 0 in c))
    if rules["max_size"] and len(chosen) > rules["max_size"]:
        rest = sorted(chosen[1:], key=lambda c: -S[frame, members[c]])
        chosen = [0, *rest[: rules["max_size"] - 1]]
    return tuple(sorted(members[c] for c in chosen))


def overlap_of(a: Clique, b: Clique, kind: str) -> float:
    common = len(set(a) & set(b))
    whole = min(len(a), len(b)) if kind == "smaller" else len(set(a) | set(b))
    return float(np.float32(common / whole))


def union(S: NDArray[Any], a: Clique, b: Clique, rules: dict[str, Any]) -> Clique:
    both = sorted({*a, *b})
    block = np.maximum(S[np.ix_(both, both)], 0)
    np.fill_diagonal(block, 0)
    order = np.argsort(-block.sum(axis=1), kind="stable")
    return tuple(sorted(cap([both[i] for i in order], rules)))


def merge(
    S: NDArray[Any], cliques: list[Clique], rules: dict[str, Any], options: dict[str, Any]
) -> list[Clique]:
    """Rounds over a dense matrix of overlaps; 0 forbids."""
    K = len(cliques)
    shared = np.zeros((K, K))
    for a in range(K):
        for b in range(K):
            value = overlap_of(cliques[a], cliques[b], options["overlap"])
            if a != b and value > 0 and value >= options["min_overlap"]:
                shared[a, b] = value
    current = dict(enumerate(cliques))
    similarity = {k: intra(S, c) for k, c in current.items()}
    while shared.any():
        best = shared.argmax(axis=1)
        pairs = [(a, b) for a, b in enumerate(best) if shared[a, b] > 0 and best[b] == a and a < b]
        accepted = []
        for a, b in pairs:
            joined = union(S, current[a], current[b], rules)
            value = intra(S, joined)
            needed = options["ratio"] * 0.5 * (similarity[a] + similarity[b])
            fits = not rules["max_size"] or len(joined) <= rules["max_size"]
            if fits and value >= needed:
                accepted.append((a, b))
                current[a], similarity[a] = joined, value
                del current[b]
            else:
                shared[a, b] = shared[b, a] = 0
        for a, b in accepted:
            shared[a] = np.minimum(shared[a], shared[b])
            shared[:, a] = np.minimum(shared[:, a], shared[:, b])
            shared[b], shared[:, b], shared[a, a] = 0, 0, 0
    return [current[k] for k in sorted(current)]


def reference(
    X: NDArray[Any], neighbors: NDArray[Any], sequences: NDArray[Any] | None, **given_options: Any
) -> list[Clique]:
    options = {
        "groups": None,
        "per_group": 1,
        "group_window": 0,
        "max_size": 0,
        "min_size": 3,
        "pool_radius": 0,
        "overlap": "smaller",
        "min_overlap": 0.5,
        "ratio": 0.5,
    } | {key: value for key, value in given_options.items() if value is not None}
    S = pooled_matrix(X, sequences, options["pool_radius"])
    found = [candidate(S, i, neighbors[i], options, options["threshold"]) for i in range(len(X))]
    distinct = list(dict.fromkeys(c for c in found if len(c) >= options["min_size"]))
    merged = merge(S, distinct, options, options)
    return list(dict.fromkeys(c for c in merged if len(c) >= options["min_size"]))


# --- helpers -------------------------------------------------------------------------------------


def integer_corpus(
    seed: int, n: int = 90, dim: int = 12, clusters: int = 8, length: int = 9
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Small integers: every similarity is exact in float32, so equality can be asked for."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(-4, 5, size=(clusters, dim))
    X = centres[rng.integers(clusters, size=n)] + rng.integers(-2, 3, size=(n, dim))
    return X.astype(np.float32), np.arange(n) // length


def as_tuples(found: cs.Cliques) -> list[Clique]:
    return [tuple(found.members(k).tolist()) for k in range(len(found))]


@pytest.fixture(autouse=True)
def few_covered_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.CliqueWarning)
        yield


# --- the whole stage -----------------------------------------------------------------------------


CASES: list[dict[str, Any]] = [
    {"per_group": None},
    {"per_group": 1},
    {"per_group": 2},
    {"per_group": 3, "group_window": 2},
    {"per_group": None, "max_size": 5},
    {"per_group": 2, "ratio": 0.95},
    {"per_group": None, "ratio": 1.0, "min_overlap": 0.3},
    {"per_group": None, "overlap": "jaccard", "min_overlap": 0.25},
    {"per_group": 1, "min_size": 2, "min_overlap": 0.0},
]


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_version(options: dict[str, Any], seed: int) -> None:
    X, groups = integer_corpus(seed)
    capped = options["per_group"] is not None
    neighbors = cs.neighbors(X, k=15, groups=groups if capped else None)
    threshold = float(np.quantile(X @ X.T, 0.9)) + 0.5 * (seed % 2)
    found = cs.build_cliques(X, neighbors, groups, threshold=threshold, num_threads=2, **options)
    settings_used = {**options, "groups": groups if capped else None, "threshold": threshold}
    expected = reference(X, neighbors.indices, groups, **settings_used)
    assert as_tuples(found) == expected
    S = pooled_matrix(X, None, 0)
    np.testing.assert_allclose(found.intra_similarity, [intra(S, c) for c in expected], rtol=1e-12)


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_pooled_similarity_equals_the_plain_version(radius: int, seed: int) -> None:
    # A time axis in the data: neighbouring frames of a sequence differ by one step in one feature.
    rng = np.random.default_rng(seed)
    steps = rng.integers(-1, 2, size=(10, 8, 12))
    X = rng.integers(-3, 4, size=(3, 12))[rng.integers(3, size=10)][:, None] + steps
    X = np.ascontiguousarray(X.reshape(-1, 12).astype(np.float32))
    sequences = np.arange(len(X)) // 8
    neighbors = cs.neighbors(X, k=12, groups=sequences, pool_radius=radius)
    # No window has a length that divides an integer sum into exactly this.
    threshold = float(np.quantile(pooled_matrix(X, sequences, radius), 0.8)) + 1 / 64
    options: dict[str, Any] = {"threshold": threshold, "pool_radius": radius}
    found = cs.build_cliques(X, neighbors, sequences, **options)
    assert as_tuples(found) == reference(
        X, neighbors.indices, sequences, groups=sequences, **options
    )
    apart = cs.build_cliques(X, neighbors, sequences // 2, sequences=sequences, **options)
    assert as_tuples(apart) == reference(
        X, neighbors.indices, sequences, groups=sequences // 2, **options
    )


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("seed", range(3))
def test_candidates_equal_scipys_linkage(level: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 20)).astype(np.float32)
    neighbors = cs.neighbors(X, k=20).indices
    threshold = 6.0
    offsets, members, _ = _core.load_level(level).candidate_cliques(
        X, neighbors, None, None, 0, threshold, 1, 0, 0, 2, None
    )
    for i in range(len(X)):
        frames = np.array([i, *neighbors[i]])
        distance = -(X[frames].astype(np.float64) @ X[frames].T.astype(np.float64))
        np.fill_diagonal(distance, 0)
        shift = 1 - distance.min()  # SciPy wants distances that are not negative
        condensed = squareform(distance + shift * (1 - np.eye(len(frames))), checks=False)
        tree = hierarchy.linkage(condensed, "complete")
        label = hierarchy.fcluster(tree, shift - threshold, "distance")
        expected = np.sort(frames[label == label[0]])
        np.testing.assert_array_equal(members[offsets[i] : offsets[i + 1]], expected)


@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 20),
    per_group=st.integers(1, 4),
    window=st.integers(0, 3),
    quantile=st.sampled_from([0.5, 0.8, 0.95]),
    threads=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_invariants(
    seed: int, k: int, per_group: int, window: int, quantile: float, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    n, dim = int(rng.integers(5, 120)), int(rng.integers(1, 40))
    X = (rng.normal(size=(6, dim))[rng.integers(6, size=n)] * 2 + rng.normal(size=(n, dim))).astype(
        np.float32
    )
    groups = np.sort(rng.integers(8, size=n))
    neighbors = cs.neighbors(X, k=k)
    S = X.astype(np.float64) @ X.T.astype(np.float64)
    slack = 1e-4 * np.abs(S).max()
    threshold = float(np.quantile(S, quantile))
    offsets, members, _ = _core.candidate_cliques(
        X, neighbors.indices, groups, None, 0, threshold, per_group, window, 0, threads, None
    )
    for i in range(n):
        clique = members[offsets[i] : offsets[i + 1]]
        assert i in clique
        assert np.isin(clique, [i, *neighbors.indices[i]]).all()
        pairs = S[np.ix_(clique, clique)][np.triu_indices(len(clique), 1)]
        assert (pairs >= np.float32(threshold) - slack).all()
    if len(np.unique(groups)) * per_group < 2:
        return
    try:
        found = cs.build_cliques(
            X,
            neighbors,
            groups,
            min_size=2,
            threshold=threshold,
            per_group=per_group,
            group_window=window,
            num_threads=threads,
        )
    except RunError:
        return
    C = found.membership.toarray()
    assert set(np.unique(C)) <= {0, 1}
    assert len(np.unique(C, axis=0)) == len(C) == len(found)
    assert (C.sum(axis=1) >= 2).all()
    for row in C:
        for group in np.unique(groups):
            rows = np.flatnonzero((row == 1) & (groups == group))
            assert len(rows) <= per_group
            assert (np.diff(rows) > window).all()
    mean_pairs = (C @ S @ C.T) / np.outer(C.sum(axis=1), C.sum(axis=1))
    np.testing.assert_allclose(found.similarity, mean_pairs, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.similarity, found.similarity.T)
    eigenvalues = np.linalg.eigvalsh(found.similarity)
    assert eigenvalues[0] >= -1e-9 * max(eigenvalues[-1], 1)


@pytest.mark.parametrize("level", _core.runnable_levels())
def test_bit_identical_over_thread_counts(level: str) -> None:
    kernel = _core.load_level(level)
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 30))[rng.integers(40, size=700)] * 2).astype(np.float32)
    X += rng.normal(size=X.shape).astype(np.float32)
    groups = np.arange(700) // 10
    neighbors = cs.neighbors(X, k=20, groups=groups).indices
    results = []
    for threads in (1, 2, 5):
        candidates = kernel.candidate_cliques(
            X, neighbors, groups, groups, 1, 30.0, 2, 1, 0, threads, None
        )
        distinct = kernel.distinct_cliques(*candidates, 3, 700)
        merged, numbers = kernel.merge_cliques(
            X, *distinct, groups, groups, 1, 2, 1, 0, "smaller", 0.5, 0.5, 128, 2048, threads, None
        )
        means = kernel.clique_means(X, merged[0], merged[1], groups, 1, -1, threads)
        assert numbers["merges"] > 0
        results.append((*candidates, *merged, means))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_pooled_clique_similarity_is_exact_inside_sequences() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 7)).astype(np.float32)
    sequences = np.arange(60) // 20
    S = pooled_matrix(X, sequences, 2)
    inner = np.array([5, 27, 48, 9, 33, 51])
    offsets, members = np.array([0, 3, 6]), np.sort(inner.reshape(2, 3), axis=1).ravel()
    total = np.zeros((2, 2))
    for shift in range(-2, 3):
        means = _core.clique_means(X, offsets, members, sequences, 2, shift, 1)
        total += means @ means.T
    blocks = members.reshape(2, 3)
    expected = [[S[np.ix_(a, b)].mean() for b in blocks] for a in blocks]
    np.testing.assert_allclose(total, expected, rtol=1e-6)


# --- single decisions ----------------------------------------------------------------------------


def merge_kernel(
    X: NDArray[np.float32], cliques: list[Clique], **options: Any
) -> tuple[list[Clique], dict[str, int]]:
    offsets = np.cumsum([0, *map(len, cliques)])
    members = np.concatenate([np.array(c, np.int64) for c in cliques])
    S = pooled_matrix(X, None, 0)
    values = np.array([intra(S, c) for c in cliques])
    used = {"ratio": 0.5, "min_overlap": 0.5, "max_edges": 128, "max_posting": 2048} | options
    (starts, found, _), numbers = _core.merge_cliques(
        X, offsets, members, values, None, None, 0, 1, 0, 0, "smaller",
        used["min_overlap"], used["ratio"], used["max_edges"], used["max_posting"], 1, None,
    )  # fmt: skip
    return [tuple(found[a:b].tolist()) for a, b in pairwise(starts)], numbers


def test_a_merge_below_half_of_its_constituents_is_vetoed_and_others_go_on() -> None:
    # Two tight pairs share a frame that lies between them; the pairs themselves are orthogonal.
    X = np.array([[2, 0], [2, 0], [1, 1], [0, 2], [0, 2], [9, 0], [9, 0], [9, 0]], np.float32)
    cliques: list[Clique] = [(0, 1, 2), (2, 3, 4), (5, 6), (5, 6, 7)]
    S = pooled_matrix(X, None, 0)
    merged = intra(S, (0, 1, 2, 3, 4))
    mean = 0.5 * (intra(S, cliques[0]) + intra(S, cliques[1]))
    assert merged < 0.7 * mean
    found, numbers = merge_kernel(X, cliques, ratio=0.7, min_overlap=0.3)
    assert found == [(0, 1, 2), (2, 3, 4), (5, 6, 7)]
    assert (numbers["merges"], numbers["vetoes"]) == (1, 1)
    assert merge_kernel(X, cliques, ratio=0.5, min_overlap=0.3)[0][0] == (0, 1, 2, 3, 4)


def test_an_absent_overlap_forbids_the_merge() -> None:
    # 0-1 and 1-2 overlap, 0 and 2 do not: farthest-neighbour clustering joins two of the three.
    X = np.ones((8, 1), np.float32)
    found, _ = merge_kernel(X, [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7)])
    assert found == [(0, 1, 2, 3, 4, 5), (4, 5, 6, 7)]


def test_crowded_frames_still_count_in_the_overlap() -> None:
    X, _ = integer_corpus(0)
    S = pooled_matrix(X, None, 0)
    neighbors = cs.neighbors(X, k=10).indices
    rules = {"groups": None, "per_group": 1, "group_window": 0, "max_size": 0}
    cliques = [candidate(S, i, neighbors[i], rules, 40.0) for i in range(len(X))]
    cliques = list(dict.fromkeys(c for c in cliques if len(c) >= 3))
    full, numbers = merge_kernel(X, cliques)
    limited, limited_numbers = merge_kernel(X, cliques, max_posting=8)
    assert limited_numbers["overlap_edges"] <= numbers["overlap_edges"]
    assert sum(map(len, limited)) >= sum(map(len, full))
    assert merge_kernel(X, cliques, max_posting=1)[1]["overlap_edges"] == 0


def test_few_edges_per_clique_keep_the_strongest() -> None:
    X = np.ones((6, 1), np.float32)
    cliques: list[Clique] = [(0, 1, 2, 3), (0, 1, 2, 4), (0, 1, 5), (0, 1, 2, 3, 4)]
    assert merge_kernel(X, cliques, max_edges=1)[1]["overlap_edges"] == 1
    assert merge_kernel(X, cliques, max_edges=3)[1]["overlap_edges"] == 6


def test_without_merging_the_candidates_stay() -> None:
    X, groups = integer_corpus(1)
    found = cs.neighbors(X, k=15, groups=groups)
    options: dict[str, Any] = {"threshold": float(np.quantile(X @ X.T, 0.9)), "per_group": 2}
    apart = cs.build_cliques(X, found, groups, merge=False, **options)
    vetoed = cs.build_cliques(X, found, groups, ratio=1e9, **options)
    assert vetoed.info["vetoes"] > vetoed.info["merges"] == 0
    assert as_tuples(apart) == as_tuples(vetoed)
    assert apart.info["overlap_edges"] == apart.info["merges"] == apart.info["vetoes"] == 0
    assert len(cs.build_cliques(X, found, groups, **options)) < len(apart)


def test_max_cliques_keeps_those_that_cover_most() -> None:
    offsets = np.array([0, 3, 6, 8, 12])
    members = np.array([0, 1, 2, 1, 2, 3, 7, 8, 0, 1, 2, 3])
    even = np.ones(4)
    assert _core.cover_greedily(offsets, members, even, 9, 2).tolist() == [2, 3]
    assert _core.cover_greedily(offsets, members, even, 9, 9).tolist() == [0, 1, 2, 3]
    weighted = np.array([1.0, 1.0, 5.0, 0.5])
    assert _core.cover_greedily(offsets, members, weighted, 9, 2).tolist() == [0, 2]
    X, _ = integer_corpus(0)
    found = cs.build_cliques(X, cs.neighbors(X, k=8), similarity_quantile=0.9, max_cliques=4)
    assert len(found) == 4
    assert found.similarity.shape == (4, 4)
    assert found.info["dropped"] > 0


def test_quantile_is_over_pairs_of_different_groups() -> None:
    X, groups = integer_corpus(3)
    neighbors = cs.neighbors(X, k=10, groups=groups)
    found = cs.build_cliques(X, neighbors, groups, similarity_quantile=0.9)
    S = X @ X.T
    i, j = np.triu_indices(len(X), 1)
    other = groups[i] != groups[j]
    assert found.threshold == np.float32(np.quantile(S[i, j][other], 0.9))


def test_sampled_pairs_are_uniform_and_never_of_one_group() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([3, 1, 7, 9], [1000, 10, 300, 40]))
    first, second = sample_pairs(len(groups), groups, 5)
    again = sample_pairs(len(groups), groups, 5)
    np.testing.assert_array_equal(first, again[0])
    assert (groups[first] != groups[second]).all()
    sizes = {3: 1000, 1: 10, 7: 300, 9: 40}
    total = sum(a * b for g, a in sizes.items() for h, b in sizes.items() if g != h)
    for g, a in sizes.items():
        for h, b in sizes.items():
            share = ((groups[first] == g) & (groups[second] == h)).mean()
            expected = a * b / total if g != h else 0.0
            assert share == pytest.approx(expected, abs=5 * np.sqrt(expected / len(first)) + 1e-9)


# --- the result object, warnings, bad input ------------------------------------------------------


def test_arrays_bring_the_cliques_back() -> None:
    X, groups = integer_corpus(2)
    found = cs.build_cliques(X, cs.neighbors(X, k=10, groups=groups), groups)
    arrays = found.to_arrays()
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "if" for a in arrays.values())
    back = cs.Cliques.from_arrays(arrays, found.info)
    assert as_tuples(back) == as_tuples(found)
    np.testing.assert_array_equal(back.similarity, found.similarity)
    np.testing.assert_array_equal(back.sizes, found.membership.sum(axis=1).A1)
    assert (back.threshold, back.coverage, back.info) == (
        found.threshold, found.coverage, found.info,
    )  # fmt: skip
    with pytest.raises(InputError, match="lack 'indptr'"):
        cs.Cliques.from_arrays({})
    with pytest.raises(InputError, match="similarity"):
        cs.Cliques.from_arrays({**arrays, "similarity": np.eye(2)})
    with pytest.raises(InputError, match="indices must be in"):
        cs.Cliques.from_arrays({**arrays, "n_frames": np.array(2)})
    with pytest.raises(InputError, match="k must be in"):
        found.members(len(found))


@pytest.mark.filterwarnings("error")
def test_cliques_of_one_sequence_are_warned_of() -> None:
    X = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0)
    groups = np.arange(24) // 6
    with pytest.warns(cs.CliqueWarning, match="100% of the pairs within cliques are of one group"):
        found = cs.build_cliques(X, cs.neighbors(X, k=5), groups, threshold=0.5, per_group=None)
    assert found.same_group_pairs == 1.0
    apart = cs.build_cliques(X, cs.neighbors(X, k=5), np.arange(24) % 6, threshold=0.5)
    assert apart.same_group_pairs == 0.0


@pytest.mark.filterwarnings("error")
def test_low_coverage_is_warned_of() -> None:
    X = np.eye(40, dtype=np.float32)
    X[:3] = 1
    with pytest.warns(cs.CliqueWarning, match="cover 8% of the frames"):
        cs.build_cliques(X, cs.neighbors(X, k=5), threshold=10.0)


def test_all_frames_the_same_and_two_frames() -> None:
    same = cs.build_cliques(np.ones((30, 4)), cs.neighbors(np.ones((30, 4)), k=29))
    assert as_tuples(same) == [tuple(range(30))]
    pair = cs.build_cliques(np.ones((2, 1)), [[1], [0]], min_size=2)
    assert as_tuples(pair) == [(0, 1)]


def good_arguments() -> dict[str, Any]:
    return {
        "X": np.eye(4, dtype=np.float32),
        "neighbors": np.array([[1, 2], [0, 2], [0, 1], [0, -1]]),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [[1.0, np.nan]] * 4}, "X has NaN in row 0"),
        ({"X": np.ones((1, 3)), "neighbors": [[-1]]}, "at least 2 rows"),
        ({"neighbors": np.full((4, 2), 4)}, "index 4 in row 0, but X has 4 rows"),
        ({"neighbors": np.full((4, 2), -2)}, "index -2 in row 0"),
        ({"neighbors": np.zeros((3, 2), int)}, r"shape \(4, k\)"),
        ({"neighbors": np.zeros((4, 2))}, "integers"),
        ({"groups": [0, 1]}, "groups must have shape"),
        ({"groups": [5] * 4}, "groups has 1 different labels"),
        ({"similarity_quantile": 1.5}, "similarity_quantile must be in"),
        ({"min_size": 0}, "min_size must be at least 1"),
        ({"max_size": 2}, "max_size must be at least 3"),
        ({"per_group": 0}, "per_group must be at least 1"),
        ({"pool_radius": 1}, "pool_radius needs sequences or groups"),
        ({"overlap": "dice"}, "overlap must be one of"),
        ({"min_overlap": -1}, "min_overlap must be in"),
        ({"threshold": np.inf}, "threshold must be in"),
        ({"max_cliques": 0}, "max_cliques must be at least 1"),
        ({"X": np.full((4, 2), 1e30)}, "overflow float32"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cs.build_cliques(**{**good_arguments(), **change})


def test_sequences_that_return_are_refused_when_pooling() -> None:
    with pytest.raises(InputError, match=r"sequence 0 must be contiguous .* row 2 returns"):
        cs.build_cliques(**good_arguments(), sequences=[0, 1, 0, 1], pool_radius=1, threshold=0.5)


def test_no_clique_says_what_to_change() -> None:
    largest = "no clique of 3 frames: the largest of 4 candidates has 1"
    with pytest.raises(RunError, match=rf"{largest}. Lower threshold \(now 0.5\) or min_size"):
        cs.build_cliques(**good_arguments(), threshold=0.5)
    X = np.random.default_rng(0).normal(size=(8, 8))
    groups = np.arange(8) // 2
    with pytest.raises(RunError, match=r"Lower similarity_quantile \(now 1, .* raise per_group"):
        cs.build_cliques(X, cs.neighbors(X, k=3), groups, similarity_quantile=1.0)


def test_equal_rows_of_long_sequences_are_called_equal() -> None:
    # Ties give every row neighbours of one other sequence, so that no candidate passes the cap.
    X, groups = np.ones((90, 4)), np.arange(90) // 30
    with pytest.raises(RunError, match=r"All rows of X are equal.* check the frames"):
        cs.build_cliques(X, cs.neighbors(X, k=10, groups=groups), groups)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    X, _ = integer_corpus(1)
    cs.build_cliques(X, cs.neighbors(X, k=10), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
