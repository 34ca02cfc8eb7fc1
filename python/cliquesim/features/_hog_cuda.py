"""HOG on a CUDA device: frames that are there, or arrays that go there block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim._device import out_of_memory
from cliquesim._mapped import release
from cliquesim.errors import InputError

# Frames on their way at a time, twice: one block is copied while the device works on the other.
_BLOCK_BYTES = 1 << 26
_WHAT = "hog: frames and features take"


def hog_of_tensor(images: torch.Tensor, shape: tuple[int, ...], cell_size: int) -> torch.Tensor:
    """Features beside `images` (N, H, W, C), on the caller's current stream."""
    need = (0 if images.is_contiguous() else images.numel()) + 4 * int(np.prod(shape))
    with torch.cuda.device(images.device):
        try:
            frames = images.contiguous()
            features = torch.empty(shape, dtype=torch.float32, device=images.device)
        except torch.cuda.OutOfMemoryError as error:
            raise out_of_memory(_WHAT, need, images.device) from error
        _launch(frames, features, cell_size)
    return features


def hog_of_array(
    frames: NDArray[np.uint8],
    features: NDArray[np.float32],
    cell_size: int,
    progress: Callable[[float], object] | None,
) -> None:
    """Fill `features` on the current device; uploads, kernels and downloads overlap."""
    if len(frames) == 0:
        return
    step = min(len(frames), max(1, _BLOCK_BYTES // frames[0].nbytes))
    device = torch.device("cuda", torch.cuda.current_device())
    shapes = (step, *frames.shape[1:]), (step, *features.shape[1:])
    try:
        slots = [_Slot(*shapes, device) for _ in range(min(2, -(-len(frames) // step)))]
    except torch.cuda.OutOfMemoryError as error:
        need = 2 * (int(np.prod(shapes[0])) + 4 * int(np.prod(shapes[1])))
        raise out_of_memory(_WHAT, need, device) from error
    running: list[tuple[_Slot, int, int]] = []
    for number, start in enumerate(range(0, len(frames), step)):
        if len(running) == len(slots):
            _finish(*running.pop(0), frames, features, progress)
        stop, slot = min(start + step, len(frames)), slots[number % len(slots)]
        slot.start(frames[start:stop], cell_size)
        running.append((slot, start, stop))
    for one in running:
        _finish(*one, frames, features, progress)


class _Slot:
    """A stream, and memory for a block on both sides."""

    def __init__(
        self, frames: tuple[int, ...], features: tuple[int, ...], device: torch.device
    ) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.host_frames = _pinned(frames, torch.uint8)
        self.host_features = _pinned(features, torch.float32)
        with torch.cuda.stream(self.stream):
            self.frames = torch.empty(frames, dtype=torch.uint8, device=device)
            self.features = torch.empty(features, dtype=torch.float32, device=device)

    def start(self, block: NDArray[np.uint8], cell_size: int) -> None:
        n = len(block)
        self.host_frames.numpy()[:n] = block
        with torch.cuda.stream(self.stream):
            self.frames[:n].copy_(self.host_frames[:n], non_blocking=True)
            _launch(self.frames[:n], self.features[:n], cell_size)
            self.host_features[:n].copy_(self.features[:n], non_blocking=True)

    def result(self, n: int) -> NDArray[np.float32]:
        self.stream.synchronize()
        return self.host_features.numpy()[:n]


def _finish(
    slot: _Slot,
    start: int,
    stop: int,
    frames: NDArray[np.uint8],
    features: NDArray[np.float32],
    progress: Callable[[float], object] | None,
) -> None:
    features[start:stop] = slot.result(stop - start)
    release(frames[:stop])
    release(features[:stop])
    if progress is not None:
        progress(stop / len(frames))


def _pinned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _launch(frames: torch.Tensor, features: torch.Tensor, cell_size: int) -> None:
    from cliquesim import _cuda  # optional at build time

    n, height, width, channels = frames.shape
    try:
        _cuda.hog(
            frames.data_ptr(),
            n,
            height,
            width,
            channels,
            cell_size,
            features.data_ptr(),
            frames.device.index,
            torch.cuda.current_stream(frames.device).cuda_stream,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
