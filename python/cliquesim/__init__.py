"""cliquesim: deep unsupervised learning of visual similarities.

An embedding in which frames that show the same posture (or object) are neighbours, learned from
frames without labels. After Sanakoyeu, Bautista and Ommer, Pattern Recognition 78 (2018) 331-343.

The stages, in the order of the method: `Corpus`, `hog`, `Whitening`, `neighbors`, `linkage`,
`build_cliques`, `select_batches`, training, `pooled_similarity`; `SimilarityModel` runs them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from cliquesim.linkage import linkage, linkage_memory
from cliquesim.neighbors import Neighbors, neighbors, similarity_quantiles
from cliquesim.temporal import pooled_similarity

if TYPE_CHECKING:
    from cliquesim.model import SimilarityModel

__all__ = [
    "BatchSelection",
    "BatchWarning",
    "CliqueWarning",
    "Cliques",
    "Corpus",
    "Neighbors",
    "RelaxedSolution",
    "SimilarityModel",
    "Whitening",
    "batch_objective",
    "build_cliques",
    "datasets",
    "evaluation",
    "hog",
    "linkage",
    "linkage_memory",
    "neighbors",
    "pooled_similarity",
    "select_batches",
    "similarity_quantiles",
    "solve_relaxed",
]


def __getattr__(name: str) -> Any:
    # The stages import quickly; the model brings pydantic and, when it fits, torch.
    if name == "SimilarityModel":
        from cliquesim.model import SimilarityModel

        return SimilarityModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
