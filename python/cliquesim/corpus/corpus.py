"""The corpus: frames of one size, and which sequence, category and moment each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._files import PathLike, hash_array, hash_json, save_array
from cliquesim._validation import as_count
from cliquesim.corpus import store
from cliquesim.corpus.arrays import checked_arrays
from cliquesim.corpus.build import BuildOptions, Built, Progress, build_planned, build_videos
from cliquesim.corpus.folder import plan_folders
from cliquesim.corpus.manifest import plan_manifest
from cliquesim.corpus.videos import plan_videos
from cliquesim.errors import InputError


class Corpus:
    """Frames of one size with the sequence, the category and the moment of each.

    Make one with `from_folder`, `from_videos`, `from_manifest`, `from_arrays` or `load`.

    Attributes
    ----------
    frames : uint8 (N, H, W, 3)
        RGB pixels; memory-mapped and read-only when the corpus lies on disk.
    sequence : int64 (N,)
        Index into `sequence_names`. The frames of a sequence are consecutive, in order of time.
    frame : int64 (N,)
        Number of the frame in its sequence: from the file name, or of the decoded video frame.
    category : int64 (N,)
        Index into `category_names`; all 0, and the one name "", when there are no categories.
    extent : float32 (N, 2)
        Shares of the frame's width and height that the subject's box takes, about the frame's
        centre; 1 where there was no box. What lies outside is surroundings.
    sequence_names, category_names : list of str
        A sequence's name includes its category: "walk/clip07".
    paths : list of str
        Path of each frame relative to the folder (of several: with the folder's name before it);
        "video.avi#12" for a frame of a video.
    rejected : list of (str, str)
        What was left out, and why.
    notes : list of str
        What was decided on the way (boxes found, files ignored).
    folder : pathlib.Path or None
        Where it lies on disk.
    """

    def __init__(
        self,
        frames: NDArray[np.uint8],
        sequence: NDArray[np.int64],
        frame: NDArray[np.int64],
        category: NDArray[np.int64],
        extent: NDArray[np.float32],
        sequence_names: Sequence[str],
        category_names: Sequence[str],
        paths: Sequence[str],
        rejected: Iterable[tuple[str, str]] = (),
        notes: Iterable[str] = (),
        folder: Path | None = None,
    ) -> None:
        self.frames = frames
        self.sequence = sequence
        self.frame = frame
        self.category = category
        self.extent = extent
        self.sequence_names = list(sequence_names)
        self.category_names = list(category_names)
        self.paths = list(paths)
        self.rejected = [(str(path), str(reason)) for path, reason in rejected]
        self.notes = list(notes)
        self.folder = folder
        self._frames_hash: str | None = None
        self._keeper: Any = None

    @classmethod
    def from_folder(
        cls,
        path: PathLike | Iterable[PathLike],
        size: tuple[int, int] = (96, 96),
        *,
        boxes: PathLike | None = "auto",
        box_scale: float = 1.1,
        fit: str = "crop",
        cache: PathLike | None = None,
        max_rejected: float = 0.05,
        num_workers: int | None = None,
        progress: Progress | None = None,
    ) -> Corpus:
        """Read a folder of images, or several as if they stood side by side.

        The folder that holds the frames is their sequence, the one above it (below `path`) its
        category, if there is one. Names are sorted naturally (frame2 before frame10). Hidden
        files are skipped, files that are no images by their name too; links are followed, every
        folder once. A file that cannot be decoded is left out and listed in `rejected`.

        Parameters
        ----------
        path : path or iterable of paths
            The folder. Of several, in the order given, the names of sequences and frames start
            with the folder's own name; categories of the same name are one.
        size : (int, int)
            Height and width of the frames in pixels.
        boxes : "auto", None or path
            Folder with `CATEGORY/SEQUENCE.bb` (`cliquesim.datasets.olympic_sports`); "auto" takes
            `path/../bboxes` where that is there, and says so in `notes`; None takes whole frames.
            Of several folders "auto" looks beside each; in a folder of boxes each has its own,
            `FOLDER/CATEGORY/SEQUENCE.bb`.
        box_scale : float
            The crop is this many times the longer side of the box, about its centre; outside the
            picture the edge pixels are repeated. Boxes refer to the picture turned upright.
        fit : "crop" or "pad"
            Without a box: the largest centred part of the right aspect, or the whole frame with
            repeated edge pixels.
        cache : path, optional
            Folder to keep the decoded frames in. They are used again while the files' names,
            sizes and dates and the settings are the same. By default a temporary folder.
        max_rejected : float
            Largest share of frames that may be left out.
        num_workers : int, optional
            Decoding threads; by default one per processor.
        progress : callable, optional
            Called with the finished share, from 0 to 1.

        Raises
        ------
        InputError
            No such folder, no images in it, a malformed box file (named with its line), or more
            unreadable frames than `max_rejected` (the first ones are listed); a folder that is
            given twice, lies inside another, or has the name of another.

        Examples
        --------
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp()) / "walk" / "clip"
        >>> folder.mkdir(parents=True)
        >>> for i in range(3):
        ...     Image.new("RGB", (64, 48)).save(folder / f"{i}.png")
        >>> Corpus.from_folder(folder.parent.parent, size=(32, 32))
        Corpus(3 frames of 32 x 32, 1 sequences, 1 categories)
        """
        options = BuildOptions.checked(
            size, box_scale, fit, cache, max_rejected, num_workers, progress
        )
        return cls._from_built(build_planned(plan_folders(path, boxes), options))

    @classmethod
    def from_videos(
        cls,
        paths: PathLike | Iterable[PathLike],
        every: int = 1,
        boxes: PathLike | None = None,
        size: tuple[int, int] = (96, 96),
        *,
        box_scale: float = 1.1,
        fit: str = "crop",
        cache: PathLike | None = None,
        max_rejected: float = 0.05,
        num_workers: int | None = None,
        progress: Progress | None = None,
    ) -> Corpus:
        """Read video files through PyAV (extra `video`); every video is a sequence.

        Of a video that ends early the frames up to there are taken and the video is listed in
        `rejected`. A file that is no video is left out and counts against `max_rejected`, as a
        share of the videos. A rotation that the container asks for is not applied.

        Parameters
        ----------
        paths : path or iterable of paths
            Video files; a folder stands for all video files below it.
        every : int
            Take the decoded frames 0, every, 2 every, ...
        boxes : path, optional
            Folder with `VIDEO_STEM.bb` (rows as in `from_folder`; frame index 1 is the first
            decoded frame). Frames without a row are left out.
        size, box_scale, fit, cache, max_rejected, num_workers, progress
            As in `from_folder`.

        Raises
        ------
        InputError
            A missing file, a file given twice, no frames at all, a malformed box file.
        MissingExtraError
            PyAV is not installed.

        Examples
        --------
        >>> Corpus.from_videos(["a.mp4", "b.mp4"], every=5)  # doctest: +SKIP
        Corpus(412 frames of 96 x 96, 2 sequences)
        """
        every = as_count(every, "every", minimum=1)
        options = BuildOptions.checked(
            size, box_scale, fit, cache, max_rejected, num_workers, progress
        )
        plan, videos = plan_videos(paths)
        return cls._from_built(
            build_videos(plan, videos, None if boxes is None else Path(boxes), every, options)
        )

    @classmethod
    def from_manifest(
        cls,
        file: PathLike,
        root: PathLike = ".",
        size: tuple[int, int] = (96, 96),
        *,
        box_scale: float = 1.1,
        fit: str = "crop",
        cache: PathLike | None = None,
        max_rejected: float = 0.05,
        num_workers: int | None = None,
        progress: Progress | None = None,
    ) -> Corpus:
        """Read the frames that a table names: images, or frames of videos, with or without boxes.

        Parameters
        ----------
        file : path
            CSV, or Parquet by its suffix (extra `parquet`), with the columns `path`, `sequence`,
            `frame` and optionally `category`, `xmin`, `ymin`, `xmax`, `ymax` (0-based half-open
            pixels; blank for the whole frame). For a video `frame` is the 0-based number of the
            decoded frame; each video is decoded once, however many rows name it. Rows are
            sorted by sequence (in order of appearance) and frame if they are not already.
        root : path
            Folder that `path` is relative to.
        size, box_scale, fit, cache, max_rejected, num_workers, progress
            As in `from_folder`.

        Raises
        ------
        InputError
            Missing columns; a malformed row, a frame that is there twice, a missing video (the
            line is named); more unreadable frames than `max_rejected`.
        MissingExtraError
            PyAV or pyarrow is needed and not installed.

        Examples
        --------
        >>> Corpus.from_manifest("tracks.csv", root="videos", size=(128, 64))  # doctest: +SKIP
        Corpus(4167 frames of 128 x 64, 43 sequences)
        """
        options = BuildOptions.checked(
            size, box_scale, fit, cache, max_rejected, num_workers, progress
        )
        plan = plan_manifest(Path(file), Path(root))
        return cls._from_built(build_planned(plan, options))

    @classmethod
    def from_arrays(
        cls,
        frames: ArrayLike,
        sequence: ArrayLike | None = None,
        frame: ArrayLike | None = None,
        category: ArrayLike | None = None,
        paths: Sequence[str] | None = None,
        extent: ArrayLike | None = None,
    ) -> Corpus:
        """Take frames that are in memory (or memory-mapped) already.

        Parameters
        ----------
        frames : uint8 (N, H, W, 3)
            RGB pixels; not copied.
        sequence : (N,) of int or str, optional
            Sequence of each frame; by default all frames are one sequence. The frames of a
            sequence must be consecutive.
        frame : (N,) of int, optional
            Rising within each sequence; by default 0, 1, 2, ... in each.
        category : (N,) of int or str, optional
            Category of each frame.
        paths : N strings, optional
            Names of the frames; by default "SEQUENCE/FRAME".
        extent : (N, 2) of float in (0, 1], optional
            Shares of the frame's width and height that the subject takes, about its centre; by
            default all of it.

        Examples
        --------
        >>> Corpus.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), sequence=["a", "a", "b", "b"])
        Corpus(4 frames of 8 x 8, 2 sequences)
        """
        return cls(**checked_arrays(frames, sequence, frame, category, paths, extent))

    @classmethod
    def load(cls, folder: PathLike, verify: bool = False) -> Corpus:
        """Open a corpus that `save` or a `cache` left in `folder`, without its source files.

        Raises InputError when it is missing, unfinished, damaged (`verify` reads every pixel to
        find out) or of another format version.
        """
        return cls._from_built(Built(store.read(Path(folder), verify), Path(folder), None))

    def save(self, folder: PathLike) -> None:
        """Write frames.npy, frames.csv and corpus.json into `folder`."""
        folder = Path(folder)
        header = {
            "inputs": None,
            "sequence_names": self.sequence_names,
            "category_names": self.category_names,
            "rejected": self.rejected,
            "notes": self.notes,
        }
        with store.locked(folder):
            (folder / store.HEADER).unlink(missing_ok=True)
            save_array(folder / store.FRAMES, self.frames)
            labels = (self.sequence, self.frame, self.category, self.extent)
            store.write_table(folder, self.paths, *labels, header, self._frames_hash)

    @classmethod
    def _from_built(cls, built: Built) -> Corpus:
        stored, folder, keeper = built
        header = stored.header
        corpus = cls(
            stored.frames,
            stored.sequence,
            stored.frame,
            stored.category,
            stored.extent,
            header["sequence_names"],
            header["category_names"],
            stored.paths,
            header["rejected"],
            header["notes"],
            folder,
        )
        corpus._frames_hash = header["files"][store.FRAMES]["sha256"]
        corpus._keeper = keeper
        return corpus

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, indices: Any) -> NDArray[np.uint8]:
        """Pixels of the given rows."""
        return np.asarray(self.frames[indices])

    def __repr__(self) -> str:
        n, height, width, _ = self.frames.shape
        parts = [f"{n} frames of {height} x {width}", f"{self.n_sequences} sequences"]
        if self.has_categories:
            parts.append(f"{len(np.unique(self.category))} categories")
        if self.rejected:
            parts.append(f"{len(self.rejected)} rejected")
        return f"Corpus({', '.join(parts)})"

    @property
    def n_sequences(self) -> int:
        """Number of sequences that have a frame here."""
        return len(np.unique(self.sequence))

    @property
    def has_categories(self) -> bool:
        """Whether the frames are divided into categories."""
        return self.category_names != [""]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over pixels, sequences, frame numbers, categories, extents and names."""
        if self._frames_hash is None:
            self._frames_hash = hash_array(self.frames)
        labels = (self.sequence, self.frame, self.category, self.extent)
        arrays = [hash_array(a) for a in labels]
        names = [self.sequence_names, self.category_names, self.paths]
        return hash_json([self._frames_hash, arrays, names])

    def subset(self, rows: ArrayLike) -> Corpus:
        """The corpus of some rows, given as a mask (N,) or as rising indices.

        Sequence and category keep their indices and names. A run of consecutive rows is a view;
        other rows are copied into memory.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise InputError(f"mask must have shape ({len(self)},), got {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise InputError("subset takes a mask or a list of row indices")
        if len(chosen) == 0:
            raise InputError("subset: no rows chosen")
        if (np.diff(chosen) <= 0).any() or chosen[0] < 0 or chosen[-1] >= len(self):
            raise InputError(f"subset: indices must rise and lie in [0, {len(self)})")
        first, last = int(chosen[0]), int(chosen[-1])
        where: Any = slice(first, last + 1) if last - first + 1 == len(chosen) else chosen
        part = Corpus(
            self.frames[where],
            self.sequence[where],
            self.frame[where],
            self.category[where],
            self.extent[where],
            self.sequence_names,
            self.category_names,
            [self.paths[row] for row in chosen.tolist()],
            self.rejected,
            self.notes,
        )
        part._keeper = self._keeper
        return part
