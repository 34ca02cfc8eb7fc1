"""The released protocol on a corpus: which rows have labels, and the figures of one similarity."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import hash_json
from cliquesim.datasets.olympic_sports import CategoryLabels, load_labels
from cliquesim.errors import InputError
from cliquesim.evaluation.matching import match_frames
from cliquesim.evaluation.retrieval import RetrievalResult, retrieval_auc

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus

# (frames uint8 (n, H, W, 3), mirrored, extent (n, 2) of the subjects) -> (n, E): their dot product
# is the similarity.
Encode = Callable[[NDArray[np.uint8], bool, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class LabelledCategory:
    """One category of the labels.

    Attributes
    ----------
    name : str
    rows : int64 (n,)
        Rows of the corpus: all frames of the sequences that have labels.
    sequence : int64 (n,)
        Their sequences.
    labels : CategoryLabels
        In terms of `rows`.
    """

    name: str
    rows: NDArray[np.int64]
    sequence: NDArray[np.int64]
    labels: CategoryLabels

    def retrieve(
        self,
        plain: NDArray[np.float32],
        mirrored: NDArray[np.float32],
        pool_radius: int,
    ) -> RetrievalResult:
        """Figures of features (n, E) of `rows` and of their mirror images, by dot product."""
        return retrieval_auc(
            self.labels,
            plain,
            mirrored,
            metric="dot",
            pool_radius=pool_radius,
            sequence=self.sequence,
        )


@dataclass(frozen=True)
class Protocol:
    """The labels of a folder, matched with a corpus.

    Attributes
    ----------
    categories : list of LabelledCategory
    n_anchors : int
    dropped : dict
        Anchors and labels that fell away because their frames could not be read.
    key : str
        Hash of the labels, for results that are kept.
    """

    categories: list[LabelledCategory]
    n_anchors: int
    dropped: dict[str, int]
    key: str

    @classmethod
    def of(cls, corpus: Corpus, labels: str | os.PathLike[str]) -> Protocol:
        """Match a folder in the released layout with a corpus; InputError names what is missing."""
        matched = match_frames(load_labels(labels), corpus)
        if not matched.labels:
            raise InputError(f"{labels}: no category has labels")
        categories = [_labelled(name, one, corpus.sequence) for name, one in matched.labels.items()]
        return cls(
            categories,
            sum(one.n_anchors for one in matched.labels.values()),
            {"anchors": matched.n_dropped_anchors, "labels": matched.n_dropped_labels},
            hash_json({name: _plain(one) for name, one in matched.labels.items()}),
        )

    def score(
        self,
        frames: NDArray[np.uint8],
        extent: NDArray[np.float32],
        encode: Encode,
        pool_radii: Sequence[int],
        progress: Callable[[float], object] | None = None,
    ) -> dict[int, Score]:
        """Figures of one similarity, per radius p of Eq. (9); the arrays are the corpus's."""
        found: dict[int, dict[str, RetrievalResult]] = {p: {} for p in pool_radii}
        for number, category in enumerate(self.categories):
            some, share = np.asarray(frames[category.rows]), extent[category.rows]
            plain, mirrored = encode(some, False, share), encode(some, True, share)
            for p, results in found.items():
                results[category.name] = category.retrieve(plain, mirrored, p)
            if progress is not None:
                progress((number + 1) / len(self.categories))
        return {p: Score.of(results) for p, results in found.items()}


@dataclass(frozen=True)
class Score:
    """Figures of one similarity.

    Attributes
    ----------
    auc : float
        Mean over the categories.
    per_category : dict of str to float
    per_anchor : float64 (n_anchors,)
        In the order of the categories and their anchors; NaN for one without a curve.
    tpr : float64 (101,)
        Mean ROC curve at equally spaced false-positive rates.
    """

    auc: float
    per_category: dict[str, float]
    per_anchor: NDArray[np.float64]
    tpr: NDArray[np.float64]

    @classmethod
    def of(cls, results: dict[str, RetrievalResult]) -> Score:
        """From the results of every category."""
        return cls(
            float(np.mean([one.auc for one in results.values()])),
            {name: one.auc for name, one in results.items()},
            np.concatenate([one.per_anchor for one in results.values()]),
            np.mean([one.tpr for one in results.values()], axis=0),
        )


def _labelled(name: str, labels: CategoryLabels, sequence: NDArray[np.int64]) -> LabelledCategory:
    """All rows of the sequences that have labels, and the labels in terms of these rows."""
    named = np.concatenate([labels.anchors, *labels.positives, *labels.negatives])
    rows = np.flatnonzero(np.isin(sequence, np.unique(sequence[named])))
    position = np.full(len(sequence), -1, np.int64)
    position[rows] = np.arange(len(rows))
    local = dataclasses.replace(
        labels,
        anchors=position[labels.anchors],
        positives=[position[ids] for ids in labels.positives],
        negatives=[position[ids] for ids in labels.negatives],
    )
    return LabelledCategory(name, rows, np.asarray(sequence[rows], np.int64), local)


def _plain(labels: CategoryLabels) -> list[object]:
    return [
        labels.anchors,
        *(
            [one.astype(int) for one in ragged]
            for ragged in (
                labels.positives,
                labels.negatives,
                labels.positive_flips,
                labels.negative_flips,
            )
        ),
    ]
