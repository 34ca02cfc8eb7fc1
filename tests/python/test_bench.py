"""The benchmarks run: at tiny sizes, with every option that changes what they do."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_corpus import SMALL, write_figures, write_labels

from cliquesim._device import cuda_status

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="benchmarks are in the repository only")


def settings(changes: dict[str, Any]) -> list[str]:
    """Changes of the default as words of the command line."""
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    return [word.replace("(", "[").replace(",)", "]").replace(")", "]") for word in words]


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_linkage(tmp_path: Path) -> None:
    arguments = ("--input", "condensed", "vectors", "--peers", "scipy", "cliquesim")
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    result = run("linkage.py", "--quick", *arguments, "--output", out, "--plot", plot)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert len(report["cases"]) == 4
    for case in report["cases"]:
        assert "agree" in case["agreement"]
        assert set(case["best_peer_ratio"]) == {"cliquesim x1", "cliquesim x2"}
    assert plot.stat().st_size > 1000
    assert run("linkage.py", "--dataset", "nothing").returncode == 2


def test_linkage_of_a_graph(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("linkage_graph.py", "--n", 300, 900, "--k", 5, "--output", out)
    assert result.returncode == 0, result.stderr
    for row in json.loads(out.read_text())["results"]:
        assert 0 < row["merges"] < row["n"]


@pytest.mark.skipif(cuda_status()[0], reason="CUDA can be used here")
@pytest.mark.parametrize(
    "stage", ["hog", "whitening", "linkage", "neighbors", "batches", "training", "fit"]
)
def test_a_bench_on_a_gpu_says_that_there_is_none(stage: str) -> None:
    result = run(f"{stage}_cuda.py")
    assert result.returncode == 1
    assert "no GPU" in result.stderr


def test_a_whole_fit(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = settings({**SMALL, "max_rounds": 3, "cliques_per_batch": 3})
    result = run("fit_cuda.py", "--device", "cpu", "--frames", 600, *words, "--output", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert (report["frames"], report["summary"]["frames"]) == (600, 600)
    assert {f"round-{n}/training" for n in (1, 2, 3)} < set(report["stages"])
    assert report["seconds"] > sum(one["seconds"] for one in report["stages"].values()) > 0


def test_drawn_frames_are_alike_for_any_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    figures = importlib.import_module("_stick_figures")
    one, two = (np.zeros((7, 32, 32, 3), np.uint8) for _ in range(2))
    figures.draw_sequences(one, 3, [0, 1, 2], 5, workers=1)
    figures.draw_sequences(two, 3, [0, 1, 2], 5, workers=2)
    np.testing.assert_array_equal(one, two)
    assert all(frame.std() > 0 for frame in one)


def test_hog(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("hog.py", "--quick", "--size", "40x48", "33x64", "--output", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert len(report["cases"]) == 4
    for case in report["cases"]:
        assert all(row["floor_seconds"] > 0 for row in case["results"])
        assert all(row["agrees"] is not False for row in case["results"])
    assert report["streaming"]["frames"] == 8
    assert run("hog.py", "--size", "large").returncode == 2


def test_whitening(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out.json"
    result = run("whitening.py", "--quick", "--output", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert [case["components"] for case in report["cases"]] == [None, 10]
    for case in report["cases"]:
        assert all(row["floor_ratio"] > 0 for row in case["results"])
        ours = next(row for row in case["results"] if row["label"] == "cliquesim")
        assert "sklearn-auto" in ours["times_as_fast_as"]
    assert run("whitening.py", "--n", 10, "--dim", 20).returncode == 2


def test_neighbors(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    peers = [] if find_spec("faiss") else ["--no-faiss"]
    result = run("neighbors.py", "--quick", "--k", 5, "--output", out, *peers)
    assert result.returncode == 0, result.stderr
    (case,) = json.loads(out.read_text())["cases"]
    assert "the same to the last bit" in case["agreement"]
    assert set(case["pooling_costs"]) == {"float32", "int16"}
    assert all(row["status"] == "ok" for row in case["results"])
    assert run("neighbors.py", "--n", "none").returncode == 2


def test_student(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="extra 'labels'")
    frames = write_figures(tmp_path / "frames", 2, 6, 8)
    labels = write_labels(tmp_path / "labels", 2, 6, 8)
    changes = {
        **SMALL,
        "cliques_per_batch": 3,
        "training.steps": 4,
        "training.temperature": 0.07,
    }
    words = settings(changes)
    arguments = ("--frames", frames, "--labels", labels, "--seeds", 0, 1, *words)
    arguments += (
        "--factors",
        "softmax over all",
        "temperature 0.07",
        "--output",
        tmp_path / "out.json",
    )
    result = run("student.py", *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    reference, softmax, same = report["rows"]
    assert softmax["settings"] == {"training.loss": "softmax", "training.head": "global"}
    for half in ("all", "chosen by", "confirms"):
        one = softmax[f"{half}: learned, p = 1"]
        assert one["interval"][0] <= one["gap"] <= one["interval"][1]
        assert one["auc"] == pytest.approx(sum(one["of_seeds"]) / 2)
        # A change that changes nothing.
        assert same[f"{half}: fused, p = 0"]["gap"] == 0
        assert (
            same[f"{half}: fused, p = 0"]["of_seeds"]
            == reference[f"{half}: fused, p = 0"]["of_seeds"]
        )
    assert run("student.py", "--factors", "no such", *arguments[:4]).returncode == 1


def test_training(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("training.py", "--size", 32, "--batch", 16, "--repeats", 1, "--output", out)
    assert result.returncode == 0, result.stderr
    (case,) = json.loads(out.read_text())["cases"]
    jobs = {"step", "pixels of a step", "batch norm and ReLU of a step", "embedding"}
    assert set(case["torch_over_ours"]) == jobs
    assert case["floor_seconds"] > 0
    # 16, 8, 4, 2 pixels a side after each convolution.
    products = 256 * 32 * 75 + 64 * 64 * 288 + 16 * 128 * 576 + 4 * 256 * 1152 + 1024 * 256
    assert case["step_flops"] == 3 * 16 * 2 * products


def test_stages(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("stages.py", "--n", 250, "--k", 3, "--output", out)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert report["stages"]["hog"]["shape"] == [250, 1984]
    assert set(report["stages"]) >= {"hog", "whitening, fit", "whitening, transform", "neighbours"}
    assert report["seconds"] > 0
