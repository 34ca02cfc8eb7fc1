"""What follows a convolution of AlexNet in one kernel each way: bias, ReLU, LRN, pooling."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cliquesim.training import _cuda_kernels

LRN_SIZE = 5
POOL_SIDE, POOL_STEP = 3, 2


@dataclass(frozen=True)
class ResponseNorm:
    """Local response normalisation over five channels, as `F.local_response_norm` has it."""

    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class ActivationSteps:
    """In this order, after the bias if there is one. Pooling takes 3 x 3, every second pixel."""

    rectifies: bool = True
    norm: ResponseNorm | None = None
    pools: bool = False


def activate(x: Tensor, bias: Tensor | None, steps: ActivationSteps) -> Tensor:
    """x (N, C, H, W) with `bias` (C,) added, and then what `steps` says.

    On a GPU all of it is one kernel each way, channels last, in float32 and bfloat16 for a
    multiple of eight channels.
    """
    if (
        x.is_cuda
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[1] % 8 == 0
        and importlib.util.find_spec("cliquesim._cuda") is not None
    ):
        found: Tensor = Activation.apply(x, bias, steps)  # type: ignore[no-untyped-call]
        return found
    return activate_by_torch(x, bias, steps)


def activate_by_torch(x: Tensor, bias: Tensor | None, steps: ActivationSteps) -> Tensor:
    """`activate` by torch's operations."""
    if bias is not None:
        x = x + bias.to(x.dtype)[:, None, None]
    if steps.rectifies:
        x = F.relu(x)
    if steps.norm is not None:
        norm = steps.norm
        x = F.local_response_norm(x, LRN_SIZE, alpha=norm.alpha, beta=norm.beta, k=norm.k)
    return F.max_pool2d(x, POOL_SIDE, POOL_STEP) if steps.pools else x


class Activation(torch.autograd.Function):
    """`activate` by kernels; keeps x, and which of nine pixels was the largest, for the gradient.

    With v = max(x + bias, 0) and s_c = k + alpha / 5 * (sum of v_j^2 over |j - c| <= 2), the
    normalised y_c is v_c s_c^-beta.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, steps: ActivationSteps) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        added = None if bias is None else bias.to(x.dtype)
        y, places = _cuda_kernels.activation(x, added, steps)
        ctx.save_for_backward(x, added, places)
        ctx.steps, ctx.bias_dtype = steps, None if bias is None else bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, added, places = ctx.saved_tensors
        dy = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx, sums = _cuda_kernels.activation_gradient(x, added, dy, places, ctx.steps)
        return dx, None if sums is None else sums.to(ctx.bias_dtype), None
