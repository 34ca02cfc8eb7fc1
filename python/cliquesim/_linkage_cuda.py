"""Complete linkage on a CUDA device: distances by torch, rounds on their square by `_cuda`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim._device import out_of_memory
from cliquesim._matrix_cuda import device_of, full_precision
from cliquesim._validation import condensed_observations
from cliquesim.errors import InputError

# Distances that are made, uploaded or checked at a time.
_AT_ONCE = 1 << 25
# Rows at a time are a multiple of this: products are made in tiles of as many.
_TILE = 128
# Below this share of |a|^2 + |b|^2 the squared distance has lost too many digits.
_CANCELLATION = {torch.float32: 1 / 32, torch.float64: 1 / 65536}

_Progress = Callable[[float], object] | None


def linkage_cuda(
    y: Any,
    metric: str,
    similarity: bool,
    overwrite: bool,
    limit: int | None,
    progress: _Progress,
) -> tuple[NDArray[np.float64], int]:
    """Dendrogram of `cliquesim.linkage` with device="cuda", and the bytes taken beside `y`.

    `similarity` and "dot": heights are negated similarities.
    """
    source = _as_real(y)
    device = device_of(source)
    precomputed = metric == "precomputed" or source.ndim == 1
    n = observations(source, precomputed)
    in_place = overwrite and precomputed and _is_square_there(source, device)
    with torch.cuda.device(device):
        try:
            need = _memory(n, _dtype(source), in_place, limit)
            square = source if in_place else new_square(n, _dtype(source), device)
            if precomputed:
                fill_from_distances(square, source, similarity)
            else:
                fill_from_vectors(square, _to_device(source, square), metric)
            return _link(square, progress), need
        except torch.cuda.OutOfMemoryError as error:
            what = f"linkage: the distances of {n} observations take"
            raise out_of_memory(what, need, device, "; device='cpu' needs less") from error


def like_input(Z: NDArray[np.float64], y: Any) -> Any:
    """A tensor beside y if y is a CUDA tensor."""
    on_device = isinstance(y, torch.Tensor) and y.is_cuda
    return torch.from_numpy(Z).to(y.device) if on_device else Z


def _link(square: torch.Tensor, progress: _Progress) -> NDArray[np.float64]:
    from cliquesim import _cuda  # optional at build time

    dtype = str(square.dtype).removeprefix("torch.")
    size = _cuda.linkage_workspace(len(square), dtype)
    workspace = torch.empty(size, dtype=torch.uint8, device=square.device)
    return _cuda.linkage(
        square.data_ptr(),
        len(square),
        square.stride(0),
        dtype,
        workspace.data_ptr(),
        square.device.index,
        torch.cuda.current_stream(square.device).cuda_stream,
        progress,
    )


def _memory(n: int, dtype: torch.dtype, in_place: bool, limit: int | None) -> int:
    from cliquesim import _cuda

    need = _cuda.linkage_workspace(n, str(dtype).removeprefix("torch."))
    if not in_place:
        need += n * _stride(n) * dtype.itemsize
    if limit is not None and need > limit:
        raise InputError(
            f"memory_limit: device='cuda' needs {need} bytes for {n} observations, but {limit} may "
            "be used"
        )
    return need


def observations(source: Any, precomputed: bool) -> int:
    """How many observations y has; its shape must be right."""
    if source.ndim not in (1, 2):
        kind = "precomputed y must be 1-D condensed or 2-D square"
        if not precomputed:
            kind = "y must be 1-D condensed distances or 2-D vectors"
        raise InputError(f"{kind}, got shape {tuple(source.shape)}")
    if source.ndim == 1:
        return condensed_observations(len(source))
    n, columns = source.shape
    if precomputed and n != columns:
        raise InputError(f"precomputed y must be square, got shape {tuple(source.shape)}")
    if n == 0:
        raise InputError("y has no rows: there must be at least one observation")
    if columns == 0:
        raise InputError(f"y has no columns, got shape {tuple(source.shape)}")
    return int(n)


def new_square(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n, n), every row aligned; not initialised."""
    return torch.empty((n, _stride(n)), dtype=dtype, device=device)[:, :n]


def fill_from_distances(square: torch.Tensor, source: Any, negate: bool) -> None:
    """Writes condensed or square distances (similarities: `negate`), both halves of the square."""
    n = len(square)
    for begin, end in _row_blocks(n):
        block = square[begin:end, begin:]
        if source.ndim == 2:
            block.copy_(_to_device(source[begin:end, begin:], square))
        else:
            first, last = _row_start(begin, n), _row_start(end, n)
            rows = torch.arange(begin, end, device=square.device)[:, None]
            columns = torch.arange(begin, n, device=square.device)
            # What is not above the diagonal is anything here.
            places = (_row_start(rows, n) - first + columns - rows - 1).clamp_(min=0)
            values = _to_device(source[first:last], square)
            if len(values):
                block.copy_(values[places.clamp_(max=len(values) - 1)])
        if negate:
            block.neg_()
        bad = (~(block > -torch.inf)).triu(1)
        if bool(bad.any()):
            i, j = divmod(int(bad.flatten().int().argmax()), n - begin)
            value = float(-block[i, j] if negate else block[i, j])
            raise InputError(_place(value, begin + i, begin + j, n, source.ndim))
        _mirror(square, begin, end)


def fill_from_vectors(square: torch.Tensor, vectors: torch.Tensor, metric: str) -> None:
    """Writes the distances of vectors, both halves; duplicates are exactly 0 apart."""
    rows, norms = _standardize(vectors, metric)
    with full_precision():
        for begin, end in _row_blocks(len(rows)):
            block = square[begin:end, begin:]
            torch.matmul(rows[begin:end], rows[begin:].T, out=block)
            if metric == "dot":
                block.neg_()
            else:
                _to_distances(block, rows, norms, begin, metric)
            _mirror(square, begin, end)


def _to_distances(
    block: torch.Tensor, rows: torch.Tensor, norms: torch.Tensor, begin: int, metric: str
) -> None:
    """Products become distances, in place."""
    total = norms[begin : begin + len(block), None] + norms[None, begin:]
    torch.sub(total, block, alpha=2, out=block)
    inexact = (block < total.mul_(_CANCELLATION[rows.dtype])).nonzero()
    for pairs in torch.split(inexact, max(1, _AT_ONCE // rows.shape[1])):
        i, j = pairs.unbind(1)
        block[i, j] = (rows[begin + i] - rows[begin + j]).square_().sum(dim=1)
    if metric == "euclidean":
        block.sqrt_()
    elif metric != "sqeuclidean":  # of unit vectors, 1 - a.b = |a - b|^2 / 2
        block.div_(2)


def _standardize(vectors: torch.Tensor, metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose squared distances or products make the metric, and their squared lengths.

    Centred by column, which changes no euclidean distance and keeps cancellation small, or of unit
    length.
    """
    rows = vectors.double()
    finite = rows.isfinite().all(dim=1)
    if not bool(finite.all()):
        row = int(finite.int().argmin())
        kind = "NaN" if bool(rows[row].isnan().any()) else "an infinite value"
        raise InputError(f"y has {kind} in row {row}")
    if metric in ("euclidean", "sqeuclidean"):
        rows = rows - rows.mean(dim=0)
    elif metric in ("cosine", "correlation"):
        before = rows.norm(dim=1, keepdim=True)
        if metric == "correlation":
            rows = rows - rows.mean(dim=1, keepdim=True)
        length = rows.norm(dim=1, keepdim=True)
        defined = (length > 1e-12 * before) & (length > 0)
        if not bool(defined.all()):
            kind = "constant" if metric == "correlation" else "zero"
            row = int(defined.int().argmin())
            raise InputError(f"y: row {row} is {kind}, its {metric} distance is undefined")
        rows = rows / length
    result = rows.to(vectors.dtype)
    norms = result.double().square().sum(dim=1)
    small = norms <= torch.finfo(vectors.dtype).max / 4
    if not bool(small.all()):
        row = int(small.int().argmin())
        raise InputError(f"row {row} has too large values: its squared length overflows")
    return result, norms.to(vectors.dtype)


def _mirror(square: torch.Tensor, begin: int, end: int) -> None:
    """Copies what is above the diagonal in these rows below it."""
    corner = square[begin:end, begin:end]
    upper = corner.triu(1)
    corner.copy_(upper + upper.T)
    square[end:, begin:end] = square[begin:end, end:].T


def _row_blocks(n: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _AT_ONCE // n)
    if rows > _TILE:
        rows -= rows % _TILE
    for begin in range(0, n, rows):
        yield begin, min(n, begin + rows)


def _row_start(i: Any, n: int) -> Any:
    """Position of the distance of i and i + 1 in condensed order."""
    return i * (2 * n - i - 1) // 2


def _place(value: float, i: int, j: int, n: int, dimensions: int) -> str:
    kind = f"{value}".replace("nan", "NaN")
    if dimensions == 2:
        return f"y has {kind} in row {i}, column {j}"
    position = _row_start(i, n) + j - i - 1
    return f"y has {kind} at position {position} (the distance of observations {i} and {j})"


def _as_real(y: Any) -> Any:
    """A tensor or an array of real numbers."""
    if isinstance(y, torch.Tensor):
        if y.is_complex():
            raise InputError(f"y must be an array of real numbers, got dtype {y.dtype}")
        return y.detach()
    array = np.asarray(y)
    if array.dtype.kind not in "fiub":
        raise InputError(f"y must be an array of real numbers, got dtype {array.dtype}")
    return array


def _dtype(source: Any) -> torch.dtype:
    return torch.float32 if source.dtype in (np.float32, torch.float32) else torch.float64


def _to_device(part: Any, square: torch.Tensor) -> torch.Tensor:
    if not isinstance(part, torch.Tensor):
        dtype = np.float32 if square.dtype == torch.float32 else np.float64
        values = np.ascontiguousarray(part, dtype=dtype)
        part = torch.from_numpy(values if values.flags.writeable else values.copy())
    result: torch.Tensor = part.to(device=square.device, dtype=square.dtype)
    return result


def _is_square_there(source: Any, device: torch.device) -> bool:
    return (
        isinstance(source, torch.Tensor)
        and source.device == device
        and source.ndim == 2
        and source.dtype in (torch.float32, torch.float64)
        and source.is_contiguous()
    )


def _stride(n: int) -> int:
    return (n + 31) // 32 * 32
