"""Exact nearest and farthest rows of every row (Sect. 2.1, Fig. 4(b))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._device import check_device, on_cuda
from cliquesim._validation import as_choice, as_count, as_groups, as_matrix, as_threads
from cliquesim.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Neighbors:
    """The most and least similar rows of every row; tensors where X was one on a CUDA device.

    Attributes
    ----------
    indices : (M, k) int64
        Rows of X, most similar first; equal similarities in ascending order of the row. -1 where
        fewer than k rows were allowed.
    similarities : (M, k) float32
        Their similarities; -inf where `indices` is -1.
    bottom_indices : (M, n_bottom) int64
        Rows of X, least similar first, likewise.
    bottom_similarities : (M, n_bottom) float32
        Their similarities; +inf where `bottom_indices` is -1.
    flips : (M, k) bool, or None without `mirrored`
        Whether the neighbour is the mirror image.
    bottom_flips : (M, n_bottom) bool, or None
        Likewise.
    info : dict
        `products` ("int16", "float16" or "float32") and the `instructions` that made them;
        `error_bound` of an int16 or float16 similarity as a share of the two rows' lengths;
        `tiles`, and how many of them were `float32_tiles`; `recomputed` single products; with
        float16 the `float32_rows` that were searched again; `memory_bytes` held beside input and
        output, with device="cuda" on the device.
    """

    indices: NDArray[np.int64]
    similarities: NDArray[np.float32]
    bottom_indices: NDArray[np.int64]
    bottom_similarities: NDArray[np.float32]
    flips: NDArray[np.bool_] | None = None
    bottom_flips: NDArray[np.bool_] | None = None
    info: dict[str, Any] = field(default_factory=dict)


def neighbors(
    X: ArrayLike | torch.Tensor,
    k: int = 50,
    n_bottom: int = 0,
    metric: str = "dot",
    groups: ArrayLike | None = None,
    group_window: int | None = None,
    pool_radius: int = 0,
    num_threads: int | None = None,
    device: str = "cpu",
    *,
    queries: ArrayLike | torch.Tensor | None = None,
    query_groups: ArrayLike | None = None,
    sequences: ArrayLike | None = None,
    mirrored: ArrayLike | torch.Tensor | None = None,
    precision: str = "auto",
    memory_limit: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Neighbors:
    """Exact k most similar and n_bottom least similar rows of every row.

    All pairs are compared, tile by tile; no N x N array is made. Where the processor multiplies
    int16 fast, int16 products with a proven bound on their error leave few pairs to compare in
    float32. The result is the same to the last bit with and without, and for any number of threads.

    Memory beside X and the result: a copy of X (with int16 products half a copy, with correlation
    one and a half), and 24 (k + n_bottom) bytes per row of candidates.

    Parameters
    ----------
    X : (N, D) array, converted to float32
        Descriptors, one row per frame.
    k, n_bottom : int
        How many most similar and least similar rows; more than there are is allowed.
    metric : {"dot", "correlation"}
        s_ij = x_i . x_j, or Pearson's correlation of the two rows, where a constant row has
        correlation 0 with every row.
    groups : (N,) int array, optional
        Label per row, for example its sequence. Rows of the same group are no neighbours.
    group_window : int, optional
        Exclude only those rows of the same group that are at most this many rows away.
    pool_radius : int
        p > 0: temporally pooled similarities, Eq. (9): the mean of s_(k+n)(l+n) over n = -p..p.
        The rows of a sequence must be contiguous and in time order. At the ends of a sequence the
        window shrinks jointly.
    num_threads : int, optional
        All processors of this process by default.
    device : {"cpu", "cuda"}
        With "cuda", the products are torch's, never in TF32: the same neighbours up to rounding,
        equal similarities in the same order. Arrays are copied to the current device; a
        tensor on a CUDA device is read there, on the caller's current stream. It takes the device
        memory of X, a tile, and 8 (k + n_bottom) bytes per row.
    queries : (M, D) array, optional
        Find the neighbours of these rows among X instead. No row is excluded as the query itself.
    query_groups : (M,) int array, optional
        Labels of the queries, in the same sense as `groups`; their sequences when pooling.
    sequences : (N,) int array, optional
        Label per row within which Eq. (9) pools, where that is not `groups`: for example frames and
        their mirror images, which exclude each other but are two stretches of time.
    mirrored : (N, D) array, optional
        Descriptors m_j of the mirror images of the rows of X: s_ij is the greater one of x_i . x_j
        and x_i . m_j, each of them pooled before they are compared. `flips` say which it is.
    precision : {"auto", "float32", "int16", "float16"}
        Which products find the candidates; the result is that of float32 in any case. "int16" is
        for the CPU, where "auto" takes it if it is faster. "float16" is for device="cuda", without
        pooling and `mirrored`, from torch 2.8 on: integers of 12 bits, whose products are exact,
        leave few candidates, which float32 decides in sums of another order, so that similarities
        differ in their last bits from those of precision="float32". Where they leave most rows
        open, as among duplicates, float32 does it all, and `info` says so. "auto" takes float16 for
        at least 256 columns and 1,000 (k + n_bottom) rows, a choice by counting, not measured.
    memory_limit : int, optional
        Bytes that may be used beside the result and X, `queries` and `mirrored` in float32. With
        less memory less is kept, and the search is slower.
    progress : callable, optional
        Gets the share of the work that is done, 0 to 1.

    Returns
    -------
    Neighbors

    Raises
    ------
    InputError
        Wrong shape or type, NaN or inf (the row is named), rows so long that a similarity could
        overflow float32, sequences that are not contiguous while pooling, a memory_limit that is
        too small (it is said how much is needed).
    RunError
        CUDA cannot be used, or its memory does not suffice; the message says why.

    Examples
    --------
    >>> import cliquesim as cs
    >>> found = cs.neighbors([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], k=2, n_bottom=1)
    >>> found.indices.tolist()
    [[1, 2], [0, 2], [1, 0]]
    >>> found.bottom_indices.tolist()
    [[2], [2], [0]]
    """
    check_device(device, stage="neighbors")
    search = _checked(
        device,
        X,
        metric,
        groups,
        group_window,
        pool_radius,
        num_threads,
        queries,
        query_groups,
        sequences,
        mirrored,
        memory_limit,
    )
    k, n_bottom = as_count(k, "k"), as_count(n_bottom, "n_bottom")
    as_choice(precision, "precision", ("auto", "float32", "int16", "float16"))
    if device == "cuda":
        from cliquesim.neighbors._exact_cuda import neighbors_cuda

        if precision == "int16":
            raise InputError("precision='int16' is for device='cpu'")
        lists, info = neighbors_cuda(search, k, n_bottom, precision, progress)
        return Neighbors(**{name: _like(X, one) for name, one in lists.items()}, info=info)
    if precision == "float16":
        raise InputError("precision='float16' is for device='cuda'")
    try:
        found = _core.neighbors(
            **search, k=k, n_bottom=n_bottom, precision=precision, progress=progress
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return Neighbors(*found)


def similarity_quantiles(
    X: ArrayLike | torch.Tensor,
    quantiles: ArrayLike,
    metric: str = "dot",
    groups: ArrayLike | None = None,
    group_window: int | None = None,
    pool_radius: int = 0,
    num_threads: int | None = None,
    device: str = "cpu",
    *,
    queries: ArrayLike | torch.Tensor | None = None,
    query_groups: ArrayLike | None = None,
    sequences: ArrayLike | None = None,
    mirrored: ArrayLike | torch.Tensor | None = None,
    memory_limit: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> NDArray[np.float32]:
    """Quantiles of the similarities of every row to all others: the sorted curve of Fig. 4(b).

    Exact, of all similarities that `neighbors` would choose from; linear between two of them, as
    `numpy.quantile`. Never an N x N array: memory is a copy of X and the similarities of 384 rows,
    with device="cuda" of up to 1,024.

    Parameters
    ----------
    X, metric, groups, group_window, pool_radius, num_threads, device
        As for `neighbors`, and so are `queries`, `query_groups`, `sequences`, `mirrored`,
        `memory_limit` and `progress`.
    quantiles : (Q,) array
        In [0, 1], ascending.

    Returns
    -------
    (N, Q) or (M, Q) float32
        NaN in rows that have nothing to be compared with. With device="cuda" a tensor on that
        device if X is one.

    Raises
    ------
    InputError
        As `neighbors`, or quantiles that do not ascend within [0, 1].
    RunError
        As `neighbors`.

    Examples
    --------
    >>> import cliquesim as cs
    >>> cs.similarity_quantiles([[1.0], [2.0], [4.0]], [0, 0.5, 1]).tolist()
    [[2.0, 3.0, 4.0], [2.0, 5.0, 8.0], [4.0, 6.0, 8.0]]
    """
    check_device(device, stage="similarity_quantiles")
    levels = np.asarray(quantiles)
    if levels.ndim != 1 or levels.dtype.kind not in "fiu":
        raise InputError(f"quantiles must be a vector of numbers, got shape {levels.shape}")
    levels = np.ascontiguousarray(levels, dtype=np.float64)
    if not (np.all((levels >= 0) & (levels <= 1)) and np.all(np.diff(levels) >= 0)):
        raise InputError("quantiles must ascend within [0, 1]")
    search = _checked(
        device,
        X,
        metric,
        groups,
        group_window,
        pool_radius,
        num_threads,
        queries,
        query_groups,
        sequences,
        mirrored,
        memory_limit,
    )
    if device == "cuda":
        from cliquesim.neighbors._exact_cuda import similarity_quantiles_cuda

        # A tensor in, a tensor out: the annotation describes arrays.
        result: Any = _like(X, similarity_quantiles_cuda(search, levels, progress))
        return result  # type: ignore[no-any-return]
    try:
        return _core.similarity_quantiles(**search, probabilities=levels, progress=progress)
    except ValueError as error:
        raise InputError(str(error)) from None


def _like(X: object, found: Any) -> Any:
    """A tensor's neighbours are tensors, an array's are arrays."""
    return found if found is None or on_cuda(X) else found.cpu().numpy()


def _converter(device: str, X: object, correlation: bool) -> Callable[[Any, str], Any]:
    """Makes a float32 matrix of what is called so, an array or a tensor on one CUDA device."""
    if device == "cpu":
        return as_matrix
    from cliquesim._matrix_cuda import as_cuda_matrix, device_of

    return partial(as_cuda_matrix, correlation=correlation, device=device_of(X))


def _checked(
    device: str,
    X: ArrayLike | torch.Tensor,
    metric: str,
    groups: ArrayLike | None,
    group_window: int | None,
    pool_radius: int,
    num_threads: int | None,
    queries: Any,
    query_groups: ArrayLike | None,
    sequences: ArrayLike | None,
    mirrored: Any,
    memory_limit: int | None,
) -> dict[str, Any]:
    """What the kernels take, converted."""
    correlation = as_choice(metric, "metric", ("dot", "correlation")) == "correlation"
    convert = _converter(device, X, correlation)
    corpus = convert(X, "X")
    n, dimensions = corpus.shape
    if dimensions == 0:
        raise InputError("X must have at least one column")
    if queries is not None:
        queries = convert(queries, "queries")
        if queries.shape[1] != dimensions:
            raise InputError(
                f"queries must have {dimensions} columns as X has, got shape {tuple(queries.shape)}"
            )
        if group_window is not None:
            raise InputError("group_window has no meaning with queries: leave it out")
    elif query_groups is not None:
        raise InputError("query_groups needs queries")
    if mirrored is not None:
        mirrored = convert(mirrored, "mirrored")
        if mirrored.shape != corpus.shape:
            raise InputError(
                f"mirrored must have shape {tuple(corpus.shape)} as X has, got "
                f"{tuple(mirrored.shape)}"
            )
    group_labels = as_groups(groups, n)
    query_labels = as_groups(query_groups, 0 if queries is None else len(queries), "query_groups")
    if group_window is not None:
        if group_labels is None:
            raise InputError("group_window needs groups")
        group_window = as_count(group_window, "group_window")
    pool_radius = as_count(pool_radius, "pool_radius")
    sequence_labels = as_groups(sequences, n, "sequences")
    if pool_radius and group_labels is None and sequence_labels is None:
        raise InputError("pool_radius needs groups: the sequence of each row")
    if query_labels is not None and group_labels is None:
        raise InputError("query_groups needs groups")
    if pool_radius and queries is not None and query_labels is None:
        raise InputError("pool_radius needs query_groups: the sequence of each query")
    return {
        "corpus": corpus,
        "queries": queries,
        "mirrored": mirrored,
        "correlation": correlation,
        "groups": group_labels,
        "query_groups": query_labels,
        "group_window": -1 if group_window is None else group_window,
        "pool_radius": pool_radius,
        "sequences": sequence_labels,
        "memory_limit": 0 if memory_limit is None else as_count(memory_limit, "memory_limit", 1),
        "num_threads": as_threads(num_threads),
    }
