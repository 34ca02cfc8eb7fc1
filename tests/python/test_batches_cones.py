"""Eq. (5)-(6) as a cone program: the model, Clarabel on it, and MOSEK as far as a licence goes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from batch_instances import Reference, instance, relaxed_instance

import cliquesim as cs
from cliquesim.batches import cone_solvers
from cliquesim.batches.cone_model import cone_model
from cliquesim.batches.problem import StepSettings, as_problem
from cliquesim.batches.relaxed import grad_v
from cliquesim.doctor import diagnose

CASES = [
    (B, K, r, smoothing, lambdas)
    for B, K, r in ((1, 8, 3), (3, 10, 4))
    for smoothing in (0.0, 1.0)
    for lambdas in ((0.7, 0.4, 0.3), (0.7, 0.0, 0.0), (0.0, 0.5, 1.0), (0.0, 0.0, 0.2))
]
cases = pytest.mark.parametrize(("B", "K", "r", "smoothing", "lambdas"), CASES)


def model_of(X_t, C, S, r, lambdas, smoothing, p=1 / 16):
    problem = as_problem(C, S, p)
    linear = grad_v(X_t, problem.similarity, lambdas[2])
    return cone_model(problem, linear, r, StepSettings(*lambdas[:2], smoothing))


def lift(model, X):
    """z with the smallest t and the largest y that the cones allow."""
    n, B, d = X.size, model.n_quadratic, model.quadratic_size
    z = np.zeros(model.costs.size)
    z[:n] = X.ravel()
    rows = model.F @ z + model.g
    w = rows[: B * d].reshape(B, d)[:, 2:]
    z[n : n + B] = (w**2).sum(axis=1)
    z[n + B :] = rows[B * d :: 3].clip(0) ** model.p
    return z


# ---- the model ----


@cases
def test_model_is_eq_5(B, K, r, smoothing, lambdas):
    C, S, X_t = relaxed_instance(B, K, 25, r, 0)
    model = model_of(X_t, C, S, r, lambdas, smoothing)
    reference = Reference(X_t, C, S, *lambdas, smoothing)
    rng = np.random.default_rng(1)
    for _ in range(3):
        X = rng.dirichlet(np.ones(K), B) * r
        z = lift(model, X)
        assert model.value(z) == pytest.approx(reference.value(X.ravel()), rel=1e-9, abs=1e-12)
        assert model.A @ z == pytest.approx(model.b)
    assert (model.lower[: B * K] == 0).all()
    assert (model.upper[: B * K] == 1).all()
    assert np.isinf(model.upper[B * K :]).all()


def test_linear_coverage_needs_no_cone():
    C, S, X_t = relaxed_instance(2, 8, 16, 3, 1)
    model = model_of(X_t, C, S, 3, (0.7, 0.4, 0.3), 1.0, p=1.0)
    assert model.n_power == 0
    reference = Reference(X_t, C, S, 0.7, 0.4, 0.3, 1.0, p=1.0)
    assert model.value(lift(model, X_t)) == pytest.approx(reference.value(X_t.ravel()))


# ---- Clarabel ----


@cases
@pytest.mark.parametrize("seed", [0, 1])
def test_clarabel_agrees(B, K, r, smoothing, lambdas, seed):
    pytest.importorskip("clarabel")
    C, S, X_t = relaxed_instance(B, K, 25, r, seed)
    arguments = (X_t, C, S, r, *lambdas)
    native = cs.solve_relaxed(*arguments, smoothing=smoothing)
    clarabel = cs.solve_relaxed(*arguments, smoothing=smoothing, solver="clarabel")
    assert clarabel.status in ("SOLVED", "ALMOST_SOLVED")
    assert clarabel.info["solver"] == "clarabel"
    assert native.objective == pytest.approx(clarabel.objective, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_clarabel_at_other_scales(scale):
    pytest.importorskip("clarabel")
    C, S, X_t = relaxed_instance(3, 10, 25, 4, 2)
    arguments = (X_t, C, scale * S, 4, 0.7 * scale, 0.4 * scale, 0.3 * scale)
    native = cs.solve_relaxed(*arguments)
    clarabel = cs.solve_relaxed(*arguments, solver="clarabel")
    assert native.objective == pytest.approx(clarabel.objective, rel=1e-6)


@pytest.mark.parametrize("p", [1 / 3, 1.0])
def test_clarabel_with_other_powers(p):
    pytest.importorskip("clarabel")
    C, S, X_t = relaxed_instance(2, 8, 16, 3, 3)
    for smoothing in (0.0, 1.0):
        values = [
            cs.solve_relaxed(
                X_t, C, S, 3, 0.7, 0.4, 0.3, p=p, smoothing=smoothing, solver=solver
            ).objective
            for solver in ("native", "clarabel")
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_clarabel_selects_batches():
    pytest.importorskip("clarabel")
    C, S = instance(12, 40, 4)
    a, b = (cs.select_batches(C, S, 4, 3, solver=solver) for solver in ("native", "clarabel"))
    assert b.objective == pytest.approx(a.objective, rel=1e-3)


# ---- MOSEK ----


def mosek_and_licence():
    """The package, and whether it may be used here."""
    mosek = pytest.importorskip("mosek")
    with mosek.Env() as env:
        try:
            cone_solvers.check_out_licence(mosek, env)
        except cs.errors.RunError:
            return mosek, False
    return mosek, True


@cases
def test_mosek_task_is_the_model(B, K, r, smoothing, lambdas):
    """Read back from the task, which needs no licence."""
    mosek = pytest.importorskip("mosek")
    C, S, X_t = relaxed_instance(B, K, 25, r, 0)
    model = model_of(X_t, C, S, r, lambdas, smoothing)
    n, m = model.costs.size, model.b.size
    with mosek.Env() as env, env.Task() as task:
        cone_solvers.fill_task(mosek, task, model)
        assert task.getobjsense() == mosek.objsense.minimize
        assert task.getcfix() == model.constant
        assert np.array_equal(task.getc(), model.costs)
        keys, low, high = task.getvarboundslice(0, n)
        bounded = np.array([key == mosek.boundkey.ra for key in keys])
        assert np.array_equal(bounded, np.isfinite(model.upper))
        assert np.array_equal(np.array(low)[bounded], model.lower[bounded])
        assert np.array_equal(np.array(high)[bounded], model.upper[bounded])
        keys, low, high = task.getconboundslice(0, m)
        assert set(keys) == {mosek.boundkey.fx}
        assert np.array_equal(low, model.b)
        assert np.array_equal(high, model.b)
        A, F = np.zeros((m, n)), np.zeros((model.g.size, n))
        rows, cols, values = task.getatrip()
        A[rows, cols] = values
        assert np.array_equal(A, model.A.toarray())
        rows, cols, values = task.getaccftrip()
        F[rows, cols] = values
        assert np.array_equal(F, model.F.toarray())
        assert np.array_equal(task.getaccgvector(), model.g)
        assert task.getnumacc() == model.n_quadratic + model.n_power
        for i in range(task.getnumacc()):
            domain = task.getaccdomain(i)
            if i < model.n_quadratic:
                assert task.getdomaintype(domain) == mosek.domaintype.rquadratic_cone
                assert task.getaccn(i) == model.quadratic_size
            else:
                assert task.getdomaintype(domain) == mosek.domaintype.primal_power_cone
                assert task.getaccn(i) == 3
                assert task.getpowerdomainalpha(domain) == pytest.approx([1 / 16, 15 / 16])


@cases
def test_mosek_agrees_or_asks_for_a_licence(B, K, r, smoothing, lambdas):
    _, licensed = mosek_and_licence()
    C, S, X_t = relaxed_instance(B, K, 25, r, 0)
    arguments = (X_t, C, S, r, *lambdas)
    if licensed:
        native = cs.solve_relaxed(*arguments, smoothing=smoothing)
        mosek = cs.solve_relaxed(*arguments, smoothing=smoothing, solver="mosek")
        assert mosek.status in ("SOLVED", "ALMOST_SOLVED")
        assert native.objective == pytest.approx(mosek.objective, rel=1e-6)
    else:
        with pytest.raises(cs.errors.RunError, match=r"no usable licence .*MOSEKLM_LICENSE"):
            cs.solve_relaxed(*arguments, smoothing=smoothing, solver="mosek")


def test_mosek_selects_batches_or_asks_for_a_licence():
    _, licensed = mosek_and_licence()
    C, S = instance(12, 40, 4)
    native = cs.select_batches(C, S, 4, 3)
    seen: list[float] = []
    if licensed:
        mosek = cs.select_batches(C, S, 4, 3, solver="mosek")
        assert mosek.objective == pytest.approx(native.objective, rel=1e-3)
    else:
        with pytest.raises(cs.errors.RunError, match="no usable licence"):
            cs.select_batches(C, S, 4, 3, solver="mosek", progress=seen.append)
        assert seen == []  # refused before any work
    assert np.array_equal(cs.select_batches(C, S, 4, 3).X, native.X)


@pytest.mark.parametrize(
    ("package", "extra"), [("mosek", "mosek"), ("clarabel", "reference"), ("cyipopt", "reference")]
)
def test_missing_packages_name_their_extra(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    C, S, X_t = relaxed_instance(1, 6, 12, 3, 0)
    solver = package.removeprefix("cy")
    with pytest.raises(cs.errors.MissingExtraError, match=rf"cliquesim\[{extra}\]"):
        cs.solve_relaxed(X_t, C, S, 3, 1, 1, 1, solver=solver)


def test_doctor_knows_about_the_licence():
    _, licensed = mosek_and_licence()
    told = diagnose()["extras"]["mosek"]
    assert told == "yes" if licensed else "no usable licence" in told


def test_other_errors_of_mosek_pass():
    mosek = pytest.importorskip("mosek")
    error = mosek.Error(mosek.rescode.err_space, "no space")

    def fail(feature):
        raise error

    with pytest.raises(mosek.Error) as caught:
        cone_solvers.check_out_licence(mosek, SimpleNamespace(checkoutlicense=fail))
    assert caught.value is error


@pytest.mark.parametrize(
    ("state", "ended", "gap", "status"),
    [
        ("optimal", "ok", 1e-9, "SOLVED"),
        ("prim_infeas_cer", "ok", 1.0, "INFEASIBLE"),
        ("unknown", "trm_stall", 1e-6, "ALMOST_SOLVED"),
        ("unknown", "trm_stall", 1e-2, "NUMERICAL_ERROR"),
        ("unknown", "trm_max_time", 1e-2, "TIME_LIMIT"),
        ("unknown", "trm_max_iterations", 1e-2, "MAX_ITER"),
        (None, "trm_max_time", 1e-2, "TIME_LIMIT"),
        (None, "trm_numerical_problem", 1e-2, "NUMERICAL_ERROR"),
    ],
)
def test_statuses_of_mosek(state, ended, gap, status):
    """What a finished task is turned into; a stand-in, as optimize() needs a licence."""
    mosek = pytest.importorskip("mosek")
    C, S, X_t = relaxed_instance(1, 6, 12, 3, 0)
    model = model_of(X_t, C, S, 3, (1.0, 1.0, 1.0), 0.0)
    task = SimpleNamespace(
        getintinf=lambda item: 7,
        getdouinf=lambda item: 1e-9,
        solutiondef=lambda kind: state is not None,
        getsolsta=lambda kind: getattr(mosek.solsta, state),
        getprimalobj=lambda kind: 1.0 + gap,
        getdualobj=lambda kind: 1.0,
        getxx=lambda kind: lift(model, X_t).tolist(),
    )
    settings = StepSettings(1.0, 1.0, 0.0)
    solution = cone_solvers._mosek_solution(
        mosek, task, getattr(mosek.rescode, ended), model, X_t, settings
    )
    assert solution.status == status
    assert solution.info["iterations"] == 7
    assert np.array_equal(solution.X, X_t if state else np.full_like(X_t, np.nan), equal_nan=True)
