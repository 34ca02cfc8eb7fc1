"""How strongly to regularise the whitening, chosen without labels.

Two rules. With sequences, *time direction*: a good similarity knows which way time runs. For a
frame i let j be its most similar frame of another sequence. If j shows the same posture, then d
frames later i + d should look more like j + d than like j - d, which is equally far from j in time,
so that smoothness alone gives no advantage. The score of a lambda is the share of such comparisons
that come out right; 0.5 is chance. Without sequences, Ledoit and Wolf's formula (2004) with a
floor, because it models density: for retrieval, and for neighbouring frames that are not
independent, it lands far too low.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim.features._moments import Rows, float32_rows

GRID = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FLOOR = 3.0
_CAPACITY = 4096
_STRETCH = 64
_QUERIES = 2048
_MAX_LAG = 4
_MIN_QUERIES = 50

_Matrix = NDArray[np.float32]


@dataclass
class ShrinkagePath:
    """What "auto" looked at: `score` of every `relative_shrinkage`, by `criterion`."""

    criterion: str
    relative_shrinkage: NDArray[np.float64]
    score: NDArray[np.float64]
    chosen: float


@dataclass
class _Stretch:
    priority: float
    group: int
    rows: _Matrix


class StretchSample:
    """A bounded random sample of stretches of successive rows, filled in one or many calls."""

    def __init__(self, capacity: int = _CAPACITY, seed: int = 0) -> None:
        self._capacity = capacity
        self._rng = np.random.default_rng(seed)
        self._stretches: list[_Stretch] = []
        self.has_groups = False

    def add(self, X: Rows, groups: NDArray[np.int64] | None) -> None:
        """Take stretches of X (N, D); without groups all rows count as one sequence."""
        self.has_groups = groups is not None
        label = np.zeros(len(X), np.int64) if groups is None else groups
        cuts = np.flatnonzero(np.diff(label)) + 1
        bounds: list[int] = [0]
        for stop in [*cuts.tolist(), len(X)]:
            pieces = -(-(stop - bounds[-1]) // _STRETCH)
            bounds += np.linspace(bounds[-1], stop, pieces + 1).astype(int)[1:].tolist()
        priorities = self._rng.random(len(bounds) - 1)
        candidates = [(s.priority, -1) for s in self._stretches]
        candidates += [(p, k) for k, p in enumerate(priorities.tolist())]
        kept, total = [], 0
        old = {s.priority: s for s in self._stretches}
        for priority, k in sorted(candidates):
            size = len(old[priority].rows) if k < 0 else bounds[k + 1] - bounds[k]
            if total and total + size > self._capacity:
                break
            total += size
            if k < 0:
                kept.append(old[priority])
            else:
                rows = np.array(float32_rows(X[bounds[k] : bounds[k + 1]]))
                kept.append(_Stretch(priority, int(label[bounds[k]]), rows))
        self._stretches = kept

    def stack(self) -> tuple[_Matrix, NDArray[np.int64], NDArray[np.int64]]:
        """Rows (n, D), and for every row its group and its stretch."""
        sizes = [len(s.rows) for s in self._stretches]
        groups = np.repeat([s.group for s in self._stretches], sizes)
        return (
            np.concatenate([s.rows for s in self._stretches]),
            groups.astype(np.int64),
            np.repeat(np.arange(len(sizes)), sizes),
        )


def time_direction(
    groups: NDArray[np.int64],
    stretches: NDArray[np.int64],
    whiten: Callable[[float], _Matrix],
    grid: tuple[float, ...] = GRID,
    seed: int = 0,
    threads: int = 0,
) -> ShrinkagePath | None:
    """Score every relative lambda of `grid`; None if the sample cannot tell.

    `whiten` gives the sample's rows whitened with a relative lambda. The scores are smoothed with
    weights 1, 2, 1 before the best is taken: neighbouring values differ by less than the noise.
    Cost per lambda: one whitening and one queries x sample matrix product.
    """
    lag, valid = _interior(stretches)
    if len(valid) < _MIN_QUERIES or len(np.unique(groups[valid])) < 2:
        return None
    queries = valid
    if len(valid) > _QUERIES:
        chosen = np.random.default_rng(seed).choice(len(valid), _QUERIES, replace=False)
        queries = valid[np.sort(chosen)]
    same = groups[queries][:, None] == groups[valid][None, :]
    per_query = np.stack([_direction(whiten(r), queries, valid, same, lag, threads) for r in grid])
    scores = per_query.mean(axis=1)
    padded = np.pad(scores, 1, mode="edge")
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    best = int(np.argmax(smooth))
    error = float(per_query[best].std()) / np.sqrt(len(queries))
    if smooth[best] < 0.5 + 3 * error or error == 0:
        return None
    return ShrinkagePath("time direction", np.array(grid), scores, float(grid[best]))


def _interior(stretches: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """Rows with `lag` rows of their stretch on both sides; the lag shrinks for short sequences."""
    index = np.arange(len(stretches))
    first = np.searchsorted(stretches, stretches, side="left")
    last = np.searchsorted(stretches, stretches, side="right") - 1
    margin = np.minimum(index - first, last - index)
    lag = next((d for d in range(_MAX_LAG, 1, -1) if (margin >= d).mean() > 0.3), 1)
    return lag, np.flatnonzero(margin >= lag)


def _direction(
    rows: _Matrix,
    queries: NDArray[np.int64],
    valid: NDArray[np.int64],
    same: NDArray[np.bool_],
    lag: int,
    threads: int,
) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(norms, np.finfo(np.float32).tiny)
    similarity = np.empty((len(queries), len(valid)), np.float32)
    columns, centre = np.ascontiguousarray(unit[valid].T), np.zeros(rows.shape[1], np.float32)
    _core.project(unit[queries], centre, columns, similarity, threads, None)
    similarity[same] = -np.inf
    match = valid[similarity.argmax(axis=1)]
    right = np.zeros(len(queries))
    for d in [*range(-lag, 0), *range(1, lag + 1)]:
        with_time = np.einsum("nd,nd->n", unit[queries + d], unit[match + d])
        against = np.einsum("nd,nd->n", unit[queries + d], unit[match - d])
        right += np.where(with_time == against, 0.5, with_time > against)
    usable = np.isfinite(similarity.max(axis=1))
    return np.where(usable, right / (2 * lag), 0.5)


def ledoit_wolf(
    rows: _Matrix, stretches: NDArray[np.int64], covariance: NDArray[np.float64], n_rows: int
) -> float:
    """Ledoit and Wolf's optimal shrinkage towards m I, as lambda / m.

    Fourth moments come from the sample `rows` (centred), the rest from the full covariance. Rows
    that follow each other are correlated: with lag-one autocorrelation a, n rows count as
    n (1 - a) / (1 + a).
    """
    dimensions = covariance.shape[0]
    mean_eigenvalue = float(np.trace(covariance)) / dimensions
    squared_norm = float(np.vdot(covariance, covariance))
    spread = squared_norm - dimensions * mean_eigenvalue**2
    energy = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    follows = np.flatnonzero(stretches[1:] == stretches[:-1])
    correlation = 0.0
    if len(follows):
        products = np.einsum("nd,nd->n", rows[follows], rows[follows + 1], dtype=np.float64)
        correlation = float(np.clip(products.mean() / energy.mean(), 0.0, 0.99))
    effective = max(2.0, n_rows * (1 - correlation) / (1 + correlation))
    noise = (float((energy**2).mean()) - squared_norm) / effective
    if spread <= 0:
        return float("inf")
    weight = min(max(noise / spread, 0.0), 0.999)
    return float(weight / (1 - weight))
