"""The released label files: read exactly, and refused by name when they are damaged."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cliquesim.datasets import olympic_sports
from cliquesim.errors import InputError

h5py = pytest.importorskip("h5py", reason="extra 'labels'")


def write_labels(folder: Path, **changes: Any) -> Path:
    """A category of 6 frames in two sequences, with the given arrays exchanged."""
    arrays: dict[str, Any] = {
        "anchors": np.array([0, 4], dtype=np.int32),
        "pos_ids": [[3, 4], [1]],
        "neg_ids": [[5], [0, 2]],
        "pos_flipvals": [[0, 1], [1]],
        "neg_flipvals": [[0], [0, 1]],
        **changes,
    }
    file = folder / "labels_hdf5" / "labels_walk.hdf5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        for name, value in arrays.items():
            if isinstance(value, list):
                ragged = h5py.vlen_dtype(np.int32)
                dataset = content.create_dataset(name, (len(value),), dtype=ragged)
                for row, numbers in enumerate(value):
                    dataset[row] = np.array(numbers, dtype=np.int32)
            elif value is not None:
                content[name] = value
    paths = folder / "image_paths" / "imagePaths_walk.txt"
    paths.parent.mkdir(exist_ok=True)
    paths.write_text("".join(f"./{s}/I{i:05d}.png\n" for s in ("one", "two") for i in range(3)))
    return file


def test_all_released_categories(shared: Path) -> None:
    labels = olympic_sports.load_labels(shared / "olympic_sports")
    assert len(labels) == 16
    assert sum(len(set(category.sequences)) for category in labels.values()) == 525
    assert sum(len(category.image_paths) for category in labels.values()) == 113_516
    assert sum(category.n_anchors for category in labels.values()) == 1033
    flipped = {"positive": [], "negative": []}
    for category in labels.values():
        sequence = np.array(category.sequences)
        for number, anchor in enumerate(category.anchors):
            for name, shares in flipped.items():
                frames = getattr(category, f"{name}s")[number]
                assert not (sequence[frames] == sequence[anchor]).any()
                shares.append(getattr(category, f"{name}_flips")[number])
    assert np.concatenate(flipped["positive"]).mean() == pytest.approx(0.13, abs=0.005)
    assert np.concatenate(flipped["negative"]).mean() == pytest.approx(0.17, abs=0.005)


def test_matlab_labels_equal_the_hdf5_ones(shared: Path) -> None:
    folder = shared / "olympic_sports"
    expected = olympic_sports.load_labels(folder, ["long_jump"])["long_jump"]
    found = olympic_sports.load_matlab_labels(
        folder / "labels_long_jump.mat", folder / "image_paths" / "imagePaths_long_jump.txt"
    )
    assert found.category == "long_jump"
    assert found.image_paths == expected.image_paths
    np.testing.assert_array_equal(found.anchors, expected.anchors)
    for name in ("positives", "negatives", "positive_flips", "negative_flips"):
        for a, b in zip(getattr(found, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match=r"labels_vault\.hdf5: not in the released MATLAB layout"):
        olympic_sports.load_matlab_labels(folder / "labels_hdf5" / "labels_vault.hdf5")


def test_released_boxes(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "olympic_sports" / "bboxes.tar.gz") as archive:
        # Python 3.11.2, Debian 12's, has no filters yet.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safely)
    labels = olympic_sports.load_labels(shared / "olympic_sports")
    for name, category in labels.items():
        boxes = olympic_sports.load_boxes(tmp_path / "bboxes" / name, category.image_paths)
        assert boxes.shape == (len(category.image_paths), 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_athletes_have_the_same_layout(shared: Path) -> None:
    labels = olympic_sports.load_labels(shared / "athletes")
    assert len(labels) == 12
    assert sum(len(category.image_paths) for category in labels.values()) == 3892
    assert all(len(p) == 10 for category in labels.values() for p in category.positives)
    walk = labels["walk"]
    boxes = olympic_sports.load_boxes(shared / "athletes" / "bboxes" / "walk", walk.image_paths)
    # joints.npz keeps the files' 1-based inclusive numbers.
    with np.load(shared / "athletes" / "joints.npz") as joints:
        np.testing.assert_array_equal(boxes, joints["walk/bbox"] - [1, 1, 0, 0])


def test_ragged_and_plain_arrays(tmp_path: Path) -> None:
    plain = np.array([[5, 3], [0, 2]], dtype=np.int32)
    write_labels(tmp_path, neg_ids=plain, neg_flipvals=np.array([[0, 1], [0, 1]]))
    labels = olympic_sports.load_labels(tmp_path)["walk"]
    assert [list(row) for row in labels.positives] == [[3, 4], [1]]
    assert [list(row) for row in labels.negatives] == [[5, 3], [0, 2]]
    assert [list(row) for row in labels.positive_flips] == [[False, True], [True]]
    assert labels.sequences == ["one"] * 3 + ["two"] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": np.array([0, 6])}, "anchor 1: anchors: index 6 is outside the list of 6"),
        ({"anchors": np.array([-1, 1])}, "anchor 0: anchors: index -1"),
        ({"pos_ids": [[3, 4], [9]]}, "anchor 1: pos_ids: index 9"),
        ({"neg_flipvals": [[2], [0, 1]]}, "anchor 0: neg_flipvals must be 0 or 1"),
        ({"pos_flipvals": [[0], [1]]}, "anchor 0: 2 pos_ids but 1 pos_flipvals"),
        ({"neg_ids": [[5]]}, "neg_ids has 1 rows for 2 anchors"),
        ({"anchors": None}, "not in the released layout"),
        ({"anchors": np.array([0.5, 1])}, "whole numbers"),
    ],
)
def test_bad_labels_name_file_and_anchor(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_labels(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        olympic_sports.load_labels(tmp_path)
    assert "labels_walk.hdf5" in str(caught.value)


def test_damaged_or_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: expected label files"):
        olympic_sports.load_labels(tmp_path / "nowhere")
    file = write_labels(tmp_path)
    with pytest.raises(InputError, match="no labels of category 'run'"):
        olympic_sports.load_labels(tmp_path, ["run"])
    shutil.copy(file, tmp_path / "whole.hdf5")
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(InputError, match=r"labels_walk\.hdf5: not a readable HDF5 file"):
        olympic_sports.load_labels(tmp_path)
    file.write_bytes((tmp_path / "whole.hdf5").read_bytes())
    paths = tmp_path / "image_paths" / "imagePaths_walk.txt"
    paths.write_text("./one/I00000.png\nI00001.png\n")
    with pytest.raises(InputError, match=r"imagePaths_walk\.txt, line 2: expected"):
        olympic_sports.load_labels(tmp_path)
    paths.unlink()
    with pytest.raises(InputError, match=r"imagePaths_walk\.txt: not a readable image list"):
        olympic_sports.load_labels(tmp_path)


def test_missing_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labels(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"cliquesim\[labels\]"):
        olympic_sports.load_labels(tmp_path)
