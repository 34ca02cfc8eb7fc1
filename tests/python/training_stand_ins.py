"""Stand-ins for CUDA and the kernels of training: torch's operations on the CPU's tensors."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from cliquesim.training import (
    AugmentationConfig,
    GradientFrontEnd,
    _cuda_inputs,
    _cuda_kernels,
    _cuda_pixels,
    augment,
)
from cliquesim.training._activation import activate_by_torch
from cliquesim.training._cuda_step import CudaStep
from cliquesim.training.augmentation import AugmentationSample
from cliquesim.training.backbones import fade_surroundings
from cliquesim.training.pixels import as_floats


def changes_of(changes: torch.Tensor) -> np.ndarray:
    return changes.numpy().view(_cuda_kernels.FRAME_CHANGE)


def gather(corpus, changes, out) -> None:
    out.copy_(corpus[torch.from_numpy(changes_of(changes)["frame"].copy())])


def augment_rows(
    corpus, size, gathered, changes, steps, means, out, mean=0.0, scale=1.0, fades=False, block=1
) -> None:
    n, (height, width) = len(out), size
    drawn = changes_of(changes)
    assert means.shape == (n, 4)
    assert corpus.shape[1] % 16 == 0
    rows = corpus if gathered else corpus[torch.from_numpy(drawn["frame"].copy())]
    frames = rows[:, : 3 * height * width].reshape(n, height, width, 3).permute(0, 3, 1, 2)
    column = {name: torch.from_numpy(drawn[name].copy()) for name in drawn.dtype.names}
    colour = column["colour"]
    sample = AugmentationSample(
        column["affine"].reshape(n, 2, 3),
        colour[:, :3],
        *(colour[:, i] for i in (3, 4, 5)),
        column["erase"],
        column["other"].long(),
        column["ellipse"],
    )
    config = AugmentationConfig(
        translation=float(steps.moves),
        log_scale=0,
        rotation=0,
        brightness=float(steps.recolors),
        background=float(steps.covers),
        background_softness=steps.softness,
        erasing=float(steps.erases),
    )
    images = (augment(as_floats(frames), sample, config) - mean) * scale
    if fades:
        images = fade_surroundings(images, column["extent"])
    out[..., : 3 * block * block] = in_blocks(images, block).permute(0, 2, 3, 1)


def in_blocks(images: torch.Tensor, block: int) -> torch.Tensor:
    """(N, C, H, W) to (N, block^2 C, H / block, W / block), zeros beyond the image."""
    n, colours, height, width = images.shape
    padded = F.pad(images, (0, -width % block, 0, -height % block))
    split = padded.reshape(
        n, colours, padded.shape[2] // block, block, padded.shape[3] // block, block
    )
    return split.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def gradient_channels(images, changes, window, floor, out) -> None:
    channels = GradientFrontEnd(window, floor)(images.permute(0, 3, 1, 2))
    extent = torch.from_numpy(changes_of(changes)["extent"].copy())
    out.copy_(fade_surroundings(channels, extent).permute(0, 2, 3, 1))


def adagrad(tensors, rate, epsilon) -> None:
    for weights, gradient, sums, rounded, decay in tensors:
        assert weights.stride() == gradient.stride() == sums.stride()
        assert gradient.dtype == (torch.float32 if rounded is None else torch.bfloat16)
        slope = gradient.float() + decay * weights
        sums.addcmul_(slope, slope)
        weights -= rate * slope / (sums.sqrt() + epsilon)
        if rounded is not None:
            assert rounded.stride() == weights.stride()
            rounded.copy_(weights)


def activation(x, bias, steps):
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in x)
    assert bias is None or bias.dtype == x[0].dtype
    (before,) = activate_by_torch(x, bias, dataclasses.replace(steps, pools=False, parts=1))
    if not steps.pools:
        return list(before.chunk(steps.parts, 1)), None
    y, at = F.max_pool2d(before, 3, 2, return_indices=True)
    row, column = at // before.shape[3], at % before.shape[3]
    rows = torch.arange(y.shape[2])[:, None]
    places = 3 * (row - 2 * rows) + column - 2 * torch.arange(y.shape[3])
    return list(y.chunk(steps.parts, 1)), places.to(torch.uint8)


def activation_gradient(x, bias, dy, places, steps, bias_dtype):
    leaves = [part.detach().requires_grad_() for part in x]
    added = [] if bias is None else [bias.detach().requires_grad_()]
    with torch.enable_grad():
        y = activate_by_torch(leaves, added[0] if added else None, steps)
    found = torch.autograd.grad(y, [*leaves, *added], dy)
    return list(found[: len(x)]), found[-1].to(bias_dtype) if added else None


class Stream:
    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Replay:
    """What a graph does: the captured operations again, on the buffers as they are."""

    def __init__(self, step: CudaStep, n_cliques: int) -> None:
        self.step, self.n_cliques, self.replays = step, n_cliques, 0

    def replay(self) -> None:
        self.replays += 1
        self.step._compute(self.n_cliques)


def capture(step: CudaStep, n_cliques: int) -> None:
    step.graphs[n_cliques] = Replay(step, n_cliques)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a `CudaStep` run on the CPU."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "manual_seed", torch.manual_seed)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(CudaStep, "_capture", capture)
    monkeypatch.setattr(_cuda_kernels, "gather", gather)
    monkeypatch.setattr(_cuda_kernels, "augment", augment_rows)
    monkeypatch.setattr(_cuda_kernels, "gradient_channels", gradient_channels)
    monkeypatch.setattr(_cuda_kernels, "adagrad", adagrad)
    monkeypatch.setattr(_cuda_kernels, "activation", activation)
    monkeypatch.setattr(_cuda_kernels, "activation_gradient", activation_gradient)
    monkeypatch.setattr(_cuda_pixels, "free_memory", lambda _: 1 << 30)
    monkeypatch.setattr(_cuda_inputs, "_pinned", lambda n: torch.zeros(n, dtype=torch.uint8))
