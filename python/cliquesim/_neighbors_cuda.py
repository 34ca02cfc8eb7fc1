"""Neighbours on a CUDA device: tiles of similarities by torch, lists and quantiles by `_cuda`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim._device import out_of_memory
from cliquesim._matrix_cuda import full_precision
from cliquesim._tiles_cuda import Blocks, Search, SimilarityTiles, balanced, fitting_edge

# Rows and columns of a tile, at most: its product keeps a large GPU busy, and its 64 MiB are
# written and read in a small part of the product's time. Of a block of whole rows: rows.
_EDGE, _WHOLE_ROWS = 4096, 1024
_LISTS = "neighbors: lists and a tile take"
_ROWS = "similarity_quantiles: the similarities of some rows take"
_Progress = Callable[[float], object] | None


def neighbors_cuda(
    checked: dict[str, Any], k: int, n_bottom: int, progress: _Progress
) -> tuple[dict[str, torch.Tensor | None], dict[str, Any]]:
    """The fields of `cliquesim.Neighbors` as tensors, and its info; `checked`: see `Search`."""
    search = Search(checked)
    most = search.cols - search.symmetric
    kept = min(k, max(most, 0)), min(n_bottom, max(most, 0))
    held = search.copied_bytes() + search.rows * (8 * sum(kept) + 8)

    def step(edge: int) -> int:
        row_edge, col_edge = balanced(search.rows, edge), balanced(search.cols, edge)
        return search.tile_bytes(row_edge, col_edge) + 2 * _End.fresh_bytes(row_edge + col_edge)

    with torch.cuda.device(search.device), full_precision():
        edge = fitting_edge(search, _EDGE, held, step, _LISTS)
        need = held + step(edge)
        try:
            search.standardize()
            rows = Blocks(search.rows, balanced(search.rows, edge), search.halo)
            cols = Blocks(search.cols, balanced(search.cols, edge), search.halo)
            room = rows.edge + cols.edge
            top = _End(1.0, search.rows, kept[0], room, search.device)
            bottom = _End(-1.0, search.rows, kept[1], room, search.device)
            count = _add_tiles(search, rows, cols, top, bottom, progress)
            flips = search.mirrored is not None
            lists = top.written(k, flips, "") | bottom.written(n_bottom, flips, "bottom_")
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
    return lists, info


def similarity_quantiles_cuda(
    checked: dict[str, Any], levels: NDArray[np.float64], progress: _Progress
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
            with _Pace(rows.count, progress) as pace:
                for block in range(rows.count):
                    _cuda.row_quantiles(
                        *tiles.described(block, 0),
                        places.data_ptr(),
                        len(levels),
                        out.data_ptr(),
                        *_place(search.device),
                    )
                    pace.step()
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory(_ROWS, held + step(edge), search.device) from error
    return out


def _add_tiles(
    search: Search, rows: Blocks, cols: Blocks, top: _End, bottom: _End, progress: _Progress
) -> int:
    from cliquesim import _cuda

    tiles = SimilarityTiles(search, rows, cols)
    both = search.symmetric and search.mirrored is None
    pairs = list(_pairs_of_blocks(rows.count) if both else _all_pairs(rows.count, cols.count))
    with _Pace(len(pairs), progress) as pace:
        for row_block, col_block in pairs:
            _cuda.add_tile(
                *tiles.described(row_block, col_block),
                both and row_block != col_block,
                top.addresses(),
                bottom.addresses(),
                *_place(search.device),
            )
            pace.step()
    return len(pairs) * (1 if search.mirrored is None else 2)


def _pairs_of_blocks(blocks: int) -> Iterator[tuple[int, int]]:
    """Every unordered pair once, along cyclic diagonals: all bounds become sharp together."""
    for t in range(blocks * (blocks + 1) // 2):
        row = t % blocks
        yield row, (row + t // blocks) % blocks


def _all_pairs(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    """Along cyclic diagonals, too."""
    for t in range(rows * cols):
        row = t % rows
        yield row, (row + t // rows) % cols


class _End:
    """The most (sign 1) or the least (sign -1) similar of every row, and room for a tile's."""

    def __init__(self, sign: float, rows: int, k: int, lists: int, device: torch.device) -> None:
        from cliquesim import _cuda

        self.sign, self.k, self.rows = sign, k, rows
        # Keys are uint64, of which only the bits matter here.
        self.keys = torch.zeros((rows, k), dtype=torch.int64, device=device)
        bound = -torch.inf if k else torch.inf
        self.bounds = torch.full((rows,), bound, dtype=torch.float32, device=device)
        self.fresh = torch.empty((lists, _cuda.fresh_room), dtype=torch.int64, device=device)
        self.counts = torch.zeros(lists, dtype=torch.int32, device=device)

    @staticmethod
    def fresh_bytes(lists: int) -> int:
        from cliquesim import _cuda

        return lists * (8 * _cuda.fresh_room + 4)

    def addresses(self) -> tuple[int, int, int, int, int]:
        return (
            self.keys.data_ptr(),
            self.bounds.data_ptr(),
            self.k,
            self.fresh.data_ptr(),
            self.counts.data_ptr(),
        )

    def written(self, wanted: int, with_flips: bool, prefix: str) -> dict[str, torch.Tensor | None]:
        """The lists, `wanted` places each, by their names in `cliquesim.Neighbors`."""
        from cliquesim import _cuda

        device = self.keys.device
        shape = self.rows, wanted
        indices = torch.empty(shape, dtype=torch.int64, device=device)
        similarities = torch.empty(shape, dtype=torch.float32, device=device)
        flips = torch.empty(shape, dtype=torch.bool, device=device) if with_flips else None
        _cuda.write_neighbors(
            self.keys.data_ptr(),
            self.k,
            self.sign,
            *shape,
            indices.data_ptr(),
            similarities.data_ptr(),
            0 if flips is None else flips.data_ptr(),
            *_place(device),
        )
        names = "indices", "similarities", "flips"
        values = indices, similarities, flips
        return {prefix + name: one for name, one in zip(names, values, strict=True)}


class _Pace:
    """Tells the progress, and keeps the work that is enqueued short, so that Ctrl-C is seen."""

    _AHEAD = 8

    def __init__(self, total: int, progress: _Progress) -> None:
        self._total, self._progress, self._done = total, progress, 0
        self._running: deque[torch.cuda.Event] = deque()

    def __enter__(self) -> _Pace:
        return self

    def step(self) -> None:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._running.append(event)
        if len(self._running) > self._AHEAD:
            self._wait()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        while kind is None and self._running:
            self._wait()

    def _wait(self) -> None:
        self._running.popleft().synchronize()
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / self._total)


def _place(device: torch.device) -> tuple[int, int]:
    """Device and stream, as `_cuda` wants them."""
    return device.index, torch.cuda.current_stream(device).cuda_stream
