"""AdaGrad on a CUDA device in one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cliquesim.training import _cuda_kernels


class FusedAdagrad(torch.optim.Optimizer):
    """What `torch.optim.Adagrad` computes, in one launch for all tensors.

    torch's own is fused on the CPU only; on a GPU it keeps its count of steps on the host, so that
    a CUDA graph cannot hold it, and it goes over weights and sums several times. Here every weight
    is read and written once, 20 bytes in all, and what has neither gradient nor decay, as most of
    the softmax's rows, is left alone. `lr` of each group is a tensor on the device.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "eps": eps, "weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take the gradients in; those of parameters without one stay as they are."""
        assert closure is None
        for group in self.param_groups:
            tensors = [
                (
                    parameter,
                    _laid_out_as(parameter.grad, parameter),
                    self.state[parameter]["sum"],
                    group["weight_decay"],
                )
                for parameter in group["params"]
                if parameter.grad is not None
            ]
            _cuda_kernels.adagrad(tensors, group["lr"], group["eps"])


def _laid_out_as(gradient: Tensor, parameter: Tensor) -> Tensor:
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
