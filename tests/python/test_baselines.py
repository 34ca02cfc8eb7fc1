"""Baselines: what each is made of, the table of a tiny run, and that nothing is computed twice."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_corpus import SMALL, write_figures, write_labels

import cliquesim as cs
from cliquesim import pipeline
from cliquesim.baselines import (
    BASELINES,
    GROUPS,
    ExemplarSvm,
    choose,
    evaluate_baselines,
    load_features,
    load_table,
    networks,
)
from cliquesim.baselines.networks import Positives, patches
from cliquesim.baselines.run import difference
from cliquesim.config import make_config
from cliquesim.errors import InputError, MissingExtraError, RunError
from cliquesim.evaluation.run import evaluate_run
from cliquesim.model import SimilarityModel
from cliquesim.pool import Pool
from cliquesim.report.run import report_run

h5py = pytest.importorskip("h5py", reason="extra 'labels'")

pytestmark = pytest.mark.filterwarnings(
    "ignore::cliquesim.BatchWarning", "ignore::cliquesim.CliqueWarning"
)

CATEGORIES, SEQUENCES, FRAMES = 2, 6, 8
SETTINGS = {**SMALL, "cliques_per_batch": 3, "training.steps": 4}


@dataclasses.dataclass
class Place:
    run: Path
    labels: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("baselines")
    frames = write_figures(folder / "frames", CATEGORIES, SEQUENCES, FRAMES)
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    pipeline.fit(corpus, folder / "run", make_config(changes=SETTINGS), num_threads=1)
    return Place(folder / "run", write_labels(folder / "labels", CATEGORIES, SEQUENCES, FRAMES))


class Seen:
    """Notes which stages were computed and which were kept."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.kept: list[str] = []

    def start(self, stage: str) -> None: ...
    def progress(self, stage: str, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1.0001

    def finish(self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]) -> None:
        (self.kept if reused else self.computed).append(stage)


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def test_table_one_of_a_tiny_run(place: Place) -> None:
    pytest.importorskip("sklearn", reason="extra 'baselines'")
    result = evaluate_baselines(place.run, place.labels, num_threads=1)
    rows = rows_of(result)
    assert set(rows) == set(GROUPS["table"]) - {"alexnet"}
    assert [one["name"] for one in result["skipped"]] == ["alexnet"]
    assert "--imagenet" in result["skipped"][0]["reason"]
    assert result["anchors"] == 6
    for row in rows.values():
        assert 0 <= row["auc"] <= 1
        assert set(row["per_category"]["0"]) == {"c0", "c1"}
        assert row["auc"] == pytest.approx(np.mean(list(row["per_category"]["0"].values())))
        gap = row["difference"]
        assert gap["low"] <= gap["mean"] <= gap["high"]
        assert (row["difference_pooled"] is None) == (row["auc_pooled"] is None)
    assert rows["exemplar_svm"]["auc_pooled"] is None
    assert rows["learned"]["difference"]["mean"] == 0
    # The same figures as the evaluation of the run gives.
    own = evaluate_run(place.run, place.labels, num_threads=1)["mean_auc"]
    for name in ("hog", "learned", "fused"):
        assert rows[name]["auc"] == pytest.approx(own[name], abs=1e-12)
    for name in ("learned", "fused"):
        assert rows[name]["auc_pooled"] == pytest.approx(own[f"{name}_pooled"], abs=1e-12)
    assert json.loads((place.run / "baselines/table.json").read_text()) == result
    with (place.run / "baselines/table.csv").open() as stream:
        table = {row["name"]: row for row in csv.DictReader(stream)}
    assert float(table["nn_cnn"]["auc"]) == rows["nn_cnn"]["auc"]
    if importlib.util.find_spec("matplotlib"):
        assert "NN-CNN, 10 neighbours" in (place.run / "baselines/roc.svg").read_text()
    # The report has them: the table, the curves, and the features of those that its figures show.
    stored_table = load_table(place.run)
    assert stored_table is not None
    assert stored_table["rows"] == result["rows"]
    assert set(stored_table["curves"]) == {row["title"] for row in result["rows"]}
    kept = {name for name in BASELINES if load_features(place.run, name) is not None}
    assert kept == {"one_sample", "nn_cnn"}
    assert len(load_features(place.run, "nn_cnn")) == len(SimilarityModel.load(place.run).corpus_)
    page = report_run(place.run, out=place.run.parent / "page.html").read_text()
    assert "NN-CNN, 10 neighbours" in page
    assert "1-sample CNN: similarities" in page
    table_file = place.run / "baselines/table.json"
    table_file.write_text(json.dumps({**result, "model": "of another fit"}))
    assert load_table(place.run) is None
    table_file.write_text(json.dumps(result))
    stored = place.run / "baselines/nn_cnn/result"
    assert np.load(stored / "per_anchor.npy").shape == (2, 6)
    assert np.load(stored / "tpr.npy").shape == (2, 101)


def test_networks_are_trained_as_printed_and_as_ours(place: Place) -> None:
    names = [one + end for one in ("one_sample", "nn_cnn") for end in ("", "_as_ours")]
    evaluate_baselines(place.run, place.labels, names, num_threads=1)
    own = json.loads((place.run / "run.json").read_text())["settings"]["training"]
    for name in names:
        stage = json.loads((place.run / f"baselines/{name}/training/stage.json").read_text())
        training = stage["settings"]["training"]
        # The cosines' scale counts for a softmax of cosines alone, and neither is one.
        assert own.keys() - training.keys() == {"cosine_scale"}
        changed = {key for key in training if training[key] != own[key]} - {"steps", "seed"}
        printed = {"front_end", "loss", "augmentation", "map_components"}
        assert changed == (set() if name.endswith("_as_ours") else printed)
        rest = 0 if name.endswith("_as_ours") else CATEGORIES  # the classes of all other samples
        assert stage["summary"]["sets"] == len(SimilarityModel.load(place.run).corpus_) * 2 + rest


def test_nothing_is_computed_twice_but_what_changed(place: Place) -> None:
    names = ("hog", "one_sample", "nn_cnn", "random_init")
    first = evaluate_baselines(place.run, place.labels, names, num_threads=1)
    seen = Seen()
    assert evaluate_baselines(place.run, place.labels, names, observer=seen) == first
    assert seen.computed == []
    # Other labels: scored again, not trained again.
    other = place.labels.parent / "other"
    if not other.exists():
        write_labels(other, 1, SEQUENCES, FRAMES)
    seen = Seen()
    evaluate_baselines(place.run, other, names, num_threads=1, observer=seen)
    assert {one.split("/")[-1] for one in seen.computed} == {"result"}
    assert "baselines/nn_cnn/training" in seen.kept


def test_ablations_share_the_stages_of_the_run(place: Place) -> None:
    seen = Seen()
    names = ("random_batches", "no_similarity", "no_batch_coverage", "no_total_coverage")
    names += ("no_merging", "no_teacher_pooling", "rounds_1", "rounds_2", "pool_0", "pool_1")
    result = evaluate_baselines(place.run, place.labels, names, num_threads=1, observer=seen)
    rows = rows_of(result)
    assert set(rows) == set(names)
    assert not [one for one in seen.computed if "descriptors" in one]
    computed = [one for one in seen.computed if one.endswith("round-1/cliques")]
    assert computed == [
        f"baselines/{name}/round-1/cliques" for name in ("no_merging", "no_teacher_pooling")
    ]
    assert "baselines/rounds/round-2/training" in seen.computed
    # One round is what the run had; no pooling and its own pooling are its own figures.
    learned = rows_of(evaluate_baselines(place.run, place.labels, ["learned"]))["learned"]
    assert rows["rounds_1"]["auc"] == learned["auc"] == rows["pool_0"]["auc"]
    assert rows["pool_1"]["auc_pooled"] == learned["auc_pooled"]
    assert rows["pool_1"]["difference_pooled"]["mean"] == 0
    assert rows["pool_1"]["auc"] is rows["pool_1"]["difference"] is None
    assert "corpus" not in [one.name for one in (place.run / "baselines/rounds/run").iterdir()]
    # The run itself is as it was.
    assert SimilarityModel.load(place.run).summary_["rounds"] == 1


def test_the_settings_of_the_ablations_are_what_they_say(place: Place) -> None:
    base = place.run / "baselines/no_similarity/run"
    if not base.exists():
        evaluate_baselines(place.run, place.labels, ["no_similarity"], num_threads=1)
    settings = json.loads((base / "run.json").read_text())["settings"]
    own = json.loads((place.run / "run.json").read_text())["settings"]
    changed = {name for name in own if settings[name] != own[name]}
    assert changed == {"batch_similarity"}


def test_one_category_softmax_no_mirror_no_pooling(tmp_path: Path) -> None:
    frames = write_figures(tmp_path / "frames", 1, SEQUENCES, FRAMES)
    changes = {"mirror": False, "pool_radius": 0, "training.loss": "softmax"}
    config = make_config(changes={**SETTINGS, **changes})
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    pipeline.fit(corpus, tmp_path / "run", config, num_threads=1)
    labels = write_labels(tmp_path / "labels", 1, SEQUENCES, FRAMES)
    names = ["one_sample", "nn_cnn", "exemplar_cnn", "pool_2", "hog_lda_full_one_scale"]
    names += ["exemplar_svm"] if importlib.util.find_spec("sklearn") else []
    rows = rows_of(evaluate_baselines(tmp_path / "run", labels, names, num_threads=1))
    assert set(rows) == set(names)
    assert rows["nn_cnn"]["auc_pooled"] is None
    assert rows["pool_2"]["auc"] is rows["pool_2"]["difference_pooled"] is None
    training = json.loads((tmp_path / "run/baselines/one_sample/training/stage.json").read_text())
    assert training["summary"]["sets"] == len(corpus) + 1  # and all other samples


def test_what_fails_is_left_out_of_a_group_and_raised_by_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise RunError("no luck")

    broken = dataclasses.replace(BASELINES["hog"], prepare=fail)
    monkeypatch.setitem(BASELINES, "hog", broken)
    monkeypatch.setitem(GROUPS, "table", ("hog", "random_init"))
    result = evaluate_baselines(place.run, place.labels, ["table"], num_threads=1)
    assert list(rows_of(result)) == ["random_init"]
    assert result["skipped"] == [{"name": "hog", "reason": "no luck"}]
    with pytest.raises(RunError, match="no luck"):
        evaluate_baselines(place.run, place.labels, ["hog"])


def test_a_missing_package_is_said_before_anything_is_computed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    seen = Seen()
    with pytest.raises(MissingExtraError, match=r"cliquesim\[baselines\]"):
        evaluate_baselines(place.run, place.labels, ["exemplar_svm"], observer=seen)
    assert seen.computed == seen.kept == []


def test_an_interrupted_exemplar_svm_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="extra 'baselines'")
    whole = rows_of(evaluate_baselines(place.run, place.labels, ["exemplar_svm"], num_threads=1))
    shutil.copytree(place.run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/baselines/exemplar_svm")
    fit, fitted = ExemplarSvm.fit, []

    def counted(self: ExemplarSvm, *arguments: Any) -> ExemplarSvm:
        if len(fitted) == 4:
            raise KeyboardInterrupt
        fitted.append(self)
        return fit(self, *arguments)

    monkeypatch.setattr(ExemplarSvm, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_baselines(tmp_path / "run", place.labels, ["exemplar_svm"], num_threads=1)
    del fitted[:]
    again = rows_of(evaluate_baselines(tmp_path / "run", place.labels, ["exemplar_svm"]))
    assert len(fitted) == 3  # the first category's three were kept
    assert again["exemplar_svm"]["per_category"] == whole["exemplar_svm"]["per_category"]


def test_whose_neighbours_a_network_takes_for_the_same(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets: list[Any] = []

    def kept(work: Any, frames: Any, membership: Any, *_: Any, **__: Any) -> None:
        sets.append(membership)
        raise RunError("that is all")

    monkeypatch.setattr(networks, "train_network", kept)
    shutil.copytree(place.run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/baselines", ignore_errors=True)
    for name in ("nn_cnn_as_ours", "neighbors_not_cliques"):
        with pytest.raises(RunError):
            evaluate_baselines(tmp_path / "run", place.labels, [name], num_threads=1)
    paper, across = (one.toarray() != 0 for one in sets)
    model = SimilarityModel.load(tmp_path / "run")
    pool = Pool.of(model.corpus_, model.config)
    X = np.load(tmp_path / "run/descriptors/descriptors.npy").astype(np.float64)
    similar = np.where(pool.category[:, None] == pool.category[None, :], X @ X.T, -np.inf)
    np.fill_diagonal(similar, np.inf)
    best = np.sort(similar, axis=1)[:, ::-1]
    # Of the whole category, the nearest 10 with the row itself, whatever the sequence.
    assert (paper.sum(1) == 11).all()
    worst = np.where(paper, similar, np.inf).min(1)
    np.testing.assert_allclose(worst, best[:, 10], atol=1e-5)
    elsewhere = across & ~np.eye(len(pool), dtype=bool)
    assert elsewhere.any(1).all()
    assert (pool.sequence[:, None] != pool.sequence[None, :])[elsewhere].all()
    assert (paper & (pool.sequence[:, None] == pool.sequence[None, :])).sum() > len(pool)


def test_names_and_groups() -> None:
    chosen, singly = choose(["pool_2", "table"])
    assert [one.name for one in chosen] == [*GROUPS["table"], "pool_2"]
    assert singly == {"pool_2"}
    assert set(GROUPS["all"]) == set(BASELINES)
    with pytest.raises(InputError, match="did you mean 'nn_cnn'"):
        choose(["nn_cn"])


def small_pool() -> Pool:
    n = 6
    category = np.repeat([0, 1], 3)
    return Pool(np.arange(n), np.zeros(n, bool), category, category, category)


def test_sets_of_positives() -> None:
    alone = Positives.around(small_pool())
    np.testing.assert_array_equal(alone.membership.toarray(), np.eye(6))
    near = Positives.around(small_pool(), np.array([[1, 2], [0, -1], [-1, -1]] + 3 * [[3, 4]]))
    assert near.membership[[0]].toarray().tolist() == [[1, 1, 1, 0, 0, 0]]
    assert near.membership[[1]].toarray().tolist() == [[1, 1, 0, 0, 0, 0]]
    assert near.membership[[2]].toarray().tolist() == [[0, 0, 1, 0, 0, 0]]
    rest = Positives.around(small_pool(), rest=True)
    assert rest.membership.shape == (8, 6)
    assert rest.membership[[6]].toarray().tolist() == [[1, 1, 1, 0, 0, 0]]
    assert rest.part.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("rest", [False, True])
def test_random_batches_stay_within_a_category(rest: bool) -> None:
    sets = Positives.around(small_pool(), rest=rest)
    batches = sets.random_batches(3, 50, seed=1)
    np.testing.assert_array_equal(batches.toarray(), sets.random_batches(3, 50, seed=1).toarray())
    assert batches.shape == (50, len(sets.part))
    seen = set()
    for row in batches.toarray().astype(bool):
        assert row.sum() == 3
        (part,) = set(sets.part[row])
        assert sets.rest[row].sum() == rest
        seen.add(part)
    assert seen == {0, 1}
    lonely = Pool(*(np.arange(2) for _ in range(5)))
    with pytest.raises(InputError, match="two frames to tell apart"):
        Positives.around(lonely).random_batches(3, 5, seed=0)


def test_patches_are_parts_of_their_frames() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    cut = patches(frames, 8, seed=2)
    assert cut.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(cut, patches(frames, 8, seed=2))
    for frame, patch in zip(frames, cut, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(frame, (8, 8, 3)).reshape(-1, 8, 8, 3)
        assert (windows == patch).all(axis=(1, 2, 3)).any()


def test_the_network_of_exemplar_cnn_pools_over_quadrants() -> None:
    from cliquesim.training.backbones import ExemplarNet

    torch.manual_seed(0)
    net = ExemplarNet(16, (4, 6, 8), 5).eval()
    frame = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert net(frame[:, :, :16, :16]).shape == (2, 5)
        found = net.embed(frame).reshape(2, 5, 2, 2)
        maps = torch.relu(net.fc(net.convolutions(net.front_end(frame))))
    assert maps.shape == (2, 5, 5, 5)  # the patch fits at 5 x 5 places of the last map
    torch.testing.assert_close(found[:, :, 0, 0], maps[:, :, :3, :3].amax((2, 3)))
    torch.testing.assert_close(found[:, :, 1, 1], maps[:, :, 2:, 2:].amax((2, 3)))
    with pytest.raises(InputError, match="multiple of 4"):
        ExemplarNet(18)


def test_exemplar_svm_against_scikit_learn_and_its_mining() -> None:
    svm = pytest.importorskip("sklearn.svm", reason="extra 'baselines'")
    generator = np.random.default_rng(0)
    negatives = generator.normal(size=(2000, 20)).astype(np.float32)
    exemplar = negatives[0] + 1
    few = ExemplarSvm(rounds=0).fit(exemplar, negatives[:300])
    X = np.concatenate([exemplar[None], negatives[:300]]).astype(np.float64)
    oracle = svm.LinearSVC(
        loss="hinge", class_weight={1: 0.5, 0: 0.01}, tol=1e-6, max_iter=100_000, random_state=0
    ).fit(X, np.arange(301) == 0)
    scores = few.decide(negatives)
    assert np.corrcoef(scores, oracle.decision_function(negatives))[0, 1] > 0.999
    mined = ExemplarSvm(rounds=3, c_negative=1.0, c_positive=1.0).fit(exemplar, negatives)
    assert 1 <= mined.rounds_ <= 3
    assert mined.decide(exemplar[None])[0] > np.quantile(mined.decide(negatives), 0.99)
    easy = ExemplarSvm(c_positive=100, c_negative=100).fit(np.full(20, 9.0), negatives * 0)
    assert easy.rounds_ == 0
    with pytest.raises(InputError, match="negative"):
        ExemplarSvm().fit(exemplar, negatives[:0])


def test_imagenet_weights_are_checked(tmp_path: Path, place: Place) -> None:
    from safetensors.torch import save_file

    from cliquesim.baselines.imagenet import OneTowerAlexNet, load_imagenet
    from cliquesim.training.backbones import AlexNet

    file = tmp_path / "weights.safetensors"
    for net, last, gone in (
        (AlexNet(), "fc8.weight", "fc6.bias"),
        (OneTowerAlexNet(), "classifier.6.weight", "classifier.4.weight"),
    ):
        weights = net.state_dict()
        save_file({**weights, last: torch.zeros(10, 4096)}, file)
        loaded = load_imagenet(file).backbone
        assert type(loaded) is type(net)
        images = torch.rand(1, 3, net.image_size, net.image_size)
        with torch.no_grad():
            torch.testing.assert_close(loaded.embed(images), net.eval().embed(images))
        save_file({k: v for k, v in weights.items() if k != gone}, file)
        with pytest.raises(InputError, match=rf"lacks the tensor '{gone}' of shape \(4096"):
            load_imagenet(file)
        save_file({**weights, gone: torch.zeros(3, 3)}, file)
        with pytest.raises(InputError, match=rf"{gone} has shape \(3, 3\), expected"):
            evaluate_baselines(place.run, place.labels, ["alexnet"], imagenet=file)
        save_file({**weights, "other": torch.zeros(3)}, file)
        with pytest.raises(InputError, match="no tensor 'other'"):
            load_imagenet(file)
    with pytest.raises(InputError, match="--imagenet FILE"):
        evaluate_baselines(place.run, place.labels, ["alexnet"])
    with pytest.raises(InputError, match="pickles are not read"):
        load_imagenet(tmp_path / "alexnet.pth")


def test_alexnet_of_torchvision_layer_by_layer() -> None:
    from torch.nn import functional

    from cliquesim.baselines.imagenet import OneTowerAlexNet

    torch.manual_seed(0)
    net = OneTowerAlexNet().eval()
    w = net.state_dict()
    assert sum(value.numel() for value in w.values()) == 61_100_840 - 4_097_000
    images = torch.rand(2, 3, 224, 224)
    x = images.clone()
    for c, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        x[:, c] = (x[:, c] - mean) / deviation
    with torch.no_grad():
        for i, (stride, pad, pool) in {
            0: (4, 2, True),
            3: (1, 2, True),
            6: (1, 1, False),
            8: (1, 1, False),
            10: (1, 1, True),
        }.items():
            x = functional.conv2d(
                x, w[f"features.{i}.weight"], w[f"features.{i}.bias"], stride, pad
            ).clamp_min(0)
            x = functional.max_pool2d(x, 3, 2) if pool else x
        x = x.flatten(1)
        for i in (1, 4):
            x = (x @ w[f"classifier.{i}.weight"].T + w[f"classifier.{i}.bias"]).clamp_min(0)
        torch.testing.assert_close(net.embed(images), x, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="'fc7'"):
        net.embed(images, "fc6")


def test_alexnet_is_measured_where_its_weights_are_given(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from cliquesim.baselines.imagenet import OneTowerAlexNet

    frames = write_figures(tmp_path / "frames", 1, SEQUENCES, FRAMES)
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    pipeline.fit(corpus, tmp_path / "run", make_config(changes=SETTINGS), num_threads=1)
    labels = write_labels(tmp_path / "labels", 1, SEQUENCES, FRAMES)
    torch.manual_seed(0)
    save_file(OneTowerAlexNet().state_dict(), tmp_path / "weights.safetensors")
    run, weights = tmp_path / "run", tmp_path / "weights.safetensors"
    found = evaluate_baselines(run, labels, ["alexnet"], imagenet=weights)
    assert 0 <= rows_of(found)["alexnet"]["auc"] <= 1


def test_the_difference_is_paired() -> None:
    generator = np.random.default_rng(0)
    hard = generator.uniform(0, 1, 200)
    found = difference(hard + 0.01, hard + generator.normal(0, 0.01, 200))
    assert 0.005 < found["low"] < found["mean"] < found["high"] < 0.015


def test_on_the_command_line(place: Place) -> None:
    def evaluate(*more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cliquesim", "evaluate", place.run, "--threads", 1]
        command += ["--labels", place.labels, *more]
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=300
        )

    found = evaluate("--baselines", "hog,one_sample", "--json")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert set(result["mean_auc"]) >= {"learned", "hog"}
    assert [row["name"] for row in result["baselines"]["rows"]] == ["hog", "one_sample"]
    assert "baselines/hog/result" in found.stderr
    assert evaluate("--baselines", "hog,one_sample", "--json", "-q").stderr == ""
    shown = evaluate("--baselines", "hog, pool_1")
    assert "raw HOG, centred" in shown.stdout
    assert "kept" in shown.stderr
    for words, message in (
        (("--baselines", "hogg"), "did you mean 'hog'"),
        (("--imagenet", "x"), "goes with --baselines"),
        (("--baselines", "alexnet"), "--imagenet FILE"),
        (("--baselines", "alexnet", "--imagenet", "none.safetensors"), "no such file"),
    ):
        wrong = evaluate(*words)
        assert wrong.returncode == 2
        assert message in wrong.stderr.replace("\n", " ")


def test_bare_baselines_mean_the_table(place: Place) -> None:
    import typer

    from cliquesim.cli import app

    command = typer.main.get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    run, labels = str(place.run), str(place.labels)
    for words in (
        [run, "--labels", labels, "--baselines"],
        [run, "--baselines", "--labels", labels],
        ["--labels", labels, "--baselines", run],
    ):
        context = command.make_context("evaluate", words)
        assert context.params["baselines"] == "table"
        assert str(context.params["run"]) == run
    context = command.make_context("evaluate", [run, "--labels", labels, "--baselines", "hog,all"])
    assert context.params["baselines"] == "hog,all"


def test_the_bench_over_seeds(place: Place, tmp_path: Path) -> None:
    bench = Path(__file__).parents[2] / "bench/baselines.py"
    if not bench.is_file():
        pytest.skip("no benchmarks beside the tests")
    frames = place.labels.parent / "frames"
    out = tmp_path / "out.json"
    command = [sys.executable, bench, "--frames", frames, "--labels", place.labels, "--threads", 1]
    command += ["--names", "hog,one_sample,pool_1", "--seeds", 0, 1, "--output", out]
    changes = json.loads(json.dumps(SETTINGS))
    command += [word for k, v in changes.items() for word in ("--set", f"{k}={json.dumps(v)}")]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {"hog", "one_sample", "pool_1"}
    assert rows["hog"]["auc"] == pytest.approx(np.mean(rows["hog"]["auc_of_seeds"]))
    assert len(set(rows["hog"]["auc_of_seeds"])) == 1  # nothing in it depends on the seed
    assert len(rows["one_sample"]["auc_of_seeds"]) == 2
    assert rows["pool_1"]["difference_pooled"]["mean"] == 0
    assert [run["settings"]["seed"] for run in report["runs"]] == [0, 1]
    assert "1-sample CNN" in done.stdout
    absent = [sys.executable, str(bench), "--labels", str(tmp_path / "absent")]
    skipped = subprocess.run(absent, capture_output=True, text=True, check=False)
    assert skipped.returncode == 0
    assert skipped.stdout.startswith("skipped: there is no corpus in")
