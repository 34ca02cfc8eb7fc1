"""What the tests of training by two processes run in each of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import toy_training
import training_stand_ins

from cliquesim import cli
from cliquesim.errors import RunError
from cliquesim.pipeline import help_to_train
from cliquesim.training import TrainingConfig, TrainingResult, train, trainer
from cliquesim.training._cuda_step import CudaStep
from cliquesim.training.distributed import Ranks, joined_ranks
from cliquesim.training.optimizers import build_optimizer
from cliquesim.training.sampling import CliqueSampler
from cliquesim.training.step_inputs import StepInputs, StepSource

SMALL: dict[str, Any] = {**toy_training.SMALL, "precision": "float32", "steps": 13}
SETTINGS: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "softmax": {"loss": "softmax", "optimizer": "sgd", "averaging": "swa", "front_end": "rgb"},
    "adagrad": {
        "loss": "softmax",
        "head": "global",
        "cosine_scale": None,
        "optimizer": "adagrad",
        "averaging": "none",
    },
}


def toy() -> tuple[np.ndarray, sp.csr_array]:
    frames = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    return frames, sp.csr_array(np.kron(np.eye(6), np.ones(4)))


def make_trainer(config: TrainingConfig, ranks: Ranks | None = None) -> trainer._Trainer:
    frames, membership = toy()
    n = len(frames)
    return trainer._Trainer(
        frames,
        np.arange(n),
        np.zeros(n, bool),
        None,
        np.ones((n, 2), np.float32),
        CliqueSampler(membership, None, None, config),
        config,
        torch.device("cpu"),
        None,
        ranks,
    )


def gradients_of_a_step(one: trainer._Trainer) -> dict[str, np.ndarray]:
    """Of step 3, with the statistics of the batch norms; the weights stay."""
    one.state.optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    one.step(3)
    found = {
        f"{prefix}.{name}": value.grad.numpy()
        for prefix, module in one.state.modules.items()
        for name, value in module.named_parameters()
        if value.grad is not None
    }
    statistics = one.model.backbone.named_buffers()
    return found | {name: value.numpy() for name, value in statistics if "running" in name}


def save(folder: Path, name: str, ranks: Ranks, arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / f"{name}-{ranks.rank}.npz", **arrays)


def arrays_of(result: TrainingResult) -> dict[str, np.ndarray]:
    state = result.model.backbone.state_dict()
    numbers = {"loss": result.loss, "resumed_from": np.array(result.resumed_from)}
    return {name: value.numpy() for name, value in state.items()} | numbers


def train_all(folder: Path) -> None:
    """Trainings, one of them resumed; a step's gradients; the step of a GPU by stand-ins."""
    torch.set_num_threads(1)
    kept, copied = folder / "kept", folder / "copied"
    with joined_ranks("cpu") as ranks:

        def copy_checkpoint(step: int, steps: int, loss: float) -> None:
            if ranks.rank == 0 and step == 4:
                shutil.copy(kept, copied)

        for name, settings in SETTINGS.items():
            config = TrainingConfig(**SMALL, **settings, checkpoint_every=3)
            for file in (kept, copied):
                file.unlink(missing_ok=True)
            ranks.exchange()
            options: dict[str, Any] = {"config": config, "ranks": ranks}
            whole = train(*toy(), checkpoint=kept, progress=copy_checkpoint, **options)
            save(folder, name, ranks, arrays_of(whole))
            resumed = train(*toy(), checkpoint=copied, **options)
            save(folder, f"{name}-resumed", ranks, arrays_of(resumed))
            gradients = gradients_of_a_step(make_trainer(config, ranks))
            save(folder, f"{name}-gradients", ranks, gradients)

        patch = pytest.MonkeyPatch()
        training_stand_ins.install(patch)
        for name, settings in SETTINGS.items():
            config = TrainingConfig(**{**SMALL, "steps": 7}, **settings)
            one = make_trainer(config, ranks)
            state = one.state
            state.optimizer = build_optimizer(config, list(state.modules.values()), graph_safe=True)
            one.cuda = CudaStep(
                one.frames,
                one.source,
                state,
                one.model.backbone,
                one.head,
                one.device,
                one.dtype,
                one.mean,
            )
            save(folder, f"{name}-cuda", ranks, arrays_of(one.run(None, None)))
            assert not one.cuda.graphs
        patch.undo()
        if ranks.rank > 0:
            help_to_train(ranks)


def fit_until(event: str, arguments: list[str]) -> None:
    """A fit in which something happens to one of the ranks, or nothing does."""
    rank, draw = int(os.environ["RANK"]), StepSource.draw

    def draw_until(self: StepSource, step: int) -> StepInputs:
        if event == "interrupted" and rank == 0 and step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        if event == "failed" and rank == 1 and step == 4:
            raise RunError("the disk is gone")
        return draw(self, step)

    StepSource.draw = draw_until  # type: ignore[method-assign]
    sys.argv = ["cliquesim", "fit", *arguments]
    cli.main()


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train_all(Path(sys.argv[2]))
    else:
        fit_until(sys.argv[1], sys.argv[2:])
