"""Local response normalisation over five channels, with its own gradient."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cliquesim.training import _cuda_kernels

SIZE = 5


def local_response_norm(
    x: Tensor, alpha: float, beta: float, k: float, rectifies: bool = False
) -> Tensor:
    """`F.local_response_norm` over five channels, of `F.relu(x)` with `rectifies`.

    On a GPU both are one kernel each way, channels last. x is (N, C, H, W); the kernels take
    float32 and bfloat16 and a multiple of four channels.
    """
    if (
        x.is_cuda
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[1] % 4 == 0
        and importlib.util.find_spec("cliquesim._cuda") is not None
    ):
        normalized: Tensor = ResponseNorm.apply(x, alpha, beta, k, rectifies)  # type: ignore[no-untyped-call]
        return normalized
    if rectifies:
        x = F.relu(x)
    return F.local_response_norm(x, SIZE, alpha=alpha, beta=beta, k=k)


class ResponseNorm(torch.autograd.Function):
    """y_c = x_c s_c^-beta with s_c = k + alpha / 5 * (sum of x_j^2 over |j - c| <= 2).

    x is rectified first if asked for. Keeps x alone for the gradient and makes s again. Off the
    GPU by torch's operations.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: float, beta: float, k: float, rectifies: bool
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x)
        ctx.settings = share, beta, k, rectifies = alpha / SIZE, beta, k, rectifies
        if not x.is_cuda:
            x = x.clamp_min(0) if rectifies else x
            return x * (k + share * _window_sum(x * x)) ** -beta
        y = torch.empty_like(x)
        _cuda_kernels.response_norm((x, y), share, beta, k, rectifies)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        share, beta, k, rectifies = ctx.settings
        dy = gradients[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        if x.is_cuda:
            dx = torch.empty_like(x)
            _cuda_kernels.response_norm((x, dy, dx), share, beta, k, rectifies)
        else:
            x = x.clamp_min(0) if rectifies else x
            s = k + share * _window_sum(x * x)
            direct = dy * s**-beta
            dx = direct - 2 * share * beta * x * _window_sum(direct * x / s)
            dx = torch.where(x > 0, dx, 0.0) if rectifies else dx
        return dx, None, None, None, None


def _window_sum(x: Tensor) -> Tensor:
    """Sums over each channel and the two on both sides of it."""
    reach = SIZE // 2
    padded = F.pad(x, (0, 0, 0, 0, reach, reach))
    return sum((padded[:, i : i + x.shape[1]] for i in range(1, SIZE)), padded[:, : x.shape[1]])
