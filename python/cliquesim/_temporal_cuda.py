"""Temporal pooling on a CUDA device: products by torch, pooling by the kernel of `_cuda`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._validation import as_groups
from cliquesim.errors import InputError

# Products held at a time: 1 GiB in float32.
_PRODUCTS = 1 << 28


class _Side:
    """The requests of one side in ascending order of their frames, and all frames they need."""

    def __init__(
        self,
        features: torch.Tensor,
        requests: NDArray[np.int64],
        sequence: NDArray[np.int64],
        radius: int,
        correlation: bool,
        name: str,
    ) -> None:
        try:
            order, frames, positions, before, after = _core.window_plan(
                requests, sequence, radius, name
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        device = features.device
        self.positions, self.before, self.after = positions[order], before[order], after[order]
        self.order = torch.from_numpy(order).to(device)
        self.gathered = features[torch.from_numpy(frames).to(device)]
        if correlation:
            self.gathered = _standardize(self.gathered)

    def on_device(self, begin: int, end: int, first: int) -> list[torch.Tensor]:
        """Positions after `first`, before and after of the requests [begin, end)."""
        device = self.gathered.device
        columns = (self.positions[begin:end] - first, self.before[begin:end], self.after[begin:end])
        return [torch.from_numpy(column).to(device) for column in columns]


def pooled_similarity_cuda(
    features: ArrayLike | torch.Tensor,
    col_features: ArrayLike | torch.Tensor | None,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    sequence: ArrayLike,
    radius: int,
    correlation: bool,
) -> torch.Tensor | NDArray[np.float32]:
    """`cliquesim.pooled_similarity` with device="cuda", its indices checked already."""
    X = _as_features(features, "features", correlation)
    Y = X if col_features is None else _as_features(col_features, "col_features", correlation)
    if Y.shape != X.shape:
        raise InputError(
            f"col_features must have the shape of features, {tuple(X.shape)}, got {tuple(Y.shape)}"
        )
    labels = as_groups(np.asarray(sequence), len(X), "sequence")
    assert labels is not None
    with torch.cuda.device(X.device):
        row_side = _Side(X, rows, labels, radius, correlation, "rows")
        col_side = _Side(Y.to(X.device), cols, labels, radius, correlation, "cols")
        out = _pool(row_side, col_side)
    return out if isinstance(features, torch.Tensor) else out.cpu().numpy()


def _pool(row_side: _Side, col_side: _Side) -> torch.Tensor:
    """(R, C) in the order of the requests; the products of some rows at a time."""
    n_rows, n_cols = len(row_side.positions), len(col_side.positions)
    device = row_side.gathered.device
    out = torch.empty((n_rows, n_cols), dtype=torch.float32, device=device)
    if out.numel() == 0:
        return out
    columns = col_side.on_device(0, n_cols, 0)
    # Columns go straight to their place: the kernel writes sorted columns, one gather undoes it.
    inverse = torch.argsort(col_side.order)
    longest = max(1, _PRODUCTS // len(col_side.gathered))
    begin = 0
    while begin < n_rows:
        first = int(row_side.positions[begin] - row_side.before[begin])
        last_frames = row_side.positions + row_side.after
        end = max(begin + 1, int(np.searchsorted(last_frames, first + longest, side="left")))
        last = int(last_frames[end - 1])
        products = torch.matmul(row_side.gathered[first : last + 1], col_side.gathered.T)
        pooled = torch.empty((end - begin, n_cols), dtype=torch.float32, device=device)
        _launch(products, row_side.on_device(begin, end, first), columns, pooled)
        out[row_side.order[begin:end]] = pooled[:, inverse]
        begin = end
    return out


def _launch(
    products: torch.Tensor, rows: list[torch.Tensor], cols: list[torch.Tensor], out: torch.Tensor
) -> None:
    from cliquesim import _cuda  # optional at build time

    def addresses(side: list[torch.Tensor]) -> tuple[int, int, int, int]:
        positions, before, after = side
        return positions.data_ptr(), before.data_ptr(), after.data_ptr(), len(positions)

    # torch's allocator reuses freed memory in stream order, so the tensors may go out of scope
    # before the kernel has run.
    _cuda.pool(
        products.data_ptr(),
        products.stride(0),
        addresses(rows),
        addresses(cols),
        out.data_ptr(),
        out.stride(0),
        out.device.index,
        torch.cuda.current_stream(out.device).cuda_stream,
    )


def _standardize(rows: torch.Tensor) -> torch.Tensor:
    """Rows whose dot products are Pearson correlations; constant rows become zero."""
    centred = rows.double()
    centred -= centred.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return (centred / torch.where(length > 0, length, 1.0)).float()


def _as_features(values: ArrayLike | torch.Tensor, name: str, correlation: bool) -> torch.Tensor:
    """Float32 matrix on a CUDA device; refuses what the CPU kernel refuses, in the same words."""
    source: Any = (
        values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
    )
    if source.is_complex():
        raise InputError(f"{name} must be an array of real numbers, got dtype {source.dtype}")
    if source.ndim != 2:
        raise InputError(f"{name} must have 2 dimensions, got shape {tuple(source.shape)}")
    if source.shape[1] == 0:
        raise InputError(f"{name} must have at least one column")
    target = source.device if source.is_cuda else torch.device("cuda", torch.cuda.current_device())
    X: torch.Tensor = source.detach().to(device=target, dtype=torch.float32).contiguous()
    squared = torch.linalg.vector_norm(X, dim=1, dtype=torch.float64).square()
    limit = torch.finfo(torch.float32).max
    bad = ~torch.isfinite(squared) if correlation else ~(squared < limit)
    if bool(bad.any()):
        row = int(torch.argmax(bad.int()))
        if bool(X[row].isnan().any()):
            raise InputError(f"{name} has NaN in row {row}")
        if bool(X[row].isinf().any()):
            raise InputError(f"{name} has an infinite value in row {row}")
        raise InputError(
            f"{name} has too large values in row {row}: its squared length overflows float32"
        )
    return X
