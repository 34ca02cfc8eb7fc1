"""Host memory that a CUDA device reads and writes while the host goes on."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray


class PinnedBlock:
    """Memory for a block on its way up or down; on another device than CUDA plain memory.

    Attributes
    ----------
    tensor
        For copies, which are asynchronous. `mark` follows them, on the same stream.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self.tensor = torch.empty(shape, dtype=dtype, pin_memory=on_cuda)
        self._copied = torch.cuda.Event() if on_cuda else None  # type: ignore[no-untyped-call]

    def mark(self) -> None:
        """The last copy was just put on the current stream."""
        if self._copied is not None:
            self._copied.record()

    def array(self) -> NDArray[Any]:
        """The memory, once the copy is done."""
        if self._copied is not None:
            self._copied.synchronize()
        return self.tensor.numpy()
