"""Discrete search on Eq. (1): random and greedy starts, rounding, exchanges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cliquesim import _core
from cliquesim.batches.problem import BatchProblem, Float, Int


@dataclass
class SearchResult:
    """`cliques` (starts, B, r) ascending in each batch, and Eq. (1) of each start."""

    cliques: Int
    objectives: Float
    complete: bool = True

    @property
    def best(self) -> int:
        return int(np.argmin(self.objectives))


@dataclass(frozen=True)
class DiscreteSearch:
    """Eq. (1) with its lambdas, and how many batches of how many cliques."""

    problem: BatchProblem
    lambda1: float
    lambda2: float
    n_batches: int
    cliques_per_batch: int
    num_threads: int

    def random(self, rng: np.random.Generator, starts: int) -> Int:
        """Random batches, (starts, B, r)."""
        keys = rng.random((starts, self.n_batches, self.problem.n_cliques), dtype=np.float32)
        return self.round(keys)

    def round(self, relaxed: NDArrayReal) -> Int:
        """The r largest entries of each row, ties to the smaller index; any leading shape."""
        order = np.argsort(-relaxed, axis=-1, kind="stable")[..., : self.cliques_per_batch]
        return np.sort(order, axis=-1).astype(np.int64)

    def greedy(self, rng: np.random.Generator, starts: int) -> SearchResult:
        """Greedy construction; after the first start with a random first clique per batch."""
        first = rng.integers(0, self.problem.n_cliques, (starts, self.n_batches))
        first[:1] = -1
        cliques, objectives, _, _ = _core.greedy_batches(
            first.astype(np.int64),
            self.cliques_per_batch,
            *self.problem.arrays,
            self.lambda1,
            self.lambda2,
            self.problem.p,
            self.num_threads,
        )
        return SearchResult(cliques, objectives)

    def improve(
        self, cliques: Int, kicks: int = 0, seed: int = 0, time_limit: float = 0.0
    ) -> SearchResult:
        """Best-improvement exchanges until none helps, from each start; then `kicks` of each."""
        improved, objectives, _, complete = _core.swap_batches(
            np.ascontiguousarray(cliques.reshape(cliques.shape[0], -1)),
            self.cliques_per_batch,
            *self.problem.arrays,
            self.lambda1,
            self.lambda2,
            self.problem.p,
            kicks,
            seed,
            time_limit,
            self.num_threads,
        )
        return SearchResult(improved, objectives, complete)

    @property
    def kick_steps(self) -> int:
        """Steps of the descent after one kick, which looks at every batch at least once."""
        problem = self.problem
        per_batch = problem.weights.size + 2 * problem.indices.size
        per_batch += self.cliques_per_batch * problem.n_cliques
        return self.n_batches * per_batch

    def binary(self, cliques: Int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """(B, r) lists to X (B, K)."""
        X = np.zeros((self.n_batches, self.problem.n_cliques), dtype=bool)
        np.put_along_axis(X, cliques, True, axis=1)
        return X

    def objective(self, cliques: Int) -> float:
        """Eq. (1) of one selection (B, r)."""
        similarity, batch, total = self.problem.terms(
            self.binary(cliques), num_threads=self.num_threads
        )
        return similarity - self.lambda1 * batch - self.lambda2 * total


NDArrayReal = np.ndarray[tuple[int, ...], np.dtype[np.floating]]
