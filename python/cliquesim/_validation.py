"""Checks that every stage shares, so that bad input reads the same everywhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim.errors import InputError


def as_matrix(
    values: ArrayLike, name: str, dtype: type[np.floating[Any]] = np.float32, ndim: int = 2
) -> NDArray[Any]:
    """C-contiguous array of `dtype`; other number types are converted, NaN and inf are refused."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    if array.ndim != ndim:
        raise InputError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    array = np.ascontiguousarray(array, dtype=dtype)
    check_finite(array, name)
    return array


def check_finite(array: NDArray[Any], name: str) -> None:
    """Raise InputError that names the first row with a NaN or an inf.

    Reads in blocks, so that a memory-mapped array never needs a second copy.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    rows = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(-1, 1)
    block = max(1, (1 << 24) // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], block):
        finite = np.isfinite(rows[start : start + block]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            kind = "NaN" if np.isnan(rows[row]).any() else "an infinite value"
            raise InputError(f"{name} has {kind} in row {row}")


def as_groups(groups: Any, n: int, name: str = "groups") -> NDArray[np.int64] | None:
    """Integer label per row (for example its sequence), or None; of arrays and tensors."""
    if groups is None:
        return None
    array = np.asarray(groups.cpu() if getattr(groups, "is_cuda", False) else groups)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers, got dtype {array.dtype}")
    if array.shape != (n,):
        raise InputError(f"{name} must have shape ({n},), got {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int64)


def as_count(value: int, name: str, minimum: int = 0) -> int:
    """An integer of at least `minimum`; bools and fractions are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise InputError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def as_real(
    value: float, name: str, minimum: float = -math.inf, maximum: float = math.inf
) -> float:
    """A finite number within [minimum, maximum]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise InputError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or not minimum <= value <= maximum:
        raise InputError(f"{name} must be in [{minimum:g}, {maximum:g}], got {value}")
    return float(value)


def as_choice(value: str, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def as_threads(num_threads: int | None) -> int:
    """Thread count for the kernels; 0 stands for all processors of this process."""
    return 0 if num_threads is None else as_count(num_threads, "num_threads", minimum=1)


def as_extent(extent: ArrayLike | None, n: int) -> NDArray[np.float32]:
    """Checked shares (n, 2) of the frames' sides; None stands for whole frames."""
    if extent is None:
        return np.ones((n, 2), np.float32)
    array = np.asarray(extent, np.float32)
    if array.shape != (n, 2):
        raise InputError(f"extent must have shape ({n}, 2), got {array.shape}")
    bad = ~((array > 0) & (array <= 1)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"extent must be in (0, 1], got {array[row].tolist()} in row {row}")
    return array


def condensed_observations(size: int) -> int:
    """n, of n (n - 1) / 2 distances."""
    n = (1 + math.isqrt(1 + 8 * size)) // 2
    if n * (n - 1) // 2 != size:
        raise InputError(
            f"y has {size} entries, which is not n (n - 1) / 2 for any number n of observations"
        )
    return n


def as_output(out: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """`out` as an array, if a kernel can write float32 of this shape there."""
    array: NDArray[Any] = np.asarray(out)
    if array.dtype != np.float32 or array.shape != shape:
        raise InputError(
            f"out must be float32 with shape {shape}, got {array.dtype} with shape {array.shape}"
        )
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise InputError("out must be C-contiguous and writeable")
    return array
