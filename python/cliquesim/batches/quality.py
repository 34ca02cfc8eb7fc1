"""How good selected batches are, in numbers and in warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.batches.problem import BatchProblem
from cliquesim.batches.result import BatchSelection, BatchWarning

# Below these a warning is given.
ENOUGH_COVERAGE = 0.66
ENOUGH_INTEGRALITY = 0.95


def batch_quality(problem: BatchProblem, X: NDArray[np.bool_]) -> dict[str, Any]:
    """What Sect. 2.3 asks of batches, measured at X (B, K); None where there are no pairs.

    ``coverage`` and ``cliques_used``: shares of the cliques' samples and of the cliques that are in
    some batch; ``distinct_batches``; ``samples_per_batch``: mean number of distinct samples;
    ``similarity_mean`` and ``similarity_max``: S' over the pairs of cliques in a batch;
    ``overlap_mean``: share of their cliques that two batches have in common, over all pairs.
    O(B r^2 + nnz per batch).
    """
    n_batches, r = X.shape[0], int(X[0].sum())
    used = np.asarray(X.any(axis=0))
    upper = np.triu_indices(r, 1)
    inside = np.array(
        [problem.similarity[np.ix_(cliques, cliques)][upper] for cliques in map(np.flatnonzero, X)]
    )
    occurrences = X.sum(axis=0)
    shared = int((occurrences * (occurrences - 1) // 2).sum())  # over all pairs of batches
    samples = float(problem.weights.sum())
    covered = [problem.covered(row) for row in X]
    return {
        "coverage": problem.covered(used),
        "cliques_used": float(used.mean()),
        "distinct_batches": len(np.unique(X, axis=0)),
        "samples_per_batch": float(np.mean(covered)) * samples,
        "similarity_mean": float(inside.mean()) if inside.size else None,
        "similarity_max": float(inside.max()) if inside.size else None,
        "overlap_mean": shared / (r * n_batches * (n_batches - 1) / 2) if n_batches > 1 else None,
    }


def warn_about(selection: BatchSelection, stacklevel: int) -> None:
    """A BatchWarning for everything that the paper says is easily spotted."""
    for message in _complaints(selection):
        warnings.warn(message, BatchWarning, stacklevel=stacklevel + 1)


def _complaints(selection: BatchSelection) -> list[str]:
    (n_batches, n_cliques), quality = selection.X.shape, selection.info["quality"]
    r = int(selection.X[0].sum())
    found = []
    if quality["distinct_batches"] < n_batches:
        why = (
            "every batch holds all cliques"
            if r == n_cliques
            else "raise lambda2, lower n_batches or cliques_per_batch"
        )
        found.append(
            f"only {quality['distinct_batches']} of the {n_batches} batches are distinct: {why}"
        )
    if quality["coverage"] < ENOUGH_COVERAGE:
        found.append(
            f"the batches cover only {quality['coverage']:.0%} of the cliques' samples: n_batches="
            f"{n_batches} is too small, or lambda2 too low"
        )
    if selection.integrality < ENOUGH_INTEGRALITY:
        lambda3 = selection.lambdas["lambda3"]
        why = (
            "the time limit cut CCCP short"
            if selection.status == "TIME_LIMIT"
            else f"raise lambda3, now {lambda3:g}"
        )
        found.append(
            f"the relaxed X is not integral ({selection.integrality:.0%} of its weight is in the "
            f"{r} largest entries of each row), so that rounding made the choice: {why}"
        )
    return found
