"""Exact complete-linkage (farthest-neighbour) clustering, Sect. 2.2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim import _core
from cliquesim._device import check_device
from cliquesim._validation import as_choice, as_matrix, as_threads
from cliquesim.errors import InputError

METRICS = ("euclidean", "sqeuclidean", "cosine", "correlation")


def linkage(
    y: ArrayLike,
    method: str = "complete",
    metric: str = "euclidean",
    num_threads: int | None = None,
    device: str = "cpu",
    progress: Callable[[float], object] | None = None,
) -> NDArray[np.float64]:
    """Hierarchical clustering by complete linkage, exact, in SciPy's format.

    Parameters
    ----------
    y : array
        1-D: condensed distances of n observations, n (n - 1) / 2 numbers in the order of
        `scipy.spatial.distance.pdist`; `inf` stands for "never together". 2-D: (n, D) vectors.
        float32 stays float32, everything else is taken as float64.
    method : {"complete"}
        Only complete linkage is offered.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation"}
        Distance of two vectors; ignored for condensed distances.
    num_threads : int, optional
        Threads; all processors of this process by default. The result is the same bit for bit.
    device : {"cpu"}
        Where to run.
    progress : callable, optional
        Called with the fraction that is done.

    Returns
    -------
    numpy.ndarray
        (n - 1, 4) float64. Row i says which two clusters form cluster n + i, at which distance, and
        how many observations it has; rows ascend in distance. `scipy.cluster.hierarchy` reads it.
        No row for one observation (an empty condensed array counts as one).

    Raises
    ------
    InputError
        No observation, a length that is not n (n - 1) / 2, NaN (with its position), or a row for
        which the metric is not defined.

    Notes
    -----
    Condensed distances give heights that are entries of `y`, unrounded. Of equal distances the one
    with the smallest indices is merged first, so with ties the tree may differ from SciPy's, though
    it is an equally valid one. Vectors: distances come from matrix products in the dtype of `y`;
    duplicates are exactly 0 apart. Time O(n^2) (and O(n^2 D) for vectors), memory one n x n matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import cliquesim as cs
    >>> cs.linkage(np.array([[0.0], [1.0], [5.0]]))
    array([[0., 1., 1., 2.],
           [2., 3., 5., 3.]])
    """
    as_choice(method, "method", ("complete",))
    as_choice(metric, "metric", METRICS)
    check_device(device, "linkage")
    threads = as_threads(num_threads)
    array = np.asarray(y)
    if array.dtype.kind not in "fiub":
        raise InputError(f"y must be an array of real numbers, got dtype {array.dtype}")
    dtype: type[np.floating[Any]] = np.float32 if array.dtype == np.float32 else np.float64
    if array.ndim == 1:
        condensed = np.ascontiguousarray(array, dtype=dtype)
        n = _observations(condensed.size)
        _check_condensed(condensed, n)
        return _core.linkage_condensed(condensed, n, threads, progress)
    if array.ndim != 2:
        raise InputError(
            f"y must be 1-D condensed distances or 2-D vectors, got shape {array.shape}"
        )
    vectors = as_matrix(array, "y", dtype)
    if vectors.shape[0] == 0:
        raise InputError("y has no rows: there must be at least one observation")
    if vectors.shape[1] == 0:
        raise InputError(f"y has no columns, got shape {vectors.shape}")
    if metric in ("cosine", "correlation"):
        _check_directions(vectors, metric)
    return _core.linkage_vectors(vectors, metric, threads, progress)


def _observations(size: int) -> int:
    n = (1 + math.isqrt(1 + 8 * size)) // 2
    if n * (n - 1) // 2 != size:
        raise InputError(
            f"y has {size} entries, which is not n (n - 1) / 2 for any number n of observations"
        )
    return n


def _check_condensed(condensed: NDArray[Any], n: int) -> None:
    block = 1 << 22
    for start in range(0, condensed.size, block):
        part = condensed[start : start + block]
        bad = np.isnan(part) | np.isneginf(part)
        if bad.any():
            position = start + int(np.argmax(bad))
            i, j = _pair(position, n)
            raise InputError(
                f"y has {condensed[position]} at position {position} "
                f"(the distance of observations {i} and {j})"
            )


def _check_directions(vectors: NDArray[Any], metric: str) -> None:
    first = vectors[:, :1] if metric == "correlation" else 0
    defined = (vectors != first).any(axis=1)
    if not defined.all():
        kind = "constant" if metric == "correlation" else "zero"
        raise InputError(
            f"y: row {int(np.argmin(defined))} is {kind}, its {metric} distance is undefined"
        )


def _pair(position: int, n: int) -> tuple[int, int]:
    """Observations of a position in condensed order."""
    low, high = 0, n - 1
    while high - low > 1:  # row i starts at i (2n - i - 1) / 2
        middle = (low + high) // 2
        if middle * (2 * n - middle - 1) // 2 <= position:
            low = middle
        else:
            high = middle
    return low, position - low * (2 * n - low - 1) // 2 + low + 1
