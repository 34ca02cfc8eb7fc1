"""Manifests: images and videos by row, boxes, errors that name the line."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cliquesim import Corpus, evaluation
from cliquesim.datasets import olympic_sports
from cliquesim.errors import InputError

COLUMNS = ["path", "sequence", "frame", "xmin", "ymin", "xmax", "ymax"]


def write_manifest(folder: Path, rows: list[list[Any]], columns: list[str] = COLUMNS) -> Path:
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """a.png and b.png, 40 x 30, in the folder."""
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_boxes_are_zero_based_and_half_open(pictures: Path) -> None:
    rows = [["a.png", "s", 3, 10, 5, 30, 25], ["b.png", "s", 4, 0, 0, 20, 20]]
    corpus = Corpus.from_manifest(
        write_manifest(pictures, rows), pictures, size=(20, 20), box_scale=1.0
    )
    np.testing.assert_array_equal(corpus.frames[0], pixels_of(pictures / "a.png")[5:25, 10:30])
    np.testing.assert_array_equal(corpus.frames[1], pixels_of(pictures / "b.png")[:20, :20])
    assert corpus.frame.tolist() == [3, 4]
    assert corpus.paths == ["a.png", "b.png"]


def test_blank_boxes_take_the_whole_frame_and_several_boxes_share_a_picture(
    pictures: Path,
) -> None:
    rows = [["a.png", "s", 0, "", "", "", ""], ["a.png", "t", 0, 0, 0, 30, 30]]
    corpus = Corpus.from_manifest(
        write_manifest(pictures, rows), pictures, size=(30, 30), box_scale=1.0
    )
    whole = pixels_of(pictures / "a.png")
    np.testing.assert_array_equal(corpus.frames[0], whole[:, 5:35])
    np.testing.assert_array_equal(corpus.frames[1], whole[:, :30])


def test_categories_and_sorting(pictures: Path) -> None:
    columns = ["category", "frame", "path", "sequence", "comment"]
    rows = [
        ["run", 2, "a.png", "s", ""],
        ["walk", 0, "b.png", "s", ""],
        ["run", 1, "b.png", "s", ""],
    ]
    corpus = Corpus.from_manifest(write_manifest(pictures, rows, columns), pictures)
    assert corpus.sequence_names == ["run/s", "walk/s"]
    assert corpus.category_names == ["run", "walk"]
    assert corpus.frame.tolist() == [1, 2, 0]
    assert corpus.paths == ["b.png", "a.png", "b.png"]
    assert "sorted by sequence and frame" in corpus.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a.png", "s", "x", 0, 0, 9, 9], "frame must be a number, got 'x'"),
        (["a.png", "s", -1, 0, 0, 9, 9], "frame must be a whole number from 0"),
        (["a.png", "s", 1.5, 0, 0, 9, 9], "frame must be a whole number from 0"),
        (["a.png", "s", 1, 0, 0, 9, ""], "a box needs all of"),
        (["a.png", "s", 1, 9, 0, 9, 9], "the box is empty"),
        (["a.png", "s", 1, 0, 0, "inf", 9], "xmax must be finite"),
        (["a.png", "", 1, 0, 0, 9, 9], "sequence is empty"),
        (["a.txt", "s", 1, 0, 0, 9, 9], "'a.txt' is neither an image nor a video"),
        (["gone.avi", "s", 1, 0, 0, 9, 9], "the video 'gone.avi' is not in the folder"),
        (
            ["a.png", "s", 0, 0, 0, 9, 9],
            "frame 0 of sequence 's' is there twice, first in .*line 2",
        ),
        (["a.png", "s", 1], "expected 7 columns"),
    ],
)
def test_malformed_rows_are_named(pictures: Path, row: list[Any], message: str) -> None:
    manifest = write_manifest(pictures, [["a.png", "s", 0, 0, 0, 9, 9], row])
    with pytest.raises(InputError, match=message) as caught:
        Corpus.from_manifest(manifest, pictures)
    assert str(caught.value).startswith(f"{manifest}, line 3: ")


def test_malformed_manifests(pictures: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        Corpus.from_manifest(pictures / "gone.csv")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        Corpus.from_manifest(write_manifest(pictures, []), pictures / "nowhere")
    with pytest.raises(InputError, match=r"manifest\.csv: has no rows"):
        Corpus.from_manifest(write_manifest(pictures, []), pictures)
    with pytest.raises(InputError, match="has no column 'frame'"):
        Corpus.from_manifest(write_manifest(pictures, [], ["path", "sequence"]), pictures)
    with pytest.raises(InputError, match="needs all of the columns"):
        Corpus.from_manifest(write_manifest(pictures, [], COLUMNS[:-1]), pictures)
    (pictures / "manifest.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="not a readable CSV file"):
        Corpus.from_manifest(pictures / "manifest.csv", pictures)


def test_missing_and_outside_rows_are_rejected(pictures: Path) -> None:
    rows = [
        ["a.png", "s", 0, 0, 0, 9, 9],
        ["gone.png", "s", 1, 0, 0, 9, 9],
        ["b.png", "s", 2, 50, 0, 60, 9],
        ["b.png", "s", 3, 0, 0, 9, 9],
    ]
    manifest = write_manifest(pictures, rows)
    with pytest.raises(InputError, match="2 of 4 frames cannot be used"):
        Corpus.from_manifest(manifest, pictures)
    corpus = Corpus.from_manifest(manifest, pictures, max_rejected=0.5)
    assert corpus.frame.tolist() == [0, 3]
    assert corpus.rejected == [
        ("gone.png", "no such file"),
        ("b.png", "box (50, 0, 60, 9) lies outside the 40 x 30 picture"),
    ]


def test_parquet(pictures: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="extra 'parquet'")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [["a.png", "s", 0, 0, 0, 9, 9], ["b.png", "s", 1, None, None, None, None]]
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)})
    parquet.write_table(table, pictures / "m.parquet")
    expected = Corpus.from_manifest(write_manifest(pictures, rows), pictures)
    found = Corpus.from_manifest(pictures / "m.parquet", pictures)
    assert found.fingerprint == expected.fingerprint
    rows[1][2] = None
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)})
    parquet.write_table(table, pictures / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet, row 2: frame must be a number, got None"):
        Corpus.from_manifest(pictures / "m.parquet", pictures)
    (pictures / "m.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"m\.parquet: not a readable Parquet file"):
        Corpus.from_manifest(pictures / "m.parquet", pictures)


def test_missing_pyarrow_names_the_extra(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pictures / "m.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"cliquesim\[parquet\]"):
        Corpus.from_manifest(pictures / "m.parquet", pictures)


def write_video(path: Path) -> Path:
    """30 frames of 64 x 64: above, columns 8 i to 8 i + 7 of frame f are 8 f + 2 i; noise below."""
    rng = np.random.default_rng(0)
    av = pytest.importorskip("av", reason="extra 'video'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr0"
        for f in range(30):
            row = (8 * f + 2 * (np.arange(64) // 8)).astype(np.uint8)
            pixels = np.broadcast_to(row[None, :, None], (64, 64, 3)).copy()
            pixels[32:] = rng.integers(0, 256, (32, 64, 3))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_many_boxes_of_one_video_in_any_order(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    rows = [
        ["v.avi", f"track{t}", f, 8 * t, 8, 8 * t + 8, 16]
        for t in (5, 2)
        for f in (20, 3, 4) + ((29,) if t == 2 else ())
    ]
    corpus = Corpus.from_manifest(
        write_manifest(tmp_path, rows), tmp_path, size=(4, 4), box_scale=0.5
    )
    assert corpus.sequence_names == ["track5", "track2"]
    assert corpus.frame.tolist() == [3, 4, 20, 3, 4, 20, 29]
    assert corpus.paths[2] == "v.avi#20"
    expected = [8 * f + 2 * t for t, fs in ((5, (3, 4, 20)), (2, (3, 4, 20, 29))) for f in fs]
    np.testing.assert_array_equal(corpus.frames[:, 0, 0, 0], expected)
    assert corpus.frames.std(axis=(1, 2, 3)).max() == 0


def test_rows_beyond_the_end_of_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    rows = [["v.avi", "t", f, 0, 0, 9, 9] for f in (0, 28, 30, 31)]
    manifest = write_manifest(tmp_path, rows)
    with pytest.raises(InputError, match="2 of 4 frames cannot be used"):
        Corpus.from_manifest(manifest, tmp_path)
    corpus = Corpus.from_manifest(manifest, tmp_path, max_rejected=0.5)
    assert corpus.rejected == [
        ("v.avi#30", "the video has only 30 frames"),
        ("v.avi#31", "the video has only 30 frames"),
    ]


def test_a_manifest_video_that_ends_early(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows = [["v.avi", "t", f, 0, 0, 9, 9] for f in (0, 1, 2, 29)]
    corpus = Corpus.from_manifest(write_manifest(tmp_path, rows), tmp_path, max_rejected=0.3)
    assert corpus.frame.tolist() == [0, 1, 2]
    assert corpus.rejected[0][0] == "v.avi#29"
    assert "ends early" in corpus.rejected[0][1] or "damaged" in corpus.rejected[0][1]


def test_labels_that_count_the_frames_of_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    rows = [["v.avi", s, f, 0, 0, 9, 9] for s in "ab" for f in (7, 8, 9)]
    corpus = Corpus.from_manifest(write_manifest(tmp_path, rows), tmp_path)
    paths = [f"{s}/I{i:05d}" for s in "ba" for i in range(3)]
    labels = olympic_sports.CategoryLabels(
        "v",
        np.array([0]),
        [np.array([4])],
        [np.array([3, 5])],
        [np.array([False])],
        [np.array([False, True])],
        paths,
    )
    found = evaluation.match_frames(labels, corpus).labels["v"]
    assert (found.anchors[0], found.positives[0].tolist()) == (3, [1])
    assert found.negatives[0].tolist() == [0, 2]
    corpus.rejected = [("v.avi#6", "damaged")]
    with pytest.raises(InputError, match="unsure in a corpus with rejected frames"):
        evaluation.match_frames(labels, corpus)


def test_pedestrians(shared: Path) -> None:
    pytest.importorskip("av", reason="extra 'video'")
    pytest.importorskip("h5py", reason="extra 'labels'")
    folder = shared / "pedestrians"
    root = Path(os.environ.get("CLIQUESIM_PEDESTRIANS_VIDEO", folder))
    if not (root / "vtest.avi").is_file():
        with pytest.raises(InputError, match=r"manifest\.csv, line 2: the video 'vtest.avi'"):
            Corpus.from_manifest(folder / "manifest.csv", root)
        pytest.skip("no vtest.avi (CLIQUESIM_PEDESTRIANS_VIDEO names its folder)")
    corpus = Corpus.from_manifest(folder / "manifest.csv", root, size=(64, 32))
    assert repr(corpus) == "Corpus(4167 frames of 64 x 32, 43 sequences)"
    assert corpus.rejected == []
    labels = olympic_sports.load_labels(folder)["pedestrians"]
    matched = evaluation.match_frames(labels, corpus).labels["pedestrians"]
    np.testing.assert_array_equal(matched.anchors, labels.anchors)
    pixels = corpus.frames.astype(np.float32).mean(axis=3)
    result = evaluation.retrieval_auc(
        matched, pixels.reshape(len(corpus), -1), pixels[:, :, ::-1].reshape(len(corpus), -1)
    )
    assert result.auc > 0.6  # 32 x 32 pixels of the box were measured at 0.73
