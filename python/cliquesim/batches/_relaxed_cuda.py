"""`solve_relaxed` on a CUDA device: the interior-point method of the C++ solver in torch.

Iterates, steps and their tests are those of `csrc/batches/interior_point.cpp` with dense blocks.
An iteration whose first step is accepted is one CUDA graph, and the host reads one small vector.
`InteriorPoint` runs on any torch device, without a graph on others.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from cliquesim.batches._coverage_cuda import n_overlaps
from cliquesim.batches._graph_cuda import Replayed, can_capture, capture, own_stream
from cliquesim.batches._newton_cuda import DenseNewton, Evaluation, Factors, RelaxedObjective
from cliquesim.batches.problem import BatchProblem, Float, StepSettings
from cliquesim.batches.result import RelaxedSolution
from cliquesim.errors import RunError


class RelaxedSolver:
    """Eq. (5)-(6) on the current CUDA device for one linear term after the other, 0 < r < K.

    What they share stays in the device's memory as long as the solver lives.
    """

    def __init__(self, problem: BatchProblem, r: float, settings: StepSettings) -> None:
        self._problem, self._r, self._settings = problem, r, settings
        self._device = current_device()
        self._method: InteriorPoint | None = None

    def solve(self, linear: Float, start: Float, time_limit: float) -> RelaxedSolution:
        """`linear` and `start` are (B, K), the same B in every call."""
        n_batches = len(linear)
        free, total = memory(self._device)
        need = device_memory(self._problem, n_batches)
        if need > total:
            raise RunError(_too_large(self._problem, n_batches, need, total))
        try:
            with own_stream(self._device):
                return self._prepared(linear).run(start, time_limit)
        except torch.cuda.OutOfMemoryError as error:
            self._method = None
            raise RunError(_too_large(self._problem, n_batches, need, free)) from error

    def _prepared(self, linear: Float) -> InteriorPoint:
        if self._method is None:
            self._method = InteriorPoint(
                self._problem, linear, self._r, self._settings, self._device
            )
        else:
            self._method.relinearize(linear)
        return self._method


def current_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes that are free, and all."""
    return torch.cuda.mem_get_info(device)


def device_memory(problem: BatchProblem, n_batches: int) -> int:
    """Bytes that a solution takes: three numbers for two cliques in a batch, and the coverage's.

    A graph keeps what its iteration takes; without it are then a start and its evaluation.
    """
    n_cliques = problem.n_cliques
    shared = n_overlaps(problem)
    blocks = 3 * n_batches * n_cliques**2 + 6 * n_cliques**2
    coverage = (n_batches + 1) * (min(shared, n_cliques**2) + 11 * problem.weights.size)
    return 8 * (blocks + coverage + shared + 60 * n_batches * n_cliques)


def _too_large(problem: BatchProblem, n_batches: int, need: int, available: int) -> str:
    fits = math.isqrt(available // (24 * n_batches))
    return (
        f"batches: the Newton system of B = {n_batches} batches of K = {problem.n_cliques} cliques "
        f"takes {need} bytes of device memory, and {available} are available, enough for K = "
        f"{fits} at most; device='cpu' needs less"
    )


class Measures(NamedTuple):
    """Of one iterate, on the host."""

    value: float
    primal: float
    dual: float
    gap: float
    gradient: float
    smallest: float  # complementarity product

    def converged(self, r: float, tolerance: float) -> bool:
        return (
            self.primal <= tolerance * max(1.0, r)
            and self.dual <= tolerance * self.gradient_scale
            and self.gap <= tolerance * self.size
        )

    @property
    def gradient_scale(self) -> float:
        return max(1.0, self.gradient)

    @property
    def size(self) -> float:
        return max(abs(self.value), 1e-3)


class Iterate(NamedTuple):
    """X, multipliers of X >= 0 and X <= 1 and of the row sums, and what follows from them."""

    flat: torch.Tensor  # all of the next three one after the other: a step is one operation
    slack: torch.Tensor  # X and 1 - X, (2, B, K)
    multipliers: torch.Tensor  # (2, B, K)
    nu: torch.Tensor  # (B,)
    products: torch.Tensor  # slack times multipliers
    at: Evaluation
    residuals: torch.Tensor  # the next two one after the other
    dual: torch.Tensor  # (B, K)
    rows: torch.Tensor  # (B,)

    def owned(self) -> list[torch.Tensor]:
        """All but the views."""
        return [self.flat, self.products, *self.at, self.residuals]


class Iteration(NamedTuple):
    """Where Mehrotra's step leads; all on the device."""

    found: torch.Tensor  # what the host reads
    trial: Iterate
    direction: torch.Tensor
    target: torch.Tensor  # of the complementarity products
    factors: Factors


class Captured(NamedTuple):
    """A graph, and where it reads its iterate and puts its results."""

    graph: Replayed
    now: Iterate
    iteration: Iteration


# The next iterate, its measures and the step's length.
_Step: TypeAlias = tuple[Iterate, Measures, float]


class InteriorPoint:
    """Primal-dual interior point with Mehrotra's predictor-corrector, float64."""

    def __init__(
        self,
        problem: BatchProblem,
        linear: Float,
        r: float,
        settings: StepSettings,
        device: torch.device,
    ) -> None:
        self._settings, self._r, self._device = settings, r, device
        self._shape = linear.shape
        self._objective = RelaxedObjective(
            problem, linear, settings.lambda1, settings.lambda2, settings.smoothing, device
        )
        self._newton = DenseNewton(problem, self._objective)
        self._one = torch.ones((), dtype=torch.float64, device=device)
        self._row_sum = self._one * r
        self._signs = torch.tensor([1.0, -1.0], dtype=torch.float64, device=device).view(2, 1, 1)
        self._count = 2 * linear.size
        self._least_centering = 0.0
        # What changes in an iteration besides its iterate.
        self._mu, self._least = self._one.clone(), self._one.clone()
        self._need = device_memory(problem, len(linear))
        self._launched = 0  # iterations without a graph
        self._captured: Captured | None = None

    def relinearize(self, linear: Float) -> None:
        """Take another linear term (B, K)."""
        assert linear.shape == self._shape
        self._objective.relinearize(linear)

    # ---- iterates ----

    def _parts(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Slack, multipliers and nu, or their changes."""
        slack, multipliers = flat[: 2 * self._count].view(2, 2, *self._shape)
        return slack, multipliers, flat[2 * self._count :]

    def _at(self, flat: torch.Tensor, known: Evaluation | None = None) -> Iterate:
        """Takes X from `flat`, and puts 1 - X there."""
        slack, multipliers, nu = self._parts(flat)
        x = slack[0]
        torch.sub(self._one, x, out=slack[1])
        at = self._objective.evaluate(x) if known is None else known
        residuals = flat.new_empty(x.numel() + len(x))
        dual, rows = self._residual_parts(residuals)
        torch.sub(at.gradient, multipliers[0], out=dual)
        dual.add_(multipliers[1]).add_(nu[:, None])
        torch.sum(x, dim=1, out=rows)
        torch.sub(self._row_sum, rows, out=rows)
        products = slack * multipliers
        return Iterate(flat, slack, multipliers, nu, products, at, residuals, dual, rows)

    def _residual_parts(self, residuals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n_entries = self._shape[0] * self._shape[1]
        return residuals[:n_entries].view(self._shape), residuals[n_entries:]

    def _copy(self, now: Iterate) -> Iterate:
        flat, products, value, gradient, curvature, residuals = map(torch.clone, now.owned())
        at = Evaluation(value, gradient, curvature)
        views = self._residual_parts(residuals)
        return Iterate(flat, *self._parts(flat), products, at, residuals, *views)

    def _begin_at(self, start: Float) -> Iterate:
        """Near `start`, with multipliers on the central path."""
        n_cliques = self._shape[1]
        uniform = self._r / n_cliques
        sums = start.sum(axis=1, keepdims=True)
        inside = ((start >= 0) & (start <= 1)).all(axis=1, keepdims=True)
        inside &= np.abs(sums - self._r) <= 1e-6 * self._r
        x = np.where(inside, start * (self._r / np.where(inside, sums, 1.0)), uniform)
        X = torch.from_numpy(0.9 * x + 0.1 * uniform).to(self._device)
        at = self._objective.evaluate(X)
        slack = torch.stack([X, 1 - X])
        spread = (at.gradient - at.gradient.mean(dim=1, keepdim=True)).abs()
        mu = (spread * slack.amin(dim=0)).mean().clamp(min=1e-6)
        multipliers = mu / slack
        nu = -(at.gradient - multipliers[0] + multipliers[1]).mean(dim=1)
        return self._at(torch.cat([slack.flatten(), multipliers.flatten(), nu]), at)

    def _measures(self, now: Iterate) -> torch.Tensor:
        return torch.stack(
            [
                now.at.value,
                _largest(now.rows),
                _largest(now.dual),
                now.products.sum(),
                _largest(now.at.gradient),
                now.products.amin(),
            ]
        )

    @staticmethod
    def _merit(now: Iterate, target: torch.Tensor | float) -> torch.Tensor:
        """Squared norm of the optimality conditions with complementarity = target."""
        return _squared(now.products - target) + _squared(now.residuals)

    # ---- directions and steps ----

    def _direction(
        self, now: Iterate, target: torch.Tensor | float, predictor: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Newton's direction to x z = target, less the predictor's second-order terms."""
        wanted = target - now.products
        if predictor is not None:
            slack, multipliers, _ = self._parts(predictor)
            wanted.addcmul_(slack, multipliers, value=-1)
        return self._newton_step(now, wanted, refine=True)

    def _predictor(self, now: Iterate) -> torch.Tensor:
        return self._newton_step(now, -now.products, refine=False)

    def _newton_step(self, now: Iterate, wanted: torch.Tensor, refine: bool) -> torch.Tensor:
        """Changes that change the products by `wanted`, to first order."""
        lower, upper = wanted / now.slack
        dx, dnu = self._newton.solve(lower - upper - now.dual, now.rows, refine)
        change = torch.empty_like(now.flat)
        slack, multipliers, nu = self._parts(change)
        torch.mul(dx, self._signs, out=slack)
        torch.addcmul(wanted, now.multipliers, slack, value=-1, out=multipliers)
        multipliers.div_(now.slack)
        nu.copy_(dnu)
        return change

    def _limits(self, now: Iterate, direction: torch.Tensor) -> torch.Tensor:
        """Minus the reciprocals of the longest steps of X and of the multipliers, (2,)."""
        bounded = 2 * self._count
        return (direction[:bounded] / now.flat[:bounded]).view(2, -1).amin(dim=1)

    def _steps(self, limits: torch.Tensor) -> torch.Tensor:
        """Most of the longest steps, at most 1."""
        return (limits / -0.995).clamp(min=1.0).reciprocal()

    def _after(self, now: Iterate, direction: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Sum of the complementarity products."""
        bounded = 2 * self._count
        slack, multipliers = torch.addcmul(now.flat[:bounded], direction[:bounded], step).view(
            2, -1
        )
        return torch.dot(slack, multipliers)

    def _acceptable(self, found: list[float], step: float, merit: float) -> bool:
        trial_merit, now = found[0], Measures(*found[1:])
        return (
            math.isfinite(trial_merit)
            and now.smallest >= 1e-4 * now.gap / self._count
            and trial_merit <= (1 - 0.01 * step) * merit
        )

    def _judged(self, trial: Iterate, target: torch.Tensor | float) -> torch.Tensor:
        return torch.cat([self._merit(trial, target)[None], self._measures(trial)])

    def _compute(self, now: Iterate) -> Iteration:
        """Mehrotra's step from `now`, without waiting for the device."""
        mu = self._mu
        diagonal = (now.multipliers / now.slack).sum(dim=0)
        factored = self._newton.factor(now.at.curvature, diagonal)
        assert self._newton.factors is not None
        affine = self._predictor(now)
        affine_step = self._limits(now, affine).amin().clamp(max=-1.0).reciprocal().neg()
        ratio = self._after(now, affine, affine_step) / (self._count * mu)
        centering = torch.maximum(ratio * ratio * ratio, self._least).clamp(max=1.0)
        target = centering * mu
        direction = self._direction(now, target, affine)
        step = self._steps(self._limits(now, direction).amin())
        trial = self._at(torch.addcmul(now.flat, direction, step))
        head = torch.stack([centering, step, self._merit(now, target)])
        found = torch.cat([factored, head, self._judged(trial, target)])
        return Iteration(found, trial, direction, target, self._newton.factors)

    def _placed(self, now: Iterate) -> Iterate:
        """`now`, which the next iteration leaves as it is: where the graph reads it, if any.

        The graph is made after an iteration in which torch's libraries set themselves up.
        """
        if self._captured is None:
            if self._launched > 0 and can_capture(self._device, self._shape[1]):
                self._capture(now)
            if self._captured is None:
                return now
        place = self._captured.now
        torch._foreach_copy_(place.owned(), now.owned())
        return place

    def _capture(self, now: Iterate) -> None:
        place = self._copy(now)
        self._newton.factors = None  # their memory is free for the graph's
        made = capture(lambda: self._compute(place), self._device, self._need)
        self._newton.factors = None
        if made is not None:
            self._captured = Captured(made[0], place, made[1])

    def _iteration(self, now: Iterate, mu: float) -> Iteration:
        self._mu.fill_(mu)
        self._least.fill_(self._least_centering)
        if self._captured is None:
            self._launched += 1
            return self._compute(now)
        self._captured.graph.replay()
        self._newton.factors = self._captured.iteration.factors
        return self._captured.iteration

    def _advance(self, now: Iterate, mu: float) -> _Step | None:
        """One iteration; None if no step helps."""
        iteration = self._iteration(now, mu)
        trial, direction, target = iteration.trial, iteration.direction, iteration.target
        found = iteration.found.tolist()
        if not DenseNewton.is_positive(found[:3]):
            return None
        centered, first_step, first_merit = found[3:6]
        if self._acceptable(found[6:], first_step, first_merit):
            accepted: _Step | None = trial, Measures(*found[7:]), first_step
        else:
            # A quarter of a step would be too short.
            accepted = self._halve(now, direction, first_step / 2, target, first_merit, 1)
        usable = accepted is not None and accepted[2] > 0.3
        self._least_centering = 1e-3 if usable else 0.1
        return accepted if usable else self._carefully(now, max(centered, 0.3) * mu)

    def _halve(
        self,
        now: Iterate,
        direction: torch.Tensor,
        step: float,
        target: torch.Tensor | float,
        merit: float,
        tries: int,
    ) -> _Step | None:
        """The first of some steps, each half of the last, where the conditions are better met."""
        for _ in range(tries):
            trial = self._at(torch.add(now.flat, direction, alpha=step))
            found = self._judged(trial, target).tolist()
            if self._acceptable(found, step, merit):
                return trial, Measures(*found[1:]), step
            step /= 2
        return None

    def _carefully(self, now: Iterate, target: float) -> _Step | None:
        """Newton's plain step, by the barrier function or else by many halvings."""
        direction = self._direction(now, target)
        found = self._search_barrier(now, direction, target)
        if found is not None:
            return found
        longest = self._steps(self._limits(now, direction).amin())
        step, merit = torch.stack([longest, self._merit(now, target)]).tolist()
        return self._halve(now, direction, step, target, merit, 31)

    @staticmethod
    def _barrier(x: torch.Tensor, value: torch.Tensor, target: float) -> torch.Tensor:
        return value - target * (x.log() + torch.log1p(-x)).sum()

    def _search_barrier(self, now: Iterate, direction: torch.Tensor, target: float) -> _Step | None:
        """X's step by the barrier function; None if rounding is all that is left of it."""
        spread = 10.0  # of the complementarity products
        change, multipliers, dnu = self._parts(direction)
        x, dx = now.slack[0], change[0]
        lower, upper = target / now.slack
        slope = ((now.at.gradient - lower + upper) * dx).sum()
        head = torch.stack([self._barrier(x, now.at.value, target), slope])
        steps = self._steps(self._limits(now, direction))
        before, along, step, dual_step = torch.cat([head, steps]).tolist()
        rounding = 1e-15 * abs(before)
        if not along < -rounding:
            return None
        for _ in range(30):
            moved = x + step * dx
            at = self._objective.evaluate(moved)
            value = float(self._barrier(moved, at.value, target))
            if value <= before + 1e-4 * step * along + rounding:
                slack = torch.stack([moved, 1 - moved])
                path = target / slack
                wanted = now.multipliers + dual_step * multipliers
                close = torch.clamp(wanted, path / spread, path * spread)
                nu = now.nu + step * dnu
                trial = self._at(torch.cat([slack.view(-1), close.view(-1), nu]), at)
                return trial, Measures(*self._measures(trial).tolist()), step
            step /= 2
        return None

    # ---- the method ----

    def run(self, start: Float, time_limit: float = 0.0) -> RelaxedSolution:
        """Begins near `start` (B, K); `time_limit` in seconds, 0 for none."""
        begin = time.perf_counter()
        settings = self._settings
        self._least_centering = 0.0
        now = self._begin_at(start)
        measures = Measures(*self._measures(now).tolist())
        status, step = "MAX_ITER", 0.0
        log: list[tuple[float, ...]] = []
        while True:
            mu = measures.gap / self._count
            log.append(self._row(measures, mu, step))
            if measures.converged(self._r, settings.tol):
                status = "SOLVED"
                break
            if len(log) > settings.max_iterations:
                break
            if 0 < time_limit < time.perf_counter() - begin:
                status = "TIME_LIMIT"
                break
            now = self._placed(now)
            found = self._advance(now, mu)
            if found is None:
                status = "NUMERICAL_ERROR"
                break
            now, measures, step = found
        if status != "SOLVED" and measures.converged(self._r, math.sqrt(settings.tol)):
            status = "ALMOST_SOLVED"
        info = self._info(log, time.perf_counter() - begin)
        X = now.slack[0].cpu().numpy().copy()  # on a CPU device the next solution is put there
        return RelaxedSolution(X, log[-1][0], status, info)

    def _row(self, now: Measures, mu: float, step: float) -> tuple[float, ...]:
        value = now.value / self._objective.scale
        return value, now.primal, now.dual / now.gradient_scale, now.gap / now.size, mu, step

    def _info(self, log: list[tuple[float, ...]], seconds: float) -> dict[str, Any]:
        n_batches, n_cliques = self._shape
        return {
            "solver": "native",
            "device": self._device.type,
            "iterations": len(log) - 1,
            "regime": "dense",
            "regime_reason": f"{n_batches} dense factors of {n_cliques} x {n_cliques} on a GPU",
            "rank": 0,
            "low_rank": False,
            "inner_iterations": 0,
            "primal_residual": log[-1][1],
            "dual_residual": log[-1][2],
            "gap": log[-1][3],
            "times": {"total": seconds},
            "log": np.array(log),
        }


def _largest(values: torch.Tensor) -> torch.Tensor:
    largest: torch.Tensor = torch.linalg.vector_norm(values, math.inf)
    return largest


def _squared(values: torch.Tensor) -> torch.Tensor:
    flat = values.view(-1)
    return torch.dot(flat, flat)
