"""What the command line is given, as a corpus: folders, videos, a manifest, or single pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliquesim._files import PathLike
from cliquesim.corpus.corpus import Corpus
from cliquesim.corpus.images import Box, CropRule, crop, open_picture
from cliquesim.corpus.videos import holds_videos
from cliquesim.errors import InputError


def open_corpus(
    sources: Sequence[PathLike],
    *,
    manifest: PathLike | None = None,
    root: PathLike | None = None,
    boxes: PathLike | None = "auto",
    every: int = 1,
    **options: Any,
) -> Corpus:
    """The corpus of image folders, of video files and folders of videos, or of a manifest.

    `options` are those that all constructors of `Corpus` share. The paths of a manifest start from
    `root`, by default the manifest's own folder.

    Raises
    ------
    InputError
        A source that is not there, or image folders and videos together.
    """
    if manifest is not None:
        start = Path(manifest).parent if root is None else root
        return Corpus.from_manifest(manifest, root=start, **options)
    if root is not None:
        raise InputError("root goes with a manifest only")
    paths = [Path(source) for source in sources]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    frames = [path for path in paths if path.is_dir() and not holds_videos(path)]
    if not frames:
        own = None if boxes == "auto" else boxes  # only frames have a place to look for them
        return Corpus.from_videos(paths, boxes=own, every=every, **options)
    others = [path for path in paths if path not in frames]
    if others:
        raise InputError(
            f"{frames[0]} is a folder of frames, but {others[0]} is "
            f"{'a folder of videos' if others[0].is_dir() else 'a file'}: give one kind only, or "
            "list the frames of both in a manifest (--manifest)"
        )
    return Corpus.from_folder(frames, boxes=boxes, **options)


def open_pictures(
    paths: Sequence[PathLike],
    size: tuple[int, int],
    box_scale: float,
    box: tuple[float, float, float, float] | None = None,
    progress: Callable[[float], object] | None = None,
) -> Corpus:
    """Single picture files as a corpus of one sequence, each cropped to `box` or whole.

    `box` is xmin, ymin, xmax, ymax in pixels. InputError names a file that cannot be used.
    """
    rule = CropRule(size, box_scale, "crop")
    region = None if box is None else Box(*box)
    frames = np.empty((len(paths), *size, 3), np.uint8)
    for row, path in enumerate(map(Path, paths)):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            frames[row] = crop(open_picture(path, [region], rule), region, rule)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: not a usable picture ({error})") from error
        if progress is not None:
            progress((row + 1) / len(paths))
    return Corpus.from_arrays(
        frames,
        paths=[str(path) for path in paths],
        extent=[rule.extent(region)] * len(paths),
    )
