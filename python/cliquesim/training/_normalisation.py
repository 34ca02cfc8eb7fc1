"""Batch norm and ReLU behind one another: on the CPU in C++, for values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cliquesim import _core


class NormalisedRelu(nn.BatchNorm2d):
    """Batch norm and then ReLU, (N, C, H, W) to the same; channels last in training on the CPU.

    There torch reads and writes every map some ten times, which takes longer than the convolutions.
    Statistics are float64 sums of float32 sums, the same for any number of threads.
    """

    def forward(self, x: Tensor) -> Tensor:
        mean, variance, momentum = self.running_mean, self.running_var, self.momentum
        rows = x.numel() // x.shape[1]
        if (
            not self.training
            or x.device.type != "cpu"
            or x.dtype not in (torch.float32, torch.bfloat16)
            or rows < 2
            or mean is None
            or variance is None
            or momentum is None
        ):
            return F.relu(super().forward(x), inplace=True)
        apply: Callable[..., tuple[Tensor, Tensor, Tensor]] = _NormalisedAndRectified.apply
        y, batch_mean, batch_variance = apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            mean.lerp_(batch_mean, momentum)
            variance.lerp_(batch_variance * (rows / (rows - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return y


class _NormalisedAndRectified(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        pixels = _channels_last(x)
        y = torch.empty_like(pixels)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        _core.normalise_and_rectify(
            _rows(pixels),
            weight.detach().numpy(),
            bias.detach().numpy(),
            epsilon,
            _rows(y),
            mean.numpy(),
            variance.numpy(),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(pixels, weight, bias, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        ctx.epsilon = epsilon
        return y.permute(0, 3, 1, 2), mean, variance

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        pixels, weight, bias, mean, variance = ctx.saved_tensors
        dx = torch.empty_like(pixels)
        dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
        _core.normalise_and_rectify_gradient(
            _rows(pixels),
            _rows(_channels_last(above[0])),
            weight.detach().numpy(),
            bias.detach().numpy(),
            ctx.epsilon,
            mean.numpy(),
            variance.numpy(),
            _rows(dx),
            dweight.numpy(),
            dbias.numpy(),
            torch.get_num_threads(),
        )
        return dx.permute(0, 3, 1, 2), dweight, dbias, None


def _channels_last(x: Tensor) -> Tensor:
    """(N, H, W, C), contiguous: no copy of maps that lie so already."""
    return x.detach().permute(0, 2, 3, 1).contiguous()


def _rows(pixels: Tensor) -> NDArray[Any]:
    """(N H W, C) as NumPy sees it; bfloat16 as its bits."""
    rows = pixels.reshape(-1, pixels.shape[3])
    return np.asarray(rows.view(torch.int16) if rows.dtype == torch.bfloat16 else rows)
