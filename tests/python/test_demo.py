"""The rendered demo corpus: what lies on disk, that it is repeatable, that its labels are right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliquesim.datasets import demo
from cliquesim.datasets.demo import labels as demo_labels
from cliquesim.datasets.demo.body import SWAP, load_bodies
from cliquesim.datasets.demo.motion import SEGMENT_NAMES, Motion, load_clip, sample
from cliquesim.errors import InputError

pytest.importorskip("cv2", reason="needs the extra demo")
pytest.importorskip("pybullet_data", reason="needs the extra demo")
h5py = pytest.importorskip("h5py", reason="needs the extra demo")

SHAPE = (2, 3, 4)  # categories, sequences each, frames each


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.*"))
        if path.suffix in {".jpg", ".txt", ".bb", ".json"}
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    return demo.render(tmp_path_factory.mktemp("demo") / "small", *SHAPE, size=64, seed=3)


@pytest.fixture(scope="module")
def jumpers(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    """One category with enough sequences for full labels."""
    return demo.render(tmp_path_factory.mktemp("demo") / "one", 1, 8, 12, size=48, seed=11)


def test_layout(corpus: demo.Demo) -> None:
    assert corpus.categories == ("run", "kick")
    assert (corpus.n_sequences, corpus.n_frames) == (6, 24)
    for category in corpus.categories:
        listed = (corpus.root / f"image_paths/imagePaths_{category}.txt").read_text().split()
        assert len(listed) == 12
        assert listed[4] == f"./{category}_01/I00000.jpg"
        for path in listed:
            with Image.open(corpus.frames / category / path) as image:
                assert image.format == "JPEG"
                assert image.size == (64, 64)
        boxes = np.loadtxt(corpus.root / f"bboxes/{category}/{category}_02.bb", delimiter="\t")
        assert boxes[:, 0].tolist() == [1, 2, 3, 4]
        assert (boxes[:, 1:3] < boxes[:, 3:5]).all()
        assert boxes[:, 1:].min() >= 1
        assert boxes[:, 1:].max() <= 64
    facts = json.loads((corpus.root / "sequences.json").read_text())
    assert set(facts) == {"run", "kick"}
    assert [facts["run"][f"run_0{i}"]["mirrored"] for i in range(3)] == [False, True, False]
    assert not list(corpus.root.parent.glob(".*")), "nothing temporary stays behind"


def test_joints_lie_inside_the_boxes_and_frames(corpus: demo.Demo) -> None:
    with np.load(corpus.root / "joints.npz", allow_pickle=False) as data:
        assert data["joint_names"].tolist() == list(demo.JOINT_NAMES)
        for category in corpus.categories:
            joints, boxes = data[f"{category}/joints"], data[f"{category}/bbox"]
            assert joints.shape == (12, 14, 2)
            assert (joints >= boxes[:, None, :2] - 1).all()
            assert (joints <= boxes[:, None, 2:]).all()
            assert data[f"{category}/seq"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
            assert (np.diff(data[f"{category}/time"].reshape(3, 4)) > 0).all()


def test_the_athlete_is_where_the_joints_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rendered once with, once without the athlete: what changes lies at the joints."""
    from cliquesim.datasets.demo import picture

    with_athlete = demo.render(tmp_path / "with", 2, 2, 3, size=64, seed=5)
    joints = np.load(with_athlete.root / "joints.npz")

    def nobody(self: picture.Photographer, *_: object) -> tuple[np.ndarray, np.ndarray]:
        side = self._pixels
        return np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)

    monkeypatch.setattr(picture.Photographer, "_athlete", nobody)
    monkeypatch.setattr(picture.Photographer, "_shadow", lambda *_: np.ones((64, 64), np.float32))
    without = demo.render(tmp_path / "without", 2, 2, 3, size=64, seed=5)
    hits, far = [], []
    for category in with_athlete.categories:
        listed = (with_athlete.root / f"image_paths/imagePaths_{category}.txt").read_text().split()
        for row, path in enumerate(listed):
            a, b = (
                np.asarray(Image.open(c.frames / category / path), np.float32)
                for c in (with_athlete, without)
            )
            changed = np.abs(a - b).max(axis=2) > 20
            pixels = joints[f"{category}/joints"][row].astype(int)
            hits.append(changed[pixels[:, 1], pixels[:, 0]])
            xmin, ymin, xmax, ymax = joints[f"{category}/bbox"][row] - 1
            outside = np.ones((64, 64), bool)
            outside[max(ymin - 3, 0) : ymax + 4, max(xmin - 3, 0) : xmax + 4] = False
            far.append(changed[outside].mean())
    assert np.mean(hits) > 0.8
    assert np.mean(far) < 0.15  # only the shadow reaches out of the box


def test_same_seed_same_bytes_for_any_number_of_workers(corpus: demo.Demo, tmp_path: Path) -> None:
    again = demo.render(tmp_path / "again", *SHAPE, size=64, seed=3, num_workers=1)
    assert _hashes(again.root) == _hashes(corpus.root)
    other = demo.render(tmp_path / "other", *SHAPE, size=64, seed=4, num_workers=3)
    ours, theirs = _hashes(corpus.root), _hashes(other.root)
    assert all(ours[name] != theirs[name] for name in ours if name.endswith(".jpg"))


def test_a_larger_corpus_contains_the_smaller_one(corpus: demo.Demo, tmp_path: Path) -> None:
    larger = _hashes(demo.render(tmp_path / "larger", 3, 4, 4, size=64, seed=3).root)
    smaller = _hashes(corpus.root)
    frames = [name for name in smaller if name.endswith(".jpg")]
    assert len(frames) == 24
    assert all(larger[name] == smaller[name] for name in frames)


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    return float((positive[:, None] > negative[None]).mean())


def test_labels_follow_their_definition(jumpers: demo.Demo) -> None:
    data = np.load(jumpers.root / "joints.npz")
    joints, sequence = data["run/joints"].astype(float), data["run/seq"]
    plain = demo_labels.normalize_joints(joints)
    mirrored = demo_labels.mirror_joints(plain)
    with h5py.File(jumpers.root / "labels_hdf5/labels_run.hdf5") as file:
        anchors = file["anchors"][:]
        assert anchors.dtype == np.int32
        assert len(anchors) >= 10
        aucs = []
        for row, anchor in enumerate(anchors):
            score = {}
            for kind in ("pos", "neg"):
                ids, flips = file[f"{kind}_ids"][row], file[f"{kind}_flipvals"][row]
                assert ids.dtype == flips.dtype == np.int32
                assert len(set(ids)) == len(ids) == len(flips) == 10
                assert not (sequence[ids] == sequence[anchor]).any()
                direct, flipped = (
                    np.linalg.norm(pose[ids] - plain[anchor], axis=2).mean(axis=1)
                    for pose in (plain, mirrored)
                )
                np.testing.assert_array_equal(flips == 1, flipped < direct)
                score[kind] = -np.minimum(direct, flipped)
            positives = sequence[file["pos_ids"][row]]
            assert np.bincount(positives).max() <= 3
            assert score["pos"].min() >= -0.45
            aucs.append(_auc(score["pos"], score["neg"]))
        # Positives skip the fourth-nearest of a sequence, so this is just short of 1 by definition.
        assert np.mean(aucs) > 0.999
        flips = np.concatenate(list(file["pos_flipvals"]))
        assert 0.1 < flips.mean() < 0.9, "half of the sequences are mirrored"


def test_one_sequence_has_no_labels(tmp_path: Path) -> None:
    alone = demo.render(tmp_path / "alone", 1, 1, 3, size=32)
    with h5py.File(alone.root / "labels_hdf5/labels_run.hdf5") as file:
        assert file["anchors"].shape == file["pos_ids"].shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_categories": 0}, "n_categories must be at least 1"),
        ({"n_categories": 99}, "n_categories must be at most 15, got 99"),
        ({"frames_per_sequence": 0}, "frames_per_sequence"),
        ({"size": 8}, "size must be at least 32"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"num_workers": -2}, "num_workers"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        demo.render(tmp_path / "never", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        demo.render(tmp_path, 1, 1, 1, size=32)
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_an_interrupted_render_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(share: float) -> None:
        assert share == pytest.approx(1 / 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.render(tmp_path / "half", 1, 3, 2, size=32, num_workers=1, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_progress_ends_at_one(tmp_path: Path) -> None:
    seen: list[float] = []
    demo.render(tmp_path / "d", 1, 3, 2, size=32, progress=seen.append)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_rest_pose_hangs_the_limbs_straight_down() -> None:
    bodies = load_bodies()
    still = Motion(np.tile(np.eye(3), (1, len(SEGMENT_NAMES), 1, 1)), np.zeros((1, 3)))
    names = list(demo.JOINT_NAMES)
    for body in range(len(bodies)):
        vertices, normals, joints = bodies.pose(body, still)
        assert vertices.shape == normals.shape == (1, 13718, 3)
        for upper, lower in (("upperarm01", "lowerarm01"), ("lowerleg01", "foot")):
            for side in (".L", ".R"):
                limb = joints[0, names.index(lower + side)] - joints[0, names.index(upper + side)]
                assert limb[2] < -0.1
                assert np.abs(limb[:2]).max() < 0.1 * np.linalg.norm(limb)
        mirrored = joints[0][SWAP] * [-1, 1, 1]
        np.testing.assert_allclose(mirrored, joints[0], atol=0.02)  # bodies are symmetric


@pytest.mark.parametrize("name", demo.CATEGORIES)
def test_every_clip_moves_smoothly(name: str) -> None:
    clip = load_clip(name)
    cycles = 3 if name in ("run", "walk") else 1
    times = np.linspace(0.0, clip.duration * cycles, 400 * cycles)
    motion = sample(clip, times, np.zeros((len(times), len(SEGMENT_NAMES), 3)))
    turn = np.swapaxes(motion.rotations[:-1], 2, 3) @ motion.rotations[1:]
    angles = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=2, axis2=3) - 1) / 2, -1, 1)))
    assert angles.max() < 15.0, "no jump, not even at the seam of a cycle"
    assert np.abs(np.diff(motion.root, axis=0)).max() < 0.1
