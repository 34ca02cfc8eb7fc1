"""Exemplar-SVM (Malisiewicz et al., 2011): one linear classifier per query, on HOG (Sect. 3.1)."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import load_array, save_array
from cliquesim.baselines.workplace import Prepared, Scores, Workplace
from cliquesim.errors import InputError, MissingExtraError
from cliquesim.evaluation.protocol import LabelledCategory, Score
from cliquesim.evaluation.retrieval import retrieval_auc_from_scores
from cliquesim.run_folder import StageWork

C_POSITIVE, C_NEGATIVE, ROUNDS = 0.5, 0.01, 3
_FIRST = 500  # random negatives before mining
_HARDEST = 500  # negatives that a round of mining adds at most
_BLOCK = 512


class ExemplarSvm:
    """Linear SVM of one positive against mined negatives.

    Parameters
    ----------
    c_positive, c_negative : weights C1 and C2 of the two classes' hinge losses.
    rounds : of hard negatives, at most; none follows once every negative is beyond the margin.
    seed : of the negatives that training starts with.

    Attributes
    ----------
    coef_ : (D,) float64
    intercept_ : float
    rounds_ : rounds of mining that were needed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> svm = ExemplarSvm().fit(np.ones(8), rng.normal(size=(50, 8)))
    >>> bool(svm.decide(np.ones((1, 8)))[0] > svm.decide(-np.ones((1, 8)))[0])
    True
    """

    def __init__(
        self,
        c_positive: float = C_POSITIVE,
        c_negative: float = C_NEGATIVE,
        rounds: int = ROUNDS,
        seed: int = 0,
    ) -> None:
        self.c_positive, self.c_negative = c_positive, c_negative
        self.rounds, self.seed = rounds, seed

    def fit(self, exemplar: NDArray[Any], negatives: NDArray[Any]) -> ExemplarSvm:
        """Train on `exemplar` (D,) against `negatives` (N, D)."""
        if len(negatives) == 0:
            raise InputError("an Exemplar-SVM needs at least one negative")
        generator = np.random.default_rng(self.seed)
        used = np.zeros(len(negatives), bool)
        used[generator.choice(len(negatives), min(_FIRST, len(negatives)), replace=False)] = True
        self._solve(exemplar, negatives[used])
        self.rounds_ = 0
        while self.rounds_ < self.rounds:
            values = np.where(used, -np.inf, self.decide(negatives))
            hard = np.flatnonzero(values > -1.0)
            if len(hard) == 0:
                break
            used[hard[np.argsort(-values[hard], kind="stable")[:_HARDEST]]] = True
            self._solve(exemplar, negatives[used])
            self.rounds_ += 1
        return self

    def decide(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Signed distances (n,) of rows (n, D), in units of the margin."""
        values: NDArray[np.float64] = features @ self.coef_.astype(features.dtype)
        return values.astype(np.float64) + self.intercept_

    def _solve(self, exemplar: NDArray[Any], negatives: NDArray[Any]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        X = np.concatenate([exemplar[None], negatives]).astype(np.float64)
        y = np.arange(len(X)) == 0
        weights = {True: self.c_positive, False: self.c_negative}
        svc = LinearSVC(loss="hinge", C=1.0, class_weight=weights, random_state=self.seed)
        with warnings.catch_warnings():
            # The ranking is settled long before liblinear's tolerance is reached.
            warnings.simplefilter("ignore", ConvergenceWarning)
            svc.fit(X, y)
        self.coef_ = np.asarray(svc.coef_[0], np.float64)
        self.intercept_ = float(svc.intercept_[0])


def missing(_: Any = None) -> Exception | None:
    """Why the baseline cannot be had, if it cannot."""
    if importlib.util.find_spec("sklearn") is None:
        return MissingExtraError("scikit-learn", "baselines", "Exemplar-SVM")
    return None


def exemplar_svm(place: Workplace) -> Prepared:
    """One SVM per labelled query on the HOG of the run's first scale.

    Negatives are the frames of all other categories, or of all other sequences where there is but
    one category. Similarities of different queries are never compared, so none is calibrated, and
    none is pooled over time.
    """
    settings = {
        "c_positive": C_POSITIVE,
        "c_negative": C_NEGATIVE,
        "rounds": ROUNDS,
        "seed": place.config.seed,
        "pool_radii": [0],
    }
    return Prepared([place.finished()], lambda work: _score(place, work), settings)


def _score(place: Workplace, work: StageWork) -> Scores:
    features = _hog(place, mirrored=False)
    results = {}
    total = len(place.protocol.categories)
    for number, category in enumerate(place.protocol.categories):
        kept = work.folder / f"scores-{number}.npy"
        if not kept.exists():  # else from before an interruption
            scores = _of_category(place, category, features, work, number / total, 1 / total)
            save_array(kept, scores)
        flat, pairs, start = load_array(kept), [], 0
        for positives, negatives in zip(
            category.labels.positives, category.labels.negatives, strict=True
        ):
            middle = start + len(positives)
            stop = middle + len(negatives)
            pairs.append((flat[start:middle], flat[middle:stop]))
            start = stop
        results[category.name] = retrieval_auc_from_scores(category.labels, pairs)
    for kept in work.folder.glob("scores-*.npy"):
        kept.unlink()
    return {0: Score.of(results)}


def _hog(
    place: Workplace, mirrored: bool, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    frames, hog_lda = place.corpus.frames, place.model.encoder.hog_lda
    rows = np.arange(len(frames)) if rows is None else rows
    blocks = [
        hog_lda.raw(np.asarray(frames[rows[start : start + _BLOCK]]), 0, mirrored)
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate(blocks).reshape(len(rows), -1)


def _of_category(
    place: Workplace,
    category: LabelledCategory,
    features: NDArray[np.float32],
    work: StageWork,
    done: float,
    share: float,
) -> NDArray[np.float64]:
    """Scores of every query's positives, then its negatives, one query after the other."""
    labels, rows, corpus = category.labels, category.rows, place.corpus
    mirrored = _hog(place, True, rows)
    other = corpus.category != corpus.category[rows[0]]
    outside = features[other]
    scores = []
    for number, anchor in enumerate(labels.anchors):
        negatives = outside
        if not other.any():
            negatives = features[corpus.sequence != category.sequence[anchor]]
        svm = ExemplarSvm(seed=place.config.seed).fit(features[rows[anchor]], negatives)
        frames = np.concatenate([labels.positives[number], labels.negatives[number]])
        flips = np.concatenate([labels.positive_flips[number], labels.negative_flips[number]])
        seen = np.where(flips[:, None], mirrored[frames], features[rows[frames]])
        scores.append(svm.decide(seen))
        work.progress(done + share * (number + 1) / labels.n_anchors)
    return np.concatenate(scores)
