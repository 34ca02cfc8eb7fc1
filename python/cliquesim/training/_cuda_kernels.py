"""The kernels of `cliquesim._cuda` that training uses, on tensors, on torch's current stream.

Tensors that are given stay untouched until the stream has passed, which torch's allocator, working
in stream order, sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
    gathered: bool,
    changes: Tensor,
    steps: AugmentSteps,
    means: Tensor,
    out: Tensor,
    mean: float = 0.0,
    scale: float = 1.0,
    fades: bool = False,
) -> None:
    """Frames to pixels p, written as (p - mean) scale, faded outside the subject.

    Parameters
    ----------
    corpus
        uint8 (N, stride): RGB frames of `out`'s size in rows of a multiple of 16 bytes.
    gathered
        Whether the rows are the batch itself, in its order.
    changes
        uint8, n of `FRAME_CHANGE`.
    means
        float32 (n, 4), to work in.
    out
        (n, H, W, 3), float32 or bfloat16.
    """
    from cliquesim import _cuda

    n, height, width, _ = out.shape
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


def response_norm(
    tensors: Sequence[Tensor], share: float, beta: float, k: float, rectifies: bool
) -> None:
    """Local response normalisation of x (rectified) to y, or x, dy to dx; channels last."""
    from cliquesim import _cuda

    x = tensors[0]
    _cuda.response_norm(
        [one.data_ptr() for one in tensors],
        x.numel() // x.shape[1],
        x.shape[1],
        share,
        beta,
        k,
        rectifies,
        x.dtype == torch.bfloat16,
        *_at(x),
    )


def adagrad(
    tensors: Sequence[tuple[Tensor, Tensor, Tensor, float]], rate: Tensor, epsilon: float
) -> None:
    """One step of all (weights, gradient, sums of squares, decay), which lie alike in memory."""
    from cliquesim import _cuda

    if tensors:
        addresses = [
            (weights.data_ptr(), gradient.data_ptr(), sums.data_ptr(), weights.numel(), decay)
            for weights, gradient, sums, decay in tensors
        ]
        _cuda.adagrad(addresses, rate.data_ptr(), epsilon, *_at(rate))


def _at(tensor: Tensor) -> tuple[int, int]:
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream
