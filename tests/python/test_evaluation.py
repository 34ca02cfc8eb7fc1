"""Measures of Sect. 3 against plain references and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cliquesim import evaluation
from cliquesim.corpus import Corpus
from cliquesim.datasets.olympic_sports import CategoryLabels, load_labels
from cliquesim.errors import InputError


def random_labels(rng: np.random.Generator, n: int, n_anchors: int) -> CategoryLabels:
    def draw(sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [rng.choice(n, size, replace=False) for size in sizes]

    sizes = rng.integers(1, 12, (2, n_anchors))
    flips = [[rng.random(size) < 0.5 for size in row] for row in sizes]
    return CategoryLabels(
        "random", rng.choice(n, n_anchors, replace=False), *map(draw, sizes), *flips
    )


def reference_auc(
    labels: CategoryLabels, plain: NDArray[np.float64], mirrored: NDArray[np.float64]
) -> tuple[float, list[float]]:
    """The protocol with NumPy's corrcoef and scikit-learn's ROC curve."""
    metrics = pytest.importorskip("sklearn.metrics")
    grid = np.linspace(0, 1, 101)
    curves, exact = [], []
    for i, anchor in enumerate(labels.anchors):
        frames = np.concatenate([labels.positives[i], labels.negatives[i]])
        flips = np.concatenate([labels.positive_flips[i], labels.negative_flips[i]])
        truth = np.arange(len(frames)) < len(labels.positives[i])
        scores = [
            np.corrcoef(plain[anchor], (mirrored if flip else plain)[frame])[0, 1]
            for frame, flip in zip(frames, flips, strict=True)
        ]
        scores = np.round(scores, 12)  # corrcoef's rounding must not break ties
        fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        curves.append(np.interp(grid, fpr, tpr))
        exact.append(metrics.roc_auc_score(truth, scores))
    return float(metrics.auc(grid, np.mean(curves, axis=0))), exact


@pytest.mark.parametrize("seed", range(5))
def test_protocol_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, 60, 9)
    plain, mirrored = rng.normal(size=(2, 60, 5))
    result = evaluation.retrieval_auc(labels, plain, mirrored)
    auc, exact = reference_auc(labels, plain, mirrored)
    assert result.auc == pytest.approx(auc, abs=1e-12)
    np.testing.assert_allclose(result.per_anchor, exact, atol=1e-12)
    assert result.fpr.shape == result.tpr.shape == (101,)
    without = evaluation.retrieval_auc(labels, plain)
    assert without.auc == pytest.approx(reference_auc(labels, plain, plain)[0], abs=1e-12)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
)
@settings(deadline=None, max_examples=200)
def test_roc_curve_with_ties(positives: list[int], negatives: list[int]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth = [1] * len(positives) + [0] * len(negatives)
    expected = metrics.roc_curve(truth, positives + negatives, drop_intermediate=False)
    fpr, tpr = evaluation.roc_curve(positives, negatives)
    np.testing.assert_array_equal(fpr, expected[0])
    np.testing.assert_array_equal(tpr, expected[1])
    # The area is the probability that a positive scores higher, ties counted half.
    pairs = np.subtract.outer(positives, negatives)
    area = (np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2
    assert area == pytest.approx((np.sign(pairs) + 1).mean() / 2)


def test_scores_may_be_given_directly() -> None:
    rng = np.random.default_rng(1)
    labels = random_labels(rng, 40, 6)
    features = rng.normal(size=(40, 4))
    expected = evaluation.retrieval_auc(labels, features, metric="dot")
    gram = features @ features.T
    pairs = [
        (gram[a, p], gram[a, n])
        for a, p, n in zip(labels.anchors, labels.positives, labels.negatives, strict=True)
    ]
    assert evaluation.retrieval_auc_from_scores(labels, pairs).auc == expected.auc
    by_function = evaluation.retrieval_auc_from_scores(labels, lambda a, frames, _: gram[a, frames])
    assert by_function.auc == expected.auc
    pairs[3] = (pairs[3][0] * np.nan, pairs[3][1])
    with pytest.raises(InputError, match="anchor 3 have NaN"):
        evaluation.retrieval_auc_from_scores(labels, pairs)
    with pytest.raises(InputError, match="2 anchors for 6 anchors"):
        evaluation.retrieval_auc_from_scores(labels, pairs[:2])


def plain_pooled(
    plain: NDArray[np.float64],
    columns: NDArray[np.float64],
    sequence: NDArray[np.int64],
    k: int,
    i: int,
    radius: int,
) -> float:
    """Eq. (9); the window shrinks jointly at the ends of either sequence."""
    terms = [
        plain[k + n] @ columns[i + n]
        for n in range(-radius, radius + 1)
        if 0 <= k + n < len(plain)
        and 0 <= i + n < len(plain)
        and sequence[k + n] == sequence[k]
        and sequence[i + n] == sequence[i]
    ]
    return float(np.mean(terms))


@pytest.mark.parametrize("radius", [1, 3])
def test_pooled_scores_against_equation_9(radius: int) -> None:
    rng = np.random.default_rng(radius)
    labels = random_labels(rng, 40, 8)
    sequence = np.repeat([0, 1, 2, 3], [7, 3, 20, 10])
    features = rng.normal(size=(2, 40, 6))
    centred = features - features.mean(axis=2, keepdims=True)
    plain, mirrored = centred / np.linalg.norm(centred, axis=2, keepdims=True)

    def scores(anchor: int, frames: NDArray[np.int64], flips: NDArray[np.bool_]) -> list[float]:
        return [
            plain_pooled(plain, mirrored if flip else plain, sequence, anchor, frame, radius)
            for frame, flip in zip(frames, flips, strict=True)
        ]

    expected = evaluation.retrieval_auc_from_scores(labels, scores)
    found = evaluation.retrieval_auc(
        labels, features[0], features[1], pool_radius=radius, sequence=sequence
    )
    np.testing.assert_array_equal(found.per_anchor, expected.per_anchor)
    assert found.auc == expected.auc
    plain_auc = evaluation.retrieval_auc(labels, features[0], features[1])
    assert found.auc != plain_auc.auc


def test_random_features_score_one_half(shared: Path) -> None:
    pytest.importorskip("h5py", reason="extra 'labels'")
    rng = np.random.default_rng(0)
    aucs = []
    for labels in load_labels(shared / "olympic_sports").values():
        plain, mirrored = rng.normal(size=(2, len(labels.image_paths), 16))
        aucs.append(evaluation.retrieval_auc(labels, plain, mirrored).auc)
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.02)


def test_joints_as_features_score_one(shared: Path) -> None:
    pytest.importorskip("h5py", reason="extra 'labels'")
    aucs, blind = [], []
    with np.load(shared / "athletes" / "joints.npz") as data:
        names = [str(name) for name in data["joint_names"]]
        hips = [names.index("r_hip"), names.index("l_hip")]
        for category, labels in load_labels(shared / "athletes").items():
            joints = data[f"{category}/joints"].astype(np.float64)
            joints -= joints[:, hips].mean(axis=1, keepdims=True)
            joints /= np.sqrt((joints**2).sum(axis=2).mean(axis=1))[:, None, None]
            mirrored = joints[:, data["swap"]] * [-1, 1]
            plain, mirrored = joints.reshape(len(joints), -1), mirrored.reshape(len(joints), -1)
            aucs.append(evaluation.retrieval_auc(labels, plain, mirrored).auc)
            blind.append(evaluation.retrieval_auc(labels, plain).auc)
    assert np.mean(aucs) > 0.999
    assert np.mean(blind) < 0.9  # about half of the labels are flipped


def test_constant_rows_have_no_correlation() -> None:
    labels = CategoryLabels(
        "c",
        np.array([0]),
        [np.array([1])],
        [np.array([2])],
        [np.array([False])],
        [np.array([False])],
    )
    features = np.array([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [3.0, 2.0, 1.0]])
    assert evaluation.retrieval_auc(labels, features).auc == 1.0  # 0 against -1
    features[2] = 0.7
    assert evaluation.retrieval_auc(labels, features).per_anchor[0] == 0.5


def test_bad_features_are_refused() -> None:
    rng = np.random.default_rng(0)
    labels = random_labels(rng, 20, 3)
    features = rng.normal(size=(20, 3))
    with pytest.raises(InputError, match="features has 5 rows"):
        evaluation.retrieval_auc(labels, features[:5])
    with pytest.raises(InputError, match="mirrored_features must have the shape"):
        evaluation.retrieval_auc(labels, features, features[:, :2])
    with pytest.raises(InputError, match="metric"):
        evaluation.retrieval_auc(labels, features, metric="cosine")
    with pytest.raises(InputError, match="needs the sequence"):
        evaluation.retrieval_auc(labels, features, pool_radius=1)
    features[7, 1] = np.nan
    with pytest.raises(InputError, match="features has NaN in row 7"):
        evaluation.retrieval_auc(labels, features)


def test_an_anchor_without_positives_is_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = random_labels(rng, 20, 3)
    features = rng.normal(size=(20, 3))
    kept = CategoryLabels(
        "kept",
        labels.anchors[1:],
        labels.positives[1:],
        labels.negatives[1:],
        labels.positive_flips[1:],
        labels.negative_flips[1:],
    )
    labels.positives[0] = labels.positives[0][:0]
    labels.positive_flips[0] = labels.positive_flips[0][:0]
    result = evaluation.retrieval_auc(labels, features)
    assert np.isnan(result.per_anchor[0])
    assert result.auc == evaluation.retrieval_auc(kept, features).auc
    for i in (1, 2):
        labels.positives[i], labels.positive_flips[i] = (
            labels.positives[0],
            labels.positive_flips[0],
        )
    with pytest.raises(InputError, match="no anchor has both"):
        evaluation.retrieval_auc(labels, features)


def test_bootstrap_interval_covers_like_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 200)
    low, high = evaluation.bootstrap_interval([*values, np.nan], seed=3)
    half = 1.96 * values.std() / np.sqrt(200)
    assert low == pytest.approx(values.mean() - half, abs=0.002)
    assert high == pytest.approx(values.mean() + half, abs=0.002)
    assert evaluation.bootstrap_interval(values, seed=3) == (low, high)
    with pytest.raises(InputError, match="no numbers"):
        evaluation.bootstrap_interval([np.nan])


def labelled(paths: list[str], anchors: list[int], category: str = "walk") -> CategoryLabels:
    """Every other frame is a positive or a negative of every anchor."""
    n = len(paths)
    return CategoryLabels(
        category,
        np.array(anchors),
        [np.arange(1, n, 2)] * len(anchors),
        [np.arange(0, n, 2)] * len(anchors),
        [np.arange(1, n, 2) % 3 == 0] * len(anchors),
        [np.arange(0, n, 2) % 3 == 0] * len(anchors),
        paths,
    )


def small_corpus(paths: list[str]) -> Corpus:
    return Corpus.from_arrays(
        np.zeros((len(paths), 4, 4, 3), np.uint8),
        sequence=[path.rpartition("/")[0] for path in paths],
        category=[path.partition("/")[0] for path in paths],
        paths=paths,
    )


def test_match_frames_by_category_sequence_and_name() -> None:
    names = ["a/1", "a/2", "b/1", "b/2"]
    corpus = small_corpus([f"{c}/{n}.png" for c in ("run", "walk") for n in names])
    shuffled = ["b/2.jpg", "a/1.png", "b/1.png", "a/2.png"]  # another suffix is accepted
    matched = evaluation.match_frames(labelled(shuffled, [0, 3]), corpus)
    found = matched.labels["walk"]
    assert found.anchors.tolist() == [7, 5]
    assert found.positives[0].tolist() == [4, 5]
    assert found.negatives[1].tolist() == [7, 6]
    assert found.negative_flips[1].tolist() == [True, False]
    assert (matched.n_dropped_anchors, matched.n_dropped_labels) == (0, 0)
    with pytest.raises(InputError, match=r"walk/c/1\.png .*\(2 of 3 are missing\)"):
        evaluation.match_frames(labelled(["a/1.png", "c/1.png", "c/2.png"], [0]), corpus)


def test_match_frames_drops_what_the_corpus_rejected() -> None:
    corpus = small_corpus(["walk/a/1.png", "walk/b/1.png", "walk/b/2.png"])
    corpus.rejected = [("walk/a/2.png", "truncated")]
    labels = labelled(["a/1.png", "a/2.png", "b/1.png", "b/2.png"], [0, 1, 2])
    matched = evaluation.match_frames(labels, corpus)
    found = matched.labels["walk"]
    assert found.anchors.tolist() == [0, 1]
    assert [p.tolist() for p in found.positives] == [[2], [2]]
    assert [len(f) for f in found.positive_flips] == [1, 1]
    assert (matched.n_dropped_anchors, matched.n_dropped_labels) == (1, 2)


def test_a_corpus_without_categories_matches_one_category() -> None:
    corpus = Corpus.from_arrays(
        np.zeros((2, 4, 4, 3), np.uint8), sequence=["a", "b"], paths=["a/1.png", "b/1.png"]
    )
    labels = labelled(["b/1.png", "a/1.png"], [0])
    assert evaluation.match_frames(labels, corpus).labels["walk"].anchors.tolist() == [1]
    with pytest.raises(InputError, match="2 categories cannot be matched"):
        evaluation.match_frames({"x": labels, "y": labels}, corpus)


def test_frames_of_several_folders_are_found_in_any_of_them(tmp_path: Path) -> None:
    for file in ("mon/walk/a/1.png", "mon/walk/b/1.png", "tue/walk/c/1.png", "tue/walk/b/1.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / file)
    corpus = Corpus.from_folder([tmp_path / "mon", tmp_path / "tue"], size=(8, 8))
    found = evaluation.match_frames(labelled(["c/1.png", "a/1.png"], [0]), corpus).labels["walk"]
    assert corpus.paths[int(found.anchors[0])].endswith("c/1.png")
    with pytest.raises(InputError, match=r"walk/b may be mon/walk/b or tue/walk/b"):
        evaluation.match_frames(labelled(["b/1.png", "a/1.png"], [0]), corpus)


def plain_pcp(guess: NDArray[np.float64], truth: NDArray[np.float64], share: float) -> float:
    """Joints 0-1 and 1-2 are the parts."""
    hits = []
    for person in range(len(truth)):
        for a, b in ((0, 1), (1, 2)):
            length = np.hypot(*(truth[person, a] - truth[person, b]))
            far = [np.hypot(*(guess[person, j] - truth[person, j])) for j in (a, b)]
            hits.append(max(far) <= share * length)
    return float(np.mean(hits))


@pytest.mark.parametrize("seed", range(3))
def test_pcp_and_pckh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(50, 3, 2))
    guess = truth + rng.normal(scale=0.5, size=truth.shape)
    names = ["hip", "knee", "ankle"]
    parts = {"upper": [(("hip",), ("knee",))], "lower": [(("knee",), ("ankle",))]}
    for share in (0.2, 0.5):
        found = evaluation.pcp(guess, truth, names, share, parts)
        assert found["total"] == pytest.approx(plain_pcp(guess, truth, share))
        assert found["total"] == pytest.approx((found["upper"] + found["lower"]) / 2)
    heads = rng.uniform(0.5, 2, 50)
    near = np.hypot(*np.moveaxis(guess - truth, 2, 0)) <= 0.5 * heads[:, None]
    found = evaluation.pckh(guess, truth, heads, names)
    assert [found[name] for name in names] == pytest.approx(list(near.mean(axis=0)))
    assert found["total"] == pytest.approx(near.mean())


def test_missing_joints() -> None:
    truth = np.zeros((2, 2, 2))
    truth[:, 1, 0] = 10
    guess = truth.copy()
    truth[0, 0] = np.nan
    guess[1, 1] = np.nan
    parts = {"arm": [(("a",), ("b",))]}
    assert evaluation.pcp(guess, truth, ["a", "b"], parts=parts) == {"arm": 0.0, "total": 0.0}
    found = evaluation.pckh(guess, truth, [10, 10], ["a", "b"])
    assert found == {"a": 1.0, "b": 0.5, "total": 2 / 3}
    with pytest.raises(InputError, match="joint_names has no 'neck'"):
        evaluation.pcp(guess, truth, ["a", "b"])


def test_the_ten_parts_on_real_joints(shared: Path) -> None:
    with np.load(shared / "athletes" / "joints.npz") as data:
        names, joints = [str(name) for name in data["joint_names"]], data["walk/joints"]
    assert set(evaluation.pcp(joints, joints, names).values()) == {1.0}
    assert evaluation.pcp(joints[::-1] + 500, joints, names)["total"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_knn_accuracy_against_scikit_learn(seed: int) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(80, 6)), rng.normal(size=(40, 6))
    known, wanted = rng.integers(0, 2, 80), rng.integers(0, 2, 40)
    model = neighbors.KNeighborsClassifier(5, metric="correlation", algorithm="brute")
    expected = model.fit(train, known).score(test, wanted)  # odd k, two classes: no ties
    assert evaluation.knn_accuracy(train, known, test, wanted) == pytest.approx(expected)
    with pytest.raises(InputError, match="at most the 80"):
        evaluation.knn_accuracy(train, known, test, wanted, k=81)


def test_knn_votes_that_tie_go_to_the_nearest() -> None:
    train = np.array([[1.0, 0], [0.9, 0], [0.8, 0], [0.7, 0]])
    for names, winner in ((["b", "a", "a", "b"], "b"), (["a", "b", "b", "a"], "a")):
        accuracy = evaluation.knn_accuracy(train, names, [[1.0, 0]], [winner], k=4, metric="dot")
        assert accuracy == 1.0
