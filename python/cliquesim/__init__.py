"""cliquesim: deep unsupervised learning of visual similarities.

An embedding in which frames that show the same posture (or object) are neighbours, learned from
frames without labels. After Sanakoyeu, Bautista and Ommer, Pattern Recognition 78 (2018) 331-343.

The stages, in the order of the method: `Corpus`, `hog`, `Whitening`, `neighbors`, `linkage`,
`build_cliques`, `select_batches`, training, `pooled_similarity`; `SimilarityModel` runs them all.
"""

from __future__ import annotations

__version__ = "0.1.0"

from cliquesim import datasets, evaluation
from cliquesim.batches import (
    BatchSelection,
    BatchWarning,
    RelaxedSolution,
    batch_objective,
    select_batches,
    solve_relaxed,
)
from cliquesim.cliques import Cliques, CliqueWarning, build_cliques
from cliquesim.corpus import Corpus
from cliquesim.features import Whitening, hog
from cliquesim.linkage import linkage
from cliquesim.neighbors import Neighbors, neighbors
from cliquesim.temporal import pooled_similarity

__all__ = [
    "BatchSelection",
    "BatchWarning",
    "CliqueWarning",
    "Cliques",
    "Corpus",
    "Neighbors",
    "RelaxedSolution",
    "Whitening",
    "batch_objective",
    "build_cliques",
    "datasets",
    "evaluation",
    "hog",
    "linkage",
    "neighbors",
    "pooled_similarity",
    "select_batches",
    "solve_relaxed",
]
