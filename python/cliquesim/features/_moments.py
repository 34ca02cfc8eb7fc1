"""First and second moments of descriptors, and the covariances that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim.errors import InputError

Progress = Callable[[float], object] | None

_CHUNK_BYTES = 1 << 27
# A pivot this far below the mean eigenvalue is rounding error of float32 products.
_SINGULAR = 1e-9


def part(progress: Progress, begin: float, end: float) -> Progress:
    """A callback for the part of the work from `begin` to `end`, or None."""
    if progress is None:
        return None
    return lambda fraction: progress(begin + (end - begin) * fraction)


def float32_chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks of rows and their first row; NaN and inf are refused with the row named."""
    step = max(256, _CHUNK_BYTES // (4 * array.shape[1]))
    for start in range(0, len(array), step):
        with np.errstate(over="ignore"):  # float64 beyond float32's range is refused below
            chunk = np.ascontiguousarray(array[start : start + step], dtype=np.float32)
        finite = np.isfinite(chunk).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            kind = "NaN" if np.isnan(chunk[row]).any() else "an infinite value"
            raise InputError(f"X has {kind} in row {start + row}")
        yield start, chunk


class Moments:
    """Sums over rows about a fixed vector near the mean, where float32 products lose nothing."""

    def __init__(self, array: NDArray[Any]) -> None:
        _, first = next(float32_chunks(array[:1024]))
        self.n_rows = 0
        self._shift: NDArray[np.float32] = first.mean(axis=0, dtype=np.float64).astype(np.float32)
        dimensions = len(self._shift)
        self._sum = np.zeros(dimensions)
        self._scatter = np.zeros((dimensions, dimensions))

    def add(self, array: NDArray[Any], threads: int, progress: Progress) -> None:
        """Add the rows of (n, D). After an exception the moments are not usable."""
        for start, chunk in float32_chunks(array):
            report = part(progress, start / len(array), (start + len(chunk)) / len(array))
            _core.add_moments(chunk, self._shift, self._sum, self._scatter, threads, report)
        self.n_rows += len(array)

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
        if factorise(covariance, 0.0, threads) is None:
            eigenvalues, vectors = np.linalg.eigh(covariance)
            clipped = (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
            covariance = (clipped + clipped.T) / 2
        return mean, covariance


def factorise(
    covariance: NDArray[np.float64], ridge: float, threads: int
) -> NDArray[np.float32] | None:
    """L with covariance + ridge I = L L^T, or None if that is not safely positive definite."""
    lower = covariance.copy()
    diagonal = np.diag_indices_from(lower)
    lower[diagonal] += ridge
    least = _SINGULAR * float(lower[diagonal].mean())
    if not _core.cholesky(lower, threads) or float(lower[diagonal].min()) ** 2 <= least:
        return None
    return lower.astype(np.float32)
