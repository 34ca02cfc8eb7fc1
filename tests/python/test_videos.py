"""Videos: every frame in order, early ends and files that are no videos."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliquesim import Corpus
from cliquesim.errors import InputError

av = pytest.importorskip("av", reason="extra 'video'")


def write_video(path: Path, n: int = 40, codec: str = "mpeg4") -> Path:
    """Frame i is a grey of level 5 i + 20, with a white square whose left edge is at i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.bit_rate = 4_000_000
        for i in range(n):
            pixels = np.full((64, 96, 3), 5 * i + 20, dtype=np.uint8)
            pixels[20:40, i : i + 20] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def levels(corpus: Corpus) -> list[int]:
    """The number of each frame, read from its corner's brightness."""
    corner = corpus.frames[:, 1:4, 1:4].astype(float).mean(axis=(1, 2, 3))
    return np.round((corner - 20) / 5).astype(int).tolist()


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_every_video_is_a_sequence(tmp_path: Path, suffix: str) -> None:
    paths = [write_video(tmp_path / f"{name}{suffix}", n) for name, n in (("b", 40), ("a", 12))]
    corpus = Corpus.from_videos(paths, size=(32, 48), num_workers=3)
    assert len(corpus) == 52
    assert corpus.rejected == []
    assert corpus.sequence_names == ["b", "a"]
    assert corpus.category_names == [""]
    assert levels(corpus) == [*range(40), *range(12)]
    assert corpus.frame.tolist() == [*range(40), *range(12)]
    assert corpus.paths[40] == f"a{suffix}#0"


def test_every_third_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    corpus = Corpus.from_videos(path, every=3)
    assert levels(corpus) == list(range(0, 40, 3))
    assert corpus.frame.tolist() == list(range(0, 40, 3))


def test_a_folder_of_videos_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip10.avi", "clip2.avi", "deep/clip2.avi", ".hidden/clip1.avi"):
        write_video(tmp_path / name, 5)
    corpus = Corpus.from_videos(tmp_path)
    assert corpus.sequence_names == [
        str(tmp_path / "clip2.avi"),
        "clip10",
        str(tmp_path / "deep" / "clip2.avi"),
    ]


def test_videos_and_folders_of_videos_together(tmp_path: Path) -> None:
    from cliquesim.corpus.sources import open_corpus

    for name in ("one.avi", "flat/two.avi", "deep/x/three.avi", "deep/y/four.avi"):
        write_video(tmp_path / name, 5)
    (tmp_path / "flat" / "preview.png").touch()
    given = [tmp_path / name for name in ("one.avi", "deep", "flat")]
    corpus = open_corpus(given, size=(32, 32))
    assert corpus.sequence_names == ["one", "three", "four", "two"]
    assert open_corpus([tmp_path / "deep"], size=(32, 32)).sequence_names == ["three", "four"]


def test_folders_of_frames_and_videos_are_not_mixed(tmp_path: Path) -> None:
    from cliquesim.corpus.sources import open_corpus

    frames = tmp_path / "frames"
    (frames / "a").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(frames / "a" / "0.png")
    write_video(frames / "a.avi", 5)  # the video that the frames came from: no other kind
    assert open_corpus([frames], size=(32, 32)).paths == ["a/0.png"]
    video = write_video(tmp_path / "videos" / "b.avi", 5)
    for other, kind in ((video, "a file"), (video.parent, "a folder of videos")):
        with pytest.raises(InputError, match=f"frames is a folder of frames, but .* is {kind}"):
            open_corpus([other, frames])


def test_boxes_follow_the_square(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    rows = [f"{i + 1}\t{i + 1}\t21\t{i + 20}\t40\n" for i in range(5, 30)]
    (tmp_path / "a.bb").write_text("".join(rows))
    corpus = Corpus.from_videos(tmp_path / "a.avi", boxes=tmp_path, size=(20, 20), box_scale=1.0)
    assert corpus.frame.tolist() == list(range(5, 30))
    assert corpus.notes == ["15 frames of a.avi have no box and are left out"]
    assert corpus.frames[:, 3:-3, 3:-3].min() > 240  # nothing but the square
    from cliquesim.corpus.sources import open_corpus

    again = open_corpus([tmp_path / "a.avi"], boxes=tmp_path, size=(20, 20), box_scale=1.0)
    np.testing.assert_array_equal(again.frames, corpus.frames)


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_a_video_that_ends_early_keeps_its_frames(tmp_path: Path, share: float) -> None:
    path = write_video(tmp_path / "a.avi")
    whole = Corpus.from_videos(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    corpus = Corpus.from_videos(path)
    assert 3 < len(corpus) < 39
    assert levels(corpus) == list(range(len(corpus)))
    np.testing.assert_array_equal(corpus.frames, whole.frames[: len(corpus)])
    ((name, reason),) = corpus.rejected
    assert name == "a.avi"
    assert "ends early" in reason or "damaged after" in reason


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(InputError, match=r"1 of 1 videos cannot be used") as caught:
        Corpus.from_videos(text)
    assert "text.mp4: not a readable video" in str(caught.value)
    good = write_video(tmp_path / "good.avi", 5)
    with pytest.raises(InputError, match=r"1 of 2 videos"):
        Corpus.from_videos([good, text])
    corpus = Corpus.from_videos([good, text], max_rejected=0.5)
    assert len(corpus) == 5
    assert [name for name, _ in corpus.rejected] == ["text.mp4"]
    with pytest.raises(InputError, match="is given twice"):
        Corpus.from_videos([good, good])
    with pytest.raises(InputError, match=r"gone\.avi: no such file"):
        Corpus.from_videos(tmp_path / "gone.avi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no video files"):
        Corpus.from_videos(tmp_path / "empty")
    with pytest.raises(InputError, match="no video files given"):
        Corpus.from_videos([])
    with pytest.raises(InputError, match="every"):
        Corpus.from_videos(good, every=0)


def test_a_truncated_mp4_without_its_index_is_no_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.mp4: not a readable video"):
        Corpus.from_videos(path)


def test_the_cache_of_videos(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    cache = tmp_path / "cache"
    first = Corpus.from_videos(path, cache=cache)
    built = (cache / "frames.npy").stat().st_mtime_ns
    again = Corpus.from_videos(path, cache=cache)
    assert (cache / "frames.npy").stat().st_mtime_ns == built
    assert again.fingerprint == first.fingerprint
    assert again.paths == first.paths
    assert len(Corpus.from_videos(path, every=2, cache=cache)) == 20


def test_missing_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.avi", 5)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"cliquesim\[video\]"):
        Corpus.from_videos(path)
