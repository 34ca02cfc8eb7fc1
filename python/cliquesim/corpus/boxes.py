"""Person boxes in the layout released with Olympic Sports: `CATEGORY/SEQUENCE.bb`."""

from __future__ import annotations

import math
from pathlib import Path

from cliquesim.corpus.images import Box
from cliquesim.errors import InputError


def read_boxes(path: Path) -> dict[int, Box]:
    """Read one `.bb` file into {0-based frame number: box in 0-based half-open pixels}.

    Its rows are `frame_index xmin ymin xmax ymax`, TAB-separated, 1-based and inclusive.

    Raises
    ------
    InputError
        Missing or empty file; a row that is malformed, has an empty box, or repeats a frame.
        The message names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable box file ({error})") from error
    boxes: dict[int, Box] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        frame, box = _parse_row(line, f"{path}, line {number}")
        if frame in boxes:
            raise InputError(f"{path}, line {number}: frame index {frame + 1} is there twice")
        boxes[frame] = box
    if not boxes:
        raise InputError(f"{path}: holds no boxes")
    return boxes


def _parse_row(line: str, where: str) -> tuple[int, Box]:
    cells = line.split("\t") if "\t" in line else line.split()
    if len(cells) != 5:
        raise InputError(
            f"{where}: expected 5 columns (frame_index xmin ymin xmax ymax), got {len(cells)}"
        )
    try:
        index, (xmin, ymin, xmax, ymax) = int(cells[0]), (float(cell) for cell in cells[1:])
    except ValueError:
        raise InputError(f"{where}: expected five numbers, got {line.strip()!r}") from None
    if index < 1:
        raise InputError(f"{where}: frame indices start at 1, got {index}")
    box = Box(xmin - 1, ymin - 1, xmax, ymax)
    check_box(box, where)
    return index - 1, box


def check_box(box: Box, where: str) -> None:
    """Refuse boxes that are not finite or have no area."""
    if not all(math.isfinite(coordinate) for coordinate in box):
        raise InputError(f"{where}: a box coordinate is not finite")
    if box.xmax <= box.xmin or box.ymax <= box.ymin:
        raise InputError(f"{where}: the box is empty (xmax must exceed xmin, ymax ymin)")
