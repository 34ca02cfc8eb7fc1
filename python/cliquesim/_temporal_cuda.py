"""Temporal pooling on a CUDA device: products by torch, pooling by the kernel of `_cuda`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._matrix_cuda import as_cuda_matrix, full_precision, standardize
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
            self.gathered = standardize(self.gathered)

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
    X = as_cuda_matrix(features, "features", correlation)
    Y = X if col_features is None else as_cuda_matrix(col_features, "col_features", correlation)
    if Y.shape != X.shape:
        raise InputError(
            f"col_features must have the shape of features, {tuple(X.shape)}, got {tuple(Y.shape)}"
        )
    labels = as_groups(np.asarray(sequence), len(X), "sequence")
    assert labels is not None
    with torch.cuda.device(X.device), full_precision():
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
        pool_products(products, row_side.on_device(begin, end, first), columns, pooled)
        out[row_side.order[begin:end]] = pooled[:, inverse]
        begin = end
    return out


def pool_products(
    products: torch.Tensor, rows: list[torch.Tensor], cols: list[torch.Tensor], out: torch.Tensor
) -> None:
    """Eq. (9); `rows` and `cols`: positions in `products` (int64), reach before, after (int32)."""
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
