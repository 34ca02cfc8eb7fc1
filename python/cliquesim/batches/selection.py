"""Selection of batches of mutually distant cliques, Sect. 2.3."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cliquesim._device import check_device
from cliquesim._validation import as_choice, as_count, as_real, as_threads
from cliquesim.batches.cccp import (
    CccpResult,
    CccpSettings,
    integrality,
    noisy_start,
    run_cccp,
)
from cliquesim.batches.problem import (
    BatchProblem,
    Float,
    Int,
    as_problem,
    as_weight,
    default_lambda,
    make_positive_semidefinite,
)
from cliquesim.batches.quality import batch_quality, warn_about
from cliquesim.batches.relaxed import SOLVERS, StepSettings
from cliquesim.batches.result import BatchSelection
from cliquesim.batches.search import DiscreteSearch
from cliquesim.errors import InputError

# More cliques than CCCP takes: S' alone has 3 GB then. Greedy starts and exchanges remain.
MAX_CLIQUES = 20_000

# From so many entries of X on an inner problem takes half a minute and more, and CCCP goes along
# its path in large steps: every third lambda3, one step each, to a tolerance of 1e-4.
LARGE = 50_000

# Defaults of lambda1 and lambda2 in units of `default_lambda`. With 1 and 1 the largest cliques are
# in every batch, and most cliques in none: measured, 20-50 % of the cliques and 60-85 % of the
# samples were used, and the network trained on them was worse than on random batches.
LAMBDA1_UNITS = 0.1
LAMBDA2_UNITS = 10.0

# eps of the smoothed t^p. A sample that is covered twice must count little more than one that is
# covered once: 4 % with the printed t^p, 30 % with eps = 0.1, but 61 % with eps = 1, and what CCCP
# then ends with covers the same samples again and again. Below 0.1 the inner problems take longer.
SMOOTHING = 0.1

# Kicks at the end. Measured on 36 instances of three overlap patterns (B = 5 to 20, K = 40 to 100):
# 1000, 3000 kicks of the best selection end 0.35, 0.07 above the best known objective on average,
# 3 x 1000 kicks of the three best 0.21, restarts in the same total time 1.1. A kick costs about
# B (N + 2 nnz + r K) steps; 4e9 of them take 4 to 5 seconds.
KICKS = 3000
KICK_STEPS = 4e9


def select_batches(
    membership: Any,
    similarity: ArrayLike,
    n_batches: int,
    cliques_per_batch: int,
    lambda1: float | None = None,
    lambda2: float | None = None,
    lambda3: float | None = None,
    p: float = 1 / 16,
    method: str = "cccp",
    mode: str = "default",
    solver: str = "native",
    psd: str = "shift",
    smoothing: float | None = None,
    n_starts: int | None = None,
    local_search: bool = True,
    seed: int = 0,
    time_limit: float | None = None,
    num_threads: int | None = None,
    device: str = "cpu",
    progress: Callable[[float], object] | None = None,
    kicks: int | None = None,
) -> BatchSelection:
    """Select B batches of r mutually distant cliques that together cover many samples, Eq. (1)-(2).

    CCCP solves the relaxed problem along a growing lambda3, each row is rounded to its r largest
    entries, and exchanges of single cliques lower Eq. (1) further. The best of several starts is
    kept, greedy and random ones among them, and kicked out of its local optimum again and again.

    Parameters
    ----------
    membership : (K, N) of 0 and 1, sparse or dense
        C, the samples of each clique.
    similarity : (K, K)
        S', mean similarity of the samples of two cliques; only its symmetric part matters.
    n_batches, cliques_per_batch : int
        B and r.
    lambda1, lambda2 : float, optional
        Weights in Eq. (1) of the coverage of each batch and of all batches together, as printed.
        In units of ``2 (r - 1) sigma / m``, with sigma the standard deviation of S' off the
        diagonal and m the mean size of a clique, where the coverage of a clique weighs as much as
        its similarities to the others in its batch, the defaults are 0.1 and 10: within a batch
        distance decides, and over all batches every sample gets its turn.
    lambda3 : float, optional
        Last weight of ``||X - 0.5||^2``, reached geometrically from a hundredth of it. By default
        10 times the larger of ``2 (r - 1) sigma`` and ``lambda1 m``, and where X is not integral by
        then up to 26 times that. mode="paper": constant, 1.
    p : float in (0, 1]
    method : {"cccp", "greedy", "random"}
        How batches are made before `local_search`.
    mode : {"default", "paper"}
        "paper" is the printed method: no smoothing, `psd` = "project", one start, one lambda3, no
        exchanges and no kicks. It ignores `psd`, `smoothing`, `n_starts`, `local_search` and
        `kicks`.
    solver : {"native", "ipopt", "clarabel", "mosek"}
        For the convex problems, see `solve_relaxed`.
    psd : {"shift", "project"}
        How S' is made positive semi-definite for CCCP: a diagonal shift, which leaves Eq. (1) as it
        is, or clipping of its eigenvalues. The result is always scored with the given S'.
    smoothing : float, optional
        eps of the smoothed t^p while relaxing, 0.1 by default; see `solve_relaxed`.
    n_starts : int, optional
        Starts of the search. Those of "greedy" begin with a random first clique, but for the first
        one; "cccp" adds as many starts to its own, half greedy and half random. Default 10 for
        "cccp", else 1.
    local_search : bool
        Improve every start by exchanges until none helps; else the starts compete as they are.
        ``method="random", local_search=False`` gives random batches.
    seed : int
    time_limit : float, optional
        Seconds; the best selection so far is returned.
    num_threads : int, optional
        All processors by default. The result does not depend on it, unless the time limit cuts.
    device : {"cpu"}
    progress : callable, optional
        Gets the fraction that is done.
    kicks : int, optional
        How often, at the end, two or three random exchanges disturb the best selection and
        improving ones follow; what ends lower is kept. Needs `local_search`. Default for "cccp"
        3000, fewer where they would take longer than some 5 seconds, which depends on the sizes
        alone; else 0.

    Returns
    -------
    BatchSelection

    Warns
    -----
    BatchWarning
        Identical batches; batches that cover few of the samples (n_batches too small); a relaxed X
        that is far from integral when CCCP ends, so that the rounding decides.

    Raises
    ------
    InputError
        More cliques per batch than cliques, an empty clique, NaN, shapes that do not fit.
    MissingExtraError, RunError
        The package of a reference solver is missing; MOSEK is there, but has no licence.

    Notes
    -----
    From B K = 50,000 on, CCCP goes along its path of lambda3 in a few large steps. Beyond K =
    20,000 method "cccp" runs greedy starts and exchanges alone, and ``info["message"]`` says so.

    Examples
    --------
    >>> import numpy as np, cliquesim as cs
    >>> S = np.array([[1.0, 0.9, 0.1, 0.0], [0.9, 1.0, 0.0, 0.1], [0.1, 0.0, 1.0, 0.8],
    ...               [0.0, 0.1, 0.8, 1.0]])
    >>> selection = cs.select_batches(np.eye(4), S, n_batches=2, cliques_per_batch=2)
    >>> sorted(selection.batches.tolist())
    [[0, 3], [1, 2]]
    """
    check_device(device, "select_batches")
    settings = _Settings(
        method=as_choice(method, "method", ("cccp", "greedy", "random")),
        mode=as_choice(mode, "mode", ("default", "paper")),
        solver=as_choice(solver, "solver", SOLVERS),
        psd=as_choice(psd, "psd", ("shift", "project")),
        smoothing=SMOOTHING if smoothing is None else as_real(smoothing, "smoothing", 0.0),
        n_starts=as_count(
            (10 if method == "cccp" else 1) if n_starts is None else n_starts, "n_starts", 1
        ),
        local_search=bool(local_search),
        seed=as_count(seed, "seed"),
        time_limit=None if time_limit is None else as_real(time_limit, "time_limit", 1e-9),
        progress=progress,
        kicks=None if kicks is None else as_count(kicks, "kicks"),
    )
    if settings.kicks and not settings.local_search:
        raise InputError(f"kicks={kicks} need local_search=True")
    if settings.mode == "paper":
        settings = replace(
            settings, psd="project", smoothing=0.0, n_starts=1, local_search=False, kicks=0
        )
    problem = as_problem(membership, similarity, p)
    r = as_count(cliques_per_batch, "cliques_per_batch", 1)
    _check_sizes(problem, r)
    unit = default_lambda(problem, r)
    search = DiscreteSearch(
        problem,
        LAMBDA1_UNITS * unit if lambda1 is None else as_weight(lambda1, "lambda1"),
        LAMBDA2_UNITS * unit if lambda2 is None else as_weight(lambda2, "lambda2"),
        as_count(n_batches, "n_batches", 1),
        r,
        as_threads(num_threads),
    )
    if lambda3 is not None:
        lambda3 = as_weight(lambda3, "lambda3")
    selection = _Selection(settings, search, unit, lambda3).run()
    warn_about(selection, stacklevel=2)
    return selection


def _check_sizes(problem: BatchProblem, r: int) -> None:
    if r > problem.n_cliques:
        raise InputError(f"cliques_per_batch={r}, but there are only {problem.n_cliques} cliques")
    empty = np.flatnonzero(np.diff(problem.offsets) == 0)
    if empty.size:
        raise InputError(f"membership has no sample in row {empty[0]}: an empty clique")


@dataclass(frozen=True)
class _Settings:
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


@dataclass
class _Selection:
    """One call of select_batches: what was tried so far and the best of it."""

    settings: _Settings
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
        kicks = self.settings.kicks
        if kicks is None:
            wanted = self.settings.method == "cccp" and self.settings.local_search
            kicks = min(KICKS, int(KICK_STEPS / self.search.kick_steps)) if wanted else 0
        self.info["kicks"] = kicks
        if kicks == 0 or self.best is None:
            return
        best = self.best[None]
        kicked = self._timed(
            "kicks",
            lambda: self.search.improve(best, kicks, self.settings.seed, self._remaining()),
        )
        self.complete &= kicked.complete
        self._offer("kicks", kicked.cliques[0], float(kicked.objectives[0]))

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
            path = path[1::3]
        step = StepSettings(
            search.lambda1,
            search.lambda2,
            settings.smoothing,
            tol=1e-4 if large else 1e-5,
            solver=settings.solver,
            num_threads=search.num_threads,
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
