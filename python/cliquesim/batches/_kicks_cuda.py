"""Kicks of a selection on a CUDA device, many at a time: `csrc/batches/kick_round.hpp`."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim.batches._coverage_cuda import cliques_of_samples, overlaps
from cliquesim.batches._relaxed_cuda import current_device, memory
from cliquesim.batches.problem import Float, Int
from cliquesim.batches.search import DiscreteSearch, SearchResult
from cliquesim.errors import RunError

# Kicks of a round, each of which starts from what the last round ended with. A constant, so that
# the result does not depend on the GPU.
AT_ONCE = 128
# Moves of a kick and its descent that are kept; a descent ends there.
_CAPACITY = 256


class Tables(NamedTuple):
    """What the kernel reads, in its order."""

    similarity: Float
    weights: Float
    batch_gain: Float
    total_gain: Float
    offsets: Int
    indices: Int
    by_sample: Int
    holders: Int
    pair_offsets: Int
    others: Int
    shared_offsets: Int
    shared: Int


class State(NamedTuple):
    """A selection with what its exchanges change."""

    members: NDArray[np.int32]  # (B, r)
    total: NDArray[np.int32]  # cliques in all batches that hold a sample, (N,)
    similarity: Float  # X S', (B, K)
    selected: NDArray[np.uint8]  # X, (B, K)


def make_tables(search: DiscreteSearch) -> Tables:
    problem = search.problem
    by_sample = cliques_of_samples(problem)
    pattern = overlaps(problem)
    n_cliques = problem.n_cliques
    return Tables(
        problem.similarity,
        problem.weights,
        search.lambda1 * _gains(search.cliques_per_batch, problem.p),
        search.lambda2 * _gains(search.n_batches * search.cliques_per_batch, problem.p),
        problem.offsets,
        problem.indices,
        by_sample.offsets,
        by_sample.columns,
        np.searchsorted(pattern.places, np.arange(n_cliques + 1) * n_cliques).astype(np.int64),
        pattern.places % n_cliques,
        pattern.shared.offsets,
        pattern.shared.columns,
    )


def make_state(search: DiscreteSearch, cliques: Int) -> State:
    problem = search.problem
    X = search.binary(cliques)
    per_clique = np.repeat(X.sum(axis=0), np.diff(problem.offsets))
    total = np.bincount(problem.indices, per_clique, problem.weights.size)
    return State(
        cliques.astype(np.int32),
        total.astype(np.int32),
        X @ problem.similarity,
        X.astype(np.uint8),
    )


def tolerance(search: DiscreteSearch) -> float:
    """What an exchange must gain, as in `csrc/batches/discrete_state.cpp`."""
    problem = search.problem
    gain = float(problem.weights.max()) * (search.lambda1 + search.lambda2)
    return 1e-12 * (search.cliques_per_batch * float(np.abs(problem.similarity).max()) + gain)


def kick_batches(
    search: DiscreteSearch, cliques: Int, kicks: int, seed: int, time_limit: float
) -> SearchResult:
    """`kicks` of one selection (B, r), r < K, on the current CUDA device.

    `time_limit` in seconds, 0 for none: no round begins after it.
    """
    device = current_device()
    try:
        found, complete = _kick(search, cliques, kicks, seed, time_limit, device)
    except torch.cuda.OutOfMemoryError as error:
        free, _ = memory(device)
        raise RunError(
            f"batches: {AT_ONCE} kicks at a time take {_memory(search)} bytes of device memory, "
            f"and {free} are free; kicks=0 or device='cpu' needs less"
        ) from error
    # Taking over two kicks may leave an exchange that helps.
    improved = search.improve(found[None], time_limit=0.0 if complete else 1e-6)
    improved.complete &= complete
    return improved


def _kick(
    search: DiscreteSearch,
    cliques: Int,
    kicks: int,
    seed: int,
    time_limit: float,
    device: torch.device,
) -> tuple[Int, bool]:
    from cliquesim import _cuda  # optional at build time

    begin = time.perf_counter()
    problem = search.problem
    sizes = (
        problem.n_cliques,
        problem.weights.size,
        search.n_batches,
        search.cliques_per_batch,
    )
    tables = [torch.from_numpy(values).to(device) for values in make_tables(search)]
    states = []
    for values in make_state(search, cliques):
        copies = torch.from_numpy(values).to(device).flatten().repeat(AT_ONCE + 1, 1)
        states.append(copies)
    scratch = torch.empty(
        (AT_ONCE + 1, 2 * sizes[1] + sizes[0] + sizes[3]), dtype=torch.float64, device=device
    )
    trails = torch.empty((AT_ONCE, _CAPACITY, 4), dtype=torch.int32, device=device)
    results = torch.empty((AT_ONCE, 2), dtype=torch.int64, device=device)
    workspace = (*states, scratch, trails, results)
    stream = torch.cuda.current_stream(device)
    complete = True
    for first in range(0, kicks, AT_ONCE):
        if 0 < time_limit < time.perf_counter() - begin:
            complete = False
            break
        _cuda.kick_round(
            sizes,
            tolerance(search),
            tuple(values.data_ptr() for values in tables),
            tuple(values.data_ptr() for values in workspace),
            _CAPACITY,
            seed,
            first,
            min(AT_ONCE, kicks - first),
            device.index,
            stream.cuda_stream,
        )
        stream.synchronize()
    members = states[0][0].cpu().numpy().reshape(cliques.shape)
    return np.sort(members, axis=1).astype(np.int64), complete


def _memory(search: DiscreteSearch) -> int:
    problem = search.problem
    samples, batches = problem.weights.size, search.n_batches
    entries = 9 * batches * problem.n_cliques + 4 * batches * search.cliques_per_batch
    scratch = 8 * (2 * samples + problem.n_cliques + search.cliques_per_batch)
    return (AT_ONCE + 1) * (entries + 4 * samples + scratch + 16 * (_CAPACITY + 1))


def _gains(largest: int, p: float) -> Float:
    """What the c-th cover of a sample adds to t^p, c from 0 (nothing) to `largest` + 1."""
    return np.diff(np.arange(largest + 2.0) ** p, prepend=0.0)
