"""One call of `select_batches`: CCCP, starts, exchanges and kicks, and the best of it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cliquesim.batches.cccp import (
    CccpResult,
    CccpSettings,
    integrality,
    noisy_start,
    run_cccp,
)
from cliquesim.batches.problem import Float, Int, StepSettings, make_positive_semidefinite
from cliquesim.batches.quality import batch_quality
from cliquesim.batches.result import BatchSelection
from cliquesim.batches.search import DiscreteSearch, SearchResult

# More cliques than CCCP takes: S' alone has 3 GB then. Greedy starts and exchanges remain.
MAX_CLIQUES = 20_000

# From so many entries of X on an inner problem takes ten seconds and more, and CCCP goes along its
# path in large strides: at first every third lambda3, one step each, to a tolerance of 1e-4. The
# last steps, where X is nearly integral, cost little.
LARGE = 50_000
LARGE_PATH = (1, 4, 6, 7, 8, 9, 10, 11, 12)

# Kicks at the end. Measured on 36 instances of three overlap patterns (B = 5 to 20, K = 40 to 100):
# 1000, 3000 kicks of the best selection end 0.35, 0.07 above the best known objective on average,
# 3 x 1000 kicks of the three best 0.21, restarts in the same total time 1.1. A kick costs about
# B (N + 2 nnz + r K) steps; 4e9 of them take 4 to 5 seconds.
KICKS = 3000
KICK_STEPS = 4e9
# Many kicks at a time do not start from each other's results: on a GPU there are more. Measured on
# three instances with B = K = 100, 128 at a time: what 3000 gain is 2 to 8 % less than one after
# the other, what 6000 gain 5 to 9 % more.
CUDA_KICKS = 2


@dataclass(frozen=True)
class SelectionSettings:
    method: str
    mode: str
    solver: str
    psd: str
    smoothing: float
    n_starts: int
    local_search: bool
    seed: int
    time_limit: float | None
    progress: Callable[[float], object] | None
    kicks: int | None
    device: str = "cpu"


@dataclass
class SelectionRun:
    """One call of select_batches: what was tried so far and the best of it."""

    settings: SelectionSettings
    search: DiscreteSearch
    unit: float
    lambda3: float | None
    begin: float = field(default_factory=time.perf_counter)
    best: Int | None = None
    best_objective: float = np.inf
    comparison: dict[str, float] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    complete: bool = True
    cccp: CccpResult | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def run(self) -> BatchSelection:
        settings = self.settings
        rng = np.random.default_rng(settings.seed)
        if settings.method == "cccp":
            self._cccp()
        if settings.mode == "default" or settings.method != "cccp":
            self._starts(rng)
        self._kick()
        if settings.method == "cccp":
            self._compare(rng)
        self._report(1.0)
        return self._result()

    # ---- parts ----

    def _starts(self, rng: np.random.Generator) -> None:
        """Greedy and random starts, improved by exchanges."""
        n, method = self.settings.n_starts, self.settings.method
        n_random = {"greedy": 0, "random": n, "cccp": n // 2}[method]
        starts = []
        if n - n_random:
            greedy = self._timed("greedy", lambda: self.search.greedy(rng, n - n_random))
            self._offer("greedy", greedy.cliques[0], float(greedy.objectives[0]))
            for cliques, value in zip(greedy.cliques[1:], greedy.objectives[1:], strict=True):
                self._offer(None, cliques, float(value))
            starts.append(greedy.cliques)
        if n_random:
            random = self.search.random(rng, n_random)
            self._offer("random", random[0])
            for cliques in random[1:]:
                self._offer(None, cliques)
            starts.append(random)
        if not self.settings.local_search:
            return
        for name, cliques in zip(self._names(n - n_random, n_random), starts, strict=True):
            self._improve(name, cliques)

    @staticmethod
    def _names(n_greedy: int, n_random: int) -> list[str]:
        return ["greedy"] * bool(n_greedy) + ["random"] * bool(n_random)

    def _improve(self, name: str, cliques: Int) -> None:
        improved = self._timed(
            "swaps",
            lambda: self.search.improve(
                cliques, seed=self.settings.seed, time_limit=self._remaining()
            ),
        )
        self.complete &= improved.complete
        best = improved.best
        self._offer(f"{name}+swaps", improved.cliques[best], float(improved.objectives[best]))

    def _kick(self) -> None:
        kicks = self._n_kicks()
        self.info["kicks"] = kicks
        if kicks == 0 or self.best is None:
            return
        best = self.best
        kicked = self._timed("kicks", lambda: self._kicked(best, kicks))
        self.complete &= kicked.complete
        self._offer("kicks", kicked.cliques[0], float(kicked.objectives[0]))

    def _n_kicks(self) -> int:
        settings = self.settings
        if settings.kicks is not None:
            return settings.kicks
        if settings.method != "cccp" or not settings.local_search:
            return 0
        kicks = min(KICKS, int(KICK_STEPS / self.search.kick_steps))
        return kicks * CUDA_KICKS if self._kicks_on_device() else kicks

    def _kicks_on_device(self) -> bool:
        few = self.search.cliques_per_batch < self.search.problem.n_cliques
        return self.settings.device == "cuda" and few

    def _kicked(self, best: Int, kicks: int) -> SearchResult:
        seed, limit = self.settings.seed, self._remaining()
        if not self._kicks_on_device():
            return self.search.improve(best[None], kicks, seed, limit)
        from cliquesim.batches._kicks_cuda import kick_batches  # torch

        return kick_batches(self.search, best, kicks, seed, limit)

    def _cccp(self) -> None:
        search, settings = self.search, self.settings
        n_cliques = search.problem.n_cliques
        if n_cliques > MAX_CLIQUES:
            self.info["message"] = (
                f"K = {n_cliques} cliques are more than CCCP takes (K <= {MAX_CLIQUES}): greedy "
                "starts and exchanges instead"
            )
            return
        large = settings.mode == "default" and search.n_batches * n_cliques > LARGE
        S, shift = make_positive_semidefinite(search.problem.similarity, settings.psd)
        self.info["psd_shift"] = shift
        convex = search.problem.with_similarity(S)
        shape = (search.n_batches, search.problem.n_cliques, search.cliques_per_batch)
        path = self._lambda3_path()
        if large:
            path = tuple(path[i] for i in LARGE_PATH if i < len(path))
        step = StepSettings(
            search.lambda1,
            search.lambda2,
            settings.smoothing,
            tol=1e-4 if large else 1e-5,
            solver=settings.solver,
            num_threads=search.num_threads,
            device=settings.device,
        )
        deadline = None if settings.time_limit is None else self.begin + 0.7 * settings.time_limit
        self.cccp = self._timed(
            "cccp",
            lambda: run_cccp(
                convex,
                noisy_start(*shape, CccpSettings.noise, settings.seed),
                search.cliques_per_batch,
                step,
                CccpSettings(path, 30 if settings.mode == "paper" else 1 if large else 3),
                lambda X: search.objective(search.round(X)),
                deadline,
                lambda fraction: self._report(0.8 * fraction),
            ),
        )
        rounded = search.round(self.cccp.X)
        self._offer("cccp", rounded)
        if settings.local_search:
            self._improve("cccp", rounded[None])

    def _lambda3_path(self) -> tuple[float, ...]:
        if self.settings.mode == "paper":
            return (1.0 if self.lambda3 is None else self.lambda3,)
        mean_size = float(self.search.problem.clique_sizes.mean())
        weight = max(self.unit, self.search.lambda1) * mean_size
        last = 10.0 * weight if self.lambda3 is None else self.lambda3
        path = last * np.geomspace(0.01, 1.0, 8)
        if self.lambda3 is None:  # few batches need more: nothing evens out their coverage
            path = np.append(path, last * (path[1] / path[0]) ** np.arange(1.0, 6.0))
        return tuple(path.tolist())

    def _compare(self, rng: np.random.Generator) -> None:
        """What the other ways reach, for the report; in mode "paper" they do not compete."""
        if self.settings.mode != "paper":
            return
        kept = self.best, self.best_objective
        greedy, random = self.search.greedy(rng, 1).cliques, self.search.random(rng, 1)
        self._offer("greedy", greedy[0])
        self._offer("random", random[0])
        self._improve("greedy", greedy)
        self._improve("random", random)
        self.best, self.best_objective = kept

    # ---- bookkeeping ----

    def _offer(self, name: str | None, cliques: Int, value: float | None = None) -> None:
        if value is None:
            value = self.search.objective(cliques)
        if name is not None:
            self.comparison[name] = value
        if self.best is None or value < self.best_objective:
            self.best, self.best_objective = cliques, value

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        value = call()
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - begin
        return value

    def _remaining(self) -> float:
        """Seconds for a kernel; 0 is no limit, so a spent budget is a tiny one."""
        if self.settings.time_limit is None:
            return 0.0
        return max(self.settings.time_limit - (time.perf_counter() - self.begin), 1e-6)

    def _report(self, fraction: float) -> None:
        if self.settings.progress is not None:
            self.settings.progress(fraction)

    def _status(self) -> str:
        if not self.complete:
            return "TIME_LIMIT"
        return "SOLVED" if self.cccp is None else self.cccp.status

    def _result(self) -> BatchSelection:
        assert self.best is not None
        search, problem = self.search, self.search.problem
        X = search.binary(self.best)
        similarity, batch, total = problem.terms(X, num_threads=search.num_threads)
        terms = {
            "similarity": similarity,
            "batch_coverage": -search.lambda1 * batch,
            "total_coverage": -search.lambda2 * total,
        }
        quality = batch_quality(problem, X)
        self.times["total"] = time.perf_counter() - self.begin
        steps = [] if self.cccp is None else self.cccp.history
        relaxed: Float | None = None if self.cccp is None else self.cccp.X
        self.info |= {
            "regime": "discrete" if self.cccp is None else self.cccp.regime,
            "comparison": self.comparison,
            "quality": quality,
            "monotone": self.cccp is None or self.cccp.monotone,
            "times": self.times,
        }
        return BatchSelection(
            X=X,
            X_relaxed=relaxed,
            objective=sum(terms.values()),
            objective_terms=terms,
            history=steps,
            integrality=1.0 if relaxed is None else integrality(relaxed, search.cliques_per_batch),
            n_distinct_batches=quality["distinct_batches"],
            lambdas={
                "lambda1": search.lambda1,
                "lambda2": search.lambda2,
                "lambda3": steps[-1]["lambda3"] if steps else 0.0,
            },
            status=self._status(),
            info=self.info,
        )
