"""Decode the planned frames on several threads into the store, keeping count of the failures."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import PathLike, hash_json
from cliquesim._validation import as_choice, as_count, as_real
from cliquesim.corpus import store
from cliquesim.corpus.boxes import read_boxes
from cliquesim.corpus.images import Box, CropRule
from cliquesim.corpus.jobs import Job, planned_jobs, run_in_order, whole_video_jobs
from cliquesim.corpus.plan import Plan, PlannedFrame
from cliquesim.corpus.videos import VIDEO_SUFFIXES, VideoSource, require_av
from cliquesim.errors import InputError

Progress = Callable[[float], object]

_MAX_WORKERS = 32
_MAX_SIDE = 4096
_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class BuildOptions:
    """What all constructors share."""

    rule: CropRule
    max_rejected: float
    num_workers: int
    cache: Path | None
    progress: Progress | None

    @classmethod
    def checked(
        cls,
        size: tuple[int, int],
        box_scale: float,
        fit: str,
        cache: PathLike | None,
        max_rejected: float,
        num_workers: int | None,
        progress: Progress | None,
    ) -> BuildOptions:
        """Options from a constructor's arguments; InputError names the wrong one."""
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise InputError(f"size must be (height, width), got {size!r}")
        height, width = (as_count(side, "size", minimum=1) for side in size)
        if max(height, width) > _MAX_SIDE:
            raise InputError(f"size must be at most {_MAX_SIDE} pixels a side, got {size}")
        rule = CropRule(
            (height, width),
            as_real(box_scale, "box_scale", 0.1, 10.0),
            as_choice(fit, "fit", ("crop", "pad")),
        )
        if num_workers is None:
            num_workers = min(_MAX_WORKERS, len(os.sched_getaffinity(0)))
        return cls(
            rule,
            as_real(max_rejected, "max_rejected", 0.0, 1.0),
            as_count(num_workers, "num_workers", minimum=1),
            None if cache is None else Path(cache),
            progress,
        )


class TemporaryFolder:
    """A folder that goes when the last corpus over it is gone, or the interpreter ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="cliquesim-corpus-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Built(NamedTuple):
    """A stored corpus, its folder, and what must live as long as a temporary folder."""

    stored: store.Stored
    folder: Path
    keeper: TemporaryFolder | None


def open_or_build(
    plan: Plan, jobs: Callable[[], Iterable[Job]], inputs: Any, options: BuildOptions
) -> Built:
    """Reuse the cached corpus of the same inputs and settings, or decode it.

    `inputs` is anything JSON can hold that changes when a file changes. A damaged cache is built
    again, and a note says so.
    """
    key = hash_json([store.FORMAT, inputs, options.rule._asdict()])
    if options.cache is None:
        keeper = TemporaryFolder()
        folder = keeper.path
    else:
        keeper, folder = None, options.cache
    with store.locked(folder):
        stored = _reusable(folder, key, plan)
        if stored is None:
            _build(plan, folder, jobs(), key, options)
            stored = store.read(folder)
    return Built(stored, folder, keeper)


def build_planned(plan: Plan, options: BuildOptions) -> Built:
    """`open_or_build` for a plan whose rows are all known."""
    if any(row.file.suffix.lower() in VIDEO_SUFFIXES for row in plan.rows):
        require_av()
    states = {row.file: file_state(row.file) for row in plan.rows}
    rows = [[row.name, row.sequence, row.category, row.frame, row.box] for row in plan.rows]
    return open_or_build(
        plan,
        lambda: planned_jobs(plan, options.rule, options.num_workers),
        [list(states.values()), rows, plan.rejected],
        options,
    )


def build_videos(
    plan: Plan,
    videos: list[VideoSource],
    boxes: Path | None,
    every: int,
    options: BuildOptions,
) -> Built:
    """`open_or_build` for whole videos, whose rows become known while they are decoded."""
    require_av()
    known: dict[Path, dict[int, Box]] = {}
    if boxes is not None:
        known = {video.file: read_boxes(boxes / f"{video.file.stem}.bb") for video in videos}
    inputs = [
        [video.name, video.sequence, *file_state(video.file), known.get(video.file)]
        for video in videos
    ]
    return open_or_build(
        plan,
        lambda: whole_video_jobs(plan, videos, known, every, options.rule, options.num_workers),
        [every, inputs],
        options,
    )


def file_state(path: Path) -> list[int | None]:
    """What tells that a file has changed: its size and the time of its last change."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [None, None]
    return [status.st_size, status.st_mtime_ns]


def _reusable(folder: Path, key: str, plan: Plan) -> store.Stored | None:
    if not (folder / store.HEADER).exists():
        return None
    try:
        stored = store.read(folder)
    except InputError as error:
        plan.notes.append(f"the cache was built again: {error}")
        return None
    return stored if stored.header.get("inputs") == key else None


def _build(plan: Plan, folder: Path, jobs: Iterable[Job], key: str, options: BuildOptions) -> None:
    writer = store.FrameWriter(folder, options.rule.size)
    failures: list[tuple[int, str]] = []
    try:
        for outcomes in run_in_order(jobs, options.num_workers):
            for row, pixels, reason in outcomes:
                if pixels is None:
                    failures.append((row, reason))
                else:
                    writer.put(row, pixels)
            if options.progress is not None:
                done = writer.n_put + len(failures)
                options.progress(min(1.0, done / max(plan.expected, len(plan.rows), 1)))
        for row, reason in sorted(failures):
            plan.reject(plan.rows[row].name, reason)
        _check_failures(plan, writer.n_put, options.max_rejected)
        keep = np.ones(len(plan.rows), dtype=bool)
        keep[[row for row, _ in failures]] = False
        writer.finish(keep)
    finally:
        writer.close()
    if options.progress is not None:
        options.progress(1.0)
    _write_table(plan, folder, keep, key, options.rule)


def _check_failures(plan: Plan, n_good: int, max_rejected: float) -> None:
    n_frames = n_good + plan.n_failed
    if plan.failed_videos > max_rejected * plan.n_videos:
        what = f"{plan.failed_videos} of {plan.n_videos} videos"
    elif plan.n_failed > max_rejected * n_frames or not n_good:
        what = f"{plan.n_failed} of {n_frames} frames"
    else:
        return
    lines = [f"\n  {name}: {reason}" for name, reason in plan.rejected[:_SHOWN_FAILURES]]
    if len(plan.rejected) > _SHOWN_FAILURES:
        lines.append(f"\n  and {len(plan.rejected) - _SHOWN_FAILURES} more")
    raise InputError(
        f"{plan.source}: {what} cannot be used; at most a share of {max_rejected:g} may be left "
        f"out (max_rejected):{''.join(lines)}"
    )


def _write_table(
    plan: Plan, folder: Path, keep: NDArray[np.bool_], key: str, rule: CropRule
) -> None:
    """Number sequences and categories in order of appearance and write everything but pixels."""
    rows: list[PlannedFrame] = [plan.rows[row] for row in np.flatnonzero(keep).tolist()]
    sequences = {name: i for i, name in enumerate(dict.fromkeys(row.sequence for row in rows))}
    categories = {name: i for i, name in enumerate(dict.fromkeys(row.category for row in rows))}
    store.write_table(
        folder,
        [row.name for row in rows],
        np.array([sequences[row.sequence] for row in rows], dtype=np.int64),
        np.array([row.frame for row in rows], dtype=np.int64),
        np.array([categories[row.category] for row in rows], dtype=np.int64),
        np.array([rule.extent(row.box) for row in rows], dtype=np.float32),
        {
            "inputs": key,
            "sequence_names": list(sequences),
            "category_names": list(categories),
            "rejected": plan.rejected,
            "notes": plan.notes,
        },
    )
