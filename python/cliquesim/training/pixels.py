"""From stored uint8 frames to the float pixels that a network takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cliquesim._device import check_device
from cliquesim.errors import InputError


def check_frames(frames: NDArray[Any] | Tensor) -> None:
    """uint8 (N, H, W, 3), N > 0."""
    is_uint8 = frames.dtype in (np.uint8, torch.uint8)
    if not is_uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) == 0:
        raise InputError(
            f"frames must be uint8 of shape (N, H, W, 3), got {frames.dtype} {tuple(frames.shape)}"
        )


def as_torch_device(name: str, stage: str) -> torch.device:
    """The device, with its index if it is a CUDA device; RunError where CUDA cannot be used."""
    device = torch.device(name)
    if device.type != "cuda":
        return device
    check_device("cuda", stage)
    return torch.device(
        "cuda", torch.cuda.current_device() if device.index is None else device.index
    )


def resized(frames: NDArray[np.uint8], size: int, device: torch.device) -> Tensor:
    """Frames (n, H, W, 3) as uint8 (n, 3, size, size), low-pass filtered; channels last."""
    # Torch warns of read-only arrays, as memory-mapped ones are.
    writeable = torch.from_numpy(np.require(frames, requirements=["C", "W"]))
    return scaled(writeable.to(device).permute(0, 3, 1, 2), size)


def scaled(pixels: Tensor, size: int) -> Tensor:
    """uint8 (n, 3, H, W) as (n, 3, size, size), low-pass filtered."""
    if pixels.shape[2:] == (size, size):
        return pixels
    # Only the CPU resizes uint8 itself, several times faster than floats.
    on_cpu = pixels.device.type == "cpu"
    result = F.interpolate(
        pixels if on_cpu else pixels.float(),
        (size, size),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return result if on_cpu else result.round().clamp(0, 255).to(torch.uint8)


def as_floats(pixels: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) as float32 in [0, 1], contiguous."""
    return pixels.float().contiguous() / 255.0


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where asked for or, with "auto", where the device computes in it."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and _has_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without the instructions torch emulates them, slower than float32.
    try:
        with Path("/proc/cpuinfo").open() as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


@contextlib.contextmanager
def limited_threads(num_threads: int | None) -> Iterator[None]:
    """Let torch use `num_threads` processors within the block."""
    if num_threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
