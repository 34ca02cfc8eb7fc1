"""Descriptors on a CUDA device: upload, checks, standardising, products without TF32."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim._device import out_of_memory
from cliquesim.errors import InputError

# Numbers that are uploaded, checked or converted at a time.
_AT_ONCE = 1 << 24

# torch 2.9 warns, the first time, of the older of the two ways of `full_precision`.
with warnings.catch_warnings(), suppress(RuntimeError):
    warnings.simplefilter("ignore")
    torch.get_float32_matmul_precision()


def as_cuda_matrix(
    values: ArrayLike | torch.Tensor,
    name: str,
    correlation: bool,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Contiguous float32 matrix on `device`; by default where it is, or the current CUDA device.

    Refuses what the CPU kernels refuse, in the same words: NaN and inf, and, but for `correlation`,
    rows so long that products overflow.
    """
    source: Any = values.detach() if isinstance(values, torch.Tensor) else np.asarray(values)
    real = not source.is_complex() if isinstance(source, torch.Tensor) else None
    if not (source.dtype.kind in "fiub" if real is None else real):
        raise InputError(f"{name} must be an array of real numbers, got dtype {source.dtype}")
    if source.ndim != 2:
        raise InputError(f"{name} must have 2 dimensions, got shape {tuple(source.shape)}")
    if source.shape[1] == 0:
        raise InputError(f"{name} must have at least one column")
    target = device or device_of(source)
    try:
        X = _upload(source, target)
        _check_rows(X, name, correlation)
    except torch.cuda.OutOfMemoryError as error:
        need = 4 * source.shape[0] * source.shape[1]
        raise out_of_memory(f"{name} takes", need, target) from error
    return X


def device_of(source: object) -> torch.device:
    """Where a CUDA tensor is; else the current CUDA device."""
    if isinstance(source, torch.Tensor) and source.is_cuda:
        return source.device
    return torch.device("cuda", torch.cuda.current_device())


def standardize(rows: torch.Tensor) -> torch.Tensor:
    """Rows whose dot products are Pearson correlations; constant rows become zero."""
    result = torch.empty_like(rows)
    for begin, end in _row_blocks(*rows.shape):
        centred = rows[begin:end].double()
        centred -= centred.mean(dim=1, keepdim=True)
        length = centred.norm(dim=1, keepdim=True)
        result[begin:end] = centred.div_(torch.where(length > 0, length, 1.0))
    return result


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products without TF32, in whichever of torch's two ways the caller asked for it."""
    both: tuple[Any, Any] = (
        torch.backends.cuda.matmul,
        getattr(torch.backends.mkldnn, "matmul", None),
    )
    backends = [one for one in both if hasattr(one, "fp32_precision")]
    newer = [one.fp32_precision for one in backends]
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # says nothing any more once the newer way was used
        older = "highest"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        for one, precision in zip(backends, newer, strict=True):
            one.fp32_precision = precision


def _upload(source: Any, device: torch.device) -> torch.Tensor:
    if isinstance(source, torch.Tensor):
        return source.to(device=device, dtype=torch.float32).contiguous()
    X = torch.empty(source.shape, dtype=torch.float32, device=device)
    for begin, end in _row_blocks(*source.shape):
        X[begin:end].copy_(_host_tensor(source[begin:end]))
    return X


def _host_tensor(part: NDArray[Any]) -> torch.Tensor:
    values = np.ascontiguousarray(part, dtype=np.float32)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _check_rows(X: torch.Tensor, name: str, correlation: bool) -> None:
    limit = torch.inf if correlation else torch.finfo(torch.float32).max
    for begin, end in _row_blocks(*X.shape):
        bad = ~(X[begin:end].double().square_().sum(dim=1) < limit)
        if not bool(bad.any()):
            continue
        row = begin + int(torch.argmax(bad.int()))
        if bool(X[row].isnan().any()):
            raise InputError(f"{name} has NaN in row {row}")
        if bool(X[row].isinf().any()):
            raise InputError(f"{name} has an infinite value in row {row}")
        raise InputError(
            f"{name} has too large values in row {row}: its squared length overflows float32"
        )


def _row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, _AT_ONCE // columns)
    for begin in range(0, rows, step):
        yield begin, min(begin + step, rows)
