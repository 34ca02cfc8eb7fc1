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

    Attributes
    ----------
    rounded
        By parameter, its weights in bfloat16, which the network reads in their place: their
        gradient is taken, and they follow the parameter.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "eps": eps, "weight_decay": 0.0})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)
        self.rounded: dict[Tensor, Tensor] = {}

    def round(self, parameter: Tensor) -> Tensor:
        """A copy in bfloat16 that follows the parameter from now on."""
        copy = parameter.detach().to(torch.bfloat16, copy=True).requires_grad_()
        self.rounded[parameter] = copy
        return copy

    @torch.no_grad()
    def refresh(self) -> None:
        """Round anew, after parameters were set by others."""
        for parameter, copy in self.rounded.items():
            copy.copy_(parameter)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the parameters and of their copies."""
        super().zero_grad(set_to_none)
        for copy in self.rounded.values():
            copy.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take the gradients in; those of parameters without one stay as they are."""
        assert closure is None
        for group in self.param_groups:
            tensors = []
            for parameter in group["params"]:
                copy = self.rounded.get(parameter)
                gradient = parameter.grad if copy is None else copy.grad
                if gradient is not None:
                    gradient = _laid_out_as(gradient, parameter)
                    sums = self.state[parameter]["sum"]
                    tensors.append((parameter, gradient, sums, copy, group["weight_decay"]))
            _cuda_kernels.adagrad(tensors, group["lr"], group["eps"])


def _laid_out_as(gradient: Tensor, parameter: Tensor) -> Tensor:
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
