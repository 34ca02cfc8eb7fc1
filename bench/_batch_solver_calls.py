"""The calls that `bench/batch_solver.py` compares, each in a process of its own."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from _measure import Request, measured, serve_child

SOLVERS = ("native", "ipopt", "clarabel", "scs", "trust-constr")
WAYS = ("cccp", "greedy+swaps", "random+swaps", "greedy", "random")
PATTERNS = ("windows", "random", "nested")


class Instance(NamedTuple):
    """B batches of r of K cliques over N samples; S' of some rank."""

    batches: int
    cliques: int
    samples: int
    per_batch: int
    rank: int
    pattern: str
    seed: int


def make(one: Instance) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """C and S': cliques of 5 to 20 samples, whose overlaps have one of three patterns."""
    rng = np.random.default_rng(one.seed)
    sizes = rng.integers(5, 21, one.cliques)
    columns = []
    for size in sizes:
        if one.pattern == "random":
            columns.append(rng.choice(one.samples, size, replace=False))
            continue
        # Out of a stretch of samples, as cliques of neighbouring frames are; or all of them from
        # the first few of a stretch on, so that small cliques lie within large ones.
        first = rng.integers(one.samples)
        if one.pattern == "nested":
            first, chosen = first // 40 * 40, np.arange(size)
        else:
            chosen = rng.choice(3 * size, size, replace=False)
        columns.append((first + chosen) % one.samples)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    C = sparse.csr_array(
        (np.ones(ends[-1]), np.concatenate(columns), ends), shape=(one.cliques, one.samples)
    )
    V = rng.normal(size=(one.cliques, one.rank)) + 0.5 * rng.normal(size=(1, one.rank))
    V /= np.sqrt(one.rank)
    return C, V @ V.T


def handle(request: Request) -> Request:
    instance = Instance(*request["instance"])
    C, S = make(instance)
    if request["task"] == "select":
        return select(instance, C, S, request)
    rng = np.random.default_rng(instance.seed + 1)
    X = 1 + 0.1 * rng.uniform(-1, 1, (instance.batches, instance.cliques))
    X *= instance.per_batch / X.sum(axis=1, keepdims=True)
    lambdas = (0.1, 1.0, 0.5)
    if request["solver"] in ("scs", "trust-constr"):
        return others(request, instance, C, S, X, lambdas)
    import cliquesim as cs

    def call() -> Any:
        return cs.solve_relaxed(
            X,
            C,
            S,
            instance.per_batch,
            *lambdas,
            smoothing=request["smoothing"],
            tol=request["tol"],
            solver=request["solver"],
            num_threads=request["threads"],
            time_limit=request["limit"],
        )

    warm_up()
    solution, measures = measured(call)
    info = {k: v for k, v in solution.info.items() if k != "log"}
    return {**measures, "objective": solution.objective, "status": solution.status, "info": info}


def warm_up() -> None:
    import cliquesim as cs

    cs.solve_relaxed(np.full((2, 4), 0.5), np.eye(4), np.eye(4), 2, 0.1, 0.1, 0.1)


def others(
    request: Request,
    instance: Instance,
    C: sparse.csr_array,
    S: NDArray[np.float64],
    X: NDArray[np.float64],
    lambdas: tuple[float, float, float],
) -> Request:
    """Solvers that the package has no use for: given the same presolve as the others."""
    from cliquesim.batches.problem import StepSettings, as_problem
    from cliquesim.batches.relaxed import grad_v, relaxed_objective

    problem = as_problem(C, S, 1 / 16)
    linear = grad_v(X, problem.similarity, lambdas[2])
    settings = StepSettings(lambdas[0], lambdas[1], request["smoothing"], tol=request["tol"])
    solve = {"scs": solve_scs, "trust-constr": solve_trust_region}[request["solver"]]
    (found, status), measures = measured(
        lambda: solve(problem, linear, X, instance.per_batch, settings, request["limit"])
    )
    return {
        **measures,
        "objective": relaxed_objective(problem, found, linear, settings),
        "status": status,
        "info": {"primal_residual": float(np.abs(found.sum(axis=1) - instance.per_batch).max())},
    }


def solve_scs(
    problem: Any, linear: Any, start: Any, r: int, settings: Any, limit: float
) -> tuple[NDArray[np.float64], str]:
    import scs

    from cliquesim.batches.cone_model import cone_model

    model = cone_model(problem, linear, r, settings)
    A, b, n_nonnegative = model.standard_form()
    cones = {
        "z": model.b.size,
        "l": n_nonnegative,
        "q": [model.quadratic_size] * model.n_quadratic,
        "p": [model.p] * model.n_power,
    }
    tol = max(settings.tol, 1e-5)  # a first-order method: more would take for ever
    solver = scs.SCS(
        {"A": A, "b": b, "c": model.costs},
        cones,
        eps_abs=tol,
        eps_rel=tol,
        max_iters=10**7,
        time_limit_secs=limit,
        verbose=False,
    )
    solution = solver.solve()
    X = np.clip(solution["x"][: linear.size].reshape(linear.shape), 0, 1)
    return X, f"{solution['info']['status']}, eps {tol:g}"


def solve_trust_region(
    problem: Any, linear: Any, start: Any, r: int, settings: Any, limit: float
) -> tuple[NDArray[np.float64], str]:
    from cliquesim.batches.reference import IpoptCallbacks

    callbacks = IpoptCallbacks(problem, linear, r, settings)
    lower, columns = callbacks.hessianstructure()
    end = time.monotonic() + limit

    def hessian(x: Any) -> sparse.csr_array:
        half = sparse.csr_array(
            (callbacks.hessian(x, None, 1.0), (lower, columns)), shape=(x.size, x.size)
        )
        return sparse.csr_array(half + half.T - sparse.diags_array(half.diagonal()))

    found = optimize.minimize(
        callbacks.objective,
        callbacks.variables(start),
        jac=callbacks.gradient,
        hess=hessian,
        method="trust-constr",
        bounds=optimize.Bounds(
            0,
            np.concatenate([np.ones(linear.size), np.full(callbacks.n_totals, np.inf)]),
            keep_feasible=True,
        ),
        constraints=optimize.LinearConstraint(callbacks.A.tocsr(), callbacks.b, callbacks.b),
        callback=lambda *_: time.monotonic() > end,
        options={"gtol": 1e-8, "xtol": 1e-12, "barrier_tol": 1e-8, "maxiter": 10_000},
    )
    status = "TIME_LIMIT" if time.monotonic() > end else f"status {found.status}"
    return np.clip(callbacks.split(found.x)[0], 0, 1), status


def select(
    instance: Instance, C: sparse.csr_array, S: NDArray[np.float64], request: Request
) -> Request:
    """One way to make batches; the searches are repeated with new seeds until the time is over."""
    import warnings

    import cliquesim as cs

    warnings.simplefilter("ignore")
    warm_up()
    way, limit, threads = request["way"], request["limit"], request["threads"]
    lambdas = {name: request[name] for name in ("lambda1", "lambda2") if name in request}

    def once(seed: int, left: float | None) -> Any:
        method, _, swaps = way.partition("+")
        return cs.select_batches(
            C,
            S,
            instance.batches,
            instance.per_batch,
            method=method,
            local_search=bool(swaps) or method == "cccp",
            seed=seed,
            time_limit=left,
            num_threads=threads,
            **lambdas,
        )

    def call() -> tuple[float, int, Any]:
        begin = time.monotonic()
        best = once(instance.seed, limit)
        runs = 1
        while way not in ("cccp", "greedy") and limit and time.monotonic() - begin < limit:
            left = max(limit - (time.monotonic() - begin), 1e-3)
            other = once(instance.seed + runs, left)
            runs += 1
            best = min(best, other, key=lambda one: one.objective)
        return best.objective, runs, best

    (objective, runs, best), measures = measured(call)
    return {
        **measures,
        "objective": float(objective),
        "runs": runs,
        "status": best.status,
        "terms": best.objective_terms,
        "lambdas": best.lambdas,
        "distinct": int(best.n_distinct_batches),
        "regime": best.info["regime"],
    }


if __name__ == "__main__":
    serve_child(handle)
