"""A step's numbers on a CUDA device: at fixed places, so that a CUDA graph can read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cliquesim.training._cuda_kernels import FRAME_CHANGE
from cliquesim.training.step_inputs import StepInputs

_ALIGNMENT = 16


class StepBuffer:
    """One piece of device memory for all numbers of a step, filled by one copy.

    Two pinned buffers take turns, so that the next step's numbers can be written while the copy
    of this step's may still wait.

    Attributes
    ----------
    changes
        uint8, n of `FRAME_CHANGE`.
    labels, cliques
        int64 (n,); of the second as many as the step has.
    same_sequence, ignored
        bool (n, n).
    rate, average
        float32 scalars: learning rate, and the weight of the newest weights in their average.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        parts: dict[str, tuple[Any, tuple[int, ...]]] = {
            "changes": (FRAME_CHANGE, (n,)),
            "labels": (np.int64, (n,)),
            "cliques": (np.int64, (n,)),
            "same_sequence": (np.bool_, (n, n)),
            "ignored": (np.bool_, (n, n)),
            "rate": (np.float32, ()),
            "average": (np.float32, ()),
        }
        places = dict(zip(parts, _places(parts.values()), strict=True))
        total = max(stop for _, stop in places.values())
        self._device = torch.zeros(total, dtype=torch.uint8, device=device)
        self._pinned = [_pinned(total) for _ in range(2)]
        self._host: list[dict[str, NDArray[Any]]] = []
        for one in self._pinned:
            bytes_ = one.numpy()
            self._host.append(
                {
                    name: bytes_[slice(*places[name])].view(dtype).reshape(shape)
                    for name, (dtype, shape) in parts.items()
                }
            )

        def part(name: str, dtype: torch.dtype) -> Tensor:
            return self._device[slice(*places[name])].view(dtype).reshape(parts[name][1])

        self.changes = self._device[slice(*places["changes"])]
        self.labels, self.cliques = (part(name, torch.int64) for name in ("labels", "cliques"))
        self.same_sequence, self.ignored = (
            part(name, torch.bool) for name in ("same_sequence", "ignored")
        )
        self.rate, self.average = (part(name, torch.float32) for name in ("rate", "average"))

    def write(self, step: int, inputs: StepInputs, rate: float, average: float) -> None:
        """Put step `step`'s numbers into its pinned buffer."""
        host, sample = self._host[step % 2], inputs.sample
        n = len(inputs.frames)
        changes = host["changes"]
        changes["frame"] = inputs.frames
        changes["other"] = sample.other.numpy()
        changes["affine"] = sample.affine.reshape(n, 6).numpy()
        changes["colour"][:, :3] = sample.gain.numpy()
        for i, values in enumerate((sample.brightness, sample.contrast, sample.saturation)):
            changes["colour"][:, 3 + i] = values.numpy()
        changes["ellipse"] = sample.ellipse.numpy()
        changes["erase"] = sample.erase.numpy()
        changes["extent"] = inputs.extent.numpy()
        host["labels"][:] = inputs.labels.numpy()
        host["cliques"][: len(inputs.cliques)] = inputs.cliques.numpy()
        for name, pairs in (("same_sequence", inputs.same_sequence), ("ignored", inputs.ignored)):
            if pairs is not None:
                host[name][:] = pairs.numpy()
        host["rate"][...], host["average"][...] = rate, average

    def upload(self, step: int) -> None:
        """Enqueue the copy of what `write` put down."""
        self._device.copy_(self._pinned[step % 2], non_blocking=True)


def _places(parts: Any) -> Iterator[tuple[int, int]]:
    start = 0
    for dtype, shape in parts:
        size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
        yield start, start + size
        start += -(-size // _ALIGNMENT) * _ALIGNMENT


def _pinned(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.uint8, pin_memory=True)
