"""Memory-mapped arrays that are read or written once, front to back."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether `array` is a view of a file that other processes may see: not copy-on-write."""
    owner = _owner(array)
    return owner is not None and owner.mode != "c"


def release(array: NDArray[Any]) -> None:
    """Take the whole pages that a view spans out of this process's memory.

    What was written stays: the pages belong to the file, and the system writes them back in its own
    time. Without this a pass over a large file seems to need as much memory as the file is long.
    Nothing happens for arrays that are not mapped, and where the system has no madvise.
    """
    owner = _owner(array)
    if owner is None or owner.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    pages: mmap.mmap = owner._mmap  # type: ignore[attr-defined]
    first = np.frombuffer(pages, np.uint8, 1).__array_interface__["data"][0]
    low, high = (bound - first for bound in _bounds(array))
    page = mmap.PAGESIZE
    start, stop = -(-low // page) * page, high // page * page
    if start < stop:
        pages.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _bounds(array: NDArray[Any]) -> tuple[int, int]:
    """Addresses of the first byte and behind the last, whatever the strides."""
    low = high = int(array.__array_interface__["data"][0])
    for length, stride in zip(array.shape, array.strides, strict=True):
        if length == 0:
            return low, low
        low += min(0, (length - 1) * stride)
        high += max(0, (length - 1) * stride)
    return low, high + array.itemsize


def _owner(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and getattr(owner, "_mmap", None) is not None:
            return owner
        owner = owner.base
    return None
