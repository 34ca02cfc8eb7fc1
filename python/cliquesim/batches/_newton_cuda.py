"""Value, derivatives and Newton steps of Eq. (5)-(6) in float64 on the device of its tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from cliquesim.batches._coverage_cuda import Rows, RowSums, cliques_of_samples, overlaps
from cliquesim.batches.problem import BatchProblem, Float

# Sides up to which matrices are factored at once, and the panels' width of larger ones.
_LARGEST_AT_ONCE, _PANEL = 256, 128


class Evaluation(NamedTuple):
    """Of the scaled Eq. (5) at one X."""

    value: torch.Tensor  # ()
    gradient: torch.Tensor  # (B, K)
    curvature: torch.Tensor  # lambda w g' / t at x_b C for each b, then at 1 X C: (B + 1, N)


class RelaxedObjective:
    """Eq. (5), scaled so that its gradient has entries of order 1."""

    def __init__(
        self,
        problem: BatchProblem,
        linear: Float,
        lambda1: float,
        lambda2: float,
        smoothing: float,
        device: torch.device,
    ) -> None:
        def upload(values: Float) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self.scale = _choose_scale(problem, linear, lambda1 + lambda2)
        self.twice_similarity = upload(2 * self.scale * problem.similarity)
        self.linear = upload(self.scale * linear)
        self.coupled = lambda2 > 0 and problem.weights.size > 0
        p = problem.p
        self._p, self._smoothing = p, smoothing
        self._offset = smoothing**p if smoothing > 0 else 0.0
        unit = self.scale / ((1 + smoothing) ** p - self._offset)
        lambdas = np.full((linear.shape[0] + 1, 1), lambda1, dtype=np.float64)
        lambdas[-1] = lambda2
        self._worth = upload(unit * lambdas * problem.weights)
        self._slope_worth = p * self._worth
        self._by_sample = RowSums.on(device, cliques_of_samples(problem))
        self._by_clique = RowSums.on(device, Rows(problem.offsets, problem.indices))

    def evaluate(self, x: torch.Tensor) -> Evaluation:
        """At X (B, K), 0 < X < 1."""
        shifted = x.new_empty((len(x) + 1, self._worth.shape[1]))
        cover = shifted[:-1]
        self._by_sample(x, cover)
        torch.sum(cover, dim=0, out=shifted[-1])
        if self._smoothing > 0:
            shifted += self._smoothing
        raised = shifted.pow(self._p)
        slope = (raised / shifted).mul_(self._slope_worth)
        curvature = slope / shifted
        if self._smoothing > 0:
            raised -= self._offset
        heights = torch.dot(raised.view(-1), self._worth.view(-1))
        gradient = torch.addmm(self.linear, x, self.twice_similarity, beta=-1)
        quadratic = torch.dot(x.reshape(-1), (gradient - self.linear).view(-1))
        of_cliques = self._by_clique(slope)
        gradient -= of_cliques[:-1]
        gradient -= of_cliques[-1]
        return Evaluation(0.5 * quadratic - heights, gradient, curvature)


def inverse_factors(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """L^-1 of the Cholesky factors L of (B, K, K), and (B,) integers that are 0 where there is one.

    Large ones panel by panel: libraries factor many matrices at a time with small ones in mind, and
    their products run many times faster.
    """
    n = blocks.shape[1]
    if n <= _LARGEST_AT_ONCE:
        factors, info = torch.linalg.cholesky_ex(blocks)
        identity = torch.eye(n, dtype=blocks.dtype, device=blocks.device)
        upper = torch.linalg.solve_triangular(factors.mT, identity.expand_as(factors), upper=True)
        return upper.mT, info
    factors, failed = blocks.clone(), torch.zeros_like(blocks[:, 0, 0], dtype=torch.int32)
    inverse = torch.zeros_like(blocks)
    for start in range(0, n, _PANEL):
        here, left = slice(start, min(start + _PANEL, n)), slice(0, start)
        below = slice(here.stop, n)
        of_panel, info = inverse_factors(factors[:, here, here].contiguous())
        failed = torch.maximum(failed, info)
        inverse[:, here, here] = of_panel
        if start > 0:  # row [L_left, L_panel] of L times L^-1 is a row of the identity
            product = factors[:, here, left] @ inverse[:, left, left]
            inverse[:, here, left] = -of_panel @ product
        if here.stop < n:  # L below the panel, and what it leaves of the rest
            lower = factors[:, below, here] @ of_panel.mT
            factors[:, below, here] = lower
            factors[:, below, below].baddbmm_(lower, lower.mT, alpha=-1)
    return inverse, failed


class DenseNewton:
    """The system of `csrc/batches/newton_system.hpp` by Cholesky factors of its B blocks."""

    def __init__(self, problem: BatchProblem, objective: RelaxedObjective) -> None:
        self._twice_similarity = objective.twice_similarity
        self._coupled = objective.coupled
        self._bend = 1 - problem.p  # times the curvature of an evaluation: -lambda w g''
        device = self._twice_similarity.device
        pattern = overlaps(problem)
        self._places = torch.from_numpy(pattern.places).to(device)
        self._shared = RowSums.on(device, pattern.shared)
        self._identity = torch.eye(problem.n_cliques, dtype=torch.float64, device=device)
        self._inverse = self._blocks = self._identity

    def factor(self, curvature: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        """Takes an evaluation's curvature and d (B, K); for `is_positive`."""
        n_batches = len(diagonal)
        of_pairs = self._shared(curvature)
        del self._inverse, self._blocks  # their memory is free for the next ones
        self._blocks = self._twice_similarity.repeat(n_batches, 1, 1)
        self._blocks.view(n_batches, -1).index_add_(
            1, self._places, of_pairs[:-1], alpha=self._bend
        )
        self._blocks.diagonal(dim1=1, dim2=2).add_(diagonal)
        # L^-1: products with it take less time than solutions with L. Row by row in memory, as they
        # are summed.
        self._inverse, info = inverse_factors(self._blocks)
        half = self._inverse.sum(dim=2)
        self._solved_ones = self._multiply_transposed(half)
        self._ones_product = half.square().sum(dim=1)
        if self._coupled:
            self._factor_coupling(of_pairs[-1])
        ones = self._ones_product
        return torch.stack([info.amax().double(), ones.amin(), ones.sum()])

    @staticmethod
    def is_positive(factored: list[float]) -> bool:
        """Whether every block was positive definite."""
        failed, least, total = factored
        return failed == 0 and least > 0 and math.isfinite(total)

    def _factor_coupling(self, of_pairs: torch.Tensor) -> None:
        """Q and factors of I + P Q; P sums A_b^-1 less the directions of the row sums."""
        n_cliques = len(self._identity)
        stacked = self._inverse.reshape(-1, n_cliques)
        total = stacked.T @ stacked
        directions = self._solved_ones / self._ones_product[:, None]
        total.addmm_(directions.T, self._solved_ones, alpha=-1)
        coupling = torch.zeros_like(total)
        coupling.view(-1).index_add_(0, self._places, of_pairs, alpha=self._bend)
        reduced = torch.addmm(self._identity, total, coupling)
        self._coupling = coupling
        # P may be huge: the explicit inverse would lose all digits.
        self._reduced = torch.linalg.lu_factor_ex(reduced)[:2]

    def solve(
        self, f: torch.Tensor, e: torch.Tensor, refine: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """dx (B, K) and dnu (B,), with a step of iterative refinement or as they come."""
        dx, dnu = self._solve_once(f, e)
        if not refine:
            return dx, dnu
        more_x, more_nu = self._solve_once(*self._residual(f, e, dx, dnu))
        return dx + more_x, dnu + more_nu

    def _multiply_transposed(self, y: torch.Tensor) -> torch.Tensor:
        return torch.bmm(y.unsqueeze(1), self._inverse).squeeze(1)

    def _solve_blocks(self, f: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        forward = torch.bmm(self._inverse, f.unsqueeze(2)).squeeze(2)
        solved = self._multiply_transposed(forward)
        dnu = (solved.sum(dim=1) - e) / self._ones_product
        return torch.addcmul(solved, dnu[:, None], self._solved_ones, value=-1), dnu

    def _solve_once(self, f: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dx, dnu = self._solve_blocks(f, e)
        if not self._coupled:
            return dx, dnu
        total = torch.linalg.lu_solve(*self._reduced, dx.sum(dim=0)[:, None])
        return self._solve_blocks(f - (self._coupling @ total).T, e)

    def _residual(
        self, f: torch.Tensor, e: torch.Tensor, dx: torch.Tensor, dnu: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(f, e) minus the system times (dx, dnu)."""
        rest = torch.baddbmm(
            (f - dnu[:, None]).unsqueeze(2), self._blocks, dx.unsqueeze(2), alpha=-1
        )
        rest = rest.squeeze(2)
        if self._coupled:
            rest -= self._coupling @ dx.sum(dim=0)
        return rest, e - dx.sum(dim=1)


def _choose_scale(problem: BatchProblem, linear: Float, lambdas: float) -> float:
    """1 / (largest coefficient): S' times 2, the linear term, a clique's coverage at slope 1."""
    largest = max(
        2 * float(np.abs(problem.similarity).max()),
        problem.p * lambdas * float(problem.clique_sizes.max()),
        float(np.abs(linear).max()),
    )
    return 1 / largest if largest > 0 else 1.0
