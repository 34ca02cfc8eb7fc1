"""General solvers on Eq. (5)-(6): slow, independent, for checks and comparisons.

All get the merged samples of the presolve, as the native solver does. IPOPT is here, the cone
solvers are in `cone_solvers`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cliquesim.batches.cone_model import membership_matrix
from cliquesim.batches.cone_solvers import solve_clarabel, solve_mosek
from cliquesim.batches.problem import BatchProblem, Float, StepSettings
from cliquesim.batches.result import RelaxedSolution
from cliquesim.errors import MissingExtraError


def solve_reference(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float,
) -> RelaxedSolution:
    """Run ``settings.solver``, "ipopt", "clarabel" or "mosek"."""
    run = {"ipopt": solve_ipopt, "clarabel": solve_clarabel, "mosek": solve_mosek}[settings.solver]
    return run(problem, linear, start, r, settings, time_limit)


class IpoptCallbacks:
    """Eq. (5) with exact first and second derivatives, sparse.

    The variables are vec(X), row by row, and with lambda2 > 0 the samples' total coverages t = 1XC
    as well, tied to X by linear constraints: without them every batch would have second derivatives
    with every other.
    """

    def __init__(
        self, problem: BatchProblem, linear: Float, r: float, settings: StepSettings
    ) -> None:
        self.S = problem.similarity
        self.C = membership_matrix(problem)
        self.CT = self.C.T.tocsr()
        self.dense = self.C.toarray()
        self.w, self.p = problem.weights, problem.p
        self.linear, self.settings = linear, settings
        self.n_batches, self.n_cliques = linear.shape
        self.n_totals = self.w.size if settings.lambda2 > 0 else 0
        self.lower = np.tril_indices(self.n_cliques)
        rows: list[Any] = [
            sparse.kron(sparse.eye_array(self.n_batches), np.ones((1, self.n_cliques)))
        ]
        if self.n_totals:
            together = sparse.kron(np.ones((1, self.n_batches)), self.CT)
            rows = [
                sparse.hstack([rows[0], sparse.csr_array((self.n_batches, self.n_totals))]),
                sparse.hstack([together, -sparse.eye_array(self.n_totals)]),
            ]
        self.A = sparse.coo_array(sparse.vstack(rows))
        self.b = np.concatenate([np.full(self.n_batches, r), np.zeros(self.n_totals)])
        eps = settings.smoothing
        self.eps, self.offset = eps, eps**self.p if eps > 0 else 0.0
        self.scale = 1.0 / ((1.0 + eps) ** self.p - self.offset)
        self.iterations = 0

    def variables(self, X: Float) -> Float:
        """X and, where they are variables, its total coverages."""
        totals = self.CT @ X.sum(axis=0) if self.n_totals else np.zeros(0)
        return np.concatenate([X.ravel(), totals])

    def split(self, x: Float) -> tuple[Float, Float]:
        size = self.linear.size
        return x[:size].reshape(self.linear.shape), x[size:]

    def _g(self, t: Float, order: int) -> Float:
        shifted = np.maximum(t, 0.0) + self.eps + 1e-300
        p = self.p
        if order == 0:
            return np.asarray(self.scale * (shifted**p - self.offset))
        factor = p if order == 1 else p * (p - 1.0)
        return np.asarray(self.scale * factor * shifted ** (p - order))

    def objective(self, x: Float) -> float:
        X, totals = self.split(x)
        s = self.settings
        coverage = s.lambda1 * (self._g((self.CT @ X.T).T, 0) @ self.w).sum()
        if self.n_totals:
            coverage += s.lambda2 * self._g(totals, 0) @ self.w
        return float(((X @ self.S) * X).sum() - (X * self.linear).sum() - coverage)

    def gradient(self, x: Float) -> Float:
        X, totals = self.split(x)
        s = self.settings
        slope = s.lambda1 * self._g((self.CT @ X.T).T, 1) * self.w
        of_x = (2.0 * X @ self.S - self.linear - (self.C @ slope.T).T).ravel()
        of_totals = -s.lambda2 * self._g(totals, 1) * self.w if self.n_totals else totals
        return np.concatenate([of_x, of_totals])

    def constraints(self, x: Float) -> Float:
        return np.asarray(self.A @ x)

    def jacobian(self, x: Float) -> Float:
        return np.asarray(self.A.data)

    def jacobianstructure(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.A.row, self.A.col

    def hessianstructure(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The lower triangles of the batches' blocks, and the diagonal of the totals."""
        shift = self.n_cliques * np.arange(self.n_batches)[:, None]
        diagonal = self.linear.size + np.arange(self.n_totals)
        rows, cols = ((half + shift).ravel() for half in self.lower)
        return np.concatenate([rows, diagonal]), np.concatenate([cols, diagonal])

    def hessian(self, x: Float, multipliers: Float, factor: float) -> Float:
        X, totals = self.split(x)
        s = self.settings
        parts = []
        for cover in (self.CT @ X.T).T:
            own = (self.dense * (-s.lambda1 * self.w * self._g(cover, 2))) @ self.dense.T
            parts.append((2.0 * self.S + own)[self.lower])
        if self.n_totals:
            parts.append(-s.lambda2 * self.w * self._g(totals, 2))
        return factor * np.concatenate(parts)

    def intermediate(self, *values: Any) -> bool:
        self.iterations = int(values[1])
        return True


def solve_ipopt(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float,
) -> RelaxedSolution:
    """IPOPT with the exact Hessian."""
    try:
        import cyipopt
    except ImportError as error:
        raise MissingExtraError("cyipopt", "reference", "solver='ipopt'") from error
    callbacks = IpoptCallbacks(problem, linear, r, settings)
    n_cliques = linear.shape[1]
    totals = callbacks.n_totals
    nlp = cyipopt.Problem(
        n=linear.size + totals,
        m=callbacks.b.size,
        problem_obj=callbacks,
        lb=np.zeros(linear.size + totals),
        ub=np.concatenate([np.ones(linear.size), np.full(totals, 2e19)]),  # 1e19 is no bound
        cl=callbacks.b,
        cu=callbacks.b,
    )
    options = {
        "print_level": 0,
        "sb": "yes",
        "tol": settings.tol,
        "max_iter": settings.max_iterations,
        "bound_relax_factor": 0.0,
        "honor_original_bounds": "yes",
    }
    if time_limit > 0:
        options["max_wall_time"] = time_limit
    for name, value in options.items():
        nlp.add_option(name, value)
    begin = 0.9 * np.clip(start, 0.0, 1.0) + 0.1 * r / n_cliques
    x, ipopt = nlp.solve(callbacks.variables(begin))
    nlp.close()
    status = {0: "SOLVED", 1: "ALMOST_SOLVED", -1: "MAX_ITER", -4: "TIME_LIMIT", -5: "TIME_LIMIT"}
    X = np.clip(callbacks.split(x)[0], 0.0, 1.0)
    multipliers = ipopt["mult_g"] @ callbacks.A.tocsr() - ipopt["mult_x_L"] + ipopt["mult_x_U"]
    gradient = callbacks.gradient(x)
    inside = slice(0, linear.size)
    gap = float((x * ipopt["mult_x_L"]).sum())
    gap += float(((1.0 - x) * ipopt["mult_x_U"])[inside].sum())
    info = {
        "solver": "ipopt",
        "iterations": callbacks.iterations,
        "dual_residual": float(
            np.abs(gradient + multipliers).max() / max(np.abs(gradient).max(), 1e-300)
        ),
        "gap": gap / max(abs(ipopt["obj_val"]), 1e-300),
        "solver_status": ipopt["status_msg"].decode(),
    }
    name = status.get(int(ipopt["status"]), "NUMERICAL_ERROR")
    return RelaxedSolution(X, float(ipopt["obj_val"]), name, info)
