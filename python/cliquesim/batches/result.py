"""What the batch selection gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BatchWarning(UserWarning):
    """The selected batches are valid, but something about them should be looked at."""


@dataclass
class RelaxedSolution:
    """Minimiser of Eq. (5)-(6).

    Attributes
    ----------
    X : float64 (B, K)
        In [0, 1], rows sum to r. NaN where the status is INFEASIBLE.
    objective : float
        u(X) - <X, grad v(X_t)>, Eq. (5).
    status : str
        SOLVED, ALMOST_SOLVED (to the square root of the tolerance), MAX_ITER, TIME_LIMIT,
        INFEASIBLE or NUMERICAL_ERROR.
    info : dict
        ``solver``, ``iterations``, ``primal_residual`` (largest error of a row sum),
        ``dual_residual`` (largest entry of the Lagrangian's gradient relative to the gradient's),
        ``gap`` (bound on the distance to the optimum, relative to the objective), ``times`` in
        seconds; the native solver adds ``log``, one row per iteration: objective, primal residual,
        dual residual, gap, barrier parameter, step length.
    """

    X: NDArray[np.float64]
    objective: float
    status: str
    info: dict[str, Any]


@dataclass
class BatchSelection:
    """Batches of cliques, Sect. 2.3.

    Attributes
    ----------
    X : bool (B, K)
        Clique k is in batch b; every row has r entries.
    X_relaxed : float64 (B, K) or None
        What CCCP ended with, before rounding; None for the other methods.
    objective : float
        Eq. (1) at X, as `batch_objective` gives it with the lambda1 and lambda2 of `lambdas`.
    objective_terms : dict
        Its terms with their sign and lambda: ``similarity``, ``batch_coverage``,
        ``total_coverage``. They sum to `objective`.
    history : list of dict
        One entry per CCCP step: ``lambda3``, ``objective`` (u - v of Eq. (3)-(4), smoothed),
        ``rounded_objective`` (Eq. (1) after rounding), ``integrality``, ``iterations`` and
        ``seconds`` of the inner solver, ``status``.
    integrality : float
        Share of the rows' sums that lies in their r largest entries: 1 for a binary X, r / K for a
        uniform one.
    n_distinct_batches : int
    lambdas : dict
        ``lambda1``, ``lambda2``, ``lambda3`` as used.
    status : str
        SOLVED, ALMOST_SOLVED, TIME_LIMIT or NUMERICAL_ERROR. X is valid in each case.
    info : dict
        ``regime``, ``comparison`` (Eq. (1) of every way that was tried), ``coverage`` (share of the
        cliques' samples in some batch), ``cliques_used`` (share), ``psd_shift``, ``times``.
    """

    X: NDArray[np.bool_]
    X_relaxed: NDArray[np.float64] | None
    objective: float
    objective_terms: dict[str, float]
    history: list[dict[str, Any]]
    integrality: float
    n_distinct_batches: int
    lambdas: dict[str, float]
    status: str
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def batches(self) -> NDArray[np.int64]:
        """Cliques of each batch in ascending order, int64 (B, r)."""
        return np.nonzero(self.X)[1].reshape(self.X.shape[0], -1).astype(np.int64)
