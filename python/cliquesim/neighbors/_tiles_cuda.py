"""Tiles of similarities on a CUDA device: plain, pooled by Eq. (9), of mirror images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim._device import free_memory, out_of_memory
from cliquesim._matrix_cuda import standardize
from cliquesim._temporal_cuda import pool_products
from cliquesim.errors import InputError

# Addresses of the similarities, sides, whether rows and columns are the same, group_window.
_DescribedSide = tuple[int, int, int, int, int]
_Described = tuple[tuple[int, int, int], _DescribedSide, _DescribedSide, bool, int]
_STEP = 64  # rows and columns of a tile are multiples, where there are as many


@dataclass(frozen=True)
class Blocks:
    """Rows in blocks of `edge`. With its halo a block is `span` rows, wherever it lies: products of
    one shape take the same kernel, so that equal rows have equal similarities."""

    rows: int
    edge: int
    halo: int

    @property
    def count(self) -> int:
        return -(-self.rows // max(1, self.edge))

    @property
    def span(self) -> int:
        return min(self.rows, self.edge + 2 * self.halo)

    def bounds(self, block: int) -> tuple[int, int]:
        return block * self.edge, min((block + 1) * self.edge, self.rows)

    def first(self, block: int) -> int:
        return max(0, min(block * self.edge - self.halo, self.rows - self.span))


def balanced(rows: int, edge: int) -> int:
    """Rows of a block, at most `edge`: the last one is nearly as long as the others."""
    count = max(1, -(-rows // edge))
    even = -(-rows // count)
    return min(rows, -(-even // _STEP) * _STEP)


class Side:
    """Descriptors of rows, their labels, and how far their windows reach; of rounded rows their
    scales, errors and lengths; of some rows their indices among all."""

    def __init__(self, rows: torch.Tensor, groups: NDArray[np.int64] | None) -> None:
        self.rows = rows
        self.groups = None if groups is None else torch.from_numpy(groups).to(rows.device)
        self.rounding: torch.Tensor | None = None
        self.ids: torch.Tensor | None = None
        self.before = self.after = torch.zeros(0, dtype=torch.int32, device=rows.device)

    def add_windows(self, labels: NDArray[np.int64], radius: int, name: str) -> int:
        """The longest reach of any row."""
        frames = np.arange(len(labels))
        try:
            _, _, _, before, after = _core.window_plan(frames, labels, radius, name)
        except ValueError as error:
            raise InputError(name + str(error).removeprefix("sequence")) from None
        self.before, self.after = (
            torch.from_numpy(reach).to(self.rows.device) for reach in (before, after)
        )
        return int(after.max(initial=0))


class Search:
    """What is compared with what. `checked`: the arguments of `_core.neighbors`, its matrices as
    tensors on one device."""

    def __init__(self, checked: dict[str, Any]) -> None:
        corpus, queries = checked["corpus"], checked["queries"]
        self.symmetric = queries is None
        self.col_side = Side(corpus, checked["groups"])
        self.row_side = self.col_side if self.symmetric else Side(queries, checked["query_groups"])
        self.mirrored: torch.Tensor | None = checked["mirrored"]
        self.correlation: bool = checked["correlation"]
        self._standardized = False
        self.group_window: int = checked["group_window"]
        self.memory_limit: int = checked["memory_limit"]
        self.rows, self.cols = len(self.row_side.rows), len(corpus)
        self.device: torch.device = corpus.device
        if self.cols >= 2**31 - 1:
            raise InputError("X may have at most 2^31 - 2 rows")
        self.pooled = checked["pool_radius"] > 0
        self.halo = self._add_windows(checked) if self.pooled else 0

    @property
    def both_ways(self) -> bool:
        """Whether a tile serves its rows and its columns."""
        return self.symmetric and self.mirrored is None and self.row_side.ids is None

    def _add_windows(self, checked: dict[str, Any]) -> int:
        name = "groups" if checked["sequences"] is None else "sequences"
        radius = checked["pool_radius"]
        longest = self.col_side.add_windows(checked[name], radius, name)
        if self.symmetric:
            return longest
        labels = checked["query_groups"]
        return min(longest, self.row_side.add_windows(labels, radius, "query_groups"))

    def standardize(self) -> None:
        if not self.correlation or self._standardized:
            return
        self._standardized = True
        self.col_side.rows = standardize(self.col_side.rows)
        if not self.symmetric:
            self.row_side.rows = standardize(self.row_side.rows)
        if self.mirrored is not None:
            self.mirrored = standardize(self.mirrored)

    def of_rows(self, ids: torch.Tensor) -> Search:
        """The same search for the rows of these indices alone."""
        result = copy.copy(self)
        result.row_side = copy.copy(self.row_side)
        result.row_side.rows, result.row_side.ids = self.row_side.rows[ids], ids
        result.rows = len(ids)
        return result

    def copied_bytes(self) -> int:
        """Of what `standardize` makes."""
        if not self.correlation:
            return 0
        rows = self.cols * (1 if self.mirrored is None else 2)
        return 4 * self.col_side.rows.shape[1] * (rows + (0 if self.symmetric else self.rows))

    def tile_bytes(self, row_edge: int, col_edge: int) -> int:
        layers = 1 if self.mirrored is None else 2
        tile = Blocks(self.rows, row_edge, 0).span * Blocks(self.cols, col_edge, 0).span
        if not self.halo:
            return 4 * layers * tile
        rows = Blocks(self.rows, row_edge, self.halo).span
        return 4 * (layers * tile + rows * Blocks(self.cols, col_edge, self.halo).span)


def fitting_edge(
    search: Search, largest: int, held: int, step: Callable[[int], int], what: str
) -> int:
    """The largest edge whose `step(edge)` bytes fit beside `held` ones; `what` takes them.

    Raises
    ------
    InputError
        Not within the memory_limit, whatever the edge.
    RunError
        Not into the device's memory.
    """
    free, edge = free_memory(search.device), largest
    # A tenth is left for torch's own workspaces, and because free memory lies in pieces.
    most = free - free // 10
    if search.memory_limit:
        most = min(most, search.memory_limit)
    while edge > _STEP and held + step(edge) > most:
        edge = max(_STEP, edge // 2)
    need = held + step(edge)
    if search.memory_limit and need > search.memory_limit:
        raise InputError(
            f"memory_limit is {search.memory_limit} bytes, but this search needs {need} beside its "
            "input and output"
        )
    if need > free:
        raise out_of_memory(what, need, search.device)
    return edge


class SimilarityTiles:
    """Makes a tile at a time, each in the memory of the one before."""

    def __init__(self, search: Search, rows: Blocks, cols: Blocks) -> None:
        self._search, self._rows, self._cols = search, rows, cols
        layers = 1 if search.mirrored is None else 2
        self._products = [self._empty(rows.span, cols.span) for _ in range(layers)]
        if search.halo:
            self._products = [self._products[0]] * layers
            self._pooled = [self._empty(rows.edge, cols.edge) for _ in range(layers)]
            longest = max(rows.span, cols.span)
            self._places = torch.arange(longest, dtype=torch.int64, device=search.device)

    def _empty(self, rows: int, cols: int) -> torch.Tensor:
        return torch.empty((rows, cols), dtype=torch.float32, device=self._search.device)

    def described(self, row_block: int, col_block: int) -> _Described:
        """The first arguments of the kernels of `_cuda`."""
        search = self._search
        plain = self._tile(0, search.col_side.rows, row_block, col_block)
        mirrored = None
        if search.mirrored is not None:
            mirrored = self._tile(1, search.mirrored, row_block, col_block)
        return (
            (plain.data_ptr(), 0 if mirrored is None else mirrored.data_ptr(), plain.stride(0)),
            _described_side(search.row_side, *self._rows.bounds(row_block)),
            _described_side(search.col_side, *self._cols.bounds(col_block)),
            search.symmetric,
            search.group_window,
        )

    def _tile(
        self, layer: int, col_rows: torch.Tensor, row_block: int, col_block: int
    ) -> torch.Tensor:
        rows, cols, search = self._rows, self._cols, self._search
        first_row, first_col = rows.first(row_block), cols.first(col_block)
        products = self._products[layer]
        row_rows = search.row_side.rows[first_row : first_row + rows.span]
        multiply = half_products if row_rows.dtype == torch.float16 else _full_products
        multiply(row_rows, col_rows[first_col : first_col + cols.span], products)
        (begin, end), (left, right) = rows.bounds(row_block), cols.bounds(col_block)
        if not search.halo:
            return products[
                begin - first_row : end - first_row, left - first_col : right - first_col
            ]
        pooled = self._pooled[layer][: end - begin, : right - left]
        pool_products(
            products,
            self._windows(search.row_side, begin, end, first_row),
            self._windows(search.col_side, left, right, first_col),
            pooled,
        )
        return pooled

    def _windows(self, side: Side, begin: int, end: int, first: int) -> list[torch.Tensor]:
        """Of rows [begin, end) in products that start with row `first`."""
        places = self._places[begin - first : end - first]
        return [places, side.before[begin:end], side.after[begin:end]]


def _described_side(side: Side, begin: int, end: int) -> _DescribedSide:
    groups, rounding, ids = (
        0 if values is None else values.data_ptr()
        for values in (side.groups, side.rounding, side.ids)
    )
    return begin, end - begin, groups, rounding, ids


def _full_products(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(a, b.T, out=out)


def multiplies_half() -> bool:
    """Whether this torch gives float16 products as float32 (2.8 and newer)."""
    return hasattr(torch.ops.aten.mm, "dtype_out")


def half_products(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """a b^T of float16 in float32; on CUDA only."""
    torch.mm(a, b.T, out_dtype=torch.float32, out=out)
