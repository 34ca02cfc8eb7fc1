"""Units of decoding work: one image file, or one frame of a video, with all of its boxes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cliquesim.corpus.images import Box, CropRule, Picture, crop, open_picture
from cliquesim.corpus.plan import Plan, PlannedFrame
from cliquesim.corpus.videos import VIDEO_SUFFIXES, VideoError, VideoSource, open_video, rgb

T = TypeVar("T")


class Outcome(NamedTuple):
    """What became of one row: its pixels, or why there are none."""

    row: int
    pixels: NDArray[np.uint8] | None
    reason: str = ""


Job = Callable[[], list[Outcome]]
Numbered = tuple[int, PlannedFrame]


def run_in_order(jobs: Iterable[Callable[[], T]], num_workers: int) -> Iterator[T]:
    """Results in the order of the jobs; only a few jobs wait at a time, so memory is bounded.

    Threads suffice: Pillow and FFmpeg release the interpreter lock.
    """
    pool = ThreadPoolExecutor(num_workers)
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > 4 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def planned_jobs(plan: Plan, rule: CropRule, num_threads: int) -> Iterator[Job]:
    """Jobs for rows that are all known: images one by one, each video once from its start."""
    by_file: dict[Path, list[Numbered]] = {}
    for row, planned in enumerate(plan.rows):
        by_file.setdefault(planned.file, []).append((row, planned))
    for file, rows in by_file.items():
        if file.suffix.lower() in VIDEO_SUFFIXES:
            yield from _manifest_video_jobs(file, rows, rule, num_threads)
        else:
            yield _image_job(file, rows, rule)


def whole_video_jobs(
    plan: Plan,
    videos: list[VideoSource],
    boxes: dict[Path, dict[int, Box]],
    every: int,
    rule: CropRule,
    num_threads: int,
) -> Iterator[Job]:
    """Jobs for every `every`-th frame of whole videos; `plan.rows` grows on the way."""
    for file, name, sequence in videos:
        known = boxes.get(file)
        n_without = 0
        n_before = len(plan.rows)
        try:
            with open_video(file, num_threads) as video:
                plan.expected = n_before + video.n_announced // every
                for number, frame in video.frames():
                    if number % every:
                        continue
                    shown = f"{name}#{number}"
                    if known is not None and number not in known:
                        n_without += 1
                        continue
                    box = None if known is None else known[number]
                    row = len(plan.rows)
                    plan.rows.append(PlannedFrame(file, shown, sequence, "", number, box))
                    yield _frame_job(frame, [(row, plan.rows[row])], rule)
                reason = video.shortfall()
        except VideoError as error:
            reason = str(error)
        if n_without:
            plan.notes.append(f"{n_without} frames of {name} have no box and are left out")
        if len(plan.rows) == n_before:
            plan.failed_videos += 1
            reason = reason or "has no frames"
        if reason is not None:
            plan.rejected.append((name, reason))


def _manifest_video_jobs(
    file: Path, rows: list[Numbered], rule: CropRule, num_threads: int
) -> Iterator[Job]:
    wanted = {
        number: list(group)
        for number, group in groupby(
            sorted(rows, key=lambda numbered: numbered[1].frame),
            key=lambda numbered: numbered[1].frame,
        )
    }
    last = max(wanted)
    try:
        with open_video(file, num_threads) as video:
            for number, frame in video.frames():
                if number in wanted:
                    yield _frame_job(frame, wanted.pop(number), rule)
                if number == last:
                    return
            reason = video.shortfall() or f"the video has only {video.n_decoded} frames"
    except VideoError as error:
        reason = str(error)
    missing = [Outcome(row, None, reason) for group in wanted.values() for row, _ in group]
    yield lambda: missing


def _image_job(file: Path, rows: list[Numbered], rule: CropRule) -> Job:
    def decode() -> list[Outcome]:
        try:
            picture = open_picture(file, [planned.box for _, planned in rows], rule)
        # Decoders of untrusted files raise nearly anything; every such file is only listed.
        except Exception as error:
            return [Outcome(row, None, _reason(error, file)) for row, _ in rows]
        return _crop_all(picture, rows, rule)

    return decode


def _frame_job(frame: Any, rows: list[Numbered], rule: CropRule) -> Job:
    return lambda: _crop_all(Picture.of(rgb(frame)), rows, rule)


def _crop_all(picture: Picture, rows: list[Numbered], rule: CropRule) -> list[Outcome]:
    outcomes = []
    for row, planned in rows:
        try:
            outcomes.append(Outcome(row, crop(picture, planned.box, rule)))
        except ValueError as error:
            outcomes.append(Outcome(row, None, str(error)))
    return outcomes


def _reason(error: Exception, file: Path) -> str:
    """A short cause; Pillow puts the whole path into some of its messages."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = str(error).replace(repr(str(file)), "").replace(str(file), "").strip()
    return f"not a readable image ({text or type(error).__name__})"
