"""Embedding on a CUDA device, with the kernels that make a training's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cliquesim._mapped import release
from cliquesim._pinned import PinnedBlock
from cliquesim.training._cuda_kernels import FRAME_CHANGE
from cliquesim.training._cuda_pixels import NetworkInput, ResidentBatch
from cliquesim.training.backbones import Backbone
from cliquesim.training.config import AugmentationConfig
from cliquesim.training.pixels import scaled

_Progress = Callable[[float], object] | None


class CudaEmbedding:
    """Embeds frames batch by batch; nothing waits for the device but the features' way down.

    Parameters
    ----------
    backbone
        On `device`, in evaluation mode.
    extent
        float32 (N, 2).
    dtype
        Of the products.
    """

    def __init__(
        self,
        backbone: Backbone,
        layer: str | None,
        extent: NDArray[np.float32],
        flip: bool,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._backbone, self._layer = backbone, layer
        self._device, self._dtype = device, dtype
        self.batch_size = min(batch_size, len(extent))
        self._batch = ResidentBatch(self.batch_size, backbone.image_size, device)
        self._changes = _changes(extent, flip, self.batch_size).to(device)
        self._inputs: dict[int, NetworkInput] = {}

    def of_array(self, frames: NDArray[np.uint8], progress: _Progress) -> NDArray[np.float32]:
        """Features (N, E) of frames that go up while the network works on those before."""
        found: list[NDArray[np.float32]] = []
        down: list[PinnedBlock] = []

        def finish() -> None:
            number = len(found)
            start = number * self.batch_size
            stop = min(start + self.batch_size, len(frames))
            found.append(down[number % 2].array()[: stop - start].copy())
            if progress is not None:
                progress(stop / len(frames))

        for number, (start, block) in enumerate(self._uploaded(frames)):
            features = self._embed(block, start)
            if len(down) < 2:
                shape = self.batch_size, features.shape[1]
                down.append(PinnedBlock(shape, torch.float32, self._device))
            slot = down[number % 2]
            slot.tensor[: len(features)].copy_(features, non_blocking=True)
            slot.mark()
            if number > 0:
                finish()
        finish()
        return np.concatenate(found)

    def of_tensor(self, frames: Tensor, progress: _Progress) -> Tensor:
        """Features (N, E), beside the frames."""
        found = []
        for start in range(0, len(frames), self.batch_size):
            found.append(self._embed(frames[start : start + self.batch_size], start))
            if progress is not None:
                progress(min(1.0, (start + self.batch_size) / len(frames)))
        return torch.cat(found)

    def _uploaded(self, frames: NDArray[np.uint8]) -> Iterator[tuple[int, Tensor]]:
        """First frames and blocks (n, H, W, 3) on the device, copied on a stream of their own."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        shape = self.batch_size, *frames.shape[1:]
        up = [PinnedBlock(shape, torch.uint8, self._device) for _ in range(2)]
        for number, start in enumerate(range(0, len(frames), self.batch_size)):
            part, slot = frames[start : start + self.batch_size], up[number % 2]
            slot.array()[: len(part)] = part
            release(frames[: start + len(part)])
            with torch.cuda.stream(stream):
                block = slot.tensor[: len(part)].to(self._device, non_blocking=True, copy=True)
                slot.mark()
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(stream)
            if block.is_cuda:
                block.record_stream(current)  # its memory belongs to the other stream
            yield start, block

    def _embed(self, block: Tensor, start: int) -> Tensor:
        """Features (n, E) float32 of frames (n, H, W, 3) on the device, from `start` on."""
        n, size = len(block), self._backbone.image_size
        self._batch.fill(scaled(block.permute(0, 3, 1, 2), size))
        bytes_ = FRAME_CHANGE.itemsize
        changes = self._changes[start * bytes_ : (start + n) * bytes_]
        pixels = self._input(n).make(changes)
        enabled = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled=enabled):
            return self._backbone.embed_seen(pixels, self._layer).float()

    def _input(self, n: int) -> NetworkInput:
        """That of a whole batch, or of the last one."""
        if n not in self._inputs:
            self._inputs[n] = NetworkInput(
                self._batch,
                self._backbone.front_end,
                AugmentationConfig.none(),
                n,
                self._backbone.image_size,
                self._dtype,
                self._device,
                self._backbone.pixel_block,
            )
        return self._inputs[n]


def _changes(extent: NDArray[np.float32], flip: bool, batch_size: int) -> Tensor:
    changes: NDArray[Any] = np.zeros(len(extent), FRAME_CHANGE)
    changes["frame"] = np.arange(len(extent)) % batch_size
    changes["affine"] = (-1 if flip else 1, 0, 0, 0, 1, 0)
    changes["extent"] = extent
    return torch.from_numpy(changes.view(np.uint8))
