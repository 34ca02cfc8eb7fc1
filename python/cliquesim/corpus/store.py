"""A corpus on disk: frames.npy (memory-mapped), frames.csv (one row a frame), corpus.json.

corpus.json is written last and names the hash of the frames, so a folder without it, or that
disagrees with it, is unfinished or damaged and counts as no corpus.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cliquesim import _files
from cliquesim.errors import InputError

FORMAT = 2
FRAMES, TABLE, HEADER = "frames.npy", "frames.csv", "corpus.json"
_PARTIAL = "frames.npy.partial"
_COLUMNS = ["path", "sequence", "frame", "category", "extent_x", "extent_y"]


class Stored(NamedTuple):
    """What a folder holds."""

    frames: NDArray[np.uint8]
    paths: list[str]
    sequence: NDArray[np.int64]
    frame: NDArray[np.int64]
    category: NDArray[np.int64]
    extent: NDArray[np.float32]
    header: dict[str, Any]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One builder at a time in `folder`; the lock goes with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class FrameWriter:
    """Writes equally sized frames into a `.npy` file at any row, in bounded memory."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._target = folder / FRAMES
        self._partial = folder / _PARTIAL
        self._shape = (*size, 3)
        self._frame_bytes = size[0] * size[1] * 3
        # Without its header the old frames, if any, are void from here on.
        (folder / HEADER).unlink(missing_ok=True)
        self._stream = self._partial.open("w+b")
        self._offset = len(self._header(0))
        self.n_put = 0

    def put(self, row: int, frame: NDArray[np.uint8]) -> None:
        """Store a frame at `row`."""
        self._stream.seek(self._offset + row * self._frame_bytes)
        self._stream.write(np.ascontiguousarray(frame).data)
        self.n_put += 1

    def finish(self, keep: NDArray[np.bool_]) -> None:
        """Close the gaps of the rows not to keep, write the header, rename."""
        kept = np.flatnonzero(keep)
        for new, old in enumerate(kept.tolist()):
            if new != old:
                self._stream.seek(self._offset + old * self._frame_bytes)
                frame = self._stream.read(self._frame_bytes)
                self._stream.seek(self._offset + new * self._frame_bytes)
                self._stream.write(frame)
        self._stream.truncate(self._offset + len(kept) * self._frame_bytes)
        self._stream.seek(0)
        self._stream.write(self._header(len(kept)))
        self._stream.flush()
        _files.sync(self._partial)
        self._partial.replace(self._target)
        self.close()

    def close(self) -> None:
        """Drop what is unfinished."""
        self._stream.close()
        self._partial.unlink(missing_ok=True)

    def _header(self, n: int) -> bytes:
        # NumPy pads the header so that the number of rows can grow in place.
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (n, *self._shape)}
        )
        return stream.getvalue()


def write_table(
    folder: Path,
    paths: list[str],
    sequence: NDArray[np.int64],
    frame: NDArray[np.int64],
    category: NDArray[np.int64],
    extent: NDArray[np.float32],
    header: dict[str, Any],
    frames_hash: str | None = None,
) -> None:
    """Write frames.csv and, last, corpus.json for the frames that are in `folder` already.

    `frames_hash` is theirs, where it is known.
    """
    sequences, categories = header["sequence_names"], header["category_names"]
    with (
        _files.write_atomically(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for row in zip(
            paths,
            sequence.tolist(),
            frame.tolist(),
            category.tolist(),
            extent.astype(str).tolist(),  # the shortest text that gives the same float32
            strict=True,
        ):
            writer.writerow([row[0], sequences[row[1]], row[2], categories[row[3]], *row[4]])
    status = (folder / FRAMES).stat()
    if frames_hash is None:
        frames_hash = _files.hash_array(_files.load_array(folder / FRAMES, mmap=True))
    frames = {
        "sha256": frames_hash,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    files = {FRAMES: frames, TABLE: {"sha256": _files.hash_file(folder / TABLE)}}
    _files.save_json(folder / HEADER, {**header, "format": FORMAT, "files": files})


def read(folder: Path, verify: bool = False) -> Stored:
    """Open the corpus in `folder`; InputError names the file that is missing or damaged.

    The frames are hashed only with `verify`, or when the file's date says that it was touched.
    """
    header = _files.load_json(folder / HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise InputError(f"{folder / HEADER}: expected corpus format {FORMAT}, got {found!r}")
    try:
        return _read(folder, header, verify)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        OSError,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        raise InputError(f"{folder}: damaged corpus ({error!r})") from error


def _read(folder: Path, header: dict[str, Any], verify: bool) -> Stored:
    files = header["files"]
    frames = _files.load_array(folder / FRAMES, mmap=True)
    status = (folder / FRAMES).stat()
    touched = status.st_mtime_ns != files[FRAMES]["mtime_ns"]
    if (
        status.st_size != files[FRAMES]["bytes"]
        or frames.dtype != np.uint8
        or ((verify or touched) and _files.hash_array(frames) != files[FRAMES]["sha256"])
    ):
        raise InputError(f"{folder / FRAMES}: differs from what was written")
    if _files.hash_file(folder / TABLE) != files[TABLE]["sha256"]:
        raise InputError(f"{folder / TABLE}: differs from what was written")
    with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    if len(rows) != len(frames):
        raise InputError(f"{folder / TABLE}: {len(rows)} rows for {len(frames)} frames")
    sequences = {name: i for i, name in enumerate(header["sequence_names"])}
    categories = {name: i for i, name in enumerate(header["category_names"])}
    return Stored(
        frames,
        [row[0] for row in rows],
        np.array([sequences[row[1]] for row in rows], dtype=np.int64),
        np.array([int(row[2]) for row in rows], dtype=np.int64),
        np.array([categories[row[3]] for row in rows], dtype=np.int64),
        np.array([row[4:6] for row in rows], dtype=np.float32),
        header,
    )
