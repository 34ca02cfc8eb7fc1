"""The annotations released with Olympic Sports: similar and dissimilar frames of anchors.

Layout of the folder::

    labels_hdf5/labels_CATEGORY.hdf5       0-based; anchors and, per anchor, ragged pos_ids,
                                           neg_ids, pos_flipvals, neg_flipvals
    image_paths/imagePaths_CATEGORY.txt    one frame a line, in index order: ./SEQUENCE/I00000.png
    bboxes/CATEGORY/SEQUENCE.bb            frame_index xmin ymin xmax ymax, TAB-separated, 1-based

The same labels exist as a MATLAB v7.3 file, 1-based. Reading needs h5py (extra `labels`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import PathLike
from cliquesim.corpus.boxes import read_boxes
from cliquesim.errors import InputError, MissingExtraError

Indices = NDArray[np.int64]
Flips = NDArray[np.bool_]

_FIELDS = ("pos_ids", "neg_ids", "pos_flipvals", "neg_flipvals")


@dataclass(frozen=True)
class CategoryLabels:
    """Labels of one category: per anchor, frames in a similar and in a dissimilar posture.

    Attributes
    ----------
    category : str
        Name.
    anchors : int64 (n_anchors,)
        Frame indices of the queries, 0-based, into `image_paths` (or into a corpus, after
        `cliquesim.evaluation.match_frames`).
    positives, negatives : list of int64 arrays
        Per anchor the frame indices.
    positive_flips, negative_flips : list of bool arrays
        Per anchor, True where the mirrored frame is meant.
    image_paths : list of str
        Path of every frame, relative to the category's folder.
    """

    category: str
    anchors: Indices
    positives: list[Indices]
    negatives: list[Indices]
    positive_flips: list[Flips]
    negative_flips: list[Flips]
    image_paths: list[str] = field(default_factory=list, repr=False)

    @property
    def n_anchors(self) -> int:
        """Number of queries."""
        return len(self.anchors)

    @property
    def sequences(self) -> list[str]:
        """Sequence of every frame: the folder in its path."""
        return [Path(path).parent.name for path in self.image_paths]


def load_labels(
    folder: PathLike, categories: Iterable[str] | None = None
) -> dict[str, CategoryLabels]:
    """Read the released labels of all categories of a folder, in order of their names.

    Parameters
    ----------
    folder : path
        Holds `labels_hdf5/` and `image_paths/`.
    categories : iterable of str, optional
        Only these.

    Raises
    ------
    InputError
        Missing folder, file or array; indices outside the image list, flips other than 0 and 1,
        different lengths. The message names the file and the anchor.
    MissingExtraError
        h5py is not installed.

    Examples
    --------
    >>> labels = load_labels("olympic_sports")  # doctest: +SKIP
    >>> labels["long_jump"].positives[0]  # doctest: +SKIP
    array([ 957, 2167, 1472, 1496, 3531, 1447, 2075, 3943, 2039, 4910])
    """
    folder = Path(folder)
    files = {
        path.stem.removeprefix("labels_"): path
        for path in sorted((folder / "labels_hdf5").glob("labels_*.hdf5"))
    }
    if not files:
        raise InputError(f"{folder}: expected label files labels_hdf5/labels_CATEGORY.hdf5 there")
    chosen = list(files) if categories is None else list(categories)
    for category in chosen:
        if category not in files:
            raise InputError(f"{folder}: no labels of category {category!r}, only {list(files)}")
    return {
        category: _load_category(
            files[category], folder / "image_paths" / f"imagePaths_{category}.txt", category
        )
        for category in chosen
    }


def load_matlab_labels(file: PathLike, image_paths: PathLike | None = None) -> CategoryLabels:
    """Read the labels of one category from the released MATLAB v7.3 file (1-based in the file).

    `image_paths` names the category's image list; without it indices are checked to be
    non-negative only and `image_paths` stays empty. Errors as in `load_labels`.
    """
    file = Path(file)
    with _open_hdf5(file) as content:
        try:
            category = "".join(chr(code) for code in content["category_name"][()].ravel())
            table = content["labels"]
            references = [table[name][()].ravel() for name in ("anchor", "positives", "negatives")]
            if len({len(column) for column in references}) != 1:
                raise InputError(f"{file}: anchors, positives and negatives differ in number")
            arrays: dict[str, list[Any]] = {name: [] for name in _FIELDS}
            anchors = []
            for anchor, positives, negatives in zip(*references, strict=True):
                anchors.append(content[anchor][()].item() - 1)
                for prefix, group in (("pos", content[positives]), ("neg", content[negatives])):
                    arrays[f"{prefix}_ids"].append(group["ids"][()].ravel() - 1)
                    arrays[f"{prefix}_flipvals"].append(group["flipval"][()].ravel())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file}: not in the released MATLAB layout ({error})") from error
    paths = [] if image_paths is None else _read_image_paths(Path(image_paths))
    return _checked(file, category, np.array(anchors), arrays, paths)


def load_boxes(folder: PathLike, image_paths: Iterable[str]) -> NDArray[np.float64]:
    """Read the boxes of one category for a list of frames.

    Parameters
    ----------
    folder : path
        `bboxes/CATEGORY`, with one `SEQUENCE.bb` per sequence.
    image_paths : iterable of str
        `CategoryLabels.image_paths`: frame `I00007` of the list is frame index 8 of the file.

    Returns
    -------
    float64 (n, 4)
        xmin, ymin, xmax, ymax in 0-based half-open pixels; NaN where the file has no row for the
        frame (which does not occur in the released files).

    Raises
    ------
    InputError
        Missing or malformed file (named with its line).
    """
    folder = Path(folder)
    known: dict[str, dict[int, Any]] = {}
    rows = []
    for path in image_paths:
        sequence, stem = Path(path).parent.name, Path(path).stem
        digits = stem.lstrip("I")
        if not digits.isdecimal():
            raise InputError(f"{path}: expected a frame name such as I00000")
        if sequence not in known:
            known[sequence] = dict(read_boxes(folder / f"{sequence}.bb"))
        rows.append(known[sequence].get(int(digits), (np.nan,) * 4))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _load_category(file: Path, image_list: Path, category: str) -> CategoryLabels:
    paths = _read_image_paths(image_list)
    with _open_hdf5(file) as content:
        try:
            anchors = content["anchors"][()]
            # Rows of a variable-length or of a plain 2-D array alike.
            arrays = {name: list(content[name][()]) for name in _FIELDS}
        except (KeyError, TypeError, OSError) as error:
            raise InputError(f"{file}: not in the released layout ({error})") from error
    return _checked(file, category, anchors, arrays, paths)


def _read_image_paths(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable image list ({error})") from error
    paths = [line.strip().removeprefix("./") for line in lines]
    while paths and not paths[-1]:
        paths.pop()
    for number, path in enumerate(paths, start=1):
        if path.count("/") != 1:
            raise InputError(f"{file}, line {number}: expected ./SEQUENCE/FRAME, got {path!r}")
    if not paths:
        raise InputError(f"{file}: is empty")
    return paths


def _checked(
    file: Path, category: str, anchors: NDArray[Any], arrays: dict[str, list[Any]], paths: list[str]
) -> CategoryLabels:
    n_frames = len(paths) if paths else None
    anchors = np.asarray(anchors).reshape(-1)
    for name in _FIELDS:
        if len(arrays[name]) != len(anchors):
            raise InputError(
                f"{file}: {name} has {len(arrays[name])} rows for {len(anchors)} anchors"
            )
    if len(anchors) == 0:
        raise InputError(f"{file}: has no anchors")
    ids: dict[str, list[Indices]] = {"pos": [], "neg": []}
    flips: dict[str, list[Flips]] = {"pos": [], "neg": []}
    for number in range(len(anchors)):
        where = f"{file}: anchor {number}"
        _as_indices(anchors[number : number + 1], n_frames, f"{where}: anchors")
        for prefix in ids:
            indices = _as_indices(
                arrays[f"{prefix}_ids"][number], n_frames, f"{where}: {prefix}_ids"
            )
            flipped = np.asarray(arrays[f"{prefix}_flipvals"][number]).reshape(-1)
            if len(flipped) != len(indices):
                raise InputError(
                    f"{where}: {len(indices)} {prefix}_ids but {len(flipped)} {prefix}_flipvals"
                )
            if not np.isin(flipped, (0, 1)).all():
                raise InputError(f"{where}: {prefix}_flipvals must be 0 or 1")
            ids[prefix].append(indices)
            flips[prefix].append(flipped.astype(bool))
    return CategoryLabels(
        category,
        _as_indices(anchors, n_frames, f"{file}: anchors"),
        ids["pos"],
        ids["neg"],
        flips["pos"],
        flips["neg"],
        paths,
    )


def _as_indices(values: Any, n_frames: int | None, where: str) -> Indices:
    array = np.asarray(values).reshape(-1)
    if array.dtype.kind not in "iuf" or not (array == np.floor(array)).all():
        raise InputError(f"{where} must be whole numbers")
    upper = np.inf if n_frames is None else n_frames
    bad = (array < 0) | (array >= upper)
    if bad.any():
        limit = "" if n_frames is None else f" of {n_frames} images"
        raise InputError(f"{where}: index {array[bad][0]:g} is outside the list{limit}")
    return array.astype(np.int64)


def _open_hdf5(file: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "labels", "Reading label files") from error
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise InputError(f"{file}: not a readable HDF5 file ({error})") from error
