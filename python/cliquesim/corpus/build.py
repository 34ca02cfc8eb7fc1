"""Decode the planned frames on several threads into the store, keeping count of the failures."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import hash_json
from cliquesim.corpus import store
from cliquesim.corpus.images import CropRule
from cliquesim.corpus.jobs import Job, run_in_order
from cliquesim.corpus.plan import Plan, PlannedFrame
from cliquesim.errors import InputError

_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class BuildOptions:
    """What all constructors share."""

    rule: CropRule
    max_rejected: float
    num_workers: int
    cache: Path | None
    progress: Callable[[float], object] | None


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


def file_state(path: Path) -> list[Any]:
    """What tells that a file has changed: name, size, time of change."""
    try:
        status = path.stat()
    except OSError:
        return [str(path), None, None]
    return [str(path), status.st_size, status.st_mtime_ns]


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
    _write_table(plan, folder, keep, key)


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


def _write_table(plan: Plan, folder: Path, keep: NDArray[np.bool_], key: str) -> None:
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
        {
            "inputs": key,
            "sequence_names": list(sequences),
            "category_names": list(categories),
            "rejected": plan.rejected,
            "notes": plan.notes,
        },
    )
