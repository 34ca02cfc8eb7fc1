"""Eq. (5)-(6) as a cone program in plain arrays, for every solver that takes power cones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from cliquesim.batches.problem import BatchProblem, Float, StepSettings

_DROPPED = 1e-14  # eigenvalues of S' below this share of the largest are rounding errors


@dataclass(frozen=True)
class ConeModel:
    """minimise ``unit (costs z + constant)`` subject to ``A z = b``, ``lower <= z <= upper`` and
    ``F z + g`` in a product of cones.

    z holds X row by row, then one t per batch, then one y per power cone. The product is

    - ``n_quadratic`` rotated quadratic cones ``2 u v >= ||w||^2`` of ``quadratic_size`` rows
      (u, v, w): with v = 1/2 and w = V^T x_b, S' = V V^T, this is ``t_b >= x_b S' x_b^T``;
    - ``n_power`` power cones ``u^p v^(1-p) >= |w|`` of three rows (u, v, w): with
      u = coverage + eps and v = 1 this is ``y <= (coverage + eps)^p``.
    """

    costs: Float
    constant: float
    unit: float
    lower: Float
    upper: Float
    A: sparse.csr_array
    b: Float
    F: sparse.csr_array
    g: Float
    n_quadratic: int
    quadratic_size: int
    n_power: int
    p: float

    def value(self, z: Float) -> float:
        """Eq. (5) at z, if t and y are tight."""
        return self.unit * (float(self.costs @ z) + self.constant)

    def standard_form(self) -> tuple[sparse.csc_array, Float, int]:
        """A, b and m: ``b - A z`` in zeros, then m nonnegative rows, then ``n_quadratic`` second
        order cones and ``n_power`` power cones, as Clarabel and SCS take them."""
        bounded = np.flatnonzero(np.isfinite(self.upper))
        bounds = sparse.csr_array(
            (np.ones(bounded.size), (np.arange(bounded.size), bounded)),
            shape=(bounded.size, self.costs.size),
        )
        turn = self._to_second_order_cones()
        A = sparse.vstack([self.A, -bounds, bounds, -turn @ self.F], format="csc")
        parts = [self.b, -self.lower[bounded], self.upper[bounded], turn @ self.g]
        return sparse.csc_array(A), np.concatenate(parts), 2 * bounded.size

    def _to_second_order_cones(self) -> sparse.csr_array:
        """Turns (u, v) by 45 degrees: 2 u v >= w^2 is (u + v)^2 / 2 >= (u - v)^2 / 2 + w^2."""
        turn = sparse.eye_array(self.quadratic_size, format="lil")
        turn[:2, :2] = np.sqrt(0.5) * np.array([[1.0, 1.0], [1.0, -1.0]])
        turns = sparse.kron(sparse.eye_array(self.n_quadratic), turn)
        return sparse.csr_array(sparse.block_diag([turns, sparse.eye_array(3 * self.n_power)]))


def membership_matrix(problem: BatchProblem) -> sparse.csr_array:
    """C (K, N) with one column per merged sample."""
    return sparse.csr_array(
        (np.ones(problem.indices.size), problem.indices, problem.offsets),
        shape=(problem.n_cliques, problem.weights.size),
    )


def cone_model(problem: BatchProblem, linear: Float, r: float, settings: StepSettings) -> ConeModel:
    """Eq. (5)-(6) with `linear` = grad v(X_t). O(K^3) for the factor of S'."""
    n_batches, n_cliques = linear.shape
    covers, heights, epsilon, constant = _coverages(problem, n_batches, settings)
    costs_x = -linear.ravel()
    if problem.p == 1.0:  # the coverage is linear and needs no cone
        costs_x = costs_x - heights @ covers
        covers, heights, constant = covers[:0], heights[:0], 0.0
    V = _factor(problem.similarity)
    n_x, n_y, rank = linear.size, heights.size, V.shape[1]
    largest = max(float(np.abs(v).max(initial=0.0)) for v in (costs_x, heights, V**2))
    unit = largest or 1.0

    eye = sparse.eye_array(n_batches)
    row_sums = sparse.kron(eye, np.ones((1, n_cliques)))
    first = np.zeros((rank + 2, 1))
    first[0] = 1.0
    squares = sparse.vstack([sparse.csr_array((2, n_cliques)), V.T / np.sqrt(unit)])
    pick_u, pick_w = np.array([[1.0], [0.0], [0.0]]), np.array([[0.0], [0.0], [1.0]])
    F = sparse.block_array(
        [
            [sparse.kron(eye, squares), sparse.kron(eye, first), None],
            [
                sparse.kron(covers, pick_u),
                sparse.csr_array((3 * n_y, n_batches)),
                sparse.kron(sparse.eye_array(n_y), pick_w),
            ],
        ]
        if n_y
        else [[sparse.kron(eye, squares), sparse.kron(eye, first)]],
        format="csr",
    )
    halves = np.zeros(rank + 2)
    halves[1] = 0.5
    free = np.full(n_batches + n_y, np.inf)
    return ConeModel(
        costs=np.concatenate([costs_x / unit, np.ones(n_batches), -heights / unit]),
        constant=constant / unit,
        unit=unit,
        lower=np.concatenate([np.zeros(n_x), -free]),
        upper=np.concatenate([np.ones(n_x), free]),
        A=sparse.csr_array(
            sparse.hstack([row_sums, sparse.csr_array((n_batches, n_batches + n_y))])
        ),
        b=np.full(n_batches, float(r)),
        F=sparse.csr_array(F),
        g=np.concatenate([np.tile(halves, n_batches), np.tile([epsilon, 1.0, 0.0], n_y)]),
        n_quadratic=n_batches,
        quadratic_size=rank + 2,
        n_power=n_y,
        p=problem.p,
    )


def _coverages(
    problem: BatchProblem, n_batches: int, settings: StepSettings
) -> tuple[sparse.csr_array, Float, float, float]:
    """Rows that give every coverage from X, the weight of its power, eps, and a constant."""
    C_T = membership_matrix(problem).T
    eps, p = settings.smoothing, problem.p
    offset = eps**p if eps > 0 else 0.0
    scale = 1.0 / ((1.0 + eps) ** p - offset)
    parts = []
    if settings.lambda1 > 0:
        rows = sparse.kron(sparse.eye_array(n_batches), C_T)
        parts.append((rows, np.tile(settings.lambda1 * problem.weights, n_batches)))
    if settings.lambda2 > 0:
        rows = sparse.kron(np.ones((1, n_batches)), C_T)
        parts.append((rows, settings.lambda2 * problem.weights))
    if not parts:
        return sparse.csr_array((0, n_batches * problem.n_cliques)), np.zeros(0), eps, 0.0
    heights = scale * np.concatenate([weights for _, weights in parts])
    covers = sparse.csr_array(sparse.vstack([rows for rows, _ in parts]))
    return covers, heights, eps, offset * float(heights.sum())


def _factor(similarity: Float) -> Float:
    """V (K, rank) with S' = V V^T."""
    values, vectors = linalg.eigh(similarity)
    kept = values > _DROPPED * max(float(values[-1]), 0.0)
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
