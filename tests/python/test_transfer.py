"""Evaluation on frames that a run never saw, and what `focus` changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import SMALL, write_figures, write_labels

import cliquesim as cs
from cliquesim import pipeline
from cliquesim.config import make_config
from cliquesim.evaluation.run import evaluate_run

pytest.importorskip("h5py", reason="extra 'labels'")

pytestmark = pytest.mark.filterwarnings(
    "ignore::cliquesim.BatchWarning", "ignore::cliquesim.CliqueWarning"
)

SEQUENCES, FRAMES = 6, 8
SETTINGS = {**SMALL, "cliques_per_batch": 3, "training.steps": 4}


def boxed_figures(folder: Path, seed: int) -> Path:
    """Figures of two categories, with upright boxes around them beside."""
    frames = write_figures(folder / "frames", 2, SEQUENCES, FRAMES, seed)
    for sequence in frames.glob("*/*"):
        place = folder / "bboxes" / sequence.parent.name
        place.mkdir(parents=True, exist_ok=True)
        rows = [f"{frame + 1}\t17\t5\t48\t60" for frame in range(FRAMES)]
        (place / f"{sequence.name}.bb").write_text("\n".join(rows) + "\n")
    return frames


def fit(frames: Path, run: Path, **changes: object) -> Path:
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    pipeline.fit(corpus, run, make_config(changes={**SETTINGS, **changes}), num_threads=1)
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    frames = boxed_figures(folder, 0)
    boxed_figures(folder / "other", 1)
    fit(frames, folder / "run")
    write_labels(folder / "labels", 2, SEQUENCES, FRAMES)
    return folder


def test_the_runs_own_frames_from_their_folder_give_its_own_figures(place: Path) -> None:
    own = evaluate_run(place / "run", place / "labels", num_threads=1)
    again = evaluate_run(place / "run", place / "labels", frames=place / "frames", num_threads=1)
    assert again["per_category"] == own["per_category"]
    assert again["settings"]["frames"] == str(place / "frames")


def test_other_frames_are_embedded_by_what_was_learned(place: Path) -> None:
    found = evaluate_run(
        place / "run", place / "labels", frames=place / "other/frames", num_threads=1
    )
    assert set(found["per_category"]) == {"c0", "c1"}
    model = cs.SimilarityModel.load(place / "run", num_threads=1)
    corpus = cs.Corpus.from_folder(place / "other/frames", size=(48, 48))
    assert corpus.extent[0].tolist() == pytest.approx([32 / 56 / 1.1, 1 / 1.1])
    plain, mirrored = (model.transform(corpus.frames, m, corpus.extent) for m in (False, True))
    np.testing.assert_array_equal(model.transform(corpus), plain)
    np.testing.assert_array_equal(model.transform(corpus, mirrored=True), mirrored)
    np.testing.assert_array_equal(
        model.search(corpus.subset([3, 4]), 5).indices,
        model.search(corpus.frames[3:5], 5, corpus.extent[3:5]).indices,
    )
    from cliquesim.evaluation.protocol import Protocol

    protocol = Protocol.of(corpus, place / "labels")
    scored = protocol.score(
        corpus.frames,
        corpus.extent,
        lambda frames, flip, extent: model.transform(frames, flip, extent),
        [0],
    )
    assert found["mean_auc"]["fused"] == pytest.approx(scored[0].auc, abs=1e-12)
    assert plain.shape == mirrored.shape


def test_focus_ignores_the_surroundings_and_can_be_switched_off(place: Path) -> None:
    blind = cs.SimilarityModel.load(place / "run", num_threads=1)
    wide = cs.SimilarityModel.load(fit(place / "frames", place / "wide", focus=False), 1)
    corpus = blind.corpus_
    frames = np.array(corpus.frames[:5])
    beside = frames.copy()
    beside[:, :, :3] = 255 - beside[:, :, :3]
    beside[:, :, 45:] = 255 - beside[:, :, 45:]
    extent = corpus.extent[:5]
    # Unit rows. The network's local normalisation still looks some pixels beyond the box.
    own = [blind.transform(one, extent=extent) for one in (frames, beside)]
    whole = [blind.transform(one) for one in (frames, beside)]
    assert np.einsum("ij,ij->i", *own).min() > 0.999
    assert np.einsum("ij,ij->i", *whole).max() < 0.99
    np.testing.assert_array_equal(wide.transform(frames, extent=extent), wide.transform(frames))
    assert (wide.extent_ == 1).all()
    np.testing.assert_allclose(wide.embedding_[:5], wide.transform(frames), atol=1e-4)
    np.testing.assert_allclose(
        blind.embedding_[:5], blind.transform(frames, extent=extent), atol=1e-4
    )


def test_command_line(place: Path) -> None:
    command = [sys.executable, "-m", "cliquesim", "evaluate", str(place / "run")]
    command += ["--labels", str(place / "labels"), "--frames", str(place / "other/frames")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)["per_category"]) == {"c0", "c1"}
    done = subprocess.run([*command, "--baselines"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--frames does not go with --baselines" in done.stderr.replace("\n", " ")
    command[-1] = str(place / "nowhere")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
