"""Video files through PyAV (extra `video`): frames in decoding order, numbered from 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import PathLike
from cliquesim.corpus.images import IMAGE_SUFFIXES
from cliquesim.corpus.plan import Plan, as_paths, natural_key, shown
from cliquesim.corpus.walk import visible_files
from cliquesim.errors import InputError, MissingExtraError

VIDEO_SUFFIXES = frozenset(
    (
        ".avi",
        ".mp4",
        ".m4v",
        ".mkv",
        ".mov",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ts",
        ".mts",
        ".ogv",
        ".3gp",
    )
)

# A container's own count of frames is trusted up to this share, and its duration to a second.
_COUNT_TOLERANCE = 0.02


class VideoSource(NamedTuple):
    """A video file, its name in `Corpus.paths`, and the name of its sequence."""

    file: Path
    name: str
    sequence: str


class VideoError(Exception):
    """A file that cannot be decoded as a video at all; the text is the reason."""


class Video:
    """One open video file: iterate `frames()` once; afterwards `shortfall()` says what is wrong."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container = container
        self._stream = stream
        self._error: str | None = None
        self.n_decoded = 0
        self.n_announced = _announced_frames(container, stream)

    def frames(self) -> Iterator[tuple[int, NDArray[np.uint8] | Any]]:
        """Yield (frame number, decoded frame) up to the end or to the first damaged packet.

        Behind it frame numbers would be unsure, and decoders conceal what they lack.
        """
        for frame in self._decode():
            yield self.n_decoded, frame
            self.n_decoded += 1

    def _decode(self) -> Iterator[Any]:
        import av

        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    self._error = "a packet is cut off or damaged"
                    yield from self._stream.decode(None)  # what the decoder still holds
                    return
                yield from packet.decode()
        except (av.error.FFmpegError, ValueError) as error:
            self._error = str(getattr(error, "strerror", None) or error)

    def shortfall(self) -> str | None:
        """Why the video has fewer frames than its header says, or None."""
        count = f"{self.n_decoded} frames could be decoded"
        if self._error is not None:
            return f"damaged after {count} ({self._error})"
        missing = self.n_announced - self.n_decoded
        if missing > max(1.0, _COUNT_TOLERANCE * self.n_announced):
            return f"ends early: {count}, its header announces {self.n_announced}"
        return None


@contextmanager
def open_video(path: Path, num_threads: int = 1) -> Iterator[Video]:
    """Open a video file; VideoError says why it is none."""
    av = require_av()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"not a readable video ({reason})") from error
    with container:
        if not container.streams.video:
            raise VideoError("has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        yield Video(container, stream)


def require_av() -> Any:
    """The module `av`, or the error that says which extra brings it."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video", "Reading video files") from error
    return av


def plan_videos(paths: PathLike | Iterable[PathLike]) -> tuple[Plan, list[VideoSource]]:
    """The video files to read, in order, each with a name that no other has.

    A folder stands for the video files below it. The name is the file's stem where that is
    unique, else its name, else its path.
    """
    given = as_paths(paths)
    files: list[Path] = []
    for path in given:
        files += _videos_below(path) if path.is_dir() else [path]
    if not files:
        raise InputError("no video files given")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    if len(set(files)) != len(files):
        twice = next(file for file, count in Counter(files).items() if count > 1)
        raise InputError(f"{twice}: is given twice")
    plan = Plan(shown(given))
    plan.n_videos = len(files)
    stems, names = Counter(file.stem for file in files), Counter(file.name for file in files)
    sources = []
    for file in files:
        name = file.name if names[file.name] == 1 else file.as_posix()
        sources.append(VideoSource(file, name, file.stem if stems[file.stem] == 1 else name))
    return plan, sources


def holds_videos(folder: Path) -> bool:
    """Whether a folder stands for the videos below it, not for frames.

    It has videos and no images; or both, and no sub-folders: the images are previews then.
    """
    videos = images = below = False
    for place, name in visible_files(folder):
        suffix = Path(name).suffix.lower()
        videos |= suffix in VIDEO_SUFFIXES
        images |= suffix in IMAGE_SUFFIXES
        below |= place != folder
        if images and below:
            return False
    return videos


def _videos_below(folder: Path) -> list[Path]:
    paths = (place / name for place, name in visible_files(folder))
    found = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not found:
        raise InputError(f"{folder}: holds no video files")
    return sorted(found, key=lambda path: natural_key(path.as_posix()))


def rgb(frame: Any) -> NDArray[np.uint8]:
    """Pixels of a decoded frame, (H, W, 3)."""
    array: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return array


def _announced_frames(container: Any, stream: Any) -> int:
    """Frames that the header announces; 0 when it does not say."""
    if stream.frames:
        return int(stream.frames)
    rate = stream.average_rate
    if stream.duration and rate:
        return max(0, int((float(stream.duration * stream.time_base) - 1.0) * float(rate)))
    # The container's duration is that of its longest stream, so it counts only when alone.
    if container.duration and rate and len(container.streams) == 1:
        return max(0, int((container.duration / 1e6 - 1.0) * float(rate)))
    return 0
