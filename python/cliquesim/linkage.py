"""Exact complete-linkage (farthest-neighbour) clustering, Sect. 2.2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from cliquesim import _core
from cliquesim._device import check_device
from cliquesim._validation import (
    as_choice,
    as_count,
    as_matrix,
    as_threads,
    condensed_observations,
)
from cliquesim.errors import InputError

METRICS = ("euclidean", "sqeuclidean", "cosine", "correlation", "dot")
STORAGES = ("auto", "none", "triangle16", "triangle", "square")

_Progress = Callable[[float], object] | None
_Link = tuple[NDArray[np.float64], list[int], float]

_LISTED = 64  # near neighbours that are listed per observation, at most


@overload
def linkage(
    y: Any,
    method: str = ...,
    metric: str = ...,
    num_threads: int | None = ...,
    device: str = ...,
    *,
    similarity: bool = ...,
    overwrite: bool = ...,
    storage: str = ...,
    memory_limit: int | None = ...,
    return_info: Literal[False] = ...,
    progress: _Progress = ...,
) -> NDArray[np.float64]: ...
@overload
def linkage(
    y: Any,
    method: str = ...,
    metric: str = ...,
    num_threads: int | None = ...,
    device: str = ...,
    *,
    similarity: bool = ...,
    overwrite: bool = ...,
    storage: str = ...,
    memory_limit: int | None = ...,
    return_info: Literal[True],
    progress: _Progress = ...,
) -> tuple[NDArray[np.float64], dict[str, Any]]: ...
def linkage(
    y: Any,
    method: str = "complete",
    metric: str = "euclidean",
    num_threads: int | None = None,
    device: str = "cpu",
    *,
    similarity: bool = False,
    overwrite: bool = False,
    storage: str = "auto",
    memory_limit: int | None = None,
    return_info: bool = False,
    progress: _Progress = None,
) -> NDArray[np.float64] | tuple[NDArray[np.float64], dict[str, Any]]:
    """Hierarchical clustering by complete linkage, exact, in SciPy's format.

    Parameters
    ----------
    y : array or SciPy sparse matrix
        1-D: condensed distances of n observations, n (n - 1) / 2 numbers in the order of
        `scipy.spatial.distance.pdist`. 2-D: (n, D) vectors, or with `metric="precomputed"` an
        (n, n) square of distances, of which what is above the diagonal is read. Sparse (n, n) with
        `metric="precomputed"`: a graph, such as nearest neighbours or a thresholded matrix; an
        entry (i, j) or (j, i) is the distance of i and j (of two that differ, the larger), an
        absent one says that no cluster may hold both. `inf` says the same in dense input.
        float32 stays float32, everything else is taken as float64.
    method : {"complete"}
        Only complete linkage is offered.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation", "dot", "precomputed"}
        Distance of two vectors; "dot" is their dot product, a similarity. Condensed input is
        always precomputed.
    num_threads : int, optional
        Threads; all processors of this process by default. The result is the same bit for bit.
    device : {"cpu", "cuda"}
        "cuda": the square of distances is made in device memory and linked there, in the dtype that
        `y` has on the CPU. `y` is copied to the current device unless it is a CUDA tensor; then the
        result is a tensor beside it. The work goes to the caller's current stream.
    similarity : bool
        Precomputed `y` holds similarities: the most similar are merged first (`-inf`: never). A
        height is then the largest similarity of all minus that of the merge, so that heights
        ascend from 0; `info["largest_similarity"]` leads back. With "dot" likewise.
    overwrite : bool
        The memory of a precomputed `y` may be used; then no second copy of any part is made, and
        `y` holds nothing of use afterwards. It must be a writable C-contiguous array of float32 or
        float64; with "cuda", where it saves memory only for a contiguous square there, any array.
    storage : {"auto", "none", "triangle16", "triangle", "square"}
        What to keep of the distances of vectors. "none": nothing; they are computed twice, in
        O(n D) memory besides the distances of clusters (see `memory_limit`). "triangle": half of
        the square, computed once. "triangle16": the same in 16 bits a distance; heights are exact
        for distances rounded to 65,536 even steps. "square": the whole square and rounds of
        reciprocal nearest neighbours on it, as on a GPU. "auto": "none"; with a `memory_limit`
        that allows it, "triangle"; with "cuda" always "square".
    memory_limit : int, optional
        Bytes that may be used beside `y`; three quarters of the memory that is free by default.
        `linkage_memory` says beforehand what each storage takes. With "cuda": of device memory, for
        the square; no limit by default.
    return_info : bool
        Also return a dict: `storage`, `levels` (observations, then clusters after every pass),
        `step` (of rounded distances, else 0), `largest_similarity` (else None), `memory` (bytes
        that `linkage_memory` gave, None for precomputed input; with "cuda" those of the square).
    progress : callable, optional
        Called with the fraction that is done.

    Returns
    -------
    numpy.ndarray
        (n - 1, 4) float64. Row i says which two clusters form cluster n + i, at which distance, and
        how many observations it has; rows ascend in distance. `scipy.cluster.hierarchy` reads it.
        No row for one observation (an empty condensed array counts as one). Of a graph, what no
        edge joins is joined at infinity.

    Raises
    ------
    InputError
        No observation, a length that is not n (n - 1) / 2, NaN (with its position), a row for
        which the metric is not defined, a memory limit that is too small; with "cuda" a graph or
        another storage than the square.
    RunError
        CUDA cannot be used, or its memory is too small; the message says why.

    Notes
    -----
    Exact: precomputed heights are entries of `y`, unrounded, and the tree is a complete linkage of
    `y`. Where distances are equal there are several; the choice is the same in every run. Vectors:
    distances come from matrix products in the dtype of `y`; duplicates are exactly 0 apart. On a
    GPU the choice between equal distances is that of `storage="square"`, and the products are
    torch's, whose last digits differ.

    One pass over all distances lists every observation's nearest; from the lists alone follows
    what can be merged with certainty, usually half of everything and more. A second pass makes the
    distances of the clusters so far, and so on. O(n^2) time for two readings of `y` in all (O(n^2
    D) for vectors); memory beside `y`: about a kilobyte an observation, and the distances of the
    clusters that the first pass leaves, which are an eighth of `y` or less on all data measured.

    Examples
    --------
    >>> import numpy as np
    >>> import cliquesim as cs
    >>> cs.linkage(np.array([[0.0], [1.0], [5.0]]))
    array([[0., 1., 1., 2.],
           [2., 3., 5., 3.]])
    """
    as_choice(method, "method", ("complete",))
    as_choice(metric, "metric", (*METRICS, "precomputed"))
    as_choice(storage, "storage", STORAGES)
    check_device(device, "linkage")
    threads = as_threads(num_threads)
    if device == "cuda":
        result: NDArray[np.float64] | tuple[NDArray[np.float64], dict[str, Any]] = _on_cuda(
            y, metric, similarity, overwrite, storage, memory_limit, return_info, progress
        )
        return result
    limit = _free_memory() if memory_limit is None else as_count(memory_limit, "memory_limit")
    info: dict[str, Any] = {"storage": "input", "memory": None}
    graph = bool(sparse.issparse(y))
    precomputed = graph or metric == "precomputed" or np.ndim(y) == 1
    if storage != "auto" and precomputed:
        raise InputError(f"storage={storage!r} is for vectors, but y is precomputed")
    if graph:
        if metric != "precomputed":
            raise InputError("a sparse y is a graph of distances: pass metric='precomputed'")
        link = _link_graph(y, similarity, threads, progress)
    elif precomputed:
        link = _link_distances(y, similarity, overwrite, limit, threads, progress)
    else:
        if similarity or overwrite:
            raise InputError("similarity and overwrite are for precomputed y, but y is vectors")
        vectors = _as_vectors(y, metric)
        info = _plan(vectors, storage, limit, memory_limit is not None)
        left = limit - info["memory"]
        link = _call(
            _core.linkage_vectors, vectors, metric, info["storage"], left, threads, progress
        )
        similarity = metric == "dot"
    Z, levels, step = link
    largest = _raise_to_zero(Z) if similarity else None
    info |= {"levels": levels, "step": step, "largest_similarity": largest}
    return (Z, info) if return_info else Z


def _raise_to_zero(Z: NDArray[np.float64]) -> float | None:
    """Makes negated similarities heights that ascend from 0; returns the largest similarity."""
    if len(Z) == 0:
        return None
    largest = -float(Z[0, 2])
    Z[:, 2] += largest
    return largest


def _on_cuda(
    y: Any,
    metric: str,
    similarity: bool,
    overwrite: bool,
    storage: str,
    memory_limit: int | None,
    return_info: bool,
    progress: _Progress,
) -> Any:
    from cliquesim._linkage_cuda import like_input, linkage_cuda

    if sparse.issparse(y):
        raise InputError("a graph is linked on the CPU only; use device='cpu'")
    if storage not in ("auto", "square"):
        raise InputError(f"storage={storage!r} is for device='cpu'; a GPU takes the square")
    precomputed = metric == "precomputed" or np.ndim(y) == 1
    if (similarity or overwrite) and not precomputed:
        raise InputError("similarity and overwrite are for precomputed y, but y is vectors")
    limit = None if memory_limit is None else as_count(memory_limit, "memory_limit")
    Z, need = linkage_cuda(y, metric, similarity, overwrite, limit, progress)
    similarity = similarity if precomputed else metric == "dot"
    info: dict[str, Any] = {
        "storage": "square",
        "memory": need,
        "levels": [len(Z) + 1],
        "step": 0.0,
        "largest_similarity": _raise_to_zero(Z) if similarity else None,
    }
    if progress is not None:
        progress(1.0)
    return (like_input(Z, y), info) if return_info else like_input(Z, y)


def linkage_memory(n: int, dimensions: int, dtype: DTypeLike = np.float32) -> dict[str, int]:
    """Bytes that `linkage` takes for n vectors, beside the vectors, by `storage`.

    Of "none" that is without the distances of the clusters that its first pass leaves. They are
    about n / 20 for data in clusters of 20 observations, and n / 2 for a single Gaussian, that is
    n^2 / 2 bytes in float32; more passes are made where the `memory_limit` does not allow them.

    Parameters
    ----------
    n, dimensions : int
        Number of vectors, and their length.
    dtype : float32 or float64
        Of the vectors.

    Examples
    --------
    >>> import cliquesim as cs
    >>> need = cs.linkage_memory(100_000, 512)
    >>> {storage: round(size / 2**30, 1) for storage, size in need.items()}
    {'none': 0.5, 'triangle16': 9.8, 'triangle': 19.1, 'square': 37.5}
    """
    n, dimensions = as_count(n, "n"), as_count(dimensions, "dimensions")
    item = 4 if np.dtype(dtype) == np.float32 else 8
    pairs = n * (n - 1) // 2
    rows = n * dimensions * item
    lists = n * _LISTED * (16 + 8 if item == 8 else 8 + 12)
    return {
        "none": 2 * rows + lists,
        "triangle16": 2 * pairs + rows + lists + pairs * 4 // 8,
        "triangle": item * pairs + max(rows, lists),
        "square": item * n * n + rows,
    }


def _plan(vectors: NDArray[Any], storage: str, limit: int, limited: bool) -> dict[str, Any]:
    need = linkage_memory(len(vectors), vectors.shape[1], vectors.dtype)
    if storage == "auto":
        storage = "triangle" if limited and need["triangle"] <= limit else "none"
    if need[storage] > limit:
        raise InputError(
            f"memory_limit: storage={storage!r} needs {need[storage]} bytes for "
            f"{len(vectors)} vectors, but {limit} may be used"
        )
    return {"storage": storage, "memory": need[storage]}


def _free_memory() -> int:
    """Three quarters of the memory that is free or can be freed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(one.split()[1]) * 1024 for one in lines if one.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free * 3 // 4


def _call(kernel: Callable[..., _Link], *arguments: Any) -> _Link:
    try:
        return kernel(*arguments)
    except ValueError as error:
        raise InputError(str(error)) from error


def _as_real(y: Any) -> NDArray[Any]:
    array = np.asarray(y)
    if array.dtype.kind not in "fiub":
        raise InputError(f"y must be an array of real numbers, got dtype {array.dtype}")
    return array


def _float_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float32 if dtype == np.float32 else np.float64


def _link_distances(
    y: Any, similarity: bool, overwrite: bool, limit: int, threads: int, progress: _Progress
) -> _Link:
    array = _as_real(y)
    if array.ndim not in (1, 2):
        raise InputError(
            f"precomputed y must be 1-D condensed or 2-D square, got shape {array.shape}"
        )
    if array.ndim == 1:
        n = condensed_observations(array.size)
    else:
        n = len(array)
        if array.shape != (n, n):
            raise InputError(f"precomputed y must be square, got shape {array.shape}")
    if overwrite and not (
        isinstance(y, np.ndarray)
        and y.dtype in (np.float32, np.float64)
        and y.flags.c_contiguous
        and y.flags.writeable
    ):
        raise InputError("overwrite needs a writable C-contiguous float32 or float64 array")
    values = np.ascontiguousarray(array, dtype=_float_type(array.dtype))
    if n == 0:
        raise InputError("y has no rows: there must be at least one observation")
    return _call(
        _core.linkage_distances, values, n, similarity, overwrite, limit, threads, progress
    )


def _link_graph(y: Any, similarity: bool, threads: int, progress: _Progress) -> _Link:
    graph: Any = sparse.csr_array(y)
    if graph.shape[0] != graph.shape[1] or graph.shape[0] == 0:
        raise InputError(f"a graph must be square and not empty, got shape {graph.shape}")
    if graph.dtype.kind not in "fiub":
        raise InputError(f"y must hold real numbers, got dtype {graph.dtype}")
    return _call(
        _core.linkage_graph,
        np.ascontiguousarray(graph.indptr, np.int64),
        np.ascontiguousarray(graph.indices, np.int64),
        np.ascontiguousarray(graph.data, _float_type(graph.dtype)),
        similarity,
        threads,
        progress,
    )


def _as_vectors(y: Any, metric: str) -> NDArray[Any]:
    array = _as_real(y)
    if array.ndim != 2:
        raise InputError(
            f"y must be 1-D condensed distances or 2-D vectors, got shape {array.shape}"
        )
    vectors = as_matrix(array, "y", _float_type(array.dtype))
    if vectors.shape[0] == 0:
        raise InputError("y has no rows: there must be at least one observation")
    if vectors.shape[1] == 0:
        raise InputError(f"y has no columns, got shape {vectors.shape}")
    if metric in ("cosine", "correlation"):
        _check_directions(vectors, metric)
    return vectors


def _check_directions(vectors: NDArray[Any], metric: str) -> None:
    first = vectors[:, :1] if metric == "correlation" else 0
    defined = (vectors != first).any(axis=1)
    if not defined.all():
        kind = "constant" if metric == "correlation" else "zero"
        raise InputError(
            f"y: row {int(np.argmin(defined))} is {kind}, its {metric} distance is undefined"
        )
