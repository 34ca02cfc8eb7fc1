"""Image folders: the folder that holds the frames is the sequence, the one above its category."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from cliquesim._files import PathLike
from cliquesim.corpus.boxes import read_boxes
from cliquesim.corpus.images import IMAGE_SUFFIXES, Box
from cliquesim.corpus.plan import (
    Plan,
    PlannedFrame,
    as_paths,
    frame_numbers,
    natural_key,
    shown,
)
from cliquesim.corpus.videos import VIDEO_SUFFIXES
from cliquesim.corpus.walk import visible_files
from cliquesim.errors import InputError


def plan_folders(paths: PathLike | Iterable[PathLike], boxes: PathLike | None) -> Plan:
    """Plan the frames of one image folder or of several; see `Corpus.from_folder`."""
    given = as_paths(paths)
    if not given:
        raise InputError("no folder of frames given")
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: no such folder")
        if not path.is_dir():
            raise InputError(f"{path}: is a file, expected a folder of frames")
    if len(given) == 1:
        return _plan_folder(given[0], boxes)
    _check_apart(given)
    plan = Plan(shown(given))
    for path in given:
        name = own_name(path)
        part = _plan_folder(path, boxes if boxes in (None, "auto") else Path(boxes) / name)
        for row in part.rows:
            inside = f"{name}/{row.name}"
            plan.rows.append(row._replace(name=inside, sequence=inside.rpartition("/")[0]))
        for rejected, reason in part.rejected:
            plan.reject(f"{name}/{rejected}", reason)
        plan.notes += [f"{path}: {note}" for note in part.notes]
    return plan


def own_name(folder: Path) -> str:
    """What a folder is called: by the path it is given as, or really, for "." and ".."."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def _check_apart(folders: list[Path]) -> None:
    """Refuse folders that share frames, or whose frames would share their names."""
    real: dict[Path, Path] = {}
    names: dict[str, Path] = {}
    for path in folders:
        first = real.setdefault(path.resolve(), path)
        if first is not path:
            raise InputError(f"{path}: is given twice" + (f", as {first}" * (first != path)))
        first = names.setdefault(own_name(path), path)
        if first is not path:
            raise InputError(
                f"{first} and {path} have the same name, and the names of their sequences start "
                "with it: rename one, or give a link to it that has another name"
            )
    for inside, path in real.items():
        for outside in inside.parents:
            if outside in real:
                raise InputError(f"{path}: lies inside {real[outside]}, which is given, too")


def _plan_folder(path: Path, boxes: PathLike | None) -> Plan:
    plan = Plan(str(path))
    scan = _Scan(path)
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
    """The image files below a folder, by folder relative to it, and how many others there are."""

    def __init__(self, root: Path) -> None:
        self.images: dict[str, list[str]] = {}
        self.n_ignored = 0
        self.n_videos = 0
        for folder, name in visible_files(root):
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                relative = folder.relative_to(root).as_posix()
                self.images.setdefault("" if relative == "." else relative, []).append(name)
                continue
            self.n_ignored += 1
            self.n_videos += suffix in VIDEO_SUFFIXES

    def hint(self) -> str:
        if self.n_videos:
            return f", but {self.n_videos} video files (Corpus.from_videos reads those)"
        return f" ({self.n_ignored} other files)" if self.n_ignored else ""


class _BoxFinder:
    """Where the boxes of a sequence are, if anywhere."""

    def __init__(self, root: Path, boxes: PathLike | None) -> None:
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
