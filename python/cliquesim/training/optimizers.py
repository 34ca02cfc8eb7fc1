"""Optimisers, learning rates and averaged weights, chosen by the settings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cliquesim.training.config import TrainingConfig


def build_optimizer(config: TrainingConfig, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """AdamW, AdaGrad (Sect. 3.1) or SGD with momentum (Eq. 8).

    lambda of Eq. (7) applies to weights only, not to biases and norms.
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
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate, eps=config.epsilon)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=rate)


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

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (0-based)."""
        seen = step - self._first
        if self._config.averaging == "swa":
            weight = 1.0 if seen <= 0 else 1.0 / (seen + 1)
        else:
            weight = max(1.0 - self._config.averaging_decay, 9.0 / (10.0 + seen))
        for name, value in _state(module).items():
            average = self.tensors[name]
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
