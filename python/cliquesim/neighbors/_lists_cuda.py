"""Lists of neighbours on a CUDA device, and the pass over all tiles that fills them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch

from cliquesim.neighbors._tiles_cuda import Blocks, Search, SimilarityTiles, balanced

Progress = Callable[[float], object] | None


def filled_lists(
    search: Search, counts: tuple[int, int], edge: int, progress: Progress
) -> tuple[End, End, int]:
    """The `counts` best at both ends of every row, and how many tiles it took."""
    rows = Blocks(search.rows, balanced(search.rows, edge), search.halo)
    cols = Blocks(search.cols, balanced(search.cols, edge), search.halo)
    room = rows.edge + cols.edge
    top = End(1.0, search.rows, counts[0], room, search.device)
    bottom = End(-1.0, search.rows, counts[1], room, search.device)
    return top, bottom, _add_tiles(search, rows, cols, top, bottom, progress)


def _add_tiles(
    search: Search, rows: Blocks, cols: Blocks, top: End, bottom: End, progress: Progress
) -> int:
    from cliquesim import _cuda

    tiles = SimilarityTiles(search, rows, cols)
    both = search.both_ways
    pairs = list(_pairs_of_blocks(rows.count) if both else _all_pairs(rows.count, cols.count))
    with Pace(len(pairs), progress) as pace:
        for row_block, col_block in pairs:
            _cuda.add_tile(
                *tiles.described(row_block, col_block),
                both and row_block != col_block,
                top.addresses(),
                bottom.addresses(),
                *place(search.device),
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


class End:
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
            *place(device),
        )
        names = "indices", "similarities", "flips"
        values = indices, similarities, flips
        return {prefix + name: one for name, one in zip(names, values, strict=True)}


class Pace:
    """Tells the progress, and keeps the work that is enqueued short, so that Ctrl-C is seen."""

    _AHEAD = 8

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress, self._done = total, progress, 0
        self._running: deque[torch.cuda.Event] = deque()

    def __enter__(self) -> Pace:
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


def place(device: torch.device) -> tuple[int, int]:
    """Device and stream, as `_cuda` wants them."""
    return device.index, torch.cuda.current_stream(device).cuda_stream
