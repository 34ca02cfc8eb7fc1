"""General solvers on Eq. (5)-(6): slow, independent, for checks and comparisons.

All get the merged samples of the presolve, as the native solver does. IPOPT is here, the cone
solvers are in `cone_solvers`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.batches.cone_model import membership_matrix
from cliquesim.batches.cone_solvers import solve_clarabel, solve_mosek
from cliquesim.batches.problem import BatchProblem, Float
from cliquesim.batches.relaxed import StepSettings
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


class _IpoptCallbacks:
    """Eq. (5) with exact first and second derivatives over vec(X), row by row."""

    def __init__(
        self, problem: BatchProblem, linear: Float, r: float, settings: StepSettings
    ) -> None:
        self.S = problem.similarity
        self.C = membership_matrix(problem)
        self.CT = self.C.T.tocsr()
        self.w, self.p = problem.weights, problem.p
        self.linear, self.settings = linear, settings
        self.n_batches, self.n_cliques = linear.shape
        n = linear.size
        self.coupled = settings.lambda2 > 0
        if self.coupled:
            self.rows, self.cols = np.tril_indices(n)
        else:
            rows, cols = np.tril_indices(self.n_cliques)
            shift = self.n_cliques * np.arange(self.n_batches)[:, None]
            self.rows, self.cols = (rows + shift).ravel(), (cols + shift).ravel()
        eps = settings.smoothing
        self.eps, self.offset = eps, eps**self.p if eps > 0 else 0.0
        self.scale = 1.0 / ((1.0 + eps) ** self.p - self.offset)
        self.iterations = 0

    def _g(self, t: Float, order: int) -> Float:
        shifted = np.maximum(t, 0.0) + self.eps + 1e-300
        p = self.p
        if order == 0:
            return np.asarray(self.scale * (shifted**p - self.offset))
        factor = p if order == 1 else p * (p - 1.0)
        return np.asarray(self.scale * factor * shifted ** (p - order))

    def _covers(self, x: Float) -> tuple[Float, Float, Float]:
        X = x.reshape(self.n_batches, self.n_cliques)
        cover = (self.CT @ X.T).T
        return X, cover, cover.sum(axis=0)

    def objective(self, x: Float) -> float:
        X, cover, total = self._covers(x)
        s = self.settings
        coverage = s.lambda1 * (self._g(cover, 0) @ self.w).sum()
        coverage += s.lambda2 * self._g(total, 0) @ self.w
        return float(((X @ self.S) * X).sum() - (X * self.linear).sum() - coverage)

    def gradient(self, x: Float) -> Float:
        X, cover, total = self._covers(x)
        s = self.settings
        slope = s.lambda1 * self._g(cover, 1) * self.w + s.lambda2 * self._g(total, 1) * self.w
        result: Float = (2.0 * X @ self.S - self.linear - (self.C @ slope.T).T).ravel()
        return result

    def constraints(self, x: Float) -> Float:
        return np.asarray(x.reshape(self.n_batches, self.n_cliques).sum(axis=1))

    def jacobian(self, x: Float) -> Float:
        return np.ones(x.size)

    def jacobianstructure(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        n = self.n_batches * self.n_cliques
        return np.repeat(np.arange(self.n_batches), self.n_cliques), np.arange(n)

    def hessianstructure(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return self.rows, self.cols

    def hessian(self, x: Float, multipliers: Float, factor: float) -> Float:
        _, cover, total = self._covers(x)
        s, K = self.settings, self.n_cliques
        dense = self.C.toarray()
        shared = np.zeros((K, K))
        if self.coupled:
            shared = (dense * (-s.lambda2 * self.w * self._g(total, 2))) @ dense.T
        blocks = []
        for c in cover:
            own = (dense * (-s.lambda1 * self.w * self._g(c, 2))) @ dense.T
            blocks.append(2.0 * self.S + own)
        if self.coupled:
            full = np.tile(shared, (self.n_batches, self.n_batches))
            for b, block in enumerate(blocks):
                full[b * K : (b + 1) * K, b * K : (b + 1) * K] += block
            return factor * full[self.rows, self.cols]
        rows, cols = np.tril_indices(K)
        return factor * np.concatenate([block[rows, cols] for block in blocks])

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
    callbacks = _IpoptCallbacks(problem, linear, r, settings)
    n_batches, n_cliques = linear.shape
    nlp = cyipopt.Problem(
        n=linear.size,
        m=n_batches,
        problem_obj=callbacks,
        lb=np.zeros(linear.size),
        ub=np.ones(linear.size),
        cl=np.full(n_batches, r),
        cu=np.full(n_batches, r),
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
    x, ipopt = nlp.solve(begin.ravel())
    nlp.close()
    status = {0: "SOLVED", 1: "ALMOST_SOLVED", -1: "MAX_ITER", -4: "TIME_LIMIT", -5: "TIME_LIMIT"}
    X = np.clip(x.reshape(linear.shape), 0.0, 1.0)
    dual = np.repeat(ipopt["mult_g"], n_cliques) - ipopt["mult_x_L"] + ipopt["mult_x_U"]
    gradient = callbacks.gradient(x)
    gap = float((x * ipopt["mult_x_L"] + (1.0 - x) * ipopt["mult_x_U"]).sum())
    info = {
        "solver": "ipopt",
        "iterations": callbacks.iterations,
        "dual_residual": float(np.abs(gradient + dual).max() / max(np.abs(gradient).max(), 1e-300)),
        "gap": gap / max(abs(ipopt["obj_val"]), 1e-300),
        "solver_status": ipopt["status_msg"].decode(),
    }
    name = status.get(int(ipopt["status"]), "NUMERICAL_ERROR")
    return RelaxedSolution(X, float(ipopt["obj_val"]), name, info)
