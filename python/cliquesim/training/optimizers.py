"""Optimisers, learning rates and averaged weights, chosen by the settings."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cliquesim.training._fused_adagrad import FusedAdagrad
from cliquesim.training.config import TrainingConfig


def build_optimizer(
    config: TrainingConfig, modules: list[nn.Module], graph_safe: bool = False
) -> torch.optim.Optimizer:
    """AdamW, AdaGrad (Sect. 3.1) or SGD with momentum (Eq. 8).

    lambda of Eq. (7) applies to weights only, not to biases and norms. With `graph_safe` a CUDA
    graph can hold the step, once `lr` of each group is a tensor on the device.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    if graph_safe:
        return _graph_safe(config, groups)
    # In one pass over the weights where this torch has that on the CPU.
    if config.optimizer == "adagrad":
        fused = _fused_on_cpu(torch.optim.Adagrad)
        return torch.optim.Adagrad(groups, lr=rate, eps=config.epsilon, **fused)
    if config.optimizer == "sgd":
        fused = _fused_on_cpu(torch.optim.SGD)
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, **fused)
    return torch.optim.AdamW(groups, lr=rate, **_fused_on_cpu(torch.optim.AdamW))


@functools.cache
def _fused_on_cpu(kind: Callable[..., torch.optim.Optimizer]) -> dict[str, Any]:
    """`{"fused": True}`, or nothing."""
    try:
        kind([nn.Parameter(torch.zeros(1))], lr=0.1, fused=True)
    except (RuntimeError, TypeError):
        return {}
    return {"fused": True}


def _graph_safe(config: TrainingConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    rate = config.learning_rate
    if config.optimizer == "adagrad":
        return FusedAdagrad(groups, rate, config.epsilon)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=True)
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True, capturable=True)
    # The first steps run without a graph on purpose.
    optimizer._warned_capturable_if_run_uncaptured = True
    return optimizer


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Rate of step `step` (0-based)."""
    if config.schedule == "constant":
        return config.learning_rate
    warm = max(1, round(config.warmup * config.n_steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, config.n_steps - warm)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


class AveragedWeights:
    """Running average of a module's parameters and statistics.

    `"ema"`: exponential, with a shorter memory at the start; `"swa"`: even over the last quarter.
    """

    def __init__(self, module: nn.Module, config: TrainingConfig) -> None:
        self._config = config
        quarter = max(1, config.n_steps // 4)
        self._first = config.n_steps - quarter if config.averaging == "swa" else 0
        self.tensors = {name: value.detach().clone() for name, value in _state(module).items()}

    def weight(self, step: int) -> float:
        """Of the module as it is after step `step` (0-based)."""
        seen = step - self._first
        if self._config.averaging == "swa":
            return 1.0 if seen <= 0 else 1.0 / (seen + 1)
        return max(1.0 - self._config.averaging_decay, 9.0 / (10.0 + seen))

    @torch.no_grad()
    def update(self, module: nn.Module, weight: float | Tensor) -> None:
        """Take in the module as it is, with a weight that may be a scalar on its device."""
        for name, value in _state(module).items():
            average = self.tensors[name]
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
