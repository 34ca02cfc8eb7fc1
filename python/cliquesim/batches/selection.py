"""Selection of batches of mutually distant cliques, Sect. 2.3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cliquesim._device import to_host
from cliquesim._validation import as_choice, as_count, as_real, as_threads
from cliquesim.batches.problem import (
    BatchProblem,
    as_problem,
    as_weight,
    default_lambda,
)
from cliquesim.batches.quality import warn_about
from cliquesim.batches.relaxed import SOLVERS, check_solver_device
from cliquesim.batches.result import BatchSelection
from cliquesim.batches.search import DiscreteSearch
from cliquesim.batches.selection_run import SelectionRun, SelectionSettings
from cliquesim.errors import InputError

# Defaults of lambda1 and lambda2 in units of `default_lambda`. With 1 and 1 the largest cliques are
# in every batch, and most cliques in none: measured, 20-50 % of the cliques and 60-85 % of the
# samples were used, and a network trained on them with the contrastive loss was worse than on
# random batches. For the softmax the pipeline gives lambda1 the 10, too.
LAMBDA1_UNITS = 0.1
LAMBDA2_UNITS = 10.0

# eps of the smoothed t^p. A sample that is covered twice must count little more than one that is
# covered once: 4 % with the printed t^p, 30 % with eps = 0.1, but 61 % with eps = 1, and what CCCP
# then ends with covers the same samples again and again. Below 0.1 the inner problems take longer.
SMOOTHING = 0.1


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
    device : {"cpu", "cuda"}
        "cuda": the convex problems and the kicks run on the current CUDA device, as `solve_relaxed`
        says; greedy starts and the exchanges of all starts stay on the CPU. `membership` and
        `similarity` may be tensors there; what comes back is in NumPy arrays. The kicks are others
        than those of the CPU, and so may the batches be.
    progress : callable, optional
        Gets the fraction that is done.
    kicks : int, optional
        How often, at the end, two or three random exchanges disturb the best selection and
        improving ones follow; what ends lower is kept. Needs `local_search`. Default for "cccp"
        3000, fewer where they would take longer than some 5 seconds, which depends on the sizes
        alone, and twice as many on "cuda", where 128 are made at a time; else 0.

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
        The package of a reference solver is missing; MOSEK is there, but has no licence; CUDA
        cannot be used, or its memory does not suffice.

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
    check_solver_device(device, solver, "select_batches")
    if device == "cuda":
        membership, similarity = to_host(membership), to_host(similarity)
    settings = SelectionSettings(
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
        device=device,
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
    selection = SelectionRun(settings, search, unit, lambda3).run()
    warn_about(selection, stacklevel=2)
    return selection


def _check_sizes(problem: BatchProblem, r: int) -> None:
    if r > problem.n_cliques:
        raise InputError(f"cliques_per_batch={r}, but there are only {problem.n_cliques} cliques")
    empty = np.flatnonzero(np.diff(problem.offsets) == 0)
    if empty.size:
        raise InputError(f"membership has no sample in row {empty[0]}: an empty clique")
