"""Check frames that come as arrays, and number their sequences and categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_extent, as_groups
from cliquesim.errors import InputError


def checked_arrays(
    frames: ArrayLike,
    sequence: ArrayLike | None,
    frame: ArrayLike | None,
    category: ArrayLike | None,
    paths: Sequence[str] | None,
    extent: ArrayLike | None,
) -> dict[str, Any]:
    """The arguments of `Corpus` from those of `Corpus.from_arrays`."""
    pixels = np.asarray(frames)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InputError(
            "frames must be uint8 of shape (N, H, W, 3), "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    n = len(pixels)
    if pixels.size == 0:
        raise InputError(f"frames is empty: shape {pixels.shape}")
    categories, category_names = _numbered(category, n, "category", "")
    sequences, sequence_names = _numbered(sequence, n, "sequence", "0")
    numbers = _frame_numbers(sequences, len(sequence_names), frame)
    if paths is None:
        paths = [f"{sequence_names[s]}/{f}" for s, f in zip(sequences, numbers, strict=True)]
    elif len(paths) != n:
        raise InputError(f"paths must have {n} entries, got {len(paths)}")
    return {
        "frames": pixels,
        "sequence": sequences,
        "frame": numbers,
        "category": categories,
        "extent": as_extent(extent, n),
        "sequence_names": sequence_names,
        "category_names": category_names,
        "paths": paths,
    }


def _frame_numbers(
    sequences: NDArray[np.int64], n_sequences: int, frame: ArrayLike | None
) -> NDArray[np.int64]:
    n = len(sequences)
    starts = np.flatnonzero(np.diff(sequences, prepend=-1))
    if len(starts) != n_sequences:
        raise InputError("sequence: the frames of a sequence must be consecutive")
    given = as_groups(frame, n, "frame")
    if given is None:
        return np.arange(n) - np.repeat(starts, np.diff(starts, append=n))
    falls = (np.diff(given) <= 0) & (np.diff(sequences) == 0)
    if falls.any():
        row = int(np.argmax(falls)) + 1
        raise InputError(f"frame must rise within a sequence, but does not in row {row}")
    return given


def _numbered(
    values: ArrayLike | None, n: int, name: str, default: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels as indices in order of appearance, and their names."""
    if values is None:
        return np.zeros(n, dtype=np.int64), [default]
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "iuU":
        raise InputError(
            f"{name} must be {n} integers or strings, got {array.dtype} of shape {array.shape}"
        )
    names = {value: i for i, value in enumerate(dict.fromkeys(array.tolist()))}
    indices = np.array([names[value] for value in array.tolist()], dtype=np.int64)
    return indices, [str(value) for value in names]
