"""Batches of mutually distant cliques, Sect. 2.3: Eq. (1) by CCCP, rounding and exchanges."""

from __future__ import annotations

from cliquesim.batches.objective import batch_objective
from cliquesim.batches.relaxed import solve_relaxed
from cliquesim.batches.result import BatchSelection, BatchWarning, RelaxedSolution
from cliquesim.batches.selection import select_batches

__all__ = [
    "BatchSelection",
    "BatchWarning",
    "RelaxedSolution",
    "batch_objective",
    "select_batches",
    "solve_relaxed",
]
