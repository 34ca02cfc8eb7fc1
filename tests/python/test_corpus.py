"""Image folders: layout, crops against a plain reference, damaged input, the cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cliquesim import Corpus
from cliquesim.corpus import store
from cliquesim.corpus.images import Box, CropRule, Picture, crop
from cliquesim.errors import InputError


def save_picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """A smooth random RGB picture of (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two categories; run/a has 12 frames, run/b and walk/a have 3."""
    root = tmp_path / "frames"
    for sequence, n in (("run/a", 12), ("run/b", 3), ("walk/a", 3)):
        for i in range(n):
            save_picture(root / sequence / f"frame{i}.png", seed=i)
    return root


# -- layout ------------------------------------------------------------------------------------


def test_category_sequence_frame(folder: Path) -> None:
    corpus = Corpus.from_folder(folder, size=(16, 20))
    assert corpus.frames.shape == (18, 16, 20, 3)
    assert corpus.frames.dtype == np.uint8
    assert corpus.sequence_names == ["run/a", "run/b", "walk/a"]
    assert corpus.category_names == ["run", "walk"]
    assert corpus.sequence.tolist() == [0] * 12 + [1] * 3 + [2] * 3
    assert corpus.category.tolist() == [0] * 15 + [1] * 3
    assert corpus.frame.tolist() == [*range(12), *range(3), *range(3)]  # 10 comes after 9
    assert corpus.paths[10] == "run/a/frame10.png"
    assert corpus.rejected == []
    assert len(corpus) == 18
    assert repr(corpus) == "Corpus(18 frames of 16 x 20, 3 sequences, 2 categories)"
    np.testing.assert_array_equal(corpus[0], corpus[12])  # the same picture


def test_sequences_without_categories(folder: Path) -> None:
    corpus = Corpus.from_folder(folder / "run")
    assert corpus.sequence_names == ["a", "b"]
    assert corpus.category_names == [""]
    assert not corpus.has_categories


def test_frames_in_the_folder_itself_are_one_sequence(folder: Path) -> None:
    corpus = Corpus.from_folder(folder / "run" / "b")
    assert corpus.sequence_names == ["b"]
    assert corpus.paths[0] == "frame0.png"


def test_frame_numbers_come_from_the_names_when_they_rise(tmp_path: Path) -> None:
    for name in ("x/I00050.png", "x/I00052.png", "y/a.png", "y/b.png", "z/take1.png", "z/b1.png"):
        save_picture(tmp_path / name)
    assert Corpus.from_folder(tmp_path).frame.tolist() == [50, 52, 0, 1, 0, 1]


def test_hidden_and_other_files_and_link_loops(folder: Path) -> None:
    save_picture(folder / ".hidden" / "a" / "1.png")
    save_picture(folder / "run" / "a" / ".frame99.png")
    (folder / "run" / "a" / "notes.txt").write_text("no image")
    (folder / "run" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "walk" / "again").symlink_to(folder / "run" / "a", target_is_directory=True)
    (folder / "run" / "b" / "frame3.png").symlink_to(folder / "run" / "a" / "frame3.png")
    corpus = Corpus.from_folder(folder)
    assert len(corpus) == 19
    assert corpus.sequence_names == ["run/a", "run/b", "walk/a"]
    assert corpus.notes == ["1 files that are no images by their name were ignored"]


# -- several folders ---------------------------------------------------------------------------


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    """Monday has run/a and walk/a, Tuesday run/a and a frame without a sequence of its own."""
    for i, name in enumerate(("mon/run/a/1.png", "mon/run/a/2.png", "mon/walk/a/1.png")):
        save_picture(tmp_path / name, seed=i)
    for i, name in enumerate(("tue/run/a/1.png", "tue/9.png")):
        save_picture(tmp_path / name, seed=10 + i)
    return [tmp_path / "mon", tmp_path / "tue"]


def test_several_folders_are_one_corpus(days: list[Path]) -> None:
    corpus = Corpus.from_folder(days, size=(16, 20))
    assert corpus.sequence_names == ["mon/run/a", "mon/walk/a", "tue", "tue/run/a"]
    assert corpus.paths == [
        "mon/run/a/1.png",
        "mon/run/a/2.png",
        "mon/walk/a/1.png",
        "tue/9.png",
        "tue/run/a/1.png",
    ]
    assert corpus.category_names == ["run", "walk", ""]
    assert corpus.category.tolist() == [0, 0, 1, 2, 0]  # the same "run" in both
    assert corpus.frame.tolist() == [1, 2, 1, 9, 1]
    parts = [Corpus.from_folder(day, size=(16, 20)) for day in days]
    np.testing.assert_array_equal(corpus.frames, np.concatenate([part.frames for part in parts]))
    turned = Corpus.from_folder(iter(days[::-1]), size=(16, 20))
    assert turned.sequence_names == ["tue", "tue/run/a", "mon/run/a", "mon/walk/a"]


def test_a_list_of_one_folder_is_that_folder(folder: Path) -> None:
    assert Corpus.from_folder([folder]).fingerprint == Corpus.from_folder(folder).fingerprint


def test_folders_by_relative_paths_and_links(
    days: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(days[0])
    (days[0].parent / "wed").symlink_to(days[1], target_is_directory=True)
    corpus = Corpus.from_folder([".", "../wed"])
    assert corpus.sequence_names == ["mon/run/a", "mon/walk/a", "wed", "wed/run/a"]


def test_folders_that_overlap_or_share_a_name_are_refused(days: list[Path], tmp_path: Path) -> None:
    mon, tue = days
    (tmp_path / "wed").symlink_to(mon, target_is_directory=True)
    other = save_picture(tmp_path / "other" / "mon" / "a" / "1.png").parent.parent
    for folders, message in (
        ([mon, tue, mon], "mon: is given twice$"),
        ([mon, tmp_path / "wed"], "wed: is given twice, as .*mon$"),
        ([mon / "run", mon], "mon/run: lies inside .*mon, which is given"),
        ([mon, tue, mon / "run" / "a"], "mon/run/a: lies inside .*mon, which is given"),
        ([mon, other], "mon and .*other/mon have the same name.*rename one"),
        ([mon, tmp_path / "gone"], "gone: no such folder"),
        ([mon, tue / "9.png"], "9.png: is a file"),
        ([], "no folder of frames given"),
    ):
        with pytest.raises(InputError, match=message):
            Corpus.from_folder(folders)


def test_what_several_folders_leave_out_is_named_with_the_folder(days: list[Path]) -> None:
    (days[1] / "run" / "a" / "2.png").write_text("no picture")
    (days[1] / "run" / "a" / "3.png").symlink_to(days[1] / "gone.png")
    (days[1] / "notes.txt").touch()
    corpus = Corpus.from_folder(days, max_rejected=0.5)
    assert sorted(path for path, _ in corpus.rejected) == ["tue/run/a/2.png", "tue/run/a/3.png"]
    (note,) = corpus.notes
    assert note.startswith(f"{days[1]}: 1 files")
    with pytest.raises(InputError, match=r"mon, .*tue: 2 of 7 frames cannot be used"):
        Corpus.from_folder(days)


def test_boxes_of_several_folders(days: list[Path], tmp_path: Path) -> None:
    rows = "2\t11\t6\t30\t25\n3\t1\t1\t20\t20\n"
    # Beside each folder, found for it alone ...
    beside = tmp_path / "x" / "bboxes" / "run"
    beside.mkdir(parents=True)
    (beside / "a.bb").write_text(rows)
    mon, tue = days[0].rename(tmp_path / "x" / "mon"), days[1]
    corpus = Corpus.from_folder([mon, tue], size=(22, 22))
    alone = Corpus.from_folder(mon, size=(22, 22))
    np.testing.assert_array_equal(corpus.frames[:3], alone.frames)
    assert corpus.notes == [f"{mon}: {note}" for note in alone.notes]
    whole = Corpus.from_folder([mon, tue], size=(22, 22), boxes=None)
    assert (corpus.frames[:2] != whole.frames[:2]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(corpus.frames[2:], whole.frames[2:])
    # ... or all in one folder, under the names of the folders.
    boxes = tmp_path / "all"
    for name in ("mon", "tue"):
        with pytest.raises(InputError, match=f"all/{name}: no such folder of boxes"):
            Corpus.from_folder([mon, tue], boxes=boxes)
        (boxes / name / "run").mkdir(parents=True)
        (boxes / name / "run" / "a.bb").write_text(rows)
    named = Corpus.from_folder([mon, tue], size=(22, 22), boxes=boxes, max_rejected=1.0)
    assert named.paths == ["mon/run/a/1.png", "mon/run/a/2.png", "tue/run/a/1.png"]
    np.testing.assert_array_equal(named.frames[:2], corpus.frames[:2])


# -- damaged input -----------------------------------------------------------------------------


def test_wrong_path_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        Corpus.from_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no images"):
        Corpus.from_folder(tmp_path / "empty")
    (tmp_path / "empty" / "clip.mp4").touch()
    with pytest.raises(InputError, match=r"but 1 video files \(Corpus.from_videos"):
        Corpus.from_folder(tmp_path / "empty")
    with pytest.raises(InputError, match=r"clip\.mp4: is a file"):
        Corpus.from_folder(tmp_path / "empty" / "clip.mp4")


def damage(folder: Path) -> None:
    """A text file named .jpg, a truncated JPEG, an empty file, a broken link, a pipe."""
    (folder / "frame100.jpg").write_text("this is no picture")
    whole = save_picture(folder / "frame101.jpg", size=(400, 300)).read_bytes()
    (folder / "frame101.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "frame102.png").touch()
    (folder / "frame103.jpg").symlink_to(folder / "gone.jpg")
    os.mkfifo(folder / "frame104.jpg")


def test_damaged_frames_are_listed_and_counted(folder: Path) -> None:
    damage(folder / "run" / "a")
    corpus = Corpus.from_folder(folder, max_rejected=0.3, num_workers=3)
    assert len(corpus) == 18
    reasons = dict(corpus.rejected)
    assert sorted(reasons) == [
        f"run/a/frame{i}" for i in ("100.jpg", "101.jpg", "102.png", "103.jpg", "104.jpg")
    ]
    assert "cannot identify image file" in reasons["run/a/frame100.jpg"]
    assert "image file is truncated" in reasons["run/a/frame101.jpg"]
    assert "No such file" in reasons["run/a/frame103.jpg"]
    assert reasons["run/a/frame104.jpg"] == "not a regular file"
    assert str(folder) not in "".join(reasons.values())
    clean = Corpus.from_folder(folder / "run" / "b")
    np.testing.assert_array_equal(corpus.frames[12:15], clean.frames)


def test_too_many_damaged_frames_stop_the_build(folder: Path, tmp_path: Path) -> None:
    damage(folder / "run" / "a")
    with pytest.raises(InputError, match=r"5 of 23 frames cannot be used.*0\.05") as caught:
        Corpus.from_folder(folder, cache=tmp_path / "cache")
    assert "run/a/frame100.jpg: not a readable image" in str(caught.value)
    left = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert left == [".lock"]


def test_only_damaged_frames(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("no picture")
    with pytest.raises(InputError, match="1 of 1 frames cannot be used"):
        Corpus.from_folder(tmp_path, max_rejected=1.0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "bmp", "webp", "ppm"])
def test_flipped_bytes_are_never_fatal(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    whole = save_picture(tmp_path / f"a.{suffix}").read_bytes()
    for i in range(30):
        broken = bytearray(whole)
        for place in rng.integers(0, min(len(whole), (60, 10**6)[i % 2]), 5):
            broken[place] = rng.integers(256)
        (tmp_path / f"{i}.{suffix}").write_bytes(broken[: rng.integers(1, 2 * len(whole))])
    corpus = Corpus.from_folder(tmp_path, size=(16, 16), max_rejected=1.0)
    assert len(corpus) + len(corpus.rejected) == 31
    assert corpus.rejected
    assert f"a.{suffix}" in corpus.paths


def test_one_frame_and_equal_frames_are_a_corpus(tmp_path: Path) -> None:
    for i in range(3):
        save_picture(tmp_path / f"{i}.png")
    assert len(Corpus.from_folder(tmp_path)) == 3
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").unlink()
    assert len(Corpus.from_folder(tmp_path)) == 1


def test_a_file_name_that_is_not_utf8(folder: Path) -> None:
    source = (folder / "run" / "a" / "frame0.png").read_bytes()
    with open(os.fsencode(folder / "run" / "a") + b"/frame\xff.png", "wb") as stream:  # noqa: PTH123
        stream.write(source)
    corpus = Corpus.from_folder(folder, max_rejected=0.1)
    assert corpus.rejected == [("run/a/frame\\udcff.png", "the file name is not UTF-8")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 96}, "size must be"),
        ({"size": (0, 96)}, "size must be at least 1"),
        ({"size": (96, 10**6)}, "size must be at most"),
        ({"box_scale": -1}, "box_scale"),
        ({"fit": "stretch"}, "fit must be one of"),
        ({"max_rejected": 2}, "max_rejected"),
        ({"num_workers": 0}, "num_workers"),
        ({"boxes": "missing-folder"}, "no such folder of boxes"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Corpus.from_folder(folder, **arguments)  # type: ignore[arg-type]


# -- crops -------------------------------------------------------------------------------------


def reference_crop(
    picture: NDArray[np.uint8], region: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Cubic convolution (a = -0.5), widened when shrinking, over edge-replicated pixels."""

    def weights(start: float, stop: float, n_in: int, n_out: int) -> NDArray[np.float64]:
        scale = (stop - start) / n_out
        width = max(scale, 1.0)
        matrix = np.zeros((n_out, n_in))
        for i in range(n_out):
            centre = start + (i + 0.5) * scale
            for j in range(int(centre - 2 * width) - 2, int(centre + 2 * width) + 3):
                x = abs(j + 0.5 - centre) / width
                if x < 1:
                    value = (1.5 * x - 2.5) * x * x + 1
                elif x < 2:
                    value = ((-0.5 * x + 2.5) * x - 4) * x + 2
                else:
                    continue
                matrix[i, min(max(j, 0), n_in - 1)] += value
            matrix[i] /= matrix[i].sum()
        return matrix

    left, top, right, bottom = region
    rows = weights(top, bottom, picture.shape[0], size[0])
    columns = weights(left, right, picture.shape[1], size[1])
    return np.einsum("yh,xw,hwc->yxc", rows, columns, picture.astype(np.float64)).clip(0, 255)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        (Box(10, 5, 30, 25), (16, 16)),  # inside, shrunk a little
        (Box(10, 5, 30, 25), (64, 64)),  # enlarged
        (Box(-6, 10, 12, 50), (24, 24)),  # reaches over two borders
        (Box(2, 2, 58, 46), (16, 16)),  # the scaled box is larger than the picture
        (Box(20, 10, 30, 40), (32, 16)),  # not square
    ],
)
def test_crop_of_a_box(box: Box, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    # Little contrast: Pillow clips what overshoots between the two passes.
    picture = rng.integers(80, 176, (48, 60, 3), dtype=np.uint8)
    rule = CropRule(size, 1.1, "crop")
    # The smallest region of the right aspect that holds the box, times 1.1, about its centre.
    unit = 1.1 * max((box.xmax - box.xmin) / size[1], (box.ymax - box.ymin) / size[0])
    x, y = (box.xmin + box.xmax) / 2, (box.ymin + box.ymax) / 2
    half_w, half_h = unit * size[1] / 2, unit * size[0] / 2
    expected = reference_crop(picture, (x - half_w, y - half_h, x + half_w, y + half_h), size)
    found = crop(Picture.of(picture), box, rule).astype(np.float64)
    assert found.shape == (*size, 3)
    inside = x - half_w >= 0 and x + half_w <= 60 and y - half_h >= 0 and y + half_h <= 48
    if not inside or (x - half_w > 4 and y - half_h > 4):
        assert np.abs(found - expected).max() <= 1.5  # 8-bit rounding between the two passes


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (32, 96)])
def test_extent_is_the_box_within_the_crop(size: tuple[int, int]) -> None:
    rule = CropRule(size, 1.3, "crop")
    box = Box(20, 10, 32, 40)
    region = rule.region(100, 100, box)
    wide, high = region.xmax - region.xmin, region.ymax - region.ymin
    assert rule.extent(box) == pytest.approx((12 / wide, 30 / high))
    assert max(rule.extent(box)) == pytest.approx(1 / 1.3)
    assert max(rule._replace(box_scale=0.5).extent(box)) == 1
    assert rule.extent(None) == (1, 1)


def test_fit_crop_and_pad() -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, :20] = 50
    wide[:, 40:] = 200
    cropped = crop(Picture.of(wide), None, CropRule((20, 20), 1.0, "crop"))
    np.testing.assert_array_equal(cropped, wide[:, 20:40])
    padded = crop(Picture.of(wide), None, CropRule((60, 60), 1.0, "pad"))
    np.testing.assert_array_equal(padded, wide[np.clip(np.arange(60) - 20, 0, 19)])


@pytest.mark.parametrize(
    "box", [Box(70, 0, 80, 10), Box(0, -9, 5, 0), Box(-1e9, 0, 1e9, 40), Box(0, 0, 60, 1e12)]
)
def test_impossible_boxes_are_refused_without_memory(box: Box) -> None:
    picture = Picture.of(np.zeros((48, 60, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"outside|far larger"):
        crop(picture, box, CropRule((16, 16), 1.1, "crop"))


def test_a_large_jpeg_is_decoded_reduced_but_looks_the_same(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a" / "0.jpg", size=(1003, 1501))
    corpus = Corpus.from_folder(tmp_path / "a", size=(48, 48), boxes=None)
    with Image.open(path) as image:
        full = crop(Picture.of(np.asarray(image)), None, CropRule((48, 48), 1.1, "crop"))
    assert np.abs(corpus.frames[0].astype(int) - full).max() <= 4
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "a.bb").write_text("1\t101\t201\t800\t1200\n")
    boxed = Corpus.from_folder(tmp_path, size=(48, 48), boxes=boxes)
    with Image.open(path) as image:
        rule = CropRule((48, 48), 1.1, "crop")
        full = crop(Picture.of(np.asarray(image)), Box(100, 200, 800, 1200), rule)
    assert np.abs(boxed.frames[0].astype(int) - full).max() <= 4


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    upright = rng.integers(0, 256, (4, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    stored = Image.fromarray(np.rot90(upright).copy())
    stored.save(tmp_path / "0.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "1.png")
    corpus = Corpus.from_folder(tmp_path, size=(32, 24))
    np.testing.assert_array_equal(corpus.frames[0], upright)
    np.testing.assert_array_equal(corpus.frames[1], upright)


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.full((8, 8, 3), (200, 100, 50), dtype=np.uint8))
    grey16 = Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16))
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("LA", (8, 8), (0, 128))
    palette = rgb.quantize(4)
    expected = {
        "0.png": (rgb.convert("L"), (124,) * 3),
        "1.png": (palette, (200, 100, 50)),
        "2.png": (grey16, (156,) * 3),
        "3.png": (clear, (255, 255, 255)),
        "4.png": (half, (127,) * 3),
        "5.tif": (rgb.convert("CMYK"), (200, 100, 50)),
        "6.jpg": (rgb.convert("CMYK"), (200, 100, 50)),
        "7.png": (rgb.convert("1"), None),
        "8.tif": (grey16, (156,) * 3),
        "9.gif": (palette, (200, 100, 50)),
    }
    for name, (image, _) in expected.items():
        image.save(tmp_path / name)
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    corpus = Corpus.from_folder(tmp_path, size=(8, 8), max_rejected=0.1)
    assert [path for path, _ in corpus.rejected] == ["float.tif"]
    for name, frame in zip(corpus.paths, corpus.frames, strict=True):
        colour = expected[name][1]
        if colour is not None:
            assert np.abs(frame.astype(int) - colour).max() <= 2, name


def test_boxes_beside_the_frames_are_found(folder: Path) -> None:
    boxes = folder.parent / "bboxes" / "run"
    boxes.mkdir(parents=True)
    (boxes / "b.bb").write_text("1\t11\t6\t30\t25\n2\t11\t6\t30\t25\n3\t11\t6\t30\t25\n")
    whole = Corpus.from_folder(folder, boxes=None, size=(22, 22))
    corpus = Corpus.from_folder(folder, size=(22, 22))
    assert "frames of 1 of 3 sequences are cropped" in corpus.notes[0]
    np.testing.assert_array_equal(corpus.frames[:12], whole.frames[:12])
    with Image.open(folder / "run" / "b" / "frame0.png") as image:
        pixels = np.asarray(image)
    np.testing.assert_array_equal(corpus.frames[12], pixels[4:26, 9:31])  # 1.1 x 20 = 22
    assert (whole.extent == 1).all()
    assert (corpus.extent[:12] == 1).all()
    np.testing.assert_array_equal(corpus.extent[12:15], np.float32([[20 / 22] * 2] * 3))
    only = Corpus.from_folder(folder / "run", size=(22, 22))  # a single category
    np.testing.assert_array_equal(only.frames[12], corpus.frames[12])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2\t1\t1\t9", "line 2: expected 5 columns"),
        ("2\t1\t1\t9\tx", "line 2: expected five numbers"),
        ("0\t1\t1\t9\t9", "line 2: frame indices start at 1"),
        ("1\t1\t1\t9\t9", "line 2: frame index 1 is there twice"),
        ("2\t9\t1\t5\t9", "line 2: the box is empty"),
        ("2\tnan\t1\t5\t9", "line 2: a box coordinate is not finite"),
    ],
)
def test_malformed_box_files(folder: Path, row: str, message: str) -> None:
    boxes = folder.parent / "bboxes" / "run"
    boxes.mkdir(parents=True)
    (boxes / "a.bb").write_text(f"1\t1\t1\t9\t9\n{row}\n")
    with pytest.raises(InputError, match=message) as caught:
        Corpus.from_folder(folder)
    assert str(boxes / "a.bb") in str(caught.value)


def test_a_frame_without_box_is_left_out(folder: Path) -> None:
    boxes = folder.parent / "bboxes" / "run"
    boxes.mkdir(parents=True)
    (boxes / "b.bb").write_text("1\t11\t6\t30\t25\n3\t11\t6\t30\t25\n")
    corpus = Corpus.from_folder(folder, max_rejected=0.1)
    assert len(corpus) == 17
    assert corpus.rejected[0][0] == "run/b/frame1.png"
    assert "no box for frame index 2" in corpus.rejected[0][1]


# -- cache -------------------------------------------------------------------------------------


def built_at(cache: Path) -> int:
    return (cache / "frames.npy").stat().st_mtime_ns


def test_the_cache_is_used_again_only_while_nothing_changed(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = Corpus.from_folder(folder, cache=cache)
    assert isinstance(first.frames, np.memmap)
    built = built_at(cache)
    again = Corpus.from_folder(folder, cache=cache)
    assert built_at(cache) == built
    assert again.fingerprint == first.fingerprint
    assert (again.paths, again.sequence_names) == (first.paths, first.sequence_names)
    np.testing.assert_array_equal(again.frame, first.frame)
    save_picture(folder / "run" / "a" / "frame0.png", seed=77)
    changed = Corpus.from_folder(folder, cache=cache)
    assert built_at(cache) != built
    assert changed.fingerprint != first.fingerprint
    built = built_at(cache)
    Corpus.from_folder(folder, cache=cache, box_scale=1.2)
    assert built_at(cache) != built


@pytest.mark.parametrize("what", ["truncated", "garbled", "table", "header", "unfinished"])
def test_a_damaged_cache_is_found_and_built_again(folder: Path, tmp_path: Path, what: str) -> None:
    cache = tmp_path / "cache"
    first = Corpus.from_folder(folder, cache=cache)
    fingerprint = first.fingerprint
    frames = cache / "frames.npy"
    whole = frames.read_bytes()
    if what == "truncated":
        frames.write_bytes(whole[:-1])
    elif what == "garbled":
        frames.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif what == "table":
        (cache / "frames.csv").write_text((cache / "frames.csv").read_text().replace("a", "b"))
    elif what == "header":
        (cache / "corpus.json").write_text("{")
    else:
        (cache / "corpus.json").unlink()
        (cache / "frames.npy.partial").write_bytes(b"left over")
    with pytest.raises(InputError, match=str(cache)):
        Corpus.load(cache)
    again = Corpus.from_folder(folder, cache=cache)
    assert again.fingerprint == fingerprint
    assert frames.read_bytes() == whole
    assert Corpus.load(cache, verify=True).fingerprint == fingerprint
    assert not (cache / "frames.npy.partial").exists()


def test_a_touched_but_equal_cache_is_still_good(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    Corpus.from_folder(folder, cache=cache)
    os.utime(cache / "frames.npy")
    touched = built_at(cache)
    Corpus.from_folder(folder, cache=cache)
    assert built_at(cache) == touched


def test_another_format_version_is_refused(folder: Path, tmp_path: Path) -> None:
    Corpus.from_folder(folder, cache=tmp_path / "cache")
    header = tmp_path / "cache" / "corpus.json"
    header.write_text(header.read_text().replace(f'"format": {store.FORMAT}', '"format": 99'))
    with pytest.raises(InputError, match=r"corpus\.json: expected corpus format 2, got 99"):
        Corpus.load(tmp_path / "cache")


def test_rejected_frames_survive_the_cache(folder: Path, tmp_path: Path) -> None:
    (folder / "run" / "a" / "frame5.png").write_text("no picture")
    first = Corpus.from_folder(folder, cache=tmp_path / "cache", max_rejected=0.1)
    again = Corpus.from_folder(folder, cache=tmp_path / "cache", max_rejected=0.1)
    assert again.rejected == first.rejected
    assert [path for path, _ in again.rejected] == ["run/a/frame5.png"]
    assert again.frame.tolist()[:11] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_killed_in_the_middle_then_built(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = f"""
import time
from cliquesim import Corpus
def wait(fraction):
    if fraction > 0.5:
        print("half", flush=True)
        time.sleep(100)
Corpus.from_folder({str(folder)!r}, cache={str(cache)!r}, num_workers=1, progress=wait)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (cache / "frames.npy.partial").stat().st_size > 0
    assert not (cache / "corpus.json").exists()
    corpus = Corpus.from_folder(folder, cache=cache)
    assert len(corpus) == 18
    assert not (cache / "frames.npy.partial").exists()
    assert corpus.fingerprint == Corpus.from_folder(folder).fingerprint


def test_a_temporary_cache_goes_with_the_corpus(folder: Path) -> None:
    corpus = Corpus.from_folder(folder)
    place = corpus.folder
    assert place is not None
    part = corpus.subset(np.arange(3))
    expected = corpus.frames[:3].copy()
    del corpus
    assert place.is_dir()
    np.testing.assert_array_equal(part.frames, expected)
    del part
    assert not place.exists()


def test_ctrl_c_leaves_nothing_half_written(folder: Path, tmp_path: Path) -> None:
    def interrupt(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Corpus.from_folder(folder, cache=tmp_path / "cache", progress=interrupt)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_progress_rises_to_one_and_workers_do_not_matter(folder: Path) -> None:
    seen: list[float] = []
    one = Corpus.from_folder(folder, num_workers=1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    many = Corpus.from_folder(folder, num_workers=7)
    assert one.fingerprint == many.fingerprint


# -- arrays, subsets, saving -------------------------------------------------------------------


def test_from_arrays_numbers_sequences() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    corpus = Corpus.from_arrays(frames, sequence=["b", "b", "a", "a", "a"], category=[7] * 5)
    assert corpus.frames is frames
    assert corpus.sequence.tolist() == [0, 0, 1, 1, 1]
    assert corpus.sequence_names == ["b", "a"]
    assert corpus.frame.tolist() == [0, 1, 0, 1, 2]
    assert corpus.category_names == ["7"]
    assert corpus.paths[3] == "a/1"
    assert Corpus.from_arrays(frames[:1]).n_sequences == 1
    np.testing.assert_array_equal(corpus.extent, np.ones((5, 2)))
    narrow = Corpus.from_arrays(frames, extent=[[0.3, 1]] * 5)
    assert narrow.extent.dtype == np.float32
    assert narrow.fingerprint != Corpus.from_arrays(frames).fingerprint


def test_bad_arrays() -> None:
    frames = np.zeros((4, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match="frames must be uint8"):
        Corpus.from_arrays(frames.astype(float))
    with pytest.raises(InputError, match="frames must be uint8"):
        Corpus.from_arrays(frames[..., 0])
    with pytest.raises(InputError, match="frames is empty"):
        Corpus.from_arrays(frames[:0])
    with pytest.raises(InputError, match="consecutive"):
        Corpus.from_arrays(frames, sequence=[0, 1, 0, 1])
    with pytest.raises(InputError, match="does not in row 2"):
        Corpus.from_arrays(frames, sequence=[0, 0, 0, 1], frame=[0, 3, 3, 1])
    with pytest.raises(InputError, match="sequence must be 4 integers or strings"):
        Corpus.from_arrays(frames, sequence=[0.5] * 4)
    with pytest.raises(InputError, match="paths must have 4 entries"):
        Corpus.from_arrays(frames, paths=["a"])
    with pytest.raises(InputError, match=r"extent must have shape \(4, 2\)"):
        Corpus.from_arrays(frames, extent=np.ones(4))
    for bad in (0, 1.5, np.nan):
        with pytest.raises(InputError, match=r"extent must be in \(0, 1\], got .* in row 2"):
            Corpus.from_arrays(frames, extent=[[1, 1], [1, 1], [1, bad], [1, 1]])


def test_subset_by_mask_and_indices(folder: Path) -> None:
    corpus = Corpus.from_folder(folder)
    walk = corpus.subset(corpus.category == 1)
    assert walk.paths == corpus.paths[15:]
    assert walk.sequence.tolist() == [2] * 3
    assert walk.sequence_names == corpus.sequence_names
    assert np.shares_memory(walk.frames, corpus.frames)
    some = corpus.subset([0, 5, 17])
    np.testing.assert_array_equal(some.frames, corpus[[0, 5, 17]])
    assert some.fingerprint != walk.fingerprint
    for rows in ([], [3, 2], [18], [-1], [0.5], np.zeros(4, bool)):
        with pytest.raises(InputError, match=r"subset|mask"):
            corpus.subset(rows)


def test_save_and_load(folder: Path, tmp_path: Path) -> None:
    corpus = Corpus.from_folder(folder).subset(np.arange(18) % 2 == 0)
    corpus.rejected = [("x", "why")]
    corpus.extent = np.random.default_rng(0).uniform(0.1, 1, corpus.extent.shape).astype(np.float32)
    corpus.save(tmp_path / "saved")
    loaded = Corpus.load(tmp_path / "saved", verify=True)
    assert loaded.fingerprint == corpus.fingerprint
    assert loaded.rejected == corpus.rejected
    np.testing.assert_array_equal(loaded.extent, corpus.extent)
    np.testing.assert_array_equal(loaded.subset([1, 3]).extent, corpus.extent[[1, 3]])
    assert loaded.paths == corpus.paths
    with pytest.raises(InputError, match=r"nowhere/corpus\.json: no such file"):
        Corpus.load(tmp_path / "nowhere")


def test_athletes(shared: Path) -> None:
    corpus = Corpus.from_folder(shared / "athletes" / "frames", size=(24, 24))
    assert repr(corpus) == "Corpus(3892 frames of 24 x 24, 192 sequences, 12 categories)"
    assert "192 of 192 sequences" in corpus.notes[0]
