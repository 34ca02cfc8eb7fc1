"""Local temporal pooling of similarities (Sect. 2.5, Eq. (9))."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._device import check_device
from cliquesim._validation import as_choice, as_count, as_groups, as_matrix, as_threads
from cliquesim.errors import InputError

if TYPE_CHECKING:
    import torch


def pooled_similarity(
    features: ArrayLike | torch.Tensor,
    rows: ArrayLike,
    cols: ArrayLike,
    sequence: ArrayLike,
    radius: int = 3,
    metric: str = "dot",
    num_threads: int | None = None,
    device: str = "cpu",
    *,
    col_features: ArrayLike | torch.Tensor | None = None,
    progress: Callable[[float], object] | None = None,
) -> NDArray[np.float32]:
    """Temporally pooled similarities of chosen pairs of frames, Eq. (9).

    s'_kl is the mean over n = -p..p of s_(k+n)(l+n), p = `radius`. At the ends of a sequence the
    window shrinks jointly, to the offsets that stay within the sequences of both frames; it never
    crosses from one sequence into the next. Only the frames that the windows need are compared.

    Parameters
    ----------
    features : (N, D) array, converted to float32
        Descriptors of all frames; the rows of a sequence are contiguous and in time order.
    rows, cols : (R,), (C,) int array
        The frames to compare, in any order, also repeated.
    sequence : (N,) int array
        Sequence of each frame.
    radius : int
        p; 0 gives the plain similarities.
    metric : {"dot", "correlation"}
        s_kl = x_k . x_l, or Pearson's correlation, where a constant row has correlation 0.
    num_threads : int, optional
        All processors of this process by default.
    device : {"cpu", "cuda"}
        With "cuda", the arrays are copied to the current device unless `features` is there
        already, and the work goes to the caller's current stream.
    col_features : (N, D) array, optional
        Descriptors from which `cols` are taken, for example of the mirrored frames: the flip then
        holds for the whole window, and time is not reversed.
    progress : callable, optional
        Gets the share of the work that is done, 0 to 1.

    Returns
    -------
    (R, C) float32
        With device="cuda", a torch tensor on that device if `features` is a torch tensor.

    Raises
    ------
    InputError
        Wrong shape or type, an index out of range, NaN or inf (the row is named), a sequence whose
        rows are not contiguous.
    RunError
        CUDA cannot be used; the message says why.

    Examples
    --------
    >>> import cliquesim as cs
    >>> X = [[1.0], [2.0], [4.0], [1.0], [3.0]]
    >>> cs.pooled_similarity(X, rows=[0, 1], cols=[3], sequence=[0, 0, 0, 1, 1], radius=1)
    array([[3.5],
           [7. ]], dtype=float32)
    """
    device = check_device(device, stage="temporal pooling")
    radius = as_count(radius, "radius")
    correlation = as_choice(metric, "metric", ("dot", "correlation")) == "correlation"
    threads = as_threads(num_threads)
    row_frames, col_frames = _as_frames(rows, "rows"), _as_frames(cols, "cols")
    if device == "cuda":
        from cliquesim._temporal_cuda import pooled_similarity_cuda

        # A tensor in, a tensor out: the annotation describes arrays.
        result: Any = pooled_similarity_cuda(
            features, col_features, row_frames, col_frames, sequence, radius, correlation
        )
        if progress is not None:
            progress(1.0)
        return result  # type: ignore[no-any-return]

    X = _as_features(features, "features")
    Y = X if col_features is None else _as_features(col_features, "col_features")
    if Y.shape != X.shape:
        raise InputError(f"col_features must have the shape of features, {X.shape}, got {Y.shape}")
    labels = as_groups(sequence, len(X), "sequence")
    assert labels is not None
    try:
        return _core.pooled_similarity(
            X, Y, row_frames, col_frames, labels, radius, correlation, threads, progress
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def _as_features(values: ArrayLike | torch.Tensor, name: str) -> NDArray[np.float32]:
    torch_module = sys.modules.get("torch")
    if torch_module is not None and isinstance(values, torch_module.Tensor):
        values = values.detach().cpu().numpy()
    return as_matrix(values, name)


def _as_frames(values: ArrayLike, name: str) -> NDArray[np.int64]:
    frames = np.asarray(values)
    if frames.ndim != 1:
        raise InputError(f"{name} must have 1 dimension, got shape {frames.shape}")
    if frames.size and frames.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers, got dtype {frames.dtype}")
    return np.ascontiguousarray(frames, dtype=np.int64)
