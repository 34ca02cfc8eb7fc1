"""Neighbours on a CUDA device from float16 products: candidates first, then float32 decides.

Every row lists more candidates than it needs, by upper bounds of their scores. Float32 products
decide the most promising ones until the k-th best score exceeds every bound that is left, in the
list and behind it. Where the list ends before, the row is searched again in float32.
"""

from __future__ import annotations

from typing import Any

import torch

from cliquesim._device import out_of_memory
from cliquesim.errors import InputError, RunError
from cliquesim.neighbors._lists_cuda import End, Progress, filled_lists, place
from cliquesim.neighbors._rounded_cuda import (
    MOST_DIMENSIONS,
    exact_on,
    full_accumulators,
    largest_error,
    rounded,
    rounded_bytes,
)
from cliquesim.neighbors._tiles_cuda import Search, balanced, fitting_edge, multiplies_half

# Of Gaussian rows, 113,516 x 1,984 and k = 50, some 135 bounds reach the 50th best.
_ROOM_FACTOR, _ROOM_MORE = 4, 64
# "auto": where, by bytes and operations, deciding takes a small part of what float32 products take.
_AUTO_DIMENSIONS, _AUTO_ROWS, _AUTO_COLS_PER_PLACE = 256, 1024, 1000
_SEARCH = "neighbors: float16 rows, lists and a tile take"
_FIRST_SHARE = 0.9  # of the progress

Ends = tuple[End, End, dict[str, Any]]


def takes_float16(search: Search, kept: tuple[int, int], precision: str) -> bool:
    """Whether float16 comes first.

    Raises
    ------
    InputError, RunError
        precision="float16" where it cannot.
    """
    if precision == "float32":
        return False
    obstacle = _obstacle(search)
    if precision == "float16":
        if obstacle:
            raise InputError(f"precision='float16' {obstacle}")
        if not exact_on(search.device):
            raise RunError("precision='float16': float16 products are not exact on this device")
        return sum(kept) > 0 and search.rows > 0
    pays = (
        search.col_side.rows.shape[1] >= _AUTO_DIMENSIONS
        and search.rows >= _AUTO_ROWS
        and search.cols >= _AUTO_COLS_PER_PLACE * sum(kept)
    )
    return sum(kept) > 0 and pays and not obstacle and exact_on(search.device)


def neighbors_float16(
    search: Search, kept: tuple[int, int], precision: str, largest_edge: int, progress: Progress
) -> Ends | None:
    """Lists of both ends, and the info; None where float32 has to do it all: most rows are
    uncertain, or "auto" lacks the memory."""
    rooms = _room(kept[0], search), _room(kept[1], search)
    dimensions = search.col_side.rows.shape[1]
    held = search.copied_bytes() + rounded_bytes(search)
    held += search.rows * (8 * (sum(rooms) + sum(kept)) + 24)

    def step(edge: int) -> int:
        row_edge, col_edge = balanced(search.rows, edge), balanced(search.cols, edge)
        again = row_edge * (4 * dimensions + 8 * sum(kept) + 16)
        fresh = 2 * End.fresh_bytes(row_edge + col_edge)
        return search.tile_bytes(row_edge, col_edge) + fresh + again

    try:
        edge = fitting_edge(search, largest_edge, held, step, _SEARCH)
    except (InputError, RunError):
        if precision == "float16":
            raise
        return None
    need = held + step(edge)
    try:
        search.standardize()
        return _searched(search, kept, rooms, edge, need, progress)
    except torch.cuda.OutOfMemoryError as error:
        raise out_of_memory(_SEARCH, need, search.device) from error


def _searched(
    search: Search,
    kept: tuple[int, int],
    rooms: tuple[int, int],
    edge: int,
    need: int,
    progress: Progress,
) -> Ends | None:
    half = rounded(search)
    with full_accumulators():
        *listed, tiles = filled_lists(half, rooms, edge, _part(progress, 0, _FIRST_SHARE))
    error_bound = largest_error(half)
    del half
    top, bottom = (
        End(end.sign, search.rows, count, 0, search.device)
        for end, count in zip(listed, kept, strict=True)
    )
    decided = [_decide(search, *pair) for pair in zip(listed, (top, bottom), strict=True)]
    del listed
    uncertain = torch.nonzero((decided[0] < 0) | (decided[1] < 0)).flatten()
    if 2 * len(uncertain) > search.rows:
        return None
    again = 0
    row_edge = balanced(search.rows, edge)
    for begin in range(0, len(uncertain), row_edge):
        ids = uncertain[begin : begin + row_edge]
        *better, count = filled_lists(search.of_rows(ids), kept, edge, None)
        for end, one in zip((top, bottom), better, strict=True):
            end.keys[ids] = one.keys
        again += count
    if progress is not None:
        progress(1.0)
    info = {
        "products": "float16",
        "instructions": "torch.mm",
        "error_bound": error_bound,
        "tiles": tiles + again,
        "float32_tiles": again,
        "recomputed": int(sum(one.abs().sum() for one in decided)),
        "float32_rows": len(uncertain),
        "memory_bytes": need,
    }
    return top, bottom, info


def _decide(search: Search, listed: End, best: End) -> torch.Tensor:
    """How many candidates of every row were decided; negative where that was not enough."""
    from cliquesim import _cuda  # optional at build time

    decided = torch.zeros(search.rows, dtype=torch.int32, device=search.device)
    if best.k == 0:
        return decided
    cols = search.col_side.rows
    _cuda.decide_candidates(
        search.row_side.rows.data_ptr(),
        cols.data_ptr(),
        search.rows,
        cols.shape[1],
        listed.keys.data_ptr(),
        listed.k,
        best.keys.data_ptr(),
        best.bounds.data_ptr(),
        best.k,
        best.sign,
        decided.data_ptr(),
        *place(search.device),
    )
    return decided


def _obstacle(search: Search) -> str:
    if search.pooled:
        return "does not pool: leave pool_radius at 0"
    if search.mirrored is not None:
        return "takes no mirrored rows"
    if search.col_side.rows.shape[1] > MOST_DIMENSIONS:
        return f"takes at most {MOST_DIMENSIONS} columns"
    return "" if multiplies_half() else "needs torch 2.8 or newer"


def _room(k: int, search: Search) -> int:
    return min(_ROOM_FACTOR * k + _ROOM_MORE, search.cols - search.symmetric) if k else 0


def _part(progress: Progress, begin: float, end: float) -> Progress:
    return None if progress is None else lambda share: progress(begin + (end - begin) * share)
