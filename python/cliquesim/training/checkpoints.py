"""Checkpoints of a training: one safetensors file, tensors and JSON together, whole or absent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from cliquesim._files import PathLike, write_atomically
from cliquesim.errors import InputError
from cliquesim.training.config import TrainingConfig
from cliquesim.training.model import read_tensors
from cliquesim.training.optimizers import AveragedWeights

_FORMAT = "cliquesim-checkpoint-1"


@dataclass
class TrainingState:
    """Everything that a step changes. The random numbers need no state: see `step_seed`."""

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    average: AveragedWeights | None
    loss: list[float]

    @property
    def step(self) -> int:
        """Steps that are done."""
        return len(self.loss)


def fingerprint(config: TrainingConfig, arrays: dict[str, NDArray[Any] | None]) -> str:
    """Hash of settings and data; a checkpoint is taken up only where it agrees."""
    settings = config.what_counts()
    # How often a checkpoint is written does not change the result.
    del settings["checkpoint_every"]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in arrays.items():
        if array is not None:
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save_checkpoint(path: PathLike, state: TrainingState, fingerprint: str) -> None:
    """Write the state to `path`, atomically."""
    tensors = {"loss": torch.tensor(state.loss, dtype=torch.float64)}
    for prefix, module in state.modules.items():
        for name, value in module.state_dict().items():
            tensors[f"module.{prefix}.{name}"] = value
    if state.average is not None:
        for name, value in state.average.tensors.items():
            tensors[f"average.{name}"] = value
    for index, parameter in enumerate(_parameters(state.optimizer)):
        for name, value in state.optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"format": _FORMAT, "fingerprint": fingerprint, "step": str(state.step)}
    with write_atomically(path) as temporary:
        save_file(tensors, temporary, metadata)


@torch.no_grad()
def load_checkpoint(path: PathLike, state: TrainingState, fingerprint: str) -> None:
    """Put a checkpoint's state into `state`.

    Raises
    ------
    InputError
        The file is damaged, or was written with other settings or data, or by another number of
        processes.
    """
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise InputError(f"{path}: not a training checkpoint of this version")
    if metadata.get("fingerprint") != fingerprint:
        raise InputError(
            f"{path}: the checkpoint is from a training with other settings or data, or by "
            "another number of processes; remove it to start anew"
        )
    for prefix, module in state.modules.items():
        for name, value in module.state_dict().items():
            value.copy_(tensors[f"module.{prefix}.{name}"])
    if state.average is not None:
        for name, value in state.average.tensors.items():
            value.copy_(tensors[f"average.{name}"])
    counts_on_device = bool(state.optimizer.defaults.get("capturable"))
    for index, parameter in enumerate(_parameters(state.optimizer)):
        prefix = f"optimizer.{index}."
        saved = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        for name, value in saved.items():
            # The same strides as the parameter's, so that the next step adds in the same order.
            like = parameter if value.shape == parameter.shape else value
            place = parameter.device if name != "step" or counts_on_device else value.device
            state.optimizer.state[parameter][name] = torch.empty_like(
                like, dtype=value.dtype, device=place
            ).copy_(value)
    state.loss[:] = tensors["loss"].tolist()


def has_checkpoint(path: PathLike | None) -> bool:
    """Whether there is one to go on from."""
    return path is not None and Path(path).is_file()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
