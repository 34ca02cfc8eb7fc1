"""From labels that name frames by path to labels that name rows of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from cliquesim.corpus import Corpus
from cliquesim.datasets.olympic_sports import CategoryLabels, Flips, Indices
from cliquesim.errors import InputError

_ABSENT = -1
_REJECTED = -2


@dataclass(frozen=True)
class MatchedLabels:
    """Labels whose indices are rows of a corpus.

    Attributes
    ----------
    labels : dict of str to CategoryLabels
        As given, with rows for indices and `image_paths` emptied.
    n_dropped_anchors, n_dropped_labels : int
        What fell away because its frame is among the corpus's rejected ones.
    """

    labels: dict[str, CategoryLabels]
    n_dropped_anchors: int
    n_dropped_labels: int


def match_frames(
    labels: Mapping[str, CategoryLabels] | CategoryLabels, corpus: Corpus
) -> MatchedLabels:
    """Find every frame of the labels' image lists in a corpus.

    Frames are matched by category, sequence and file name (a different image suffix is accepted).
    A corpus without categories matches labels of a single category. In a corpus of several folders
    a sequence may lie in any of them. In a corpus made from videos the k-th frame that the list
    has of a sequence is the sequence's k-th row.

    Raises
    ------
    InputError
        A listed frame is neither in the corpus nor among its rejected ones (the first is named), or
        two folders of the corpus have a sequence of that name.
    """
    if isinstance(labels, CategoryLabels):
        labels = {labels.category: labels}
    if not labels:
        raise InputError("labels are empty")
    if not corpus.has_categories and len(labels) > 1:
        raise InputError(
            f"labels of {len(labels)} categories cannot be matched with a corpus without categories"
        )
    index = _Index(corpus)
    matched: dict[str, CategoryLabels] = {}
    n_anchors = n_labels = 0
    for name, category in labels.items():
        rows = index.rows_of(category)
        matched[name], anchors, dropped = _renumbered(category, rows)
        n_anchors += anchors
        n_labels += dropped
    return MatchedLabels(matched, n_anchors, n_labels)


class _Index:
    """Rows of a corpus by (sequence name, file name) and by (sequence name, stem)."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._from_video = any("#" in path for path in corpus.paths[:1])
        self._names: dict[tuple[str, str], int] = {}
        self._rows: dict[str, list[int]] = {}
        for row, (sequence, path) in enumerate(
            zip(corpus.sequence.tolist(), corpus.paths, strict=True)
        ):
            name = corpus.sequence_names[sequence]
            self._rows.setdefault(name, []).append(row)
            self._add(name, path, row)
        self._known = {name: name for name in self._rows}
        for path, _ in corpus.rejected:
            self._add(PurePosixPath(path).parent.as_posix(), path, _REJECTED)

    def _add(self, sequence: str, path: str, row: int) -> None:
        file = PurePosixPath(path)
        self._names[sequence, file.name] = row
        self._names.setdefault((sequence, file.stem), row)

    def _name_of(self, sequence: str) -> str:
        """The corpus's name of a sequence, which in a corpus of several folders begins with one."""
        if sequence not in self._known:
            inside = [name for name in self._rows if name.endswith(f"/{sequence}")]
            if len(inside) > 1:
                raise InputError(
                    f"the labels' sequence {sequence} may be {inside[0]} or {inside[1]} of the "
                    "corpus: evaluate a run of one of these folders"
                )
            self._known[sequence] = inside[0] if inside else sequence
        return self._known[sequence]

    def rows_of(self, labels: CategoryLabels) -> Indices:
        """Row of every image of the list; _REJECTED for the corpus's rejected ones."""
        prefix = f"{labels.category}/" if self._corpus.has_categories else ""
        find = self._by_position if self._from_video else self._by_name
        rows = find(labels, prefix)
        absent = np.flatnonzero(rows == _ABSENT)
        if len(absent):
            path = labels.image_paths[int(absent[0])]
            raise InputError(
                f"the corpus has no frame {prefix}{path} of the labels of category "
                f"{labels.category!r} ({len(absent)} of {len(rows)} are missing)"
            )
        return rows

    def _by_name(self, labels: CategoryLabels, prefix: str) -> Indices:
        rows = np.full(len(labels.image_paths), _ABSENT, dtype=np.int64)
        for i, path in enumerate(labels.image_paths):
            file = PurePosixPath(path)
            sequence = self._name_of(f"{prefix}{file.parent.name}")
            row = self._names.get((sequence, file.name))
            if row is None:
                row = self._names.get((sequence, file.stem), _ABSENT)
            rows[i] = row
        return rows

    def _by_position(self, labels: CategoryLabels, prefix: str) -> Indices:
        if self._corpus.rejected:
            path, reason = self._corpus.rejected[0]
            raise InputError(
                "the labels count the frames of a sequence, which is unsure in a corpus with "
                f"rejected frames ({path}: {reason})"
            )
        rows = np.full(len(labels.image_paths), _ABSENT, dtype=np.int64)
        position: dict[str, int] = {}
        for i, sequence in enumerate(labels.sequences):
            k = position.get(sequence, 0)
            position[sequence] = k + 1
            known = self._rows.get(self._name_of(f"{prefix}{sequence}"), [])
            if k < len(known):
                rows[i] = known[k]
        return rows


def _renumbered(labels: CategoryLabels, rows: Indices) -> tuple[CategoryLabels, int, int]:
    """The labels with `rows` for indices, the dropped anchors and the dropped labels."""
    kept = np.flatnonzero(rows[labels.anchors] >= 0)
    n_dropped = 0

    def usable(indices: list[Indices], flips: list[Flips]) -> tuple[list[Indices], list[Flips]]:
        nonlocal n_dropped
        found = [rows[indices[number]] for number in kept]
        n_dropped += sum(int((frames < 0).sum()) for frames in found)
        return (
            [frames[frames >= 0] for frames in found],
            [flips[number][frames >= 0] for number, frames in zip(kept, found, strict=True)],
        )

    positives, positive_flips = usable(labels.positives, labels.positive_flips)
    negatives, negative_flips = usable(labels.negatives, labels.negative_flips)
    result = CategoryLabels(
        labels.category,
        rows[labels.anchors[kept]],
        positives,
        negatives,
        positive_flips,
        negative_flips,
    )
    return result, labels.n_anchors - len(kept), n_dropped
