"""Which frames a corpus will have, before any pixel is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cliquesim._files import PathLike
from cliquesim.corpus.images import Box


class PlannedFrame(NamedTuple):
    """One row of the corpus to be; of a video, `frame` is the number of the decoded frame."""

    file: Path
    name: str
    sequence: str
    category: str
    frame: int
    box: Box | None


@dataclass
class Plan:
    """The rows in their final order, and the bookkeeping of what is left out.

    While whole videos are decoded `rows` grows; `expected` is then what their headers announce.
    `rejected` lists everything that the user should know; `n_failed` and `failed_videos` are what
    counts against `max_rejected`.
    """

    source: str
    rows: list[PlannedFrame] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_failed: int = 0
    n_videos: int = 0
    failed_videos: int = 0
    expected: int = 0

    def reject(self, name: str, reason: str) -> None:
        """Leave a frame out, and count it."""
        self.rejected.append((name, reason))
        self.n_failed += 1


def as_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path or several, as a list."""
    return [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def shown(paths: list[Path]) -> str:
    """The first few of the given paths, for messages."""
    return ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which frame2 comes before frame10."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def frame_numbers(names: list[str]) -> list[int]:
    """Frame numbers of naturally sorted file names: the last digits of each name.

    The position in the sequence instead, when a name has no digits or they do not rise.
    """
    digits = [re.findall(r"\d+", Path(name).stem) for name in names]
    if all(digits):
        numbers = [int(found[-1]) for found in digits]
        if numbers[-1] < 2**63 and all(a < b for a, b in pairwise(numbers)):
            return numbers
    return list(range(len(names)))
