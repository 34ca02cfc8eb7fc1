"""Sums over the samples of cliques and over the cliques of samples, on the device of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim.batches.problem import BatchProblem, Int


class Rows(NamedTuple):
    """A matrix of 0 and 1: row i has its ones in columns[offsets[i]:offsets[i + 1]]."""

    offsets: Int
    columns: Int


@dataclass(frozen=True)
class RowSums:
    """Products with a matrix of 0 and 1 in compressed rows, every sum in the order of its row."""

    offsets: torch.Tensor
    columns: torch.Tensor

    @classmethod
    def on(cls, device: torch.device, rows: Rows) -> RowSums:
        return cls(*(torch.from_numpy(values).to(device) for values in rows))

    def __call__(self, values: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(B, columns) to (B, rows), to `out` if there is one, which is contiguous."""
        n_rows = len(self.offsets) - 1
        if out is None:
            out = values.new_empty((len(values), n_rows))
        if not out.is_cuda:
            return self._on_cpu(values, out)
        from cliquesim import _cuda  # optional at build time

        values = values.contiguous()
        _cuda.row_sums(
            self.offsets.data_ptr(),
            self.columns.data_ptr(),
            n_rows,
            values.data_ptr(),
            values.shape[1],
            len(values),
            out.data_ptr(),
            out.device.index,
            torch.cuda.current_stream(out.device).cuda_stream,
        )
        return out

    def _on_cpu(self, values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        row_of = torch.repeat_interleave(torch.diff(self.offsets))
        return out.zero_().index_add_(1, row_of, values[:, self.columns])


@dataclass(frozen=True)
class Overlaps:
    """Which cliques share samples: cliques `places` // K and `places` % K share those of a row."""

    places: Int  # in the flattened (K, K), ascending; both orders of a pair, and the diagonal
    shared: Rows  # a row per place


def cliques_of_samples(problem: BatchProblem) -> Rows:
    """C^T: the cliques of every merged sample, in ascending order."""
    clique_of = np.repeat(np.arange(problem.n_cliques), np.diff(problem.offsets))
    order = np.argsort(problem.indices, kind="stable")
    counts = np.bincount(problem.indices, minlength=problem.weights.size)
    return Rows(_offsets(counts), clique_of[order])


def n_overlaps(problem: BatchProblem) -> int:
    """Entries of `overlaps`, one for every sample and two of its cliques."""
    counts = np.bincount(problem.indices, minlength=problem.weights.size)
    return int((counts**2).sum())


def overlaps(problem: BatchProblem) -> Overlaps:
    """The pattern of C C^T, and the samples that make each of its entries."""
    by_sample = cliques_of_samples(problem)
    holders = np.diff(by_sample.offsets)
    first = np.repeat(np.arange(problem.n_cliques), np.diff(problem.offsets))
    length = holders[problem.indices]
    sample = np.repeat(problem.indices, length)
    within = np.arange(sample.size) - np.repeat(np.cumsum(length) - length, length)
    second = by_sample.columns[by_sample.offsets[sample] + within]
    key = np.repeat(first, length) * problem.n_cliques + second
    order = np.argsort(key, kind="stable")
    places, counts = np.unique(key, return_counts=True)
    return Overlaps(places.astype(np.int64), Rows(_offsets(counts), sample[order]))


def _offsets(counts: NDArray[np.integer]) -> Int:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
