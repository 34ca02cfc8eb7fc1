"""What a report is made of, and the few numbers that it works out itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim._validation import as_choice, as_groups
from cliquesim.errors import InputError
from cliquesim.fusion import standardize

Array = NDArray[Any]

_BLOCK_VALUES = 1 << 24  # numbers of a feature array that are read at a time
_NAMES = {
    "hog": "HOG, centred",
    "hog_lda": "HOG-LDA",
    "hog_lda_one_scale": "HOG-LDA, one scale",
    "one_sample": "1-sample CNN",
    "nn_cnn": "NN-CNN",
    "alexnet": "AlexNet, ImageNet",
    "learned": "learned",
    "fused": "learned + HOG-LDA",
}


@dataclass
class ReportData:
    """The contents of a report; every part that is None or empty is left out of the page.

    Attributes
    ----------
    title : str
        Heading of the page.
    frames : ndarray of uint8, (N, H, W, 3), optional
        The corpus, memory-mapped if large; only the frames that are shown are read.
    sequence : ndarray of int, (N,), optional
        Sequence of each frame. A frame's neighbours are looked for outside its own sequence.
    piece : ndarray of int, (N,), optional
        Where the fit cut sequences in time, as there were few: each frame's piece, whose neighbours
        are looked for outside that.
    category : sequence of str, (N,), optional
        Category of each frame; example queries are spread over the categories.
    features : mapping of str to ndarray, (N, E), optional
        Descriptors per method, from the first (the initial similarity) to the last (the final one).
    metric : {"correlation", "cosine", "dot"}
        How two rows of `features` are compared; the paper uses Pearson correlation (Sect. 3.1).
    auc : mapping, optional
        What `cliquesim evaluate --json` prints: `mean_auc`, `per_category`, `anchors` and, for the
        ROC curves, `curves` ({method: {"fpr": [...], "tpr": [...]}}).
    baselines : mapping, optional
        What `evaluate_baselines` gives, and `curves` as above, by the baselines' titles.
    membership : scipy.sparse matrix or ndarray, (K, N) or (K, 2N), optional
        Which frames a clique holds (Sect. 2.2); columns N..2N-1 stand for the mirrored frames.
    batches : ndarray of bool, (B, K), optional
        Which cliques a batch holds: X of Eq. (1).
    rejected : sequence of (path, reason)
        Frames of the input that could not be used.
    warnings : sequence of str
        Shown at the top of the page.
    settings, timings, versions : mapping
        Settings by name, seconds by stage, and versions by package.
    """

    title: str = "cliquesim report"
    frames: Array | None = None
    sequence: Array | None = None
    piece: Array | None = None
    category: Sequence[str] | None = None
    features: Mapping[str, Array] = field(default_factory=dict)
    metric: str = "correlation"
    auc: Mapping[str, Any] | None = None
    baselines: Mapping[str, Any] | None = None
    membership: Any = None
    batches: Array | None = None
    rejected: Sequence[tuple[Any, str]] = ()
    warnings: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_frames(self) -> int | None:
        """N, from whichever part has it."""
        known = (self.frames, self.sequence, self.category, *self.features.values())
        for part in known:
            if part is not None:
                return len(part)
        return None if self.membership is None else int(self.membership.shape[1])

    @property
    def apart(self) -> Array | None:
        """What counts as a frame's sequence: among its frames nobody looks for neighbours."""
        return self.sequence if self.piece is None else self.piece

    def check(self) -> None:
        """Raise InputError when two parts do not fit together."""
        as_choice(self.metric, "metric", ("correlation", "cosine", "dot"))
        n = self.n_frames
        if self.frames is not None:
            frames = self.frames
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
                raise InputError(
                    "frames must be uint8 of shape (N, H, W, 3), "
                    f"got {frames.dtype} of shape {frames.shape}"
                )
        if n is not None and self.sequence is not None:
            as_groups(self.sequence, n, "sequence")
        if n is not None and self.piece is not None:
            as_groups(self.piece, n, "piece")
        if self.category is not None and len(self.category) != n:
            raise InputError(f"category must have {n} entries, got {len(self.category)}")
        for name, features in self.features.items():
            if features.ndim != 2 or len(features) != n:
                raise InputError(
                    f"features[{name!r}] must have shape ({n}, E), got {features.shape}"
                )
        if self.membership is not None and self.membership.shape[1] not in (n, 2 * (n or 0)):
            raise InputError(
                f"membership must have {n} columns, one per frame (or {2 * (n or 0)} with the "
                f"mirrored frames), got {self.membership.shape[1]}"
            )
        if self.batches is not None:
            if self.membership is None:
                raise InputError("batches needs membership: which frames the cliques hold")
            if self.batches.ndim != 2 or self.batches.shape[1] != self.membership.shape[0]:
                raise InputError(
                    f"batches must have shape (B, {self.membership.shape[0]}), "
                    f"got {self.batches.shape}"
                )


def display_name(method: str) -> str:
    """A method's key as people read it."""
    base, pooled = (method.removesuffix("_pooled"), method.endswith("_pooled"))
    name = _NAMES.get(base, base.replace("_", " "))
    return f"{name}, pooled" if pooled else name


def comparable(rows: Array, metric: str) -> Array:
    """Rows (n, E) as float32 whose dot products are the metric's similarities."""
    if metric == "dot":
        return np.asarray(rows, dtype=np.float32)
    return standardize(rows, center=metric == "correlation")


def similarities_to(features: Array, rows: Array, metric: str) -> Array:
    """Similarity of some rows to all, (len(rows), N) float32; reads the features block by block."""
    queries = comparable(features[rows], metric)
    result = np.empty((len(rows), len(features)), dtype=np.float32)
    block = max(1, _BLOCK_VALUES // max(1, features.shape[1]))
    for start in range(0, len(features), block):
        stop = start + block
        result[:, start:stop] = queries @ comparable(features[start:stop], metric).T
    return result


def nearest(
    similarity: Array, query: int, k: int, sequence: Array | None, per_sequence: int | None = None
) -> Array:
    """The k frames most similar to a query, most similar first; its own sequence is left out.

    With `per_sequence`, at most that many frames of one sequence are taken, so that one long
    sequence does not fill the list. The query's own sequence counts when there is no other.
    """
    allowed = np.ones(len(similarity), dtype=bool)
    allowed[query] = False
    if sequence is not None and (sequence != sequence[query]).any():
        allowed = sequence != sequence[query]
    candidates = np.flatnonzero(allowed)
    order = candidates[np.argsort(-similarity[candidates], kind="stable")]
    if sequence is None or per_sequence is None:
        return np.asarray(order[:k])
    taken: dict[int, int] = {}
    chosen: list[int] = []
    for index in order:
        group = int(sequence[index])
        if taken.get(group, 0) < per_sequence:
            taken[group] = taken.get(group, 0) + 1
            chosen.append(int(index))
        if len(chosen) == k:
            break
    return np.array(chosen, dtype=np.int64)


def draw_queries(data: ReportData, count: int, seed: int = 0) -> Array:
    """Example frames drawn at random, spread over categories and then over sequences."""
    n = data.n_frames or 0
    rng = np.random.default_rng(seed)
    sequence = np.arange(n) if data.apart is None else np.asarray(data.apart)
    category = np.zeros(n) if data.category is None else np.asarray(data.category)
    order = rng.permutation(n)
    chosen: list[int] = []
    while len(chosen) < min(count, n):
        left = [i for i in order if i not in chosen]
        seen_categories = [category[i] for i in chosen]
        seen_sequences = {sequence[i] for i in chosen}
        chosen.append(
            min(
                left[:2000],
                key=lambda i: (seen_categories.count(category[i]), sequence[i] in seen_sequences),
            )
        )
    return np.array(chosen, dtype=np.int64)


def repeating_sequence(data: ReportData, longest: int = 60) -> Array:
    """Frames of the sequence whose postures come back most clearly, by the last method.

    Measured by the mean similarity of frames at a given distance in time: how far it rises again
    after it has fallen. Only sequences of nearly the greatest length are considered (up to 200 of
    them); a sequence is cut to its first `longest` frames.
    """
    assert data.sequence is not None
    features = list(data.features.values())[-1]
    groups, counts = np.unique(data.sequence, return_counts=True)
    length = min(longest, int(counts.max()))
    best, chosen = -np.inf, np.flatnonzero(data.sequence == groups[np.argmax(counts)])[:longest]
    for group in groups[counts >= 0.8 * length][:200]:
        rows = np.flatnonzero(data.sequence == group)[:longest]
        unit = comparable(features[rows], data.metric)
        similarity = unit @ unit.T
        lags = range(max(2, 3 * len(rows) // 4))  # at greater lags too few pairs are left
        by_lag = np.array([similarity.diagonal(lag).mean() for lag in lags if lag < len(rows)])
        rise = float((by_lag - np.minimum.accumulate(by_lag)).max())
        if rise > best:
            best, chosen = rise, rows
    return chosen


def spectrum(features: Array, metric: str, rows: Array) -> Array:
    """Normalised cumulative sum of the eigenvalues of the similarity matrix of `rows` (Fig. 4a).

    O(n^2 min(n, E)) time and O(n min(n, E)) memory: of S = F F^T and F^T F the smaller is taken,
    which have the same non-zero eigenvalues.
    """
    unit = comparable(features[rows], metric)
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    values = np.maximum(np.linalg.eigvalsh(gram)[::-1].astype(np.float64), 0.0)
    total = values.sum()
    return np.cumsum(values) / total if total > 0 else np.ones(len(values))


@dataclass(frozen=True)
class CliqueStatistics:
    """Numbers about cliques and batches that the page shows."""

    sizes: Array
    covered: float  # share of the frames in at least one clique
    sequences: float | None  # mean number of sequences in a clique
    same_sequence: float | None  # share of a clique's pairs within one sequence
    batches: int = 0
    per_batch: int = 0
    distinct: int = 0
    cliques_used: float = 0.0  # share of the cliques in at least one batch
    frames_used: float = 0.0  # share of the frames in at least one batch


def clique_statistics(data: ReportData) -> CliqueStatistics:
    """Sizes, coverage, and how much the cliques mix sequences; O(members)."""
    from scipy import sparse

    C = sparse.csr_matrix(data.membership)
    K = C.shape[0]
    N = data.n_frames or C.shape[1]
    frames = C.indices % N
    sizes = np.diff(C.indptr)
    same = sequences = None
    if data.apart is not None:
        rows = np.repeat(np.arange(K), sizes)
        groups = np.unique(np.asarray(data.apart), return_inverse=True)[1][frames]
        counts = sparse.coo_matrix((np.ones(len(rows)), (rows, groups))).tocsr()
        pairs = float((sizes * (sizes - 1)).sum())
        same = float((counts.data * (counts.data - 1)).sum() / pairs) if pairs else 0.0
        sequences = float(np.diff(counts.indptr).mean()) if K else 0.0
    X = None if data.batches is None else np.asarray(data.batches, dtype=bool)
    used = np.zeros(K, dtype=bool) if X is None else X.any(axis=0)
    return CliqueStatistics(
        sizes=sizes,
        covered=len(np.unique(frames)) / N,
        sequences=sequences,
        same_sequence=same,
        batches=0 if X is None else len(X),
        per_batch=0 if X is None or not len(X) else int(X.sum(axis=1).max()),
        distinct=0 if X is None else len(np.unique(X, axis=0)),
        cliques_used=float(used.mean()) if K else 0.0,
        frames_used=len(np.unique(frames[np.repeat(used, sizes)])) / N,
    )
