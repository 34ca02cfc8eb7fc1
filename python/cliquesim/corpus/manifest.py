"""Manifests: a table (CSV or Parquet) that names every frame, its sequence and its box."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cliquesim.corpus.boxes import check_box
from cliquesim.corpus.images import IMAGE_SUFFIXES, Box
from cliquesim.corpus.plan import Plan, PlannedFrame
from cliquesim.corpus.videos import VIDEO_SUFFIXES
from cliquesim.errors import InputError, MissingExtraError

_REQUIRED = ("path", "sequence", "frame")
_BOX = ("xmin", "ymin", "xmax", "ymax")

Row = Mapping[str, Any]


def plan_manifest(file: Path, root: Path) -> Plan:
    """Plan the rows of a manifest; see `Corpus.from_manifest`."""
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder (root of {file})")
    plan = Plan(str(file))
    rows = _parquet_rows(file) if file.suffix.lower() == ".parquet" else _csv_rows(file)
    first_seen: dict[str, int] = {}
    places: dict[tuple[str, int], str] = {}
    found_videos: set[Path] = set()
    for where, row in rows:
        planned = _planned(row, root, where, found_videos)
        key = (planned.sequence, planned.frame)
        if key in places:
            raise InputError(
                f"{where}: frame {planned.frame} of sequence {planned.sequence!r} is there twice, "
                f"first in {places[key]}"
            )
        places[key] = where
        first_seen.setdefault(planned.sequence, len(first_seen))
        plan.rows.append(planned)
    if not plan.rows:
        raise InputError(f"{file}: has no rows")
    ordered = sorted(plan.rows, key=lambda planned: (first_seen[planned.sequence], planned.frame))
    if ordered != plan.rows:
        plan.notes.append(f"the rows of {file} were sorted by sequence and frame")
        plan.rows = ordered
    return plan


def _planned(row: Row, root: Path, where: str, found_videos: set[Path]) -> PlannedFrame:
    path, sequence = _text(row, "path", where), _text(row, "sequence", where)
    category = _text(row, "category", where) if not _blank(row.get("category")) else ""
    frame = _number(row, "frame", where)
    if frame != math.floor(frame) or not 0 <= frame < 2**53:
        raise InputError(f"{where}: frame must be a whole number from 0, got {row['frame']!r}")
    file = root / path
    name = Path(path).as_posix()
    suffix = file.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        if file not in found_videos and not file.is_file():
            raise InputError(f"{where}: the video {path!r} is not in the folder {root}")
        found_videos.add(file)
        name = f"{name}#{int(frame)}"
    elif suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{where}: {path!r} is neither an image nor a video by its name")
    full = f"{category}/{sequence}" if category else sequence
    return PlannedFrame(file, name, full, category, int(frame), _box(row, where))


def _box(row: Row, where: str) -> Box | None:
    blank = [_blank(row.get(name)) for name in _BOX]
    if all(blank):
        return None
    if any(blank):
        raise InputError(f"{where}: a box needs all of {', '.join(_BOX)}")
    box = Box(*(_number(row, name, where) for name in _BOX))
    check_box(box, where)
    return box


def _blank(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def _text(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if _blank(value):
        raise InputError(f"{where}: {name} is empty")
    text = str(value).strip()
    if "\0" in text:
        raise InputError(f"{where}: {name} has a NUL character")
    return text


def _number(row: Row, name: str, where: str) -> float:
    try:
        number = float(row[name])
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name} must be a number, got {row[name]!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{where}: {name} must be finite, got {row[name]!r}")
    return number


def _check_columns(file: Path, columns: list[str]) -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise InputError(f"{file}: has no column {missing[0]!r}, only {', '.join(columns)}")
    if 0 < sum(name in columns for name in _BOX) < len(_BOX):
        raise InputError(f"{file}: a box needs all of the columns {', '.join(_BOX)}")


def _csv_rows(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            _check_columns(file, columns)
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: expected {len(columns)} columns")
                yield where, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a readable CSV file ({error})") from error


def _parquet_rows(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "Reading a Parquet manifest") from error
    try:
        table = parquet.ParquetFile(file)
        columns = list(table.schema_arrow.names)
        _check_columns(file, columns)
        wanted = [name for name in (*_REQUIRED, "category", *_BOX) if name in columns]
        number = 0
        for batch in table.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield f"{file}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({error})") from error
