"""Clarabel and MOSEK on the cone model of Eq. (5)-(6)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

from cliquesim.batches.cone_model import ConeModel, cone_model
from cliquesim.batches.problem import BatchProblem, Float, StepSettings
from cliquesim.batches.result import RelaxedSolution
from cliquesim.errors import MissingExtraError, RunError


def solve_clarabel(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float,
) -> RelaxedSolution:
    """Clarabel; it fails on large instances, from about B = 50, K = 100."""
    try:
        import clarabel
    except ImportError as error:
        raise MissingExtraError("clarabel", "reference", "solver='clarabel'") from error
    model = cone_model(problem, linear, r, settings)
    A, b, n_nonnegative = model.standard_form()
    cones = [clarabel.ZeroConeT(model.b.size), clarabel.NonnegativeConeT(n_nonnegative)]
    cones += [clarabel.SecondOrderConeT(model.quadratic_size)] * model.n_quadratic
    cones += [clarabel.PowerConeT(model.p)] * model.n_power
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.max_iter = settings.max_iterations
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = settings.tol
    if time_limit > 0:
        options.time_limit = time_limit
    no_squares = sparse.csc_array((model.costs.size, model.costs.size))
    solution = clarabel.DefaultSolver(no_squares, model.costs, A, b, cones, options).solve()
    names = {
        "Solved": "SOLVED",
        "AlmostSolved": "ALMOST_SOLVED",
        "MaxIterations": "MAX_ITER",
        "MaxTime": "TIME_LIMIT",
        "PrimalInfeasible": "INFEASIBLE",
    }
    name = str(solution.status)
    info = {
        "solver": "clarabel",
        "iterations": int(solution.iterations),
        "dual_residual": float(solution.r_dual),
        "gap": _relative_gap(solution.obj_val, solution.obj_val_dual, model.constant),
        "solver_status": name,
    }
    X = _x_part(np.asarray(solution.x), linear)
    return RelaxedSolution(X, np.nan, names.get(name, "NUMERICAL_ERROR"), info)


def solve_mosek(
    problem: BatchProblem,
    linear: Float,
    start: Float,
    r: float,
    settings: StepSettings,
    time_limit: float,
) -> RelaxedSolution:
    """MOSEK's interior point through its Optimizer API; needs a licence."""
    try:
        import mosek
    except ImportError as error:
        raise MissingExtraError("mosek", "mosek", "solver='mosek'") from error
    with mosek.Env() as env:
        check_out_licence(mosek, env)
        model = cone_model(problem, linear, r, settings)
        with env.Task() as task:
            fill_task(mosek, task, model)
            _set_parameters(mosek, task, settings, time_limit)
            try:
                ended = task.optimize()
            except mosek.Error as error:  # a licence for smaller sizes, or one that was just lost
                _refuse_without_licence(mosek, error)
                raise
            return _mosek_solution(mosek, task, ended, model, linear, settings)


def check_out_licence(mosek: ModuleType, env: Any) -> None:
    """Take the licences of the conic optimizer; RunError says what to do when there is none.

    MOSEK can be imported and fed without a licence, so only this tells whether it can be used.
    """
    try:
        for feature in (mosek.feature.pts, mosek.feature.pton):
            env.checkoutlicense(feature)
    except mosek.Error as error:
        _refuse_without_licence(mosek, error)
        raise


def mosek_status() -> str:
    """ "yes", or why MOSEK, which must be installed, cannot be used."""
    import mosek

    with mosek.Env() as env:
        try:
            check_out_licence(mosek, env)
        except RunError as error:
            return str(error).removeprefix("solver='mosek': ")
    return "yes"


def _refuse_without_licence(mosek: ModuleType, error: Any) -> None:
    """RunError where `error` is about the licence: MOSEK's codes 1000 to 1049."""
    code = error.errno
    if not mosek.rescode.err_license <= code < mosek.rescode.err_license + 50:
        return
    raise RunError(
        f"solver='mosek': the package mosek is installed, but it has no usable licence ({code!r}, "
        f"{int(code)}). Put one at ~/mosek/mosek.lic or point MOSEKLM_LICENSE_FILE to it "
        "(https://www.mosek.com/products/academic-licenses, or /try for a trial), or use "
        "solver='native'"
    ) from error


def fill_task(mosek: ModuleType, task: Any, model: ConeModel) -> None:
    """Put the model into an empty task, all but the factor `unit` of the objective."""
    n, m, rows = model.costs.size, model.b.size, model.g.size
    task.appendvars(n)
    task.putclist(np.arange(n, dtype=np.int32), model.costs)
    task.putcfix(model.constant)
    task.putobjsense(mosek.objsense.minimize)
    kinds = [
        mosek.boundkey.ra if finite else mosek.boundkey.fr for finite in np.isfinite(model.upper)
    ]
    task.putvarboundslice(0, n, kinds, model.lower, model.upper)
    task.appendcons(m)
    equal = sparse.coo_array(model.A)
    task.putaijlist(equal.row.astype(np.int32), equal.col.astype(np.int32), equal.data)
    task.putconboundslice(0, m, [mosek.boundkey.fx] * m, model.b, model.b)
    task.appendafes(rows)
    affine = sparse.coo_array(model.F)
    affine.eliminate_zeros()
    task.putafefentrylist(affine.row.astype(np.int64), affine.col.astype(np.int32), affine.data)
    task.putafegslice(0, rows, model.g)
    domains = [task.appendrquadraticconedomain(model.quadratic_size)] * model.n_quadratic
    if model.n_power:
        power = task.appendprimalpowerconedomain(3, [model.p, 1.0 - model.p])
        domains += [power] * model.n_power
    task.appendaccsseq(domains, rows, 0, None)


def _set_parameters(
    mosek: ModuleType, task: Any, settings: StepSettings, time_limit: float
) -> None:
    for name in ("rel_gap", "pfeas", "dfeas"):
        task.putdouparam(getattr(mosek.dparam, f"intpnt_co_tol_{name}"), settings.tol)
    task.putintparam(mosek.iparam.intpnt_max_iterations, settings.max_iterations)
    task.putintparam(mosek.iparam.num_threads, settings.num_threads)
    if time_limit > 0:
        task.putdouparam(mosek.dparam.optimizer_max_time, time_limit)


def _mosek_solution(
    mosek: ModuleType,
    task: Any,
    ended: Any,
    model: ConeModel,
    linear: Float,
    settings: StepSettings,
) -> RelaxedSolution:
    names = {
        mosek.rescode.trm_max_iterations: "MAX_ITER",
        mosek.rescode.trm_max_time: "TIME_LIMIT",
    }
    info: dict[str, Any] = {
        "solver": "mosek",
        "iterations": int(task.getintinf(mosek.iinfitem.intpnt_iter)),
        "dual_residual": float(task.getdouinf(mosek.dinfitem.intpnt_dual_feas)),
        "solver_status": f"{ended!r}",
    }
    if not task.solutiondef(mosek.soltype.itr):
        X = np.full(linear.shape, np.nan)
        return RelaxedSolution(X, np.nan, names.get(ended, "NUMERICAL_ERROR"), info)
    state = task.getsolsta(mosek.soltype.itr)
    info["solver_status"] = f"{state!r}, {ended!r}"
    info["gap"] = _relative_gap(
        task.getprimalobj(mosek.soltype.itr), task.getdualobj(mosek.soltype.itr), 0.0
    )
    if state == mosek.solsta.optimal:
        status = "SOLVED"
    elif state == mosek.solsta.prim_infeas_cer:
        status = "INFEASIBLE"
    elif ended not in names and max(info["gap"], info["dual_residual"]) <= settings.tol**0.5:
        status = "ALMOST_SOLVED"
    else:
        status = names.get(ended, "NUMERICAL_ERROR")
    return RelaxedSolution(
        _x_part(np.array(task.getxx(mosek.soltype.itr)), linear), np.nan, status, info
    )


def _x_part(z: Float, linear: Float) -> Float:
    return np.clip(z[: linear.size].reshape(linear.shape), 0.0, 1.0)


def _relative_gap(primal: float, dual: float, constant: float) -> float:
    return abs(primal - dual) / max(abs(primal + constant), 1e-300)
