"""Neighbours on a CUDA device: tiles of similarities by torch, lists and quantiles by `_cuda`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim._device import out_of_memory
from cliquesim._matrix_cuda import full_precision
from cliquesim.neighbors._float16_cuda import neighbors_float16, takes_float16
from cliquesim.neighbors._lists_cuda import End, Pace, Progress, filled_lists, place
from cliquesim.neighbors._tiles_cuda import Blocks, Search, SimilarityTiles, balanced, fitting_edge

# Rows and columns of a tile, at most: its product keeps a large GPU busy, and its 64 MiB are
# written and read in a small part of the product's time. Of a block of whole rows: rows.
_EDGE, _WHOLE_ROWS = 4096, 1024
_LISTS = "neighbors: lists and a tile take"
_ROWS = "similarity_quantiles: the similarities of some rows take"


def neighbors_cuda(
    checked: dict[str, Any], k: int, n_bottom: int, precision: str, progress: Progress
) -> tuple[dict[str, torch.Tensor | None], dict[str, Any]]:
    """The fields of `cliquesim.Neighbors` as tensors, and its info; `checked`: see `Search`."""
    search = Search(checked)
    most = max(search.cols - search.symmetric, 0)
    kept = min(k, most), min(n_bottom, most)
    with torch.cuda.device(search.device), full_precision():
        found = None
        if takes_float16(search, kept, precision):
            found = neighbors_float16(search, kept, precision, _EDGE, progress)
        top, bottom, info = found or _neighbors_float32(search, kept, progress)
        flips = search.mirrored is not None
        try:
            lists = top.written(k, flips, "") | bottom.written(n_bottom, flips, "bottom_")
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory(_LISTS, info["memory_bytes"], search.device) from error
    return lists, info


def _neighbors_float32(
    search: Search, kept: tuple[int, int], progress: Progress
) -> tuple[End, End, dict[str, Any]]:
    held = search.copied_bytes() + search.rows * (8 * sum(kept) + 8)

    def step(edge: int) -> int:
        row_edge, col_edge = balanced(search.rows, edge), balanced(search.cols, edge)
        return search.tile_bytes(row_edge, col_edge) + 2 * End.fresh_bytes(row_edge + col_edge)

    edge = fitting_edge(search, _EDGE, held, step, _LISTS)
    need = held + step(edge)
    try:
        search.standardize()
        top, bottom, count = filled_lists(search, kept, edge, progress)
    except torch.cuda.OutOfMemoryError as error:
        raise out_of_memory(_LISTS, need, search.device) from error
    info = {
        "products": "float32",
        "instructions": "torch.mm",
        "error_bound": 0.0,
        "tiles": count,
        "float32_tiles": count,
        "recomputed": 0,
        "memory_bytes": need,
    }
    return top, bottom, info


def similarity_quantiles_cuda(
    checked: dict[str, Any], levels: NDArray[np.float64], progress: Progress
) -> torch.Tensor:
    """`cliquesim.similarity_quantiles` as a tensor; `checked`: see `Search`."""
    from cliquesim import _cuda  # optional at build time

    search = Search(checked)
    shape = search.rows, len(levels)
    with torch.cuda.device(search.device), full_precision():
        out = torch.full(shape, torch.nan, dtype=torch.float32, device=search.device)
        if out.numel() == 0 or search.cols == 0:
            return out
        places = torch.from_numpy(levels).to(search.device)

        def step(edge: int) -> int:
            return search.tile_bytes(balanced(search.rows, edge), search.cols)

        held = search.copied_bytes()
        edge = fitting_edge(search, _WHOLE_ROWS, held, step, _ROWS)
        try:
            search.standardize()
            rows = Blocks(search.rows, balanced(search.rows, edge), search.halo)
            cols = Blocks(search.cols, search.cols, search.halo)
            tiles = SimilarityTiles(search, rows, cols)
            with Pace(rows.count, progress) as pace:
                for block in range(rows.count):
                    _cuda.row_quantiles(
                        *tiles.described(block, 0),
                        places.data_ptr(),
                        len(levels),
                        out.data_ptr(),
                        *place(search.device),
                    )
                    pace.step()
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory(_ROWS, held + step(edge), search.device) from error
    return out
