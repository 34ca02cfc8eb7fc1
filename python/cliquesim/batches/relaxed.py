"""The convex problem of one CCCP step, Eq. (5)-(6), by the native solver or a reference one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from cliquesim import _core
from cliquesim._device import check_device, to_host
from cliquesim._validation import as_choice, as_count, as_matrix, as_real, as_threads
from cliquesim.batches.problem import (
    BatchProblem,
    Float,
    StepSettings,
    as_problem,
    as_weight,
    is_positive_semidefinite,
    smallest_eigenvalue,
)
from cliquesim.batches.result import RelaxedSolution
from cliquesim.errors import InputError

if TYPE_CHECKING:
    from cliquesim.batches._relaxed_cuda import RelaxedSolver

SOLVERS = ("native", "ipopt", "clarabel", "mosek")


def grad_v(X: Float, similarity: Float, lambda3: float) -> Float:
    """Gradient of v, Eq. (4): 2 X o (1 diag(S')) + lambda3 (2 X - 1). Printed with lambda3 = 1."""
    return 2.0 * X * np.diag(similarity) + lambda3 * (2.0 * X - 1.0)


def solve_relaxed(
    X_t: ArrayLike,
    membership: Any,
    similarity: ArrayLike,
    r: float,
    lambda1: float,
    lambda2: float,
    lambda3: float,
    p: float = 1 / 16,
    smoothing: float = 0.0,
    tol: float = 1e-8,
    solver: str = "native",
    max_iterations: int = 200,
    time_limit: float | None = None,
    num_threads: int | None = None,
    device: str = "cpu",
) -> RelaxedSolution:
    """Solve the convex problem of one CCCP step, Eq. (5)-(6), linearised at `X_t`.

    Minimises ``u(X) - <X, grad v(X_t)>``, u and v as in Eq. (3)-(4), over X in [0, 1] whose rows
    sum to r.

    Parameters
    ----------
    X_t : (B, K)
        Where v is linearised; the native solver also starts near it.
    membership : (K, N) of 0 and 1, sparse or dense
        C, the samples of each clique.
    similarity : (K, K)
        S', positive semi-definite.
    r : float
        Cliques per batch.
    lambda1, lambda2, lambda3 : float, at least 0
    p : float in (0, 1]
    smoothing : float, at least 0
        eps > 0 replaces t^p by ``((t+eps)^p - eps^p) / ((1+eps)^p - eps^p)``, which equals it at 0
        and 1 and has a finite slope at 0.
    tol : float
        Bound on the row sums' error, the relative gradient of the Lagrangian and the relative gap.
    solver : {"native", "ipopt", "clarabel", "mosek"}
        "native" is the structured interior-point method; the others are references for small
        problems: "ipopt" and "clarabel" (extra ``reference``), "mosek" (extra ``mosek``, and a
        licence of its own).
    max_iterations : int
    time_limit : float, optional
        Seconds.
    num_threads : int, optional
        All processors by default. The result does not depend on it.
    device : {"cpu", "cuda"}
        "cuda": the native solver with dense factors on the current CUDA device, whatever K is.
        `X_t`, `membership` and `similarity` may be tensors there; the solution is in NumPy arrays.
        It takes some 24 B K^2 bytes of device memory.

    Returns
    -------
    RelaxedSolution
        ``X``, ``objective``, ``status``, ``info`` (with the native solver's ``regime``, "dense" or
        "iterative", and ``regime_reason``). r outside [0, K] gives status INFEASIBLE.

    Raises
    ------
    InputError
        Shapes that do not fit, NaN, S' with a negative eigenvalue, negative lambdas.
    MissingExtraError
        The package of a reference solver is missing.
    RunError
        MOSEK is installed, but has no licence; CUDA cannot be used, or its memory does not suffice.

    Examples
    --------
    >>> import numpy as np, cliquesim as cs
    >>> S, C = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]]), np.eye(3)
    >>> step = cs.solve_relaxed(np.full((1, 3), 2 / 3), C, S, 2, 0.1, 0.1, 0.1)
    >>> step.status, step.X.round(2)
    ('SOLVED', array([[0.86, 0.16, 0.98]]))
    """
    check_solver_device(device, solver, "solve_relaxed")
    if device == "cuda":
        X_t, membership, similarity = map(to_host, (X_t, membership, similarity))
    problem = as_problem(membership, similarity, p)
    X = as_matrix(X_t, "X_t", np.float64)
    if X.shape[0] < 1 or X.shape[1] != problem.n_cliques:
        raise InputError(
            f"X_t must have one row per batch and {problem.n_cliques} columns, one per clique, "
            f"got shape {X.shape}"
        )
    settings = StepSettings(
        as_weight(lambda1, "lambda1"),
        as_weight(lambda2, "lambda2"),
        as_real(smoothing, "smoothing", 0.0),
        as_real(tol, "tol", 1e-14, 1.0),
        as_count(max_iterations, "max_iterations", 1),
        as_choice(solver, "solver", SOLVERS),
        as_threads(num_threads),
        device,
    )
    if not is_positive_semidefinite(problem.similarity):
        raise InputError(
            "similarity must be positive semi-definite, its smallest eigenvalue is "
            f"{smallest_eigenvalue(problem.similarity):g}; add that to the diagonal or clip it"
        )
    linear = grad_v(X, problem.similarity, as_weight(lambda3, "lambda3"))
    limit = 0.0 if time_limit is None else as_real(time_limit, "time_limit", 1e-9)
    return solve_step(problem, linear, X, as_real(r, "r"), settings, limit)


def check_solver_device(device: str, solver: str, stage: str) -> None:
    """Raises InputError or RunError if `solver` cannot run on `device`."""
    check_device(device, stage)
    if device == "cuda" and solver != "native":
        raise InputError(f"device='cuda' takes solver='native', got {solver!r}")


class StepSolver:
    """Eq. (5)-(6) of one problem for several linear terms; S' is taken positive semi-definite.

    On a GPU, what they share stays in its memory as long as the solver lives.
    """

    def __init__(self, problem: BatchProblem, r: float, settings: StepSettings) -> None:
        self._problem, self._r, self._settings = problem, r, settings
        self._on_cuda: RelaxedSolver | None = None

    def solve(self, linear: Float, start: Float, time_limit: float = 0.0) -> RelaxedSolution:
        """With `linear` = grad v(X_t), (B, K), the same B in every call."""
        problem, r, settings = self._problem, self._r, self._settings
        n_batches, n_cliques = linear.shape
        if not 0 <= r <= n_cliques:
            infeasible = np.full((n_batches, n_cliques), np.nan)
            info = {"reason": f"no row of [0, 1]^{n_cliques} sums to r = {r:g}"}
            return RelaxedSolution(infeasible, np.inf, "INFEASIBLE", _single_point(info, settings))
        if r in (0, n_cliques):
            X = np.full((n_batches, n_cliques), r / n_cliques)
            value = relaxed_objective(problem, X, linear, settings)
            info = {"reason": "the row sums leave a single point"}
            return RelaxedSolution(X, value, "SOLVED", _single_point(info, settings))
        if settings.device == "cuda":
            if self._on_cuda is None:
                from cliquesim.batches._relaxed_cuda import RelaxedSolver  # torch

                self._on_cuda = RelaxedSolver(problem, float(r), settings)
            return self._on_cuda.solve(linear, start, time_limit)
        return _solve_on_cpu(problem, linear, start, r, settings, time_limit)


def solve_step(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float = 0.0,
) -> RelaxedSolution:
    """Eq. (5)-(6) for a single linear term."""
    return StepSolver(problem, r, settings).solve(linear, start, time_limit)


def _solve_on_cpu(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float,
) -> RelaxedSolution:
    begin = time.perf_counter()
    if settings.solver == "native":
        X, value, status, info = _core.solve_relaxed(
            np.ascontiguousarray(linear),
            np.ascontiguousarray(start),
            float(r),
            *problem.arrays,
            settings.lambda1,
            settings.lambda2,
            problem.p,
            settings.smoothing,
            settings.tol,
            settings.max_iterations,
            time_limit,
            settings.num_threads,
        )
        reason = _regime_reason(info, *linear.shape)
        return RelaxedSolution(
            X, value, status, {"solver": "native", **info, "regime_reason": reason}
        )
    from cliquesim.batches.reference import solve_reference

    solution = solve_reference(problem, linear, start, r, settings, time_limit)
    if np.isfinite(solution.X).all():
        solution.objective = relaxed_objective(problem, solution.X, linear, settings)
        error = np.abs(solution.X.sum(axis=1) - r).max()
        solution.info["primal_residual"] = float(error)
    solution.info["times"] = {"total": time.perf_counter() - begin}
    return solution


def _regime_reason(info: dict[str, Any], n_batches: int, n_cliques: int) -> str:
    dense = f"{n_batches} dense factors of {n_cliques} x {n_cliques}"
    if info["regime"] == "dense":
        return f"{dense} are small: the fastest way"
    rank = "S' has rank" if info["low_rank"] else "S' is preconditioned by its leading rank"
    return f"conjugate gradients take less time and memory than {dense}; {rank} {info['rank']}"


def relaxed_objective(
    problem: BatchProblem, X: Float, linear: Float, settings: StepSettings
) -> float:
    """u(X) - <X, linear>, Eq. (5)."""
    off_diagonal, batch, total = problem.terms(X, settings.smoothing, settings.num_threads)
    similarity = off_diagonal + float((X * X * np.diag(problem.similarity)).sum())
    coverage = settings.lambda1 * batch + settings.lambda2 * total
    return similarity - coverage - float((X * linear).sum())


def _single_point(info: dict[str, Any], settings: StepSettings) -> dict[str, Any]:
    zeros = {"iterations": 0, "primal_residual": 0.0, "dual_residual": 0.0, "gap": 0.0}
    return {"solver": settings.solver, **zeros, "times": {"total": 0.0}, **info}
