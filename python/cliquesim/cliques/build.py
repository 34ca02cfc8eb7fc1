"""Candidates, merging and selection: from descriptors and neighbours to cliques (Sect. 2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._validation import (
    as_choice,
    as_count,
    as_groups,
    as_matrix,
    as_real,
    as_threads,
)
from cliquesim.cliques.result import Cliques, membership_matrix, warn_about
from cliquesim.errors import InputError, RunError
from cliquesim.neighbors import Neighbors

_SAMPLED_PAIRS = 100_000
_MERGE_NUMBERS = ("overlap_edges", "merge_rounds", "merges", "vetoes")

_Progress = Callable[[float], object] | None
# Offsets, members and intra-clique similarities, as the kernels give and take them.
_List = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def build_cliques(
    X: ArrayLike,
    neighbors: Neighbors | ArrayLike,
    groups: ArrayLike | None = None,
    *,
    min_size: int = 3,
    max_size: int | None = None,
    similarity_quantile: float = 0.95,
    threshold: float | None = None,
    per_group: int | None = 1,
    group_window: int | None = None,
    pool_radius: int = 0,
    sequences: ArrayLike | None = None,
    merge: bool = True,
    overlap: str = "smaller",
    min_overlap: float = 0.5,
    ratio: float = 0.5,
    max_cliques: int | None = 5000,
    num_threads: int | None = None,
    seed: int = 0,
    progress: _Progress = None,
) -> Cliques:
    """Group frames into compact, possibly overlapping cliques of mutually similar frames.

    1. A candidate per frame: complete linkage of the frame and its neighbours, cut so that all
       pairs of members are at least `threshold` similar; the cluster that holds the frame.
    2. Candidates below `min_size` are dropped, equal ones collapse.
    3. Highly overlapping cliques are merged by farthest-neighbour clustering on their overlap,
       strongest first. A merge whose intra-clique similarity is below `ratio` times the mean of its
       two constituents' is vetoed, and later ones that would bring the two together are, too.
    4. At most `max_cliques` are kept, and S' is computed from the cliques' mean descriptors.

    Parameters
    ----------
    X : (N, D) array, converted to float32
        Descriptors; similarity is their dot product.
    neighbors : Neighbors or (N, k) int array
        Most similar frames of every frame, most similar first, -1 for none.
    groups : (N,) int array, optional
        Label per frame, for example its sequence, for the cap `per_group`.
    min_size, max_size : int
        Members of a clique. Of a larger candidate the frames most similar to its anchor stay; a
        merge beyond `max_size` is vetoed.
    similarity_quantile : float
        The threshold is this quantile of the similarities of pairs of frames of different groups
        (of up to 100,000 random ones).
    threshold : float, optional
        The threshold itself, instead of the quantile.
    per_group : int or None
        At most so many members of one group, the most similar ones; in a merged clique those most
        similar to its other members. None: no cap. Without `groups` there is none.
    group_window : int, optional
        With `per_group` > 1, members of a group are more than this many rows apart.
    pool_radius : int
        p > 0: similarities are pooled by Eq. (9) over -p..p within `sequences`. S' is then exact
        except for frames less than p from the end of a sequence.
    sequences : (N,) int array, optional
        Sequence per frame, contiguous and in time order, for pooling; `groups` by default.
    merge : bool
        False leaves out step 3.
    overlap : {"smaller", "jaccard"}
        Common members over those of the smaller clique, or over those of both together.
    min_overlap : float
        Cliques that overlap less are not merged.
    ratio : float
        Of the stop rule; the paper's is one half.
    max_cliques : int or None
        More are cut down greedily to those that cover most frames, weighted by their intra-clique
        similarity. It bounds the K x K matrix S'.
    num_threads : int, optional
        All processors of this process by default; the result is the same bit for bit.
    seed : int
        Of the sampled pairs.
    progress : callable, optional
        Gets the share of the work that is done, 0 to 1.

    Returns
    -------
    Cliques
        `info` has `candidates`, `too_small` (dropped), `duplicates`, `overlap_edges`,
        `merge_rounds`, `merges`, `vetoes`, `dropped` (by `max_cliques`), `cliques`, `coverage`,
        `same_group_pairs`, `threshold` and `seconds`.

    Raises
    ------
    InputError
        Wrong shape or type, NaN or inf (the row is named), neighbours out of range.
    RunError
        No clique of `min_size` members was found.

    Warns
    -----
    CliqueWarning
        More than half of the pairs of members are of one group, or few frames are covered.

    Examples
    --------
    >>> import numpy as np, cliquesim as cs
    >>> X = np.repeat(np.eye(3), 4, axis=0)
    >>> found = cs.build_cliques(X, cs.neighbors(X, k=5), threshold=0.5)
    >>> [found.members(k).tolist() for k in range(len(found))]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    """
    start = time.perf_counter()
    X = as_matrix(X, "X")
    n = len(X)
    if n < 2 or X.shape[1] == 0:
        raise InputError(f"X must have at least 2 rows and a column, got shape {X.shape}")
    indices = _as_neighbors(neighbors, n)
    group_labels = as_groups(groups, n)
    min_size = as_count(min_size, "min_size", minimum=1)
    max_size = 0 if max_size is None else as_count(max_size, "max_size", minimum=min_size)
    pool_radius = as_count(pool_radius, "pool_radius")
    labels = as_groups(sequences, n, "sequences")
    labels = group_labels if labels is None else labels
    if pool_radius:
        if labels is None:
            raise InputError("pool_radius needs sequences or groups: the sequence of each row")
        _check_contiguous(labels)
    pooling = (labels if pool_radius else None, pool_radius)
    if per_group is not None:
        per_group = as_count(per_group, "per_group", minimum=1)
        _check_cap(group_labels, per_group, min_size)
    cap = None if per_group is None else group_labels
    rules = (per_group or 1, 0 if group_window is None else as_count(group_window, "group_window"))
    as_choice(overlap, "overlap", ("smaller", "jaccard"))
    min_overlap = as_real(min_overlap, "min_overlap", 0.0, 1.0)
    ratio = as_real(ratio, "ratio", 0.0)
    limit = None if max_cliques is None else as_count(max_cliques, "max_cliques", minimum=1)
    similarity_quantile = as_real(similarity_quantile, "similarity_quantile", 0.0, 1.0)
    seed = as_count(seed, "seed")
    threads = as_threads(num_threads)

    quantile = similarity_quantile if threshold is None else None
    if threshold is None:
        threshold = _quantile(X, group_labels, similarity_quantile, seed, pooling, threads)
    threshold = float(np.float32(as_real(threshold, "threshold")))
    candidates = _core.candidate_cliques(
        X,
        indices,
        cap,
        *pooling,
        threshold,
        *rules,
        max_size,
        threads,
        _share(progress, 0.0, 0.6),
    )
    sizes = np.diff(candidates[0])
    distinct = _core.distinct_cliques(*candidates, min_size, n)
    if len(distinct[2]) == 0:
        largest = f"no clique of {min_size} frames: the largest of {n} candidates has {sizes.max()}"
        raise RunError(f"{largest}. {_remedy(X, cap is not None, threshold, quantile)}")
    final, numbers = distinct, dict.fromkeys(_MERGE_NUMBERS, 0)
    if merge:
        merged, numbers = _core.merge_cliques(
            X,
            *distinct,
            cap,
            *pooling,
            *rules,
            max_size,
            overlap,
            min_overlap,
            ratio,
            128,
            2048,
            threads,
            _share(progress, 0.6, 0.95),
        )
        final = _core.distinct_cliques(*merged, min_size, n)
    kept = _select(final, n, limit)
    info: dict[str, Any] = {
        "candidates": n,
        "too_small": int((sizes < min_size).sum()),
        "duplicates": int((sizes >= min_size).sum()) - len(distinct[2]),
        **numbers,
        "dropped": len(final[2]) - len(kept[2]),
    }
    result = Cliques(
        membership_matrix(kept[0], kept[1], n),
        _clique_similarity(X, kept, pooling, threads),
        kept[2],
        threshold,
        _same_group_share(kept, group_labels),
        info,
    )
    info |= {
        "cliques": len(result),
        "coverage": result.coverage,
        "same_group_pairs": result.same_group_pairs,
        "threshold": threshold,
        "seconds": time.perf_counter() - start,
    }
    warn_about(result, group_labels is not None)
    if progress is not None:
        progress(1.0)
    return result


def _as_neighbors(neighbors: Neighbors | ArrayLike, n: int) -> NDArray[np.int64]:
    found = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    indices = np.asarray(found)
    if indices.dtype.kind not in "iu":
        raise InputError(f"neighbors must hold integers, got dtype {indices.dtype}")
    if indices.ndim != 2 or len(indices) != n:
        raise InputError(f"neighbors must have shape ({n}, k), got {indices.shape}")
    bad = (indices < -1) | (indices >= n)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        raise InputError(
            f"neighbors has index {indices[row][bad[row]][0]} in row {row}, but X has {n} rows"
        )
    return np.ascontiguousarray(indices, dtype=np.int64)


def _check_contiguous(sequences: NDArray[np.int64]) -> None:
    starts = np.flatnonzero(np.diff(sequences, prepend=sequences[0] - 1))
    _, first = np.unique(sequences[starts], return_index=True)
    returns = np.setdiff1d(np.arange(len(starts)), first)
    if returns.size:
        row = int(starts[returns[0]])
        raise InputError(
            f"the rows of sequence {sequences[row]} must be contiguous for pooling, but row {row} "
            "returns to it"
        )


def _check_cap(groups: NDArray[np.int64] | None, per_group: int, min_size: int) -> None:
    if groups is None:
        return
    count = len(np.unique(groups))
    if count * per_group < min_size:
        raise InputError(
            f"groups has {count} different labels, so that per_group={per_group} allows no clique "
            f"of min_size={min_size}; raise per_group, or pass per_group=None for no cap"
        )


def _share(progress: _Progress, begin: float, end: float) -> _Progress:
    if progress is None:
        return None
    return lambda fraction: progress(begin + fraction * (end - begin))


def sample_pairs(
    n: int, groups: NDArray[np.int64] | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of frames of different groups: all of them, or a uniform sample."""
    labels = np.arange(n) if groups is None or len(np.unique(groups)) < 2 else groups
    if n * (n - 1) // 2 <= _SAMPLED_PAIRS:
        i, j = np.triu_indices(n, 1)
        other = labels[i] != labels[j]
        return i[other], j[other]
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    begin = np.searchsorted(labels[order], labels[order], side="left")
    size = np.searchsorted(labels[order], labels[order], side="right") - begin
    # A row with fewer partners is drawn less often; its partner skips the row's own group.
    share = np.cumsum(n - size, dtype=np.float64)
    first = np.searchsorted(share, rng.random(_SAMPLED_PAIRS) * share[-1], side="right")
    partner = (rng.random(_SAMPLED_PAIRS) * (n - size[first])).astype(np.int64)
    partner += np.where(partner >= begin[first], size[first], 0)
    return order[first], order[partner]


def _quantile(
    X: NDArray[np.float32],
    groups: NDArray[np.int64] | None,
    quantile: float,
    seed: int,
    pooling: tuple[NDArray[np.int64] | None, int],
    threads: int,
) -> float:
    first, second = sample_pairs(len(X), groups, seed)
    similarities = _core.pair_similarities(X, first, second, *pooling, threads)
    if not np.isfinite(similarities).all():
        raise InputError("X has too large values: similarities overflow float32")
    return float(np.quantile(similarities, quantile))


def _remedy(X: NDArray[np.float32], capped: bool, threshold: float, quantile: float | None) -> str:
    """What to do where no candidate was large enough."""
    if not np.ptp(X, axis=0).any():
        return (
            "All rows of X are equal, so that nothing tells the frames apart: check the frames "
            "and their descriptors"
        )
    lower = f"threshold (now {threshold:g})"
    if quantile is not None:
        lower = f"similarity_quantile (now {quantile:g}, threshold {threshold:g})"
    cap = ", or raise per_group" if capped else ""
    return f"Lower {lower} or min_size, or take more neighbours{cap}"


def _select(cliques: _List, n: int, limit: int | None) -> _List:
    offsets, members, intra = cliques
    if limit is None or len(intra) <= limit:
        return cliques
    chosen = _core.cover_greedily(offsets, members, intra, n, limit)
    kept = [members[offsets[k] : offsets[k + 1]] for k in chosen]
    sizes = [0, *(len(part) for part in kept)]
    return np.cumsum(sizes, dtype=np.int64), np.concatenate(kept), intra[chosen]


def _clique_similarity(
    X: NDArray[np.float32],
    cliques: _List,
    pooling: tuple[NDArray[np.int64] | None, int],
    threads: int,
) -> NDArray[np.float64]:
    """S': a sum of Gram matrices of mean descriptors, one per shift of the pooling window."""
    K, radius = len(cliques[2]), pooling[1]
    similarity = np.zeros((K, K))
    for shift in range(-radius, radius + 1):
        means = _core.clique_means(X, cliques[0], cliques[1], *pooling, shift, threads)
        similarity += means @ means.T
    return similarity


def _same_group_share(cliques: _List, groups: NDArray[np.int64] | None) -> float:
    offsets, members, _ = cliques
    sizes = np.diff(offsets)
    pairs = int((sizes * (sizes - 1) // 2).sum())
    if groups is None or pairs == 0:
        return 0.0
    clique = np.repeat(np.arange(len(sizes)), sizes)
    _, count = np.unique(np.stack([clique, groups[members]]), axis=1, return_counts=True)
    return int((count * (count - 1) // 2).sum()) / pairs
