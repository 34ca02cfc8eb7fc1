"""The command line as a new user meets it, mistakes included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cliquesim import cli
from cliquesim._device import cuda_status

ROOT = Path(__file__).parents[2]


def cliquesim(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cliquesim", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    )


def write_frames(folder: Path, count: int, seed: int = 0, same: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for i in range(count):
        if not same:
            picture = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{i:03d}.jpg")


@pytest.mark.parametrize(
    "command",
    [(), *[(c,) for c in ["demo", "fit", "embed", "search", "evaluate", "report", "doctor"]]],
)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    result = cliquesim(*command, "--help")
    assert result.returncode == 0, result.stderr
    if command:
        assert "Example" in result.stdout


def test_version_and_doctor() -> None:
    assert cliquesim("--version").stdout.startswith("cliquesim ")
    facts = json.loads(cliquesim("doctor", "--json").stdout)
    assert facts["CUDA"]["usable"] in ("yes", "no")
    assert facts["CUDA"]["why"]
    assert facts["processor"]["SIMD level"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "FRAMES"), "--out RUN is missing"),
        (("fit", "--out", "OUT"), "give either SOURCES"),
        (("fit", "nothing-here", "--out", "OUT"), "nothing-here"),
        (("fit", "FRAMES", "--out", "OUT", "--set", "training.stepz=3"), "training.steps"),
        (("fit", "FRAMES", "--out", "OUT", "--set", "seed"), "NAME=VALUE"),
        (("fit", "FRAMES", "--out", "OUT", "--preset", "magic"), "preset must be one of"),
        (("fit", "FRAMES", "--out", "OUT", "--device", "tpu"), "device must be one of"),
        (("fit", "EMPTY", "--out", "OUT"), "EMPTY"),
        (("fit", "FRAMES", "FRAMES/a", "--out", "OUT"), "lies inside"),
        (("fit", "FRAMES", "FRAMES/a/000.jpg", "--out", "OUT"), "(--manifest)"),
        (("fit", "ONE", "--out", "OUT"), "too small"),
        (("fit", "SAME", "--out", "OUT"), "same picture"),
        (("fit", "FRAMES", "--out", "EMPTY/.."), "holds no cliquesim run"),
        (("search", "missing-run", "FRAMES/000.jpg"), "missing-run"),
        (("embed", "missing-run", "FRAMES", "--out", "e.npy"), "missing-run"),
        (("evaluate", "missing-run", "--labels", "FRAMES"), "missing-run"),
        (("report", "missing-run"), "missing-run"),
        (("fit", "--manifest", "missing.csv", "--out", "OUT"), "missing.csv"),
    ],
)
def test_mistakes_are_exit_status_2_with_a_clear_message(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write_frames(tmp_path / "FRAMES/a", 6)
    (tmp_path / "EMPTY").mkdir()
    write_frames(tmp_path / "ONE", 1)
    write_frames(tmp_path / "SAME/a", 6, same=True)
    names = {name: tmp_path / name for name in ("FRAMES", "EMPTY", "ONE", "SAME", "OUT")}
    words = [
        str(names[word.split("/")[0]]) + word[len(word.split("/")[0]) :]
        if word.split("/")[0] in names
        else word
        for word in arguments
    ]
    result = cliquesim(*words)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


def test_fit_takes_several_folders(tmp_path: Path) -> None:
    for seed, name in enumerate(("mon", "tue")):
        write_frames(tmp_path / name / "a", 6, seed)
    result = cliquesim(
        "fit", tmp_path / "mon", tmp_path / "tue", "--out", tmp_path / "run", "--dry-run", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["frames"] == 12


def test_fit_says_why_cuda_cannot_be_used_and_writes_nothing(tmp_path: Path) -> None:
    available, reason = cuda_status()
    if available:
        pytest.skip("CUDA can be used here")
    write_frames(tmp_path / "frames", 4)
    result = cliquesim("fit", tmp_path / "frames", "--out", tmp_path / "out", "--device", "cuda")
    assert result.returncode == 1
    assert f"error: fit cannot run with device='cuda': {reason}" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_unknown_options_and_commands_are_exit_status_2() -> None:
    assert cliquesim("fit", "--frobnicate").returncode == 2
    assert cliquesim("fitt").returncode == 2


def test_a_run_of_another_version_is_refused_by_every_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"format_version": 99, "cliquesim": "9.9"}')
    write_frames(tmp_path / "frames/a", 4)
    picture = tmp_path / "frames/a/000.jpg"
    for arguments in (
        ("fit", tmp_path / "frames", "--out", run),
        ("search", run, picture),
        ("embed", run, picture, "--out", tmp_path / "e.npy"),
        ("evaluate", run, "--labels", tmp_path),
        ("report", run),
    ):
        result = cliquesim(*arguments)
        assert result.returncode == 2, (arguments, result.stderr)
        assert "format version 99" in result.stderr.replace("\n", " ")


def test_idle_threads_of_openmp_sleep_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    cli.main()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    cli.main()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
