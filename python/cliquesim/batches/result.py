"""What the batch selection gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        dual residual, gap, barrier parameter, step length (`format_log` prints it).
    """

    X: NDArray[np.float64]
    objective: float
    status: str
    info: dict[str, Any]

    def format_log(self) -> str:
        """The native solver's iterations as a table, in the columns that solvers print."""
        lines = ["iter       objective   inf_pr   inf_du      gap       mu    alpha"]
        for number, row in enumerate(self.info.get("log", [])):
            value, *small, step = (float(v) for v in row)
            columns = " ".join(f"{v:8.2e}" for v in small)
            lines.append(f"{number:4d} {value:15.8e} {columns} {step:8.2e}")
        times = self.info.get("times", {})
        lines.append(
            f"{self.status} after {self.info.get('iterations', 0)} iterations, "
            f"{times.get('total', 0.0):.3g} s; regime: {self.info.get('regime', 'none')}"
        )
        return "\n".join(lines)


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
        SOLVED, ALMOST_SOLVED, TIME_LIMIT, MAX_ITER or NUMERICAL_ERROR (CCCP ended where its inner
        solver did). X is valid in each case.
    info : dict
        ``regime``, ``comparison`` (Eq. (1) of every way that was tried), ``quality`` (see
        `summary`), ``kicks`` (how many), ``psd_shift``, ``times``.
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

    def summary(self) -> dict[str, Any]:
        """How good the batches are, in plain numbers.

        Returns
        -------
        dict
            ``status``, ``regime``, ``n_batches``, ``cliques_per_batch``, ``objective``, ``terms``
            (that sum to it), ``coverage`` and ``cliques_used`` (shares of the cliques' samples and
            of the cliques that are in some batch), ``distinct_batches``, ``samples_per_batch``
            (mean number of distinct ones), ``similarity_mean`` and ``similarity_max`` (S' over the
            pairs of cliques within batches; None for r = 1), ``overlap_mean`` (share of their
            cliques that two batches have in common, over all pairs; None for B = 1),
            ``integrality``, ``lambdas``.
        """
        return {
            "status": self.status,
            "regime": self.info["regime"],
            "n_batches": self.X.shape[0],
            "cliques_per_batch": int(self.X[0].sum()),
            "objective": self.objective,
            "terms": dict(self.objective_terms),
            **self.info["quality"],
            "integrality": self.integrality,
            "lambdas": dict(self.lambdas),
        }

    def describe(self) -> str:
        """`summary` in a few lines for people; also what ``print`` shows."""
        s = self.summary()
        terms = " ".join(f"{value:+.6g} ({name})" for name, value in s["terms"].items())
        mean, highest, overlap = (
            "-" if s[key] is None else f"{s[key]:.3g}"
            for key in ("similarity_mean", "similarity_max", "overlap_mean")
        )
        lambdas = ", ".join(f"{name} {value:.4g}" for name, value in s["lambdas"].items())
        return "\n".join(
            [
                f"{s['n_batches']} batches of {s['cliques_per_batch']} cliques: {s['status']}, "
                f"{s['regime']}",
                f"objective    {s['objective']:.6g} = {terms}",
                f"coverage     {s['coverage']:.1%} of the cliques' samples, "
                f"{s['cliques_used']:.1%} of the cliques",
                f"batches      {s['distinct_batches']} distinct, {s['samples_per_batch']:.1f} "
                f"samples each, share in common {overlap}",
                f"similarity   within batches: mean {mean}, largest {highest}",
                f"relaxation   integrality {s['integrality']:.3f}; {lambdas}",
            ]
        )

    def __str__(self) -> str:
        return self.describe()

    def plot_history(self, ax: Axes | None = None) -> Axes:
        """Draw the steps of CCCP: objectives, the path of lambda3, and the integrality.

        The relaxed objective is u - v of Eq. (3)-(4) without the constant lambda3 B K / 4 of binary
        X; it falls within each level of lambda3, and may rise where the next one begins. The line
        across is the objective of the selected batches, which exchanges and the other starts have
        lowered since.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        InputError
            There are no steps: another method, or a problem beyond the interior point.
        MissingExtraError
            matplotlib is missing (extra ``report``).
        """
        from cliquesim.batches.plot import plot_history

        return plot_history(self, ax)
