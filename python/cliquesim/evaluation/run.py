"""`cliquesim evaluate`: ROC AUC of a run by the released protocol."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.corpus import Corpus
from cliquesim.evaluation.protocol import Protocol
from cliquesim.fusion import standardize
from cliquesim.model import SimilarityModel


def evaluate_run(
    run: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    frames: str | os.PathLike[str] | None = None,
    num_threads: int | None = None,
    pool_radius: int | None = None,
    curves: bool = False,
) -> dict[str, Any]:
    """Mean AUC per similarity and category (Sect. 3.1), as `cliquesim evaluate --json` prints it.

    Parameters
    ----------
    run : finished run folder with its corpus cache.
    labels : folder in the layout of the released annotations.
    frames : folder of the labelled frames, where they are not the run's: what was learned is then
        measured on frames that it never saw.
    pool_radius : of Eq. (9); None takes the run's setting.
    curves : add the mean ROC curves, "curves": {method: {"fpr": [...], "tpr": [...]}}.

    Raises
    ------
    InputError
        No run, no labels, or a labelled frame that is not there (named).
    """
    model = SimilarityModel.load(run, num_threads=num_threads)
    corpus = model.corpus_
    if frames is not None:
        size = (model.config.frame_size, model.config.frame_size)
        corpus = Corpus.from_folder(
            frames,
            size,
            box_scale=model.config.box_scale,
            max_rejected=model.config.max_rejected,
        )
    extent = model.extent_of(corpus)
    protocol = Protocol.of(corpus, labels)
    radius = model.config.pool_radius if pool_radius is None else pool_radius
    per_category: dict[str, dict[str, float]] = {}
    tpr: dict[str, list[NDArray[np.float64]]] = {}
    for category in protocol.categories:
        features = _features(model, corpus[category.rows], extent[category.rows])
        scores: dict[str, float] = {}
        for method, (plain, mirrored) in features.items():
            for suffix, p in (("", 0), ("_pooled", radius)):
                if method == "hog" and p:
                    continue
                found = category.retrieve(plain, mirrored, p)
                scores[method + suffix] = found.auc
                tpr.setdefault(method + suffix, []).append(found.tpr)
        per_category[category.name] = scores
    methods = list(next(iter(per_category.values())))
    result: dict[str, Any] = {
        "mean_auc": {
            m: float(np.mean([scores[m] for scores in per_category.values()])) for m in methods
        },
        "per_category": per_category,
        "anchors": protocol.n_anchors,
        "dropped": protocol.dropped,
        "settings": {
            "run": str(run),
            "labels": str(labels),
            **({} if frames is None else {"frames": str(frames)}),
            "pool_radius": radius,
            **model.config.model_dump(mode="json"),
        },
    }
    if curves:
        grid = np.linspace(0, 1, 101).tolist()
        result["curves"] = {
            m: {"fpr": grid, "tpr": np.mean(values, axis=0).tolist()} for m, values in tpr.items()
        }
    return result


def _features(
    model: SimilarityModel, frames: NDArray[np.uint8], extent: NDArray[np.float32]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Per method the unit features of the frames and of their mirror images."""
    encoder = model.encoder
    hog, hog_lda, hog_lda_one, learned, fused = [], [], [], [], []
    mean = encoder.hog_lda.scales[0].whitening.mean_.astype(np.float32)
    for mirrored in (False, True):
        raw, whitened = zip(*encoder.hog_lda.by_scale(frames, mirrored, extent), strict=True)
        hog.append(standardize(raw[0].reshape(len(frames), -1) - mean, center=False))
        hog_lda_one.append(whitened[0])
        hog_lda.append(encoder.hog_lda.join(whitened))
        learned.append(encoder.learned(frames, mirrored, extent))
        fused.append(encoder.combine(learned[-1], hog_lda[-1]))
    return {
        "hog": (hog[0], hog[1]),
        "hog_lda": (hog_lda[0], hog_lda[1]),
        "hog_lda_one_scale": (hog_lda_one[0], hog_lda_one[1]),
        "learned": (learned[0], learned[1]),
        "fused": (fused[0], fused[1]),
    }
