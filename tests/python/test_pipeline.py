"""Whole runs on tiny corpora: results, resuming, refusals, and the model on top."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_corpus import SMALL, write_figures

import cliquesim as cs
from cliquesim import pipeline
from cliquesim._device import cuda_status
from cliquesim.config import Config, make_config
from cliquesim.errors import InputError, RunError
from cliquesim.fusion import fuse, similarity_spread
from cliquesim.parts import PooledBatches, PooledCliques, choose_batches
from cliquesim.pool import Pool
from cliquesim.stages import load_batches, load_cliques

pytestmark = pytest.mark.filterwarnings(
    "ignore::cliquesim.BatchWarning", "ignore::cliquesim.CliqueWarning"
)


def small(**changes: Any) -> Config:
    return make_config(changes={**SMALL, **changes})


def load(frames: Path, cache: Path | None = None) -> cs.Corpus:
    return cs.Corpus.from_folder(frames, size=(48, 48), cache=cache)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_figures(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def run(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    pipeline.fit(load(frames), folder, small(), source=str(frames), num_threads=1)
    return folder


def outputs(folder: Path) -> dict[str, str]:
    """Hash of every output of every stage."""
    found = {}
    for record in folder.rglob("stage.json"):
        stage = json.loads(record.read_text())
        for name, output in stage["outputs"].items():
            found[f"{stage['stage']}/{name}"] = output["hash"]
    return found


def test_a_run_holds_every_stage_in_open_formats(run: Path) -> None:
    stages = {json.loads(p.read_text())["stage"] for p in run.rglob("stage.json")}
    rounds = {f"round-1/{s}" for s in ("neighbors", "cliques", "batches", "training", "features")}
    assert stages == {"descriptors", *rounds, "embedding", "model"}
    suffixes = {p.suffix for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    assert suffixes <= {".npy", ".json", ".csv", ".safetensors"}
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["input"]["fingerprint"]
    assert manifest["settings"]["training"]["steps"] == 12
    embedding = np.load(run / "embedding/embedding.npy")
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-4)


def test_the_same_seed_repeats_the_run_and_another_does_not(
    frames: Path, run: Path, tmp_path: Path
) -> None:
    pipeline.fit(load(frames), tmp_path / "again", small(), num_threads=1)
    assert outputs(tmp_path / "again") == outputs(run)
    pipeline.fit(load(frames), tmp_path / "other", small(seed=5), num_threads=1)
    changed, kept = outputs(tmp_path / "other"), outputs(run)
    assert changed["descriptors/descriptors.npy"] == kept["descriptors/descriptors.npy"]
    assert changed["embedding/embedding.npy"] != kept["embedding/embedding.npy"]


def test_a_second_fit_does_nothing_and_a_changed_setting_only_what_it_must(
    frames: Path, tmp_path: Path
) -> None:
    class Observer:
        def __init__(self) -> None:
            self.reused: dict[str, bool] = {}

        def start(self, stage: str) -> None: ...
        def progress(self, stage: str, fraction: float, note: str = "") -> None:
            assert 0 <= fraction <= 1.0001

        def finish(self, stage: str, seconds: float, reused: bool, summary: Any) -> None:
            self.reused[stage] = reused

    corpus = load(frames)
    pipeline.fit(corpus, tmp_path / "run", small(), num_threads=1)
    again, changed = Observer(), Observer()
    pipeline.fit(corpus, tmp_path / "run", small(), observer=again, num_threads=1)
    assert all(again.reused.values())
    steps = {"training.steps": 8}
    with pytest.raises(InputError, match="--update"):
        pipeline.fit(corpus, tmp_path / "run", small(**steps))
    planned = pipeline.plan(corpus, tmp_path / "run", small(**steps))
    pipeline.fit(
        corpus, tmp_path / "run", small(**steps), update=True, observer=changed, num_threads=1
    )
    redone = {stage for stage, reused in changed.reused.items() if not reused}
    assert redone == {"round-1/training", "round-1/features", "embedding", "model"}
    assert redone == {s["name"] for s in planned["stages"] if not s["done"]}


def start_fit(frames: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    settings = out.with_suffix(".settings.json")
    settings.write_text(json.dumps(SMALL))
    command = [sys.executable, "-m", "cliquesim", "fit", frames, "--out", out, "--threads", "1"]
    return subprocess.Popen(
        [*map(str, command), "--config", str(settings), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("stage", ["descriptors", "round-1/training"])
def test_a_killed_fit_goes_on_and_ends_like_an_uninterrupted_one(
    frames: Path, tmp_path: Path, how: signal.Signals, stage: str
) -> None:
    steps = ("--set", "training.steps=300", "--set", "training.checkpoint_every=5")
    whole = start_fit(frames, tmp_path / "whole", *steps)
    _, errors = whole.communicate(timeout=240)
    assert whole.returncode == 0, errors
    out = tmp_path / "run"
    process = start_fit(frames, out, *steps)
    partial = out / Path(stage).parent / f".{Path(stage).name}.partial"
    sign = "checkpoint.safetensors" if "training" in stage else "partial.json"
    wait_for(lambda: (partial / sign).exists(), process)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (out / stage).exists()
    if how == signal.SIGINT:
        assert "Traceback" not in errors
        assert process.returncode == 1
    again = start_fit(frames, out, *steps)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    if "training" in stage:
        record = json.loads((out / stage / "stage.json").read_text())
        assert record["summary"]["resumed_from"] > 0
    whole_run, resumed = outputs(tmp_path / "whole"), outputs(out)
    assert resumed["embedding/embedding.npy"] == whole_run["embedding/embedding.npy"]
    assert resumed == whole_run


def test_fewer_cliques_than_a_batch_takes_are_one_batch(frames: Path, tmp_path: Path) -> None:
    with pytest.warns(cs.BatchWarning, match=r"cliques_per_batch=500, but .* only \d+ cliques"):
        pipeline.fit(load(frames), tmp_path / "run", small(cliques_per_batch=500), num_threads=1)
    cliques = load_cliques(tmp_path / "run/round-1/cliques", 2 * len(load(frames)))
    batches = load_batches(tmp_path / "run/round-1/batches", len(cliques.part))
    assert batches.shape == (1, len(cliques.part))
    assert batches.toarray().all()
    alone = PooledCliques(cliques.membership[:1], cliques.part[:1], cliques.similarity, {})
    with pytest.raises(InputError, match="no category has two cliques"):
        choose_batches(alone, small(), 1, lambda _: None)


def test_categories_keep_their_cliques_apart(tmp_path: Path) -> None:
    corpus = load(write_figures(tmp_path / "frames", categories=2, sequences=6))
    pipeline.fit(corpus, tmp_path / "run", small(cliques_per_batch=3), num_threads=1)
    n = len(corpus)
    cliques = load_cliques(tmp_path / "run/round-1/cliques", 2 * n)
    category = np.tile(corpus.category, 2)
    for row in range(cliques.membership.shape[0]):
        members = cliques.membership.indices[slice(*cliques.membership.indptr[row : row + 2])]
        assert len(np.unique(category[members])) == 1
        sequences = np.tile(corpus.sequence, 2)[members]
        assert len(np.unique(sequences)) == len(sequences)  # one frame of a sequence


def test_many_cliques_are_dealt_into_selections_of_their_own(frames: Path, run: Path) -> None:
    cliques = load_cliques(run / "round-1/cliques", 2 * len(load(frames)))
    n = len(cliques.part)
    assert n >= 12

    def chosen(most: int | None, **changes: Any) -> tuple[PooledBatches, list[set[int]]]:
        config = small(cliques_per_batch=3, cliques_per_selection=most, **changes)
        found = choose_batches(cliques, config, 1, lambda _: None)
        rows = [set(row.tolist()) for row in np.split(found.indices, found.indptr[1:-1])]
        assert all(len(row) == 3 for row in rows)
        return found, rows

    whole, rows = chosen(None)
    assert len(rows) == small().n_batches
    assert chosen(n)[1] == rows
    pieces, rows = chosen(n // 2)
    counts = [one["cliques"] for one in pieces.summary["per_part"]]
    assert sum(counts) == n
    assert max(counts) <= n // 2
    assert max(counts) - min(counts) <= 1
    assert len(rows) == len(counts) * small().n_batches
    assert pieces.summary["cliques_used"] > whole.summary["cliques_used"]
    for number in range(len(counts)):  # a batch stays within its piece
        own = set().union(*rows[number * small().n_batches : (number + 1) * small().n_batches])
        others = set().union(*rows[: number * small().n_batches])
        assert len(own) <= counts[number]
        assert not own & others
    # a piece is larger than a batch, so that there is something to choose
    small_pieces = chosen(2)[0].summary["per_part"]
    assert min(one["cliques"] for one in small_pieces) > 3


def test_eq_1_without_its_similarity_keeps_the_other_weights(frames: Path, run: Path) -> None:
    cliques = load_cliques(run / "round-1/cliques", 2 * len(load(frames)))
    assert isinstance(cliques, PooledCliques)
    full, blind = (
        choose_batches(cliques, small(batch_similarity=on), 1, lambda _: None).summary["per_part"]
        for on in (True, False)
    )
    for name in ("lambda1", "lambda2"):
        assert blind[0]["lambdas"][name] == full[0]["lambdas"][name] > 0
    assert blind[0]["terms"]["similarity"] == 0 != full[0]["terms"]["similarity"]


def test_coverage_of_a_batch_weighs_more_with_the_softmax(
    frames: Path, run: Path, tmp_path: Path
) -> None:
    cliques = load_cliques(run / "round-1/cliques", 2 * len(load(frames)))
    assert isinstance(cliques, PooledCliques)

    def lambdas(loss: str, **changes: Any) -> tuple[float, float]:
        config = small(**{"training.loss": loss, **changes})
        found = choose_batches(cliques, config, 1, lambda _: None).summary["per_part"][0]["lambdas"]
        return found["lambda1"], found["lambda2"]

    contrastive, softmax = lambdas("contrastive"), lambdas("softmax")
    assert softmax[1] == contrastive[1] == softmax[0] == pytest.approx(100 * contrastive[0])
    assert lambdas("softmax", lambda1=0.5) == (0.5, softmax[1])

    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    changed = small(**{"training.loss": "softmax"})
    pipeline.fit(load(frames), folder, changed, update=True, num_threads=1)
    stage = json.loads((folder / "round-1/batches/stage.json").read_text())
    assert stage["summary"]["per_part"][0]["lambdas"]["lambda1"] == softmax[0]


def test_rounds_stop_when_they_agree(frames: Path, tmp_path: Path) -> None:
    agreed = pipeline.fit(
        load(frames), tmp_path / "a", small(max_rounds=3, agreement=0.0), num_threads=1
    )
    assert agreed.summary["rounds"] == 1
    assert "agree" in agreed.summary["stopped_because"]
    forced = pipeline.fit(
        load(frames), tmp_path / "b", small(max_rounds=2, agreement=1.0), num_threads=1
    )
    assert forced.summary["rounds"] == 2
    assert len(forced.summary["agreement"]) == 1


def test_the_networks_of_all_rounds_make_the_similarity_or_the_last(
    frames: Path, tmp_path: Path
) -> None:
    corpus, folder = load(frames), tmp_path / "run"
    settings = {"max_rounds": 2, "agreement": 1.0}
    pipeline.fit(corpus, folder, small(**settings), num_threads=1)
    both = cs.SimilarityModel.load(folder, num_threads=1)
    learned = both.encoder.learned(corpus.frames)
    pool = np.concatenate(
        [np.load(folder / f"round-{r}/features/features.npy")[: len(corpus)] for r in (1, 2)],
        axis=1,
    )
    assert len(both.encoder.networks) == 2
    assert sum(both.encoder.weights) == pytest.approx(1)
    assert learned.shape == pool.shape
    first, second, hog = both.encoder.weights
    a, b = np.hsplit(pool, 2)
    whitened = np.load(folder / "descriptors/descriptors.npy")[: len(corpus)]
    spreads = [similarity_spread(one, both.sequence_) for one in (a, b, whitened)]
    raw = np.array([1 / 2, 1 / 2, 1 / 3]) / spreads  # together the networks weigh 1
    np.testing.assert_allclose((first, second, hog), raw / raw.sum(), rtol=1e-6)
    expected = (first * a @ a.T + second * b @ b.T) / (first + second)
    np.testing.assert_allclose(learned @ learned.T, expected, atol=2e-3)
    np.testing.assert_allclose(
        both.embedding_ @ both.embedding_.T,
        (first + second) * expected + hog * whitened @ whitened.T,
        atol=2e-3,
    )
    np.testing.assert_allclose(both.transform(corpus.frames), both.embedding_, atol=2e-3)

    pipeline.fit(corpus, folder, small(**settings, students="last"), update=True, num_threads=1)
    last = cs.SimilarityModel.load(folder, num_threads=1)
    assert len(last.encoder.networks) == 1
    np.testing.assert_allclose(last.encoder.learned(corpus.frames), b, atol=2e-3)


def test_later_cliques_come_from_vectors_averaged_with_their_nearest(
    frames: Path, tmp_path: Path
) -> None:
    corpus, folder = load(frames), tmp_path / "run"
    settings = {"max_rounds": 2, "agreement": 1.0, "teacher_pool_radius": 0, "hog_weight": 0.25}
    pipeline.fit(corpus, folder, small(**settings, teacher_expansion=3), num_threads=1)
    assert not (folder / "round-1/neighbors/nearest.npy").exists()
    whitened = np.load(folder / "descriptors/descriptors.npy")
    learned = np.load(folder / "round-1/features/features.npy")
    sequence = Pool.of(corpus, small()).sequence
    vectors = fuse([learned, whitened], sequence, [1, 0.25])[0].astype(np.float64)
    elsewhere = sequence[:, None] != sequence[None, :]
    similar = np.where(elsewhere, vectors @ vectors.T, -np.inf)
    nearest = np.load(folder / "round-2/neighbors/nearest.npy")
    np.testing.assert_allclose(
        np.take_along_axis(similar, nearest, axis=1), -np.sort(-similar, axis=1)[:, :3], atol=1e-5
    )
    moved = 2 * vectors + vectors[nearest].mean(axis=1)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    found = np.load(folder / "round-2/neighbors/indices.npy")
    expected = np.where(elsewhere, moved @ moved.T, -np.inf)
    np.testing.assert_allclose(
        np.load(folder / "round-2/neighbors/similarities.npy"),
        -np.sort(-expected, axis=1)[:, : found.shape[1]],
        atol=1e-5,
    )

    unchanged = pipeline.plan(corpus, folder, small(**settings, teacher_expansion=0))
    redone = {one["name"].split("/")[0] for one in unchanged["stages"] if not one["done"]}
    assert redone == {"round-2", "embedding", "model"}


def test_where_a_model_runs_is_handed_to_all_that_computes(run: Path) -> None:
    model = cs.SimilarityModel.load(run, num_threads=1)
    for place in (model.encoder, model.encoder.hog_lda):
        assert (place.num_threads, place.device) == (1, "cpu")
    assert {scale.whitening.num_threads for scale in model.encoder.hog_lda.scales} == {1}
    assert model.get_params()["device"] == "cpu"
    model.set_params(num_threads=2)
    assert model.encoder.hog_lda.num_threads == 2
    with pytest.raises(InputError, match="device must be one of"):
        cs.SimilarityModel(device="tpu")
    available, reason = cuda_status()
    if not available:
        with pytest.raises(RunError, match="cannot run with device='cuda'") as error:
            model.set_params(device="cuda")
        assert reason in str(error.value)
        assert model.device == "cpu"


def test_the_model_embeds_searches_saves_and_loads(frames: Path, run: Path, tmp_path: Path) -> None:
    corpus = load(frames)
    model = cs.SimilarityModel.load(run)
    queries = corpus.frames[[3, 40]]
    np.testing.assert_allclose(model.transform(queries), model.embedding_[[3, 40]], atol=2e-3)
    found = model.search(queries, k=4)
    assert found.indices[:, 0].tolist() == [3, 40]
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-2)
    mirrored = np.ascontiguousarray(queries[:, :, ::-1])
    np.testing.assert_allclose(
        model.transform(queries, mirrored=True), model.transform(mirrored), atol=2e-3
    )
    model.save(tmp_path / "saved")
    again = cs.SimilarityModel.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.transform(queries), model.transform(queries))
    assert again.paths_ == corpus.paths
    with pytest.raises(InputError, match="exists already"):
        model.save(tmp_path / "saved")


def test_estimator_habits(frames: Path) -> None:
    model = cs.SimilarityModel(num_threads=1, **{k.replace(".", "__"): v for k, v in SMALL.items()})
    assert model.get_params()["n_batches"] == 6
    assert model.set_params(training__steps=5).config.training.steps == 5
    with pytest.raises(InputError, match="n_batches"):
        model.set_params(n_batches=0)
    assert model.config.n_batches == 6
    with pytest.raises(InputError, match="not fitted"):
        model.transform(np.zeros((1, 48, 48, 3), np.uint8))
    assert model.fit(load(frames)) is model
    assert model.embedding_.shape[0] == len(load(frames))
    with pytest.raises(InputError, match="uint8"):
        model.transform(np.zeros((1, 48, 48, 3)))


def test_unfinished_runs_are_refused_by_name(frames: Path, run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/model")
    with pytest.raises(InputError, match="not finished"):
        cs.SimilarityModel.load(tmp_path / "copy")


def test_search_and_embed_of_files(frames: Path, run: Path, tmp_path: Path) -> None:
    from cliquesim.search import embed_to_file, search_files

    query = frames / "s02/004.png"
    result = search_files(run, [query], k=5, grid=tmp_path / "grid.png", per_sequence=1)
    hits = result["queries"][0]["neighbors"]
    assert hits[0]["path"] == "s02/004.png"
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-2)
    assert len({hit["path"].split("/")[0] for hit in hits}) == 5
    assert (tmp_path / "grid.png").stat().st_size > 1000
    with pytest.raises(InputError, match=r"no-such\.jpg"):
        search_files(run, [tmp_path / "no-such.jpg"])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg"):
        search_files(run, [text])
    rows, dimensions, listing = embed_to_file(run, [frames], tmp_path / "e.npy")
    stored = np.load(tmp_path / "e.npy")
    assert (
        stored.shape
        == (rows, dimensions)
        == (80, np.load(run / "embedding/embedding.npy").shape[1])
    )
    assert len(listing.read_text().splitlines()) == 81
    np.testing.assert_allclose(stored, np.load(run / "embedding/embedding.npy"), atol=2e-3)
    with pytest.raises(InputError, match=r"\.npy"):
        embed_to_file(run, [query], tmp_path / "e.txt")


def test_search_and_embed_with_several_folders(tmp_path: Path) -> None:
    from cliquesim.search import embed_to_file, search_files

    days = [
        write_figures(tmp_path / name, sequences=4, frames=8, seed=i)
        for i, name in enumerate(("mon", "tue"))
    ]
    (tmp_path / "bboxes").mkdir()
    boxes = "".join(f"{i + 1}\t10\t2\t40\t32\n" for i in range(8))
    for sequence in range(4):
        (tmp_path / f"bboxes/s{sequence:02d}.bb").write_text(boxes)
    corpus = cs.Corpus.from_folder(days, size=(48, 48))
    pipeline.fit(
        corpus, tmp_path / "run", small(), source=[str(day) for day in days], num_threads=1
    )
    # A frame of the corpus is looked for as it was cropped there.
    (found,) = search_files(tmp_path / "run", [days[1] / "s01/004.png"], k=1)["queries"]
    assert found["neighbors"][0]["path"] == "tue/s01/004.png"
    assert found["neighbors"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    # Others are taken whole unless a box is given, which is said.
    other = tmp_path / "other.png"
    other.write_bytes((days[1] / "s01/004.png").read_bytes())
    with pytest.warns(UserWarning, match=r"other\.png is taken whole; a box \(--box\) crops it"):
        search_files(tmp_path / "run", [other], k=1)
    (found,) = search_files(tmp_path / "run", [other], k=1, box=(10, 2, 40, 32))["queries"]
    assert found["neighbors"][0]["path"] == "tue/s01/004.png"
    rows, _, listing = embed_to_file(tmp_path / "run", days, tmp_path / "e.npy")
    assert rows == 64
    assert listing.read_text().splitlines()[64].startswith("63,tue/s03/007.png,tue/s03,7")
    with pytest.raises(InputError, match="mon is a folder: give image files or folders, not both"):
        embed_to_file(tmp_path / "run", [days[1] / "s01/004.png", days[0]], tmp_path / "e.npy")
