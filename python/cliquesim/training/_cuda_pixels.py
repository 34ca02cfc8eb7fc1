"""From a corpus of uint8 frames to what the network reads, on a CUDA device."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cliquesim._device import free_memory
from cliquesim.errors import RunError
from cliquesim.training import _cuda_kernels
from cliquesim.training._cuda_kernels import AugmentSteps
from cliquesim.training.backbones import GradientFrontEnd, RGBFrontEnd
from cliquesim.training.config import AugmentationConfig
from cliquesim.training.pixels import resized

# Of the device's free memory, for the frames; the rest is the network's.
_SHARE = 0.7
_BLOCK_BYTES = 64 << 20
_ROW_ALIGNMENT = 16
# What kernels may read behind a frame: frame_padding of csrc/training/augment_pixel.hpp.
_ROW_PADDING = 9
# Of channels, what cuDNN's products take at once.
_CHANNELS = 64


class CudaCorpus:
    """All frames in the training's size, resized once.

    In the device's memory where they fit, else in pinned host memory. From there the batch's frames
    are fetched by a kernel that reads every byte once over the bus: that needs no work of the host
    per step, no copy per frame, and lies in the CUDA graph as everything else does.

    Attributes
    ----------
    pixels
        uint8 (N, stride): size x size x 3 bytes a row, and some padding.
    on_device
        Where they lie.
    """

    def __init__(self, frames: NDArray[np.uint8], size: int, device: torch.device) -> None:
        row, stride = 3 * size * size, _row_stride(size)
        needed = len(frames) * stride
        self.on_device = needed <= _SHARE * free_memory(device)
        if self.on_device:
            self.pixels = torch.empty((len(frames), stride), dtype=torch.uint8, device=device)
        else:
            self.pixels = self._pinned(len(frames), stride)
        block = max(1, _BLOCK_BYTES // max(frames[0].nbytes, row))
        for start in range(0, len(frames), block):
            scaled = resized(frames[start : start + block], size, device)
            self.pixels[start : start + block, :row] = _rows(scaled)

    def _pinned(self, n: int, stride: int) -> Tensor:
        """Pinned here, as torch's own allocator would round up to a power of two."""
        try:
            pixels = torch.empty((n, stride), dtype=torch.uint8)
            _pin(pixels)
        except RuntimeError as error:
            raise RunError(
                f"training needs {n * stride / 2**30:.1f} GiB of pinned memory for {n} frames that "
                f"do not fit into the GPU's: {error}"
            ) from error
        weakref.finalize(self, _unpin, pixels)
        return pixels


class ResidentBatch:
    """The frames of one batch, laid out as in a corpus."""

    on_device = True

    def __init__(self, n: int, size: int, device: torch.device) -> None:
        self.pixels = torch.empty((n, _row_stride(size)), dtype=torch.uint8, device=device)

    def fill(self, frames: Tensor) -> None:
        """Put uint8 (n, 3, size, size) into the first n rows."""
        rows = _rows(frames)
        self.pixels[: len(rows), : rows.shape[1]] = rows


class NetworkInput:
    """Makes a batch of frames into the network's input, always at the same place.

    Parameters
    ----------
    corpus
        The frames.
    front_end
        That of the network; its work is done here.
    config
        What augmentation does.
    n, size
        Frames of a batch, and their side in pixels.
    dtype
        float32 or bfloat16.
    block
        Of pixels in a square that colours are made to channels of; see `augment`.
    """

    def __init__(
        self,
        corpus: CudaCorpus | ResidentBatch,
        front_end: GradientFrontEnd | RGBFrontEnd,
        config: AugmentationConfig,
        n: int,
        size: int,
        dtype: torch.dtype,
        device: torch.device,
        block: int = 1,
    ) -> None:
        def empty(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self._corpus, self._front_end = corpus, front_end
        self._steps = AugmentSteps(
            config.moves,
            config.recolors,
            config.replaces,
            config.erasing > 0,
            config.background_softness,
        )
        self._means = empty(n, 4, dtype=torch.float32)
        self._size = size, size
        self._images: Tensor | None = None
        if isinstance(front_end, GradientFrontEnd):
            self._images = empty(n, size, size, 3, dtype=torch.float32)
            block = 1
        self._block = block
        side = -(-size // block)
        channels = 3 * block**2
        if block > 1:
            channels += -channels % _CHANNELS
        # Zeros, as what lies beyond the frame or its colours stays what it is.
        self._out = empty(n, side, side, channels, dtype=dtype).zero_()
        self._batch: Tensor | None = None
        if not corpus.on_device:
            self._batch = empty(n, corpus.pixels.shape[1], dtype=torch.uint8)

    def make(self, changes: Tensor) -> Tensor:
        """The input of the frames that `changes` names: (n, 3, size, size), channels last.

        Of blocks for colours: (n, C, size / block, size / block), rounded up; C is 3 block^2 and
        zeros to a multiple of 64.
        """
        source = self._corpus.pixels
        if self._batch is not None:
            _cuda_kernels.gather(source, changes, self._batch)
            source = self._batch
        known: dict[str, Any] = {
            "corpus": source,
            "size": self._size,
            "gathered": self._batch is not None,
            "changes": changes,
            "steps": self._steps,
            "means": self._means,
        }
        front = self._front_end
        if isinstance(front, GradientFrontEnd):
            assert self._images is not None
            _cuda_kernels.augment(**known, out=self._images)
            _cuda_kernels.gradient_channels(
                self._images, changes, front.window, front.floor, self._out
            )
        else:
            _cuda_kernels.augment(
                **known,
                out=self._out,
                mean=front.mean,
                scale=front.scale,
                fades=True,
                block=self._block,
            )
        return self._out.permute(0, 3, 1, 2)


def _row_stride(size: int) -> int:
    return -(-(3 * size * size + _ROW_PADDING) // _ROW_ALIGNMENT) * _ROW_ALIGNMENT


def _rows(frames: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) as (n, H W 3)."""
    return frames.permute(0, 2, 3, 1).reshape(len(frames), -1)


def _pin(pixels: Tensor) -> None:
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    portable_and_mapped = 3
    status = runtime.cudaHostRegister(pixels.data_ptr(), pixels.nbytes, portable_and_mapped)
    if int(status) != 0:
        raise RuntimeError(f"CUDA error {int(status)} of cudaHostRegister")


def _unpin(pixels: Tensor) -> None:
    torch.cuda.cudart().cudaHostUnregister(pixels.data_ptr())  # type: ignore[no-untyped-call]
