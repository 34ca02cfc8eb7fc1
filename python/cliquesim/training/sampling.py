"""Which frames each training step sees: a batch of cliques x_b, and frames of its cliques."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_groups
from cliquesim.errors import InputError
from cliquesim.training.config import TrainingConfig

# Streams of random numbers that must not meet: each is seeded with (seed, stream, index).
_ORDER, _DRAW, _AUGMENTATION, _TORCH = range(4)


def step_seed(seed: int, step: int, torch_stream: bool = False) -> int:
    """Seed of one step's augmentation (or of torch's own numbers, such as dropout).

    Random numbers depend on the seed and the step alone, so a resumed run needs no generator's
    state to go on exactly.
    """
    stream = _TORCH if torch_stream else _AUGMENTATION
    state = np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


@dataclass(frozen=True)
class Draw:
    """Frames of one step: pool rows (M,), their position in `cliques` (M,), the cliques (r,)."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    cliques: NDArray[np.int64]


class CliqueSampler:
    """Draws the frames of a step from selected batches of cliques, or from random ones.

    Selected batches are gone through in a new random order on every pass. Without a selection,
    `cliques_per_batch` cliques are drawn at random, within one category if categories are given.

    Parameters
    ----------
    membership
        Sparse (K, P) of 0/1: cliques by pool rows.
    batches
        bool (B, K), dense or sparse, or None.
    category
        int (P,): of each pool row, or None.
    config
        Batch size, images per clique and seed.

    Raises
    ------
    InputError
        Shapes that do not fit, an empty clique, fewer than two cliques to tell apart.
    """

    def __init__(
        self,
        membership: Any,
        batches: Any,
        category: NDArray[np.int64] | None,
        config: TrainingConfig,
    ) -> None:
        csr: Any = sp.csr_array(membership)
        csr.eliminate_zeros()
        self.membership = csr
        self.n_cliques = int(csr.shape[0])
        sizes = np.diff(csr.indptr)
        if (sizes == 0).any():
            raise InputError(f"membership has no frame in clique {int(np.argmin(sizes))}")
        # A sampler draws thousands of times: plain lists and arrays cost less than SciPy's slices.
        self._bounds: list[int] = csr.indptr.tolist()
        self._members = csr.indices.astype(np.int64)
        self._place = np.full(csr.shape[1], -1, np.int64)
        self._pass: tuple[int, NDArray[np.int64]] | None = None
        self._config = config
        self._batches = None if batches is None else _as_batches(batches, self.n_cliques)
        first = csr.indices[csr.indptr[:-1]]
        of_clique = np.zeros(self.n_cliques, np.int64) if category is None else category[first]
        pools = [np.flatnonzero(of_clique == value) for value in np.unique(of_clique)]
        self._pools = [pool for pool in pools if len(pool) > 1]
        if self._batches is None and not self._pools:
            raise InputError(
                f"training needs at least two cliques in a category, got {self.n_cliques} in all"
            )
        # As Generator.choice draws with these probabilities.
        sizes = np.array([len(pool) for pool in self._pools], dtype=np.float64)
        self._shares = np.cumsum(sizes / sizes.sum())
        self._shares /= self._shares[-1:]

    def draw(self, step: int) -> Draw:
        """The frames of step `step` (0-based)."""
        config = self._config
        rng = np.random.default_rng([config.seed, _DRAW, step])
        cliques = self._cliques_of(step, rng)
        m = config.batch_size
        per_clique = config.images_per_clique
        most = m if per_clique is None else m // per_clique
        if len(cliques) > most:
            cliques = rng.permutation(cliques)[:most]
        counts = np.full(len(cliques), m // len(cliques))
        counts[: m % len(cliques)] += 1
        rows: list[NDArray[np.int64]] = []
        for clique, count in zip(cliques.tolist(), counts.tolist(), strict=True):
            members = self._members_of(clique)
            # No frame comes twice before every frame came once.
            while count > 0:
                rows.append(rng.permutation(members)[:count])
                count -= len(members)
        labels = np.repeat(np.arange(len(cliques), dtype=np.int64), counts)
        return Draw(np.concatenate(rows), labels, cliques.astype(np.int64))

    def _cliques_of(self, step: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if self._batches is not None:
            passes, position = divmod(step, len(self._batches))
            if self._pass is None or self._pass[0] != passes:
                order = np.random.default_rng([self._config.seed, _ORDER, passes])
                self._pass = passes, order.permutation(len(self._batches))
            return self._batches[int(self._pass[1][position])]
        pool = self._pools[int(self._shares.searchsorted(rng.random(), side="right"))]
        r = min(self._config.cliques_per_batch, len(pool))
        return rng.choice(pool, r, replace=False)

    def _members_of(self, clique: int) -> NDArray[np.int64]:
        members: NDArray[np.int64] = self._members[self._bounds[clique] : self._bounds[clique + 1]]
        return members

    def overlaps(self, draw: Draw) -> NDArray[np.bool_]:
        """(M, M): pairs of different labels whose frames nevertheless share one of the cliques."""
        parts = [self._members_of(clique) for clique in draw.cliques.tolist()]
        columns = np.arange(len(draw.rows))
        # Equal rows share a place: that of the last.
        self._place[draw.rows] = columns
        of_row = self._place[draw.rows]
        of_member = self._place[np.concatenate(parts)]
        self._place[draw.rows] = -1
        label = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        drawn = of_member >= 0
        at_place = np.zeros((len(parts), len(columns)), bool)
        at_place[label[drawn], of_member[drawn]] = True
        member = at_place[:, of_row]
        member[draw.labels, columns] = True
        mine = member[draw.labels]
        different = draw.labels[:, None] != draw.labels[None, :]
        shared: NDArray[np.bool_] = (mine | mine.T) & different
        return shared


def batch_rows(batches: Any) -> sp.csr_array:
    """X of Eq. (1) as sparse rows with sorted indices, from a dense or a sparse array."""
    X: Any = sp.csr_array(batches if hasattr(batches, "tocsr") else np.asarray(batches) != 0)
    X.sum_duplicates()
    X.eliminate_zeros()
    rows: sp.csr_array = X
    return rows


def _as_batches(batches: Any, n_cliques: int) -> list[NDArray[np.int64]]:
    shape = batches.shape if hasattr(batches, "tocsr") else np.shape(batches)
    if len(shape) != 2 or shape[1] != n_cliques or shape[0] == 0:
        raise InputError(f"batches must have shape (B, {n_cliques}), got {shape}")
    X = batch_rows(batches)
    rows = np.split(X.indices.astype(np.int64), X.indptr[1:-1])
    for b, row in enumerate(rows):
        if len(row) < 2:
            raise InputError(f"batches has fewer than two cliques in row {b}")
    return rows


def as_pool(pool: ArrayLike | None, n_frames: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Frame index and flip of every pool row; None stands for every frame once, unflipped."""
    if pool is None:
        return np.arange(n_frames), np.zeros(n_frames, bool)
    array = np.asarray(pool)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iub":
        raise InputError(
            f"pool must be integers of shape (P, 2): frame, flip; got {array.dtype} {array.shape}"
        )
    frame = array[:, 0].astype(np.int64)
    bad = (frame < 0) | (frame >= n_frames)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"pool names frame {frame[row]} of {n_frames} in row {row}")
    return frame, array[:, 1].astype(bool)


def labels_of_frames(
    values: ArrayLike | None, frame: NDArray[np.int64], n_frames: int, name: str
) -> NDArray[np.int64] | None:
    """Spread a label per frame (its sequence or category) over the pool rows."""
    groups = as_groups(values, n_frames, name)
    return None if groups is None else groups[frame]
