"""Image folders: the folder that holds the frames is the sequence, the one above its category."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cliquesim.corpus.boxes import read_boxes
from cliquesim.corpus.images import IMAGE_SUFFIXES, Box
from cliquesim.corpus.plan import Plan, PlannedFrame, frame_numbers, natural_key
from cliquesim.corpus.videos import VIDEO_SUFFIXES
from cliquesim.errors import InputError


def plan_folder(path: Path, boxes: Path | str | None) -> Plan:
    """Plan the frames of an image folder; see `Corpus.from_folder`."""
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    if not path.is_dir():
        raise InputError(f"{path}: is a file, expected a folder of frames")
    plan = Plan(str(path))
    scan = _Scan(path)
    scan.walk(path)
    if not scan.images:
        raise InputError(f"{path}: holds no images{scan.hint()}")
    if scan.n_ignored:
        plan.notes.append(f"{scan.n_ignored} files that are no images by their name were ignored")
    finder = _BoxFinder(path, boxes)
    for folder in sorted(scan.images, key=natural_key):
        _plan_sequence(plan, path, folder, sorted(scan.images[folder], key=natural_key), finder)
    finder.report(plan)
    return plan


def _plan_sequence(
    plan: Plan, root: Path, folder: str, names: list[str], finder: _BoxFinder
) -> None:
    sequence = folder or root.resolve().name
    category = folder.rpartition("/")[0]
    numbers = frame_numbers(names)
    boxes = finder.boxes_of(folder)
    for name, number in zip(names, numbers, strict=True):
        relative = f"{folder}/{name}" if folder else name
        file = root / relative
        reason = _unreadable(file, relative)
        if reason is None and boxes is not None and number not in boxes:
            reason = f"no box for frame index {number + 1} in {finder.file_of(folder)}"
        if reason is not None:
            shown = relative.encode("utf-8", "backslashreplace").decode()
            plan.reject(shown, reason)
            continue
        box = None if boxes is None else boxes[number]
        plan.rows.append(PlannedFrame(file, relative, sequence, category, number, box))


def _unreadable(file: Path, relative: str) -> str | None:
    try:
        relative.encode()
        mode = file.stat().st_mode
    except UnicodeEncodeError:
        return "the file name is not UTF-8"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "not a regular file"


class _Scan:
    """The image files below a folder, by folder relative to it. Every folder is seen once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: dict[str, list[str]] = {}
        self.n_ignored = 0
        self.n_videos = 0
        self._seen: set[tuple[int, int]] = set()

    def walk(self, top: Path) -> None:
        folders: list[Path] = [top]
        links: list[Path] = []
        while folders or links:
            # Links last: a folder that can be reached both ways keeps its own name.
            folder = folders.pop() if folders else links.pop()
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._seen:
                continue  # a link back into the tree, or a second way to the same folder
            self._seen.add((status.st_dev, status.st_ino))
            for found in self._list(folder):
                (links if found.is_symlink() else folders).append(found)

    def _list(self, folder: Path) -> list[Path]:
        folders = []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                    else:
                        self._take(folder, entry.name)
        except PermissionError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
        return folders

    def _take(self, folder: Path, name: str) -> None:
        suffix = Path(name).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            relative = folder.relative_to(self.root).as_posix()
            self.images.setdefault("" if relative == "." else relative, []).append(name)
            return
        self.n_ignored += 1
        self.n_videos += suffix in VIDEO_SUFFIXES

    def hint(self) -> str:
        if self.n_videos:
            return f", but {self.n_videos} video files (Corpus.from_videos reads those)"
        return f" ({self.n_ignored} other files)" if self.n_ignored else ""


class _BoxFinder:
    """Where the boxes of a sequence are, if anywhere."""

    def __init__(self, root: Path, boxes: Path | str | None) -> None:
        self.folder: Path | None = None
        self._n_sequences = 0
        self._automatic = boxes == "auto"
        if boxes is None:
            return
        if self._automatic:
            root = root.resolve()
            # The second one: `root` is a single category of the released layout.
            for candidate in (root.parent / "bboxes", root.parent.parent / "bboxes" / root.name):
                if candidate.is_dir():
                    self.folder = candidate
                    break
            return
        self.folder = Path(boxes)
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of boxes")

    def file_of(self, sequence: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{sequence}.bb"

    def boxes_of(self, sequence: str) -> dict[int, Box] | None:
        if self.folder is None:
            return None
        file = self.file_of(sequence)
        if not file.is_file():
            return None if self._automatic else {}
        self._n_sequences += 1
        return read_boxes(file)

    def report(self, plan: Plan) -> None:
        if self._n_sequences:
            n = len({row.sequence for row in plan.rows})
            plan.notes.append(
                f"frames of {self._n_sequences} of {n} sequences are cropped to the boxes "
                f"in {self.folder}"
            )
