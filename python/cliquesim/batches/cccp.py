"""The concave-convex procedure on the relaxed Eq. (1), Sect. 2.3."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cliquesim.batches.problem import BatchProblem, Float, StepSettings
from cliquesim.batches.relaxed import StepSolver, grad_v


@dataclass(frozen=True)
class CccpSettings:
    """The path of lambda3, and when to go on along it."""

    lambda3: tuple[float, ...]
    steps_per_lambda3: int = 3
    relative_decrease: float = 1e-3
    integral: float = 0.999
    noise: float = 0.1


@dataclass
class CccpResult:
    X: Float
    status: str
    monotone: bool
    history: list[dict[str, Any]] = field(default_factory=list)
    regime: str = "no step"


def noisy_start(n_batches: int, n_cliques: int, r: int, noise: float, seed: int) -> Float:
    """r / K with relative noise.

    Rows of X are exchangeable and Eq. (5) is strictly convex, so rows that start equal would stay
    equal for ever, and all batches would be the same.
    """
    rng = np.random.default_rng(seed)
    X = 1.0 + noise * rng.uniform(-1.0, 1.0, (n_batches, n_cliques))
    few = min(r, n_cliques - r)  # noise around more than K / 2 would leave [0, 1]
    X *= few / X.sum(axis=1, keepdims=True)
    return X if few == r else 1.0 - X


def integrality(X: Float, r: int) -> float:
    """Share of the rows' sums that lies in their r largest entries."""
    largest = -np.partition(-X, r - 1, axis=1)[:, :r]
    return float(largest.sum() / X.sum())


def relaxed_value(problem: BatchProblem, X: Float, lambda3: float, step: StepSettings) -> float:
    """u(X) - v(X), Eq. (3)-(4); what CCCP lowers in every step."""
    similarity, batch, total = problem.terms(X, step.smoothing, step.num_threads)
    concave = float(lambda3 * ((X - 0.5) ** 2).sum())
    return similarity - step.lambda1 * batch - step.lambda2 * total - concave


def run_cccp(
    problem: BatchProblem,
    start: Float,
    r: int,
    step: StepSettings,
    settings: CccpSettings,
    rounded_objective: Callable[[Float], float],
    deadline: float | None,
    report: Callable[[float], None],
) -> CccpResult:
    """Minimise Eq. (5) again and again, linearised where the last step ended.

    `problem` holds the positive semi-definite S'. Stops early when X is integral or the `deadline`
    (of time.perf_counter) has passed.
    """
    result = CccpResult(start, "SOLVED", True)
    solver = StepSolver(problem, r, step)
    total_steps = len(settings.lambda3) * settings.steps_per_lambda3
    for level, lambda3 in enumerate(settings.lambda3):
        value = relaxed_value(problem, result.X, lambda3, step)
        for repeat in range(settings.steps_per_lambda3):
            remaining = 0.0 if deadline is None else deadline - time.perf_counter()
            if remaining < 0:
                result.status = "TIME_LIMIT"
                return result
            linear = grad_v(result.X, problem.similarity, lambda3)
            solution = solver.solve(linear, result.X, remaining)
            result.regime = f"{solution.info.get('regime', step.solver)} interior point"
            if solution.status not in ("SOLVED", "ALMOST_SOLVED"):
                result.status = solution.status
                return result
            if solution.status == "ALMOST_SOLVED":
                result.status = solution.status
            X = np.clip(solution.X, 0.0, 1.0)
            new_value = relaxed_value(problem, X, lambda3, step)
            slack = 10 * step.tol * max(abs(value), 1.0)
            if new_value > value + slack:  # only an inexact inner solution can do this
                result.monotone = False
                break
            decrease, value, result.X = value - new_value, new_value, X
            result.history.append(
                {
                    "lambda3": lambda3,
                    "objective": new_value,
                    "rounded_objective": rounded_objective(X),
                    "integrality": integrality(X, r),
                    "iterations": solution.info["iterations"],
                    "seconds": solution.info["times"]["total"],
                    "status": solution.status,
                }
            )
            report((level * settings.steps_per_lambda3 + repeat + 1) / total_steps)
            if decrease <= settings.relative_decrease * abs(value):
                break
        if integrality(result.X, r) >= settings.integral:
            break
    return result
