"""What the ranks of a training share in a step: gradients, statistics, the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cliquesim.training.checkpoints import TrainingState
from cliquesim.training.distributed import Ranks


class GradientMean:
    """Makes gradients and the statistics of batch norms their means over the ranks.

    So weights, statistics and all averages of them are equal on every rank after each step. Each
    rank normalises by its own batch. Alone, nothing is touched.
    """

    def __init__(self, ranks: Ranks, state: TrainingState) -> None:
        self._ranks = ranks
        self._parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        self._statistics = [
            values
            for module in state.modules.values()
            for norm in module.modules()
            if isinstance(norm, nn.modules.batchnorm._BatchNorm)
            for values in (norm.running_mean, norm.running_var)
            if values is not None
        ]

    @property
    def alone(self) -> bool:
        """Whether there is one rank."""
        return self._ranks.world == 1

    @torch.no_grad()
    def take(self, loss: Tensor) -> float:
        """Average after `backward`; returns the mean of the losses.

        No rank adds before all have their gradients, so that none waits for one that failed.
        """
        if self.alone:
            return float(loss)
        world = self._ranks.world
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        tensors = [*gradients, *self._statistics]
        values = torch.cat([tensor.reshape(-1) for tensor in tensors])
        mean = sum(self._ranks.exchange(float(loss))) / world
        self._ranks.add(values)
        values /= world
        parts = torch.split(values, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
        return mean
