"""The kernels of `cliquesim._cuda` that training uses, on tensors, on torch's current stream.

Tensors that are given stay untouched until the stream has passed, which torch's allocator, working
in stream order, sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from cliquesim.training._activation import ActivationSteps

_LAST = torch.channels_last

# FrameChange of csrc/training/augment_pixel.hpp.
FRAME_CHANGE = np.dtype(
    [
        ("frame", "<i8"),
        ("other", "<i4"),
        ("unused", "<i4"),
        ("affine", "<f4", 6),
        ("colour", "<f4", 6),
        ("ellipse", "<f4", 2),
        ("erase", "<f4", 4),
        ("extent", "<f4", 2),
    ]
)


@dataclass(frozen=True)
class AugmentSteps:
    """Which changes are made, and how soft the edge of the surroundings is."""

    moves: bool
    recolors: bool
    covers: bool
    erases: bool
    softness: float


def gather(corpus: Tensor, changes: Tensor, out: Tensor) -> None:
    """Copy the frames of a batch, rows of `corpus` in pinned host memory, to `out` (n, stride)."""
    from cliquesim import _cuda  # optional at build time

    _cuda.gather(
        corpus.data_ptr(), corpus.shape[1], changes.data_ptr(), len(out), out.data_ptr(), *_at(out)
    )


def augment(
    corpus: Tensor,
    size: tuple[int, int],
    gathered: bool,
    changes: Tensor,
    steps: AugmentSteps,
    means: Tensor,
    out: Tensor,
    mean: float = 0.0,
    scale: float = 1.0,
    fades: bool = False,
    block: int = 1,
) -> None:
    """Frames to pixels p, written as (p - mean) scale, faded outside the subject.

    Parameters
    ----------
    corpus
        uint8 (N, stride): RGB frames in rows of a multiple of 16 bytes, 9 or more behind the frame.
    size
        Height and width of the frames.
    gathered
        Whether the rows are the batch itself, in its order.
    changes
        uint8, n of `FRAME_CHANGE`.
    means
        float32 (n, 4), to work in.
    block
        Squares of `block` x `block` pixels become one pixel with all their colours, row by row.
    out
        (n, H, W, 3), float32 or bfloat16; with blocks (n, H / block, W / block, 3 block^2 or more
        numbers), both rounded up: what lies beyond a frame or its colours is not written.
    """
    from cliquesim import _cuda

    n, (height, width) = len(out), size
    _cuda.augment(
        corpus.data_ptr(),
        corpus.shape[1],
        gathered,
        changes.data_ptr(),
        n,
        height,
        width,
        (steps.moves, steps.recolors, steps.covers, steps.erases),
        steps.softness,
        means.data_ptr(),
        mean,
        scale,
        fades,
        block,
        out.shape[3],
        out.data_ptr(),
        out.dtype == torch.bfloat16,
        *_at(out),
    )


def gradient_channels(
    images: Tensor, changes: Tensor, window: int, floor: float, out: Tensor
) -> None:
    """`GradientFrontEnd` of float32 (n, H, W, 3), faded outside the subject, to the same shape."""
    from cliquesim import _cuda

    n, height, width, _ = images.shape
    _cuda.gradient_channels(
        images.data_ptr(),
        changes.data_ptr(),
        n,
        height,
        width,
        window,
        floor,
        out.data_ptr(),
        out.dtype == torch.bfloat16,
        *_at(out),
    )


def activation(
    x: Sequence[Tensor], bias: Tensor | None, steps: ActivationSteps
) -> tuple[list[Tensor], Tensor | None]:
    """See `activate`; x (N, C, H, W) channels last, in one tensor or two, `bias` of its type.

    Returns y and, with pooling, uint8 (N, C, H, W): the largest pixel's place in its window.
    """
    from cliquesim import _cuda

    shape, flags, norm = _described(x, steps)
    n, height, width, channels = shape
    if steps.pools:
        height, width = max(0, (height - 1) // 2), max(0, (width - 1) // 2)

    def empty(channels: int, dtype: torch.dtype) -> Tensor:
        of = n, channels, height, width
        return torch.empty(of, dtype=dtype, device=x[0].device, memory_format=_LAST)

    y = [empty(channels // steps.parts, x[0].dtype) for _ in range(steps.parts)]
    places = empty(channels, torch.uint8) if steps.pools else None
    _cuda.activation(
        shape,
        flags,
        norm,
        [part.data_ptr() for part in x],
        _address(bias),
        [part.data_ptr() for part in y],
        _address(places),
        x[0].dtype == torch.bfloat16,
        *_at(x[0]),
    )
    return y, places


def activation_gradient(
    x: Sequence[Tensor],
    bias: Tensor | None,
    dy: Sequence[Tensor],
    places: Tensor | None,
    steps: ActivationSteps,
    bias_dtype: torch.dtype | None,
) -> tuple[list[Tensor], Tensor | None]:
    """dx and, if there is a bias, its gradient in `bias_dtype`, float32 or bfloat16."""
    from cliquesim import _cuda

    shape, flags, norm = _described(x, steps)
    dx, sums, total = [torch.empty_like(part) for part in x], None, None
    if bias is not None:
        blocks = _cuda.activation_gradient_blocks(shape, flags)
        sums = torch.empty((blocks, len(bias)), dtype=torch.float32, device=bias.device)
        total = torch.empty_like(bias, dtype=bias_dtype)
    _cuda.activation_gradient(
        shape,
        flags,
        norm,
        [part.data_ptr() for part in x],
        _address(bias),
        [part.data_ptr() for part in dy],
        _address(places),
        [part.data_ptr() for part in dx],
        _address(sums),
        _address(total),
        bias_dtype == torch.bfloat16,
        x[0].dtype == torch.bfloat16,
        *_at(x[0]),
    )
    return dx, total


def _described(
    x: Sequence[Tensor], steps: ActivationSteps
) -> tuple[tuple[int, int, int, int], tuple[bool, bool, bool], tuple[float, float, float]]:
    n, channels, height, width = x[0].shape
    norm = steps.norm
    numbers = (0.0, 0.0, 1.0) if norm is None else (norm.alpha / 5, norm.beta, norm.k)
    flags = steps.rectifies, norm is not None, steps.pools
    return (n, height, width, channels * len(x)), flags, numbers


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def adagrad(
    tensors: Sequence[tuple[Tensor, Tensor, Tensor, Tensor | None, float]],
    rate: Tensor,
    epsilon: float,
) -> None:
    """One step of all (weights, gradient, sums of squares, rounded weights, decay).

    They lie alike in memory. Where there are bfloat16 weights to write, the gradient is bfloat16.
    """
    from cliquesim import _cuda

    if tensors:
        addresses = [
            (
                weights.data_ptr(),
                gradient.data_ptr(),
                sums.data_ptr(),
                _address(rounded),
                weights.numel(),
                decay,
            )
            for weights, gradient, sums, rounded, decay in tensors
        ]
        _cuda.adagrad(addresses, rate.data_ptr(), epsilon, *_at(rate))


def _at(tensor: Tensor) -> tuple[int, int]:
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream
