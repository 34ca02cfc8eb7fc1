"""ROC AUC of posture retrieval by the protocol of the released annotations (Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_choice, as_count, as_groups, as_matrix, as_real
from cliquesim.datasets.olympic_sports import CategoryLabels, Flips, Indices
from cliquesim.errors import InputError
from cliquesim.fusion import standardize

Scores = NDArray[np.float64]
# (anchor, frames, flips) -> similarity of the anchor to each frame, or to its mirror image.
ScoreFunction = Callable[[int, Indices, Flips], ArrayLike]

N_POINTS = 101


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval quality on one category.

    Attributes
    ----------
    auc : float
        Area under the mean curve: the figure of the released scorer.
    per_anchor : float64 (n_anchors,)
        Exact ROC AUC of each anchor, ties counted half; NaN for an anchor without positives or
        without negatives, which the mean curve leaves out.
    fpr, tpr : float64 (101,)
        The mean curve.
    """

    auc: float
    per_anchor: Scores
    fpr: Scores
    tpr: Scores

    def __repr__(self) -> str:
        return f"RetrievalResult(auc={self.auc:.4f}, {len(self.per_anchor)} anchors)"


def retrieval_auc(
    labels: CategoryLabels,
    features: ArrayLike,
    mirrored_features: ArrayLike | None = None,
    metric: str = "correlation",
    *,
    pool_radius: int = 0,
    sequence: ArrayLike | None = None,
) -> RetrievalResult:
    """Score features on the labels of one category.

    Per anchor: the ROC curve over its labelled frames only, the true-positive rate interpolated
    linearly at 101 equally spaced false-positive rates; these curves are averaged over the
    anchors, and the area under the mean curve is the figure.

    Parameters
    ----------
    labels : CategoryLabels
        Its indices are rows of `features`.
    features : (n, E)
        One row a frame.
    mirrored_features : (n, E), optional
        Features of the mirrored frames; used where a label's flip says so. Without them the
        flips are ignored.
    metric : "correlation" or "dot"
        Pearson correlation of two rows (0 where a row is constant), or their inner product.
    pool_radius : int
        p of Eq. (9): similarities are averaged over frames -p..p around both frames.
    sequence : int (n,), optional
        Sequence of each row; needed for `pool_radius` > 0.

    Raises
    ------
    InputError
        Shapes that do not fit, NaN or inf (the row is named), labels outside the rows, or no
        anchor with positives and negatives.

    Examples
    --------
    >>> labels = CategoryLabels("walk", np.array([0]), [np.array([1])], [np.array([2])],
    ...                         [np.array([False])], [np.array([False])])
    >>> retrieval_auc(labels, [[1, 0, 0], [2, 1, 0], [0, 0, 1]]).auc
    1.0
    """
    as_choice(metric, "metric", ("correlation", "dot"))
    radius = as_count(pool_radius, "pool_radius")
    plain = as_matrix(features, "features", np.float64)
    mirrored = plain
    if mirrored_features is not None:
        mirrored = as_matrix(mirrored_features, "mirrored_features", np.float64)
        if mirrored.shape != plain.shape:
            raise InputError(
                f"mirrored_features must have the shape of features {plain.shape}, "
                f"got {mirrored.shape}"
            )
    _check_range(labels, len(plain))
    if metric == "correlation":
        same = mirrored is plain
        plain = standardize(plain, np.float64)
        mirrored = plain if same else standardize(mirrored, np.float64)
    if radius == 0:
        return retrieval_auc_from_scores(labels, _dot_scores(plain, mirrored))
    groups = as_groups(sequence, len(plain), "sequence")
    if groups is None:
        raise InputError("pool_radius > 0 needs the sequence of each row")
    return retrieval_auc_from_scores(labels, _pooled_scores(plain, mirrored, groups, radius))


def retrieval_auc_from_scores(
    labels: CategoryLabels, scores: ScoreFunction | Sequence[tuple[ArrayLike, ArrayLike]]
) -> RetrievalResult:
    """Score similarities, however they were computed; the protocol of `retrieval_auc`.

    Parameters
    ----------
    labels : CategoryLabels
    scores : callable or sequence
        `scores(anchor, frames, flips)` gives the similarity of frame `anchor` to each of `frames`,
        mirrored where `flips`; or, per anchor, the pair (scores of its positives, scores of its
        negatives) in the order of the labels.

    Raises
    ------
    InputError
        A score that is missing, NaN or infinite (the anchor is named), or no anchor with
        positives and negatives.
    """
    if not callable(scores) and len(scores) != labels.n_anchors:
        raise InputError(f"scores of {len(scores)} anchors for {labels.n_anchors} anchors")
    grid = np.linspace(0, 1, N_POINTS)
    per_anchor = np.full(labels.n_anchors, np.nan)
    curves = []
    for number in range(labels.n_anchors):
        positives, negatives = (
            _scores_of(labels, number, scores) if callable(scores) else scores[number]
        )
        positive = _as_scores(positives, len(labels.positives[number]), number)
        negative = _as_scores(negatives, len(labels.negatives[number]), number)
        if len(positive) == 0 or len(negative) == 0:
            continue
        fpr, tpr = roc_curve(positive, negative)
        per_anchor[number] = _area(fpr, tpr)
        curves.append(np.interp(grid, fpr, tpr))
    if not curves:
        raise InputError(f"{labels.category}: no anchor has both positives and negatives")
    mean = np.mean(curves, axis=0)
    return RetrievalResult(_area(grid, mean), per_anchor, grid, mean)


def roc_curve(positives: ArrayLike, negatives: ArrayLike) -> tuple[Scores, Scores]:
    """False- and true-positive rates from (0, 0) to (1, 1), one point per distinct score.

    Equal scores share a point, so that a tie between a positive and a negative is a sloped
    segment and counts half in the area.

    Examples
    --------
    >>> fpr, tpr = roc_curve([3, 2], [2, 1])
    >>> fpr, tpr
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    positive, negative = np.asarray(positives), np.asarray(negatives)
    scores = np.concatenate([positive, negative])
    order = np.argsort(-scores, kind="stable")
    hits = (order < len(positive)).cumsum()
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    tpr = np.concatenate([[0.0], hits[last] / len(positive)])
    fpr = np.concatenate([[0.0], (last + 1 - hits[last]) / len(negative)])
    return fpr, tpr


def bootstrap_interval(
    per_anchor: ArrayLike, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over anchors, which are resampled with replacement.

    NaN entries (anchors without a curve) are left out. For the difference of two methods pass
    the differences of their `per_anchor`. Anchors of one category share frames, so the interval
    is somewhat too narrow.

    Examples
    --------
    >>> low, high = bootstrap_interval([0.8, 0.9, 0.7, 0.85])
    >>> 0.7 < low < 0.8125 < high < 0.9
    True
    """
    values = np.asarray(per_anchor, dtype=np.float64).reshape(-1)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        raise InputError("per_anchor has no numbers")
    level = as_real(level, "level", 0.0, 1.0)
    rng = np.random.default_rng(seed)
    n_resamples = as_count(n_resamples, "n_resamples", minimum=1)
    # Blocks keep the drawn indices below some 8 MB.
    block = max(1, 1_000_000 // len(values))
    means = [
        values[rng.integers(0, len(values), (min(block, n_resamples - start), len(values)))].mean(1)
        for start in range(0, n_resamples, block)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _area(x: Scores, y: Scores) -> float:
    """Trapezoidal rule."""
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def _scores_of(labels: CategoryLabels, number: int, scores: ScoreFunction) -> tuple[Scores, Scores]:
    n_positive = len(labels.positives[number])
    frames = np.concatenate([labels.positives[number], labels.negatives[number]])
    flips = np.concatenate([labels.positive_flips[number], labels.negative_flips[number]])
    values = _as_scores(scores(int(labels.anchors[number]), frames, flips), len(frames), number)
    return values[:n_positive], values[n_positive:]


def _as_scores(values: ArrayLike, n: int, number: int) -> Scores:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        raise InputError(f"scores of anchor {number} must have shape ({n},), got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"scores of anchor {number} have NaN or an infinite value")
    return array


def _check_range(labels: CategoryLabels, n: int) -> None:
    parts = [labels.anchors, *labels.positives, *labels.negatives]
    highest = max((int(part.max()) for part in parts if len(part)), default=-1)
    if highest >= n:
        raise InputError(f"{labels.category}: labels name row {highest}, but features has {n} rows")


def _dot_scores(plain: Scores, mirrored: Scores) -> ScoreFunction:
    def scores(anchor: int, frames: Indices, flips: Flips) -> Scores:
        chosen = np.where(flips[:, None], mirrored[frames], plain[frames])
        product: Scores = chosen @ plain[anchor]
        return product

    return scores


def _pooled_scores(
    plain: Scores, mirrored: Scores, sequence: Indices, radius: int
) -> ScoreFunction:
    from cliquesim.temporal import pooled_similarity

    features, reflected = plain.astype(np.float32), mirrored.astype(np.float32)

    def scores(anchor: int, frames: Indices, flips: Flips) -> Scores:
        result = np.empty(len(frames))
        row = np.array([anchor])
        for flipped, columns in ((False, features), (True, reflected)):
            chosen = flips == flipped
            if chosen.any():
                result[chosen] = pooled_similarity(
                    features, row, frames[chosen], sequence, radius, col_features=columns
                )[0]
        return result

    return scores
