"""Files that are either whole or absent: written to a temporary name, fsynced, renamed.

Open formats only: `.npy` without pickle, and JSON. Errors name the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.errors import InputError

PathLike = str | os.PathLike[str]

_BLOCK_BYTES = 1 << 22


@contextlib.contextmanager
def write_atomically(path: PathLike) -> Iterator[Path]:
    """Give a temporary name beside `path`; on leaving, fsync what lies there and rename it.

    The caller writes the temporary file in whatever way it likes. When the block raises, the
    temporary file goes away and a former `path` stays as it was. The parent folder is made.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with write_atomically(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because some writers choose the format by it.
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_array(path: PathLike, array: NDArray[Any]) -> None:
    """Write `array` as `.npy`; arrays of Python objects are refused."""
    if array.dtype.hasobject:
        raise InputError(f"{path}: an array of Python objects cannot be saved")
    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array(stream, array, allow_pickle=False)


def load_array(path: PathLike, mmap: bool = False) -> NDArray[Any]:
    """Read a `.npy` file; with `mmap` it stays on disk, read-only.

    Raises
    ------
    InputError
        The file is missing, truncated, no `.npy` file, or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        # A zip (.npz) or a pickle would otherwise be loaded or reported in another way.
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from error
    result: NDArray[Any] = array
    return result


def save_json(path: PathLike, value: Any) -> None:
    """Write indented JSON with sorted keys; NaN and inf become null (JSON has neither).

    NumPy numbers and arrays are written as plain numbers and lists, paths as strings.
    """
    text = json.dumps(_plain(value), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load_json(path: PathLike) -> Any:
    """Read JSON; InputError names the file when it is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error


def hash_file(path: PathLike) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def hash_array(array: NDArray[Any]) -> str:
    """SHA-256 of dtype, shape and values (in C order, read in blocks), as hex digits."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise InputError("an array of Python objects cannot be hashed")
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    rows = array.reshape(1) if array.ndim == 0 else array
    row_bytes = max(1, rows[:1].nbytes)
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(rows), step):
        digest.update(np.ascontiguousarray(rows[start : start + step]).view(np.uint8).data)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value as `save_json` would write it: for fingerprints of settings."""
    text = json.dumps(_plain(value), sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return os.fspath(value) if isinstance(value, os.PathLike) else value
