"""The claims about the batch selection, on fewer instances than the benchmarks take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="no benchmarks beside the tests")


def run(tmp_path, script, *arguments):
    output = tmp_path / "report.json"
    command = [sys.executable, BENCH / script, *arguments, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


def test_optimum_of_tiny_instances_and_never_worse_than_restarts(tmp_path):
    report = run(tmp_path, "batch_quality.py", "--tiny", "45", "--larger", "6")
    assert report["holds"]
    assert report["tiny"]["mean_gap"] <= 0.005
    assert report["tiny"]["optimal"] >= 0.9
    assert len(report["larger"]) == 6
    assert {row["pattern"] for row in report["larger"]} == {"scattered", "chained", "hubs"}


def test_every_term_has_its_effect(tmp_path):
    report = run(tmp_path, "batch_ablation.py", "--instances", "1")
    assert all(report["effects"].values())
    assert len(report["instances"]) == 3


def test_ablation_reads_a_run(tmp_path):
    """The cliques as a run folder holds them."""
    sys.path.insert(0, str(BENCH))
    try:
        from _batch_instances import instance
    finally:
        sys.path.remove(str(BENCH))
    import numpy as np

    folder = tmp_path / "run" / "round-1" / "cliques"
    folder.mkdir(parents=True)
    C, S = instance("scattered", 60, 400, 0)
    np.save(folder / "indptr.npy", C.indptr)
    np.save(folder / "indices.npy", C.indices)
    np.save(folder / "part.npy", np.zeros(60, dtype=np.int64))
    np.save(folder / "similarity-0.npy", S)
    report = run(tmp_path, "batch_ablation.py", "--run", str(tmp_path / "run"))
    assert list(report["instances"]) == ["part-0"]
