"""The measures of Sect. 3: retrieval ROC AUC, PCP, PCKh, nearest-neighbour accuracy."""

from __future__ import annotations

from cliquesim.evaluation.classification import knn_accuracy
from cliquesim.evaluation.matching import MatchedLabels, match_frames
from cliquesim.evaluation.pose import pckh, pcp
from cliquesim.evaluation.retrieval import (
    RetrievalResult,
    bootstrap_interval,
    retrieval_auc,
    retrieval_auc_from_scores,
    roc_curve,
)

__all__ = [
    "MatchedLabels",
    "RetrievalResult",
    "bootstrap_interval",
    "knn_accuracy",
    "match_frames",
    "pckh",
    "pcp",
    "retrieval_auc",
    "retrieval_auc_from_scores",
    "roc_curve",
]
