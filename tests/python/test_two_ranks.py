"""Training by two processes that torchrun starts, on the CPU by gloo; see two_ranks.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("torch is built without gloo", allow_module_level=True)

from tiny_corpus import SMALL, write_figures  # noqa: E402
from two_ranks import SETTINGS, gradients_of_a_step, make_trainer, toy  # noqa: E402
from two_ranks import SMALL as TRAINING  # noqa: E402

from cliquesim.errors import InputError  # noqa: E402
from cliquesim.training import TrainingConfig, train  # noqa: E402

SCRIPT = Path(__file__).with_name("two_ranks.py")


def launch(*arguments: object) -> tuple[int, str]:
    """Exit status and stderr of two processes; one that hangs fails the test."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    with subprocess.Popen(
        [*command, "--nproc-per-node", "2", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            _, errors = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes then
            _, errors = process.communicate()
            pytest.fail(f"the processes hang: {errors}")
    return process.returncode, errors


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    status, errors = launch(SCRIPT, "train", folder)
    assert status == 0, errors
    return folder


def read(folder: Path, name: str, rank: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}-{rank}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", SETTINGS)
def test_both_end_with_the_same_network_after_half_the_steps(trained: Path, name: str) -> None:
    first, second = (read(trained, name, rank) for rank in range(2))
    assert first["loss"].shape == (7,)
    assert any("running_var" in key for key in first)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_goes_along_the_mean_gradient_of_both_draws(trained: Path, name: str) -> None:
    config = TrainingConfig(**{**TRAINING, "steps": 7}, **SETTINGS[name])
    alone = []
    for rank in range(2):
        one = make_trainer(config)
        one.source.rank, one.source.world = rank, 2
        alone.append(gradients_of_a_step(one))
    for rank in range(2):
        found = read(trained, f"{name}-gradients", rank)
        assert found.keys() == alone[0].keys()
        for key, value in found.items():
            assert not np.array_equal(alone[0][key], alone[1][key]), key
            mean = (alone[0][key] + alone[1][key]) / 2
            # Sums of float32, here with other numbers of threads.
            np.testing.assert_allclose(value, mean, rtol=0, atol=1e-6 + 5e-5 * np.abs(mean).max())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_equals_the_uninterrupted_one(trained: Path, name: str) -> None:
    for rank in range(2):
        whole, resumed = (read(trained, f"{name}{how}", rank) for how in ("", "-resumed"))
        assert (whole.pop("resumed_from"), resumed.pop("resumed_from")) == (0, 3)
        for key, value in whole.items():
            np.testing.assert_array_equal(value, resumed[key])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_step_of_a_gpu_shares_the_same(trained: Path, name: str) -> None:
    first, second = (read(trained, f"{name}-cuda", rank) for rank in range(2))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
    np.testing.assert_allclose(first["loss"], read(trained, name, 0)["loss"], rtol=2e-4)


def test_another_number_of_processes_refuses_the_checkpoint(trained: Path) -> None:
    *_, name = SETTINGS
    config = TrainingConfig(**{**TRAINING, "steps": 7}, **SETTINGS[name])
    with pytest.raises(InputError, match="another number of processes"):
        train(*toy(), config=config, checkpoint=trained / "kept")


def test_a_fit_by_two_ends_for_both_and_goes_on(tmp_path: Path) -> None:
    frames, run = write_figures(tmp_path / "frames"), tmp_path / "run"
    settings = {**SMALL, "training.checkpoint_every": 2}
    options = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    fit = [frames, "--out", run, "--threads", 1, *options]
    partial = run / "round-1/.training.partial/checkpoint.safetensors"

    status, errors = launch(SCRIPT, "interrupted", *fit)
    assert status != 0
    assert "error: interrupted; what was finished stays" in errors
    assert errors.count("error: interrupted") == 1
    assert steps_in(partial) == 2

    status, errors = launch(SCRIPT, "failed", *fit)
    assert status != 0
    assert "error: rank 1 of 2: the disk is gone" in errors
    assert steps_in(partial) == 4

    status, errors = launch("-m", "cliquesim", "fit", *fit)
    assert status == 0, errors
    assert errors.count("round-1/training: ") == 1
    record = json.loads((run / "round-1/training/stage.json").read_text())
    assert record["summary"]["steps"] == 6
    assert record["summary"]["resumed_from"] == 4
    assert set(record["outputs"]) == {"loss.npy", "model.safetensors"}
    assert (run / "model/stage.json").is_file()
    assert not list(run.rglob(".*.partial"))


def test_bad_input_of_the_first_ends_the_one_that_waits(tmp_path: Path) -> None:
    status, errors = launch("-m", "cliquesim", "fit", tmp_path / "nowhere", "--out", tmp_path / "r")
    assert status != 0
    assert errors.count("error: ") == 1
    assert "nowhere" in errors


def steps_in(checkpoint: Path) -> int:
    from safetensors import safe_open

    with safe_open(checkpoint, framework="np") as file:
        return len(file.get_tensor("loss"))
