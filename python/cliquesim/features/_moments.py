"""First and second moments of descriptors, and the covariances that follow from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim._mapped import release
from cliquesim.errors import InputError

if TYPE_CHECKING:
    import torch

Progress = Callable[[float], object] | None
Rows: TypeAlias = "NDArray[Any] | torch.Tensor"

_CHUNK_BYTES = 1 << 27
# A squared pivot this far below the mean eigenvalue is rounding error of float32 products, as is an
# eigenvalue this far below the largest.
_SINGULAR_PIVOT = 1e-9
_SINGULAR_EIGENVALUE = 1e-6


def part(progress: Progress, begin: float, end: float) -> Progress:
    """A callback for the part of the work from `begin` to `end`, or None."""
    if progress is None:
        return None
    return lambda fraction: progress(begin + (end - begin) * fraction)


def float32_chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks of rows and their first row; of a memory-mapped array one is in memory at a time."""
    step = max(256, _CHUNK_BYTES // (4 * array.shape[1]))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        with np.errstate(over="ignore"):  # float64 beyond float32's range becomes inf: refused
            yield start, np.ascontiguousarray(block, dtype=np.float32)
        release(array[: start + step])  # a fault may bring back what lies before


def float32_rows(rows: Rows) -> NDArray[np.float32]:
    """Few rows of an array or of a tensor, on the host."""
    array = rows if isinstance(rows, np.ndarray) else rows.float().cpu().numpy()
    with np.errstate(all="ignore"):  # what is not finite is refused elsewhere
        return np.asarray(array, dtype=np.float32)


def check_row(broken: int, start: int, chunk: NDArray[np.float32]) -> None:
    """Raise InputError that names the row that a kernel found to be not finite; -1 for none."""
    if broken >= 0:
        kind = "NaN" if np.isnan(chunk[broken]).any() else "an infinite value"
        raise InputError(f"X has {kind} in row {start + broken}")


class Moments:
    """Sums over rows about a fixed vector near the mean, where float32 products lose nothing."""

    def __init__(self, array: Rows) -> None:
        self.n_rows = 0
        first = float32_rows(array[:1024])
        with np.errstate(all="ignore"):  # rows that are not finite are refused by `add`
            self._shift: NDArray[np.float32] = first.mean(axis=0, dtype=np.float64).astype(
                np.float32
            )
        dimensions = len(self._shift)
        self._sum = np.zeros(dimensions)
        self._scatter = np.zeros((dimensions, dimensions))

    def add(self, array: NDArray[Any], threads: int, progress: Progress) -> None:
        """Add the rows of (n, D). After an exception the moments are not usable."""
        for start, chunk in float32_chunks(array):
            report = part(progress, start / len(array), (start + len(chunk)) / len(array))
            broken = _core.add_moments(
                chunk, self._shift, self._sum, self._scatter, threads, report
            )
            check_row(broken, start, chunk)
        self.n_rows += len(array)

    def add_on_cuda(self, rows: Rows, progress: Progress) -> None:
        """`add`, on the device where the rows are, or on the current CUDA device."""
        from cliquesim.features import _whitening_cuda

        device = _whitening_cuda.device_of(rows)
        _whitening_cuda.add_moments(rows, self._shift, self._sum, self._scatter, device, progress)
        self.n_rows += len(rows)

    def estimate(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (D,) and sample covariance (D, D), normalised by n - 1."""
        n = self.n_rows
        mean = self._shift.astype(np.float64) + self._sum / n
        covariance = (self._scatter - np.outer(self._sum, self._sum) / n) / (n - 1)
        return mean, np.tril(covariance) + np.tril(covariance, -1).T

    def estimate_stationary(
        self, shape: tuple[int, int, int], common_mean: bool, threads: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and covariance of descriptors (h, w, channels), averaged over pairs of cells.

        The average need not be positive semi-definite; then its negative eigenvalues are set to 0.
        """
        rows, cols, channels = shape
        mean, covariance = self.estimate()
        if common_mean:
            common = np.tile(mean.reshape(-1, channels).mean(axis=0), rows * cols)
            offset = mean - common
            covariance += np.outer(offset, offset) * (self.n_rows / (self.n_rows - 1))
            mean = common
        covariance = _core.average_over_offsets(covariance, rows, cols, channels, threads)
        if _cholesky(covariance, 0.0, threads) is None:
            eigenvalues, vectors = eigendecompose(covariance)
            clipped = (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
            covariance = (clipped + clipped.T) / 2
        return mean, covariance


def eigendecompose(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, the smallest first, and eigenvectors in columns, by LAPACK with its own threads.

    LAPACK hears no Ctrl-C: it works in a thread of its own, which is left to end by itself.
    """
    found: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(np.linalg.eigh(matrix))
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.05)
    if failed:
        raise failed[0]
    values, vectors = found[0]
    return values, vectors


def _cholesky(
    covariance: NDArray[np.float64], ridge: float, threads: int
) -> NDArray[np.float64] | None:
    lower = covariance.copy()
    diagonal = np.diag_indices_from(lower)
    lower[diagonal] += ridge
    least = _SINGULAR_PIVOT * float(lower[diagonal].mean())
    if not _core.cholesky(lower, threads) or float(lower[diagonal].min()) ** 2 <= least:
        return None
    return lower


def triangular_projection(
    covariance: NDArray[np.float64], ridge: float, threads: int
) -> NDArray[np.float32] | None:
    """P = L^-T with covariance + ridge I = L L^T; None if that is not safely positive definite."""
    lower = _cholesky(covariance, ridge, threads)
    return None if lower is None else _core.invert_transposed(lower, threads)


def principal_projection(
    covariance: NDArray[np.float64], ridge: float, n_components: int | float
) -> tuple[NDArray[np.float32] | None, float]:
    """P = U (Lambda + ridge I)^-1/2 of the leading eigenvectors U, and their share of the variance.

    A whole number of them, or the fewest that keep a share of the variance. None as above.
    """
    dimensions = len(covariance)
    variance = float(np.trace(covariance))
    values, vectors = eigendecompose(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.cumsum(values) / variance
    count = n_components
    if not isinstance(count, int):
        count = min(int(np.searchsorted(kept, count)) + 1, dimensions)
    values, vectors, share = values[:count], vectors[:, :count], float(min(1.0, kept[count - 1]))
    if float(values[-1]) + ridge <= _SINGULAR_EIGENVALUE * (float(values[0]) + ridge):
        return None, share
    # An eigenvector's sign is arbitrary: its largest entry is made positive.
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(len(values))])
    projection = vectors * (signs / np.sqrt(values + ridge))
    return np.ascontiguousarray(projection, dtype=np.float32), share
