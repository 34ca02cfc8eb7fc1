"""Moments and projection on a CUDA device, by torch, from arrays or from tensors there.

On any device of torch the arithmetic is that of the C++ kernels: float32 products of rows less a
fixed vector, and float64 sums of such products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim._device import out_of_memory
from cliquesim._mapped import release
from cliquesim._matrix_cuda import device_of, full_precision
from cliquesim._pinned import PinnedBlock
from cliquesim.features._moments import Rows, check_row, float32_rows

# Rows of one float32 product, and columns of the panels of which zeros are left out.
_PRODUCT_ROWS = 1024
_PANEL = 512
# Rows on their way at a time, twice: one block is copied while the device works on the other.
_BLOCK_BYTES = 1 << 26

__all__ = ["add_moments", "device_of", "project", "project_tensor"]

_Progress = Callable[[float], object] | None


def add_moments(
    rows: Rows,
    shift: NDArray[np.float32],
    total: NDArray[np.float64],
    scatter: NDArray[np.float64],
    device: torch.device,
    progress: _Progress,
) -> None:
    """Adds sum_i (x_i - shift) and the lower triangle of sum_i (x_i - shift)(x_i - shift)^T.

    O(N D^2). InputError names the first row that is not finite; the moments are then of no use.
    """
    dimensions, block_rows = len(shift), _block_rows(rows)
    products = min(_PANEL, dimensions) * (block_rows // _PRODUCT_ROWS + 2)
    need = 8 * dimensions * (dimensions + 1) + 4 * dimensions * (3 * block_rows + products)
    with _working(device, "moments", need):
        centre = torch.from_numpy(shift).to(device)
        first = torch.zeros(dimensions, dtype=torch.float64, device=device)
        second = torch.zeros((dimensions, dimensions), dtype=torch.float64, device=device)
        finite = _FiniteRows(device)
        for start, block in _blocks(rows, device):
            finite.see(start, block)
            centred = block - centre
            first += centred.sum(dim=0, dtype=torch.float64)
            _add_products(centred, second)
            _report(progress, start + len(block), rows)
        finite.check(rows)
        total += first.cpu().numpy()
        scatter += second.cpu().numpy()


def project(
    rows: Rows,
    mean: NDArray[np.float32],
    projection: NDArray[np.float32],
    out: NDArray[np.float32],
    device: torch.device,
    progress: _Progress,
) -> None:
    """Writes (x_i - mean) P to the array `out` (N, K); copies and products overlap. O(N D K).

    InputError names the first row that is not finite.
    """
    shape = min(len(rows), _block_rows(rows)), out.shape[1]
    with _working(device, "projection", _projection_need(rows, projection)):
        apply, finite = _Projection(mean, projection, device), _FiniteRows(device)
        down = [PinnedBlock(shape, torch.float32, device) for _ in range(2)]
        pending: list[tuple[PinnedBlock, int, int]] = []

        def finish(slot: PinnedBlock, start: int, stop: int) -> None:
            out[start:stop] = slot.array()[: stop - start]
            release(out[:stop])
            _report(progress, stop, rows)

        for number, (start, block) in enumerate(_blocks(rows, device)):
            finite.see(start, block)
            slot = down[number % 2]
            slot.tensor[: len(block)].copy_(apply(block), non_blocking=True)
            slot.mark()
            pending.append((slot, start, start + len(block)))
            if len(pending) == 2:
                finish(*pending.pop(0))
        for one in pending:
            finish(*one)
        finite.check(rows)


def project_tensor(
    rows: torch.Tensor, mean: NDArray[np.float32], projection: NDArray[np.float32]
) -> torch.Tensor:
    """(x_i - mean) P, beside the rows."""
    device, shape = rows.device, (len(rows), projection.shape[1])
    need = _projection_need(rows, projection) + 4 * shape[0] * shape[1]
    with _working(device, "projection", need):
        apply, finite = _Projection(mean, projection, device), _FiniteRows(device)
        out = torch.empty(shape, dtype=torch.float32, device=device)
        for start, block in _blocks(rows, device):
            finite.see(start, block)
            apply(block, out[start : start + len(block)])
        finite.check(rows)
    return out


class _Projection:
    """A product with P that leaves out zeros at the lower end of its columns, panel by panel."""

    def __init__(
        self, mean: NDArray[np.float32], projection: NDArray[np.float32], device: torch.device
    ) -> None:
        self._mean = torch.from_numpy(mean).to(device)
        self._matrix = torch.from_numpy(projection).to(device)
        self._panels: list[tuple[slice, int]] = []
        for columns in _slices(projection.shape[1], _PANEL):
            used = self._matrix[:, columns].any(dim=1).nonzero()
            self._panels.append((columns, int(used[-1]) + 1 if len(used) else 0))

    def __call__(self, block: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        if out is None:
            out = torch.empty((len(block), self._matrix.shape[1]), device=block.device)
        centred = block - self._mean
        for columns, height in self._panels:
            torch.mm(centred[:, :height], self._matrix[:height, columns], out=out[:, columns])
        return out


class _FiniteRows:
    """Which row is the first that is not finite; found without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._none = torch.iinfo(torch.int64).max
        self._first = torch.full((), self._none, dtype=torch.int64, device=device)

    def see(self, start: int, block: torch.Tensor) -> None:
        broken = ~block.isfinite().all(dim=1)
        first = torch.where(broken.any(), start + broken.int().argmax(), self._none)
        torch.minimum(self._first, first, out=self._first)

    def check(self, rows: Rows) -> None:
        first = int(self._first)
        if first != self._none:
            check_row(0, first, float32_rows(rows[first : first + 1]))


def _add_products(centred: torch.Tensor, scatter: torch.Tensor) -> None:
    """scatter += C^T C, from the panels on the diagonal downwards.

    The products of all stretches of rows are made at once: one alone leaves half of a large GPU
    idle.
    """
    whole = len(centred) // _PRODUCT_ROWS * _PRODUCT_ROWS
    stretches = centred[:whole].view(-1, _PRODUCT_ROWS, len(scatter)), centred[None, whole:]
    for few in (one for one in stretches if one.numel()):
        for columns in _slices(len(scatter), _PANEL):
            first = columns.start
            products = torch.bmm(few[:, :, first:].mT, few[:, :, columns])
            # add_, as += would also assign the view to itself.
            scatter[first:, columns].add_(products.sum(dim=0, dtype=torch.float64))


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _block_rows(rows: Rows) -> int:
    dimensions: int = rows.shape[1]
    return max(1, _BLOCK_BYTES // (4 * dimensions * _PRODUCT_ROWS)) * _PRODUCT_ROWS


def _blocks(rows: Rows, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """First rows and float32 blocks on `device`, not to be changed."""
    step = _block_rows(rows)
    starts = range(0, len(rows), step)
    if isinstance(rows, torch.Tensor):
        for start in starts:
            yield start, rows[start : start + step].to(device, torch.float32)
        return
    shape = min(step, len(rows)), rows.shape[1]
    up = [PinnedBlock(shape, torch.float32, device) for _ in starts[:2]]
    for number, start in enumerate(starts):
        part, slot = rows[start : start + step], up[number % 2]
        with np.errstate(over="ignore"):  # float64 beyond float32's range becomes inf: refused
            slot.array()[: len(part)] = part
        block = slot.tensor[: len(part)].to(device, non_blocking=True, copy=True)
        slot.mark()
        release(rows[: start + step])
        yield start, block


def _projection_need(rows: Rows, projection: NDArray[np.float32]) -> int:
    dimensions, components = len(projection), int(projection.shape[1])
    return 4 * (dimensions * components + _block_rows(rows) * (3 * dimensions + components))


def _report(progress: _Progress, done: int, rows: Rows) -> None:
    if progress is not None:
        progress(done / len(rows))


@contextmanager
def _working(device: torch.device, what: str, need: int) -> Iterator[None]:
    """On `device`, in full precision; an error that says how much memory was asked for."""
    if device.type != "cuda":
        with full_precision():
            yield
        return
    try:
        with torch.cuda.device(device), full_precision():
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise out_of_memory(f"whitening: {what} take about", need, device) from error
