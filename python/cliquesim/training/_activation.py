"""What follows a convolution of AlexNet in one kernel each way: bias, ReLU, LRN, pooling."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cliquesim.training import _cuda_kernels

LRN_SIZE = 5
POOL_SIDE, POOL_STEP = 3, 2
# Of the kernels: eight channels for each thread of a block, of a warp where they are normalised.
_MOST_CHANNELS, _MOST_NORMALISED = 2048, 256


@dataclass(frozen=True)
class ResponseNorm:
    """Local response normalisation over five channels, as `F.local_response_norm` has it."""

    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class ActivationSteps:
    """In this order, after the bias if there is one.

    Pooling takes 3 x 3, every second pixel, of what is rectified. The result's channels come in
    `parts` tensors, 1 or 2 of equal size.
    """

    rectifies: bool = True
    norm: ResponseNorm | None = None
    pools: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        assert self.rectifies or not self.pools
        assert self.parts in (1, 2)


def activate(x: Sequence[Tensor], bias: Tensor | None, steps: ActivationSteps) -> list[Tensor]:
    """x (N, C, H, W) with `bias` (C,) added, and then what `steps` says.

    The channels of x come in one tensor or in two of equal size. On a GPU all of it is one kernel
    each way, channels last, in float32 and bfloat16 for parts of a multiple of eight channels, at
    most 2,048 in all (256 normalised).
    """
    channels, parts = sum(part.shape[1] for part in x), max(len(x), steps.parts)
    if (
        x[0].is_cuda
        and x[0].dtype in (torch.float32, torch.bfloat16)
        and channels % (8 * parts) == 0
        and channels <= (_MOST_CHANNELS if steps.norm is None else _MOST_NORMALISED)
        and importlib.util.find_spec("cliquesim._cuda") is not None
    ):
        return list(Activation.apply(bias, steps, *x))  # type: ignore[no-untyped-call]
    return activate_by_torch(x, bias, steps)


def activate_by_torch(
    x: Sequence[Tensor], bias: Tensor | None, steps: ActivationSteps
) -> list[Tensor]:
    """`activate` by torch's operations."""
    y = x[0] if len(x) == 1 else torch.cat(list(x), 1)
    if bias is not None:
        y = y + bias.to(y.dtype)[:, None, None]
    if steps.rectifies:
        y = F.relu(y)
    if steps.norm is not None:
        norm = steps.norm
        y = F.local_response_norm(y, LRN_SIZE, alpha=norm.alpha, beta=norm.beta, k=norm.k)
    if steps.pools:
        y = F.max_pool2d(y, POOL_SIDE, POOL_STEP)
    return list(y.chunk(steps.parts, 1))


class Activation(torch.autograd.Function):
    """`activate` by kernels; keeps x, and which of nine pixels was the largest, for the gradient.

    With v = max(x + bias, 0) and s_c = k + alpha / 5 * (sum of v_j^2 over |j - c| <= 2), the
    normalised y_c is v_c s_c^-beta.
    """

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor | None, steps: ActivationSteps, *x: Tensor
    ) -> tuple[Tensor, ...]:
        x = tuple(part.contiguous(memory_format=torch.channels_last) for part in x)
        added = None if bias is None else bias.to(x[0].dtype)
        y, places = _cuda_kernels.activation(x, added, steps)
        ctx.save_for_backward(added, places, *x)
        ctx.steps, ctx.bias_dtype = steps, None if bias is None else bias.dtype
        return tuple(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        added, places, *x = ctx.saved_tensors
        dy = [
            part.to(x[0].dtype).contiguous(memory_format=torch.channels_last) for part in gradients
        ]
        dx, of_bias = _cuda_kernels.activation_gradient(
            x, added, dy, places, ctx.steps, ctx.bias_dtype
        )
        return of_bias, None, *dx
