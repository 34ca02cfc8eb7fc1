"""Value, derivatives and Newton steps of Eq. (5)-(6) in float64 on the device of its tensors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
        self._problem = problem
        self._lambdas = np.full((linear.shape[0] + 1, 1), lambda1, dtype=np.float64)
        self._lambdas[-1] = lambda2
        self.coupled = lambda2 > 0 and problem.weights.size > 0
        p = problem.p
        self._p, self._smoothing = p, smoothing
        self._offset = smoothing**p if smoothing > 0 else 0.0
        options: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.twice_similarity = torch.empty(problem.similarity.shape, **options)
        self.linear = torch.empty(linear.shape, **options)
        self._worth = torch.empty((len(self._lambdas), problem.weights.size), **options)
        self._slope_worth = torch.empty_like(self._worth)
        self._by_sample = RowSums.on(device, cliques_of_samples(problem))
        self._by_clique = RowSums.on(device, Rows(problem.offsets, problem.indices))
        self.scale = 0.0
        self.relinearize(linear)

    def relinearize(self, linear: Float) -> None:
        """Take another linear term (B, K). All tensors stay where they are."""
        problem = self._problem
        lambdas = float(self._lambdas[0, 0] + self._lambdas[-1, 0])
        scale = _choose_scale(problem, linear, lambdas)
        self.linear.copy_(torch.from_numpy(scale * linear))
        if scale == self.scale:
            return
        self.scale = scale
        self.twice_similarity.copy_(torch.from_numpy(2 * scale * problem.similarity))
        unit = scale / ((1 + self._smoothing) ** self._p - self._offset)
        self._worth.copy_(torch.from_numpy(unit * self._lambdas * problem.weights))
        torch.mul(self._worth, self._p, out=self._slope_worth)

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


class Factors(NamedTuple):
    """What a step of Newton's method takes of the B blocks and of what couples them."""

    blocks: torch.Tensor  # (B, K, K)
    inverse: torch.Tensor  # of their Cholesky factors
    solved_ones: torch.Tensor  # A_b^-1 1, (B, K)
    ones_product: torch.Tensor  # 1^T A_b^-1 1, (B,)
    coupling: torch.Tensor  # Q, (K, K), or empty
    reduced: torch.Tensor  # factors of I + P Q, and their pivots, or empty
    pivots: torch.Tensor


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
    """The system of `csrc/batches/newton_system.hpp` by Cholesky factors of its B blocks.

    Attributes
    ----------
    factors
        Of the last call of `factor`.
    """

    factors: Factors | None = None

    def __init__(self, problem: BatchProblem, objective: RelaxedObjective) -> None:
        self._twice_similarity = objective.twice_similarity
        self._coupled = objective.coupled
        self._bend = 1 - problem.p  # times the curvature of an evaluation: -lambda w g''
        device = self._twice_similarity.device
        pattern = overlaps(problem)
        self._places = torch.from_numpy(pattern.places).to(device)
        self._shared = RowSums.on(device, pattern.shared)
        self._identity = torch.eye(problem.n_cliques, dtype=torch.float64, device=device)

    def factor(self, curvature: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        """Takes an evaluation's curvature and d (B, K); for `is_positive`."""
        n_batches = len(diagonal)
        of_pairs = self._shared(curvature)
        self.factors = None  # their memory is free for the next ones
        blocks = self._twice_similarity.repeat(n_batches, 1, 1)
        blocks.view(n_batches, -1).index_add_(1, self._places, of_pairs[:-1], alpha=self._bend)
        blocks.diagonal(dim1=1, dim2=2).add_(diagonal)
        # L^-1: products with it take less time than solutions with L. Row by row in memory, as they
        # are summed.
        inverse, info = inverse_factors(blocks)
        half = inverse.sum(dim=2)
        solved_ones = _multiply_transposed(inverse, half)
        ones = half.square().sum(dim=1)
        coupling = reduced = inverse.new_empty(0)
        pivots = self._places.new_empty(0)
        if self._coupled:
            coupling, reduced, pivots = self._factor_coupling(
                of_pairs[-1], inverse, solved_ones, ones
            )
        self.factors = Factors(blocks, inverse, solved_ones, ones, coupling, reduced, pivots)
        return torch.stack([info.amax().double(), ones.amin(), ones.sum()])

    @staticmethod
    def is_positive(factored: list[float]) -> bool:
        """Whether every block was positive definite."""
        failed, least, total = factored
        return failed == 0 and least > 0 and math.isfinite(total)

    def _factor_coupling(
        self,
        of_pairs: torch.Tensor,
        inverse: torch.Tensor,
        solved_ones: torch.Tensor,
        ones_product: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Q and factors of I + P Q; P sums A_b^-1 less the directions of the row sums."""
        stacked = inverse.reshape(-1, len(self._identity))
        total = stacked.T @ stacked
        directions = solved_ones / ones_product[:, None]
        total.addmm_(directions.T, solved_ones, alpha=-1)
        coupling = torch.zeros_like(total)
        coupling.view(-1).index_add_(0, self._places, of_pairs, alpha=self._bend)
        reduced = torch.addmm(self._identity, total, coupling)
        # P may be huge: the explicit inverse would lose all digits.
        factors, pivots, _ = torch.linalg.lu_factor_ex(reduced)
        return coupling, factors, pivots

    def solve(
        self, f: torch.Tensor, e: torch.Tensor, refine: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """dx (B, K) and dnu (B,), with a step of iterative refinement or as they come."""
        assert self.factors is not None
        dx, dnu = self._solve_once(self.factors, f, e)
        if not refine:
            return dx, dnu
        rest = self._residual(self.factors, f, e, dx, dnu)
        more_x, more_nu = self._solve_once(self.factors, *rest)
        return dx + more_x, dnu + more_nu

    def _solve_once(
        self, factors: Factors, f: torch.Tensor, e: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dx, dnu = _solve_blocks(factors, f, e)
        if not self._coupled:
            return dx, dnu
        total = torch.linalg.lu_solve(factors.reduced, factors.pivots, dx.sum(dim=0)[:, None])
        return _solve_blocks(factors, f - (factors.coupling @ total).T, e)

    def _residual(
        self,
        factors: Factors,
        f: torch.Tensor,
        e: torch.Tensor,
        dx: torch.Tensor,
        dnu: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(f, e) minus the system times (dx, dnu)."""
        rest = torch.baddbmm(
            (f - dnu[:, None]).unsqueeze(2), factors.blocks, dx.unsqueeze(2), alpha=-1
        )
        rest = rest.squeeze(2)
        if self._coupled:
            rest -= factors.coupling @ dx.sum(dim=0)
        return rest, e - dx.sum(dim=1)


def _multiply_transposed(inverse: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.bmm(y.unsqueeze(1), inverse).squeeze(1)


def _solve_blocks(
    factors: Factors, f: torch.Tensor, e: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    forward = torch.bmm(factors.inverse, f.unsqueeze(2)).squeeze(2)
    solved = _multiply_transposed(factors.inverse, forward)
    dnu = (solved.sum(dim=1) - e) / factors.ones_product
    return torch.addcmul(solved, dnu[:, None], factors.solved_ones, value=-1), dnu


def _choose_scale(problem: BatchProblem, linear: Float, lambdas: float) -> float:
    """1 / (largest coefficient): S' times 2, the linear term, a clique's coverage at slope 1."""
    largest = max(
        2 * float(np.abs(problem.similarity).max()),
        problem.p * lambdas * float(problem.clique_sizes.max()),
        float(np.abs(linear).max()),
    )
    return 1 / largest if largest > 0 else 1.0
