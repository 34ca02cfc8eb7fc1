"""The blocks of `cs.hog(device="cuda")` without a GPU: torch's CPU tensors, the C++ kernel."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

import cliquesim as cs
from cliquesim import _core
from cliquesim.features import _hog_cuda


class Stream:
    def __init__(self, device: torch.device) -> None:
        self.device = device

    def synchronize(self) -> None:
        pass


def launch(frames: torch.Tensor, features: torch.Tensor, cell_size: int) -> None:
    assert frames.is_contiguous()
    _core.hog(frames.numpy(), features.numpy(), cell_size, 1, None)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch, "device", lambda *_: "cpu")
    monkeypatch.setattr(_hog_cuda, "_pinned", lambda shape, dtype: torch.empty(shape, dtype=dtype))
    monkeypatch.setattr(_hog_cuda, "_launch", launch)


@pytest.mark.parametrize("block", [1, 3, 4, 11, 30])
def test_blocks_fill_every_frame(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    frames = np.random.default_rng(block).integers(0, 256, (11, 40, 32, 3), np.uint8)
    monkeypatch.setattr(_hog_cuda, "_BLOCK_BYTES", block * frames[0].nbytes + 5)
    expected = cs.hog(frames, num_threads=1)
    found, seen = np.full_like(expected, np.nan), []
    _hog_cuda.hog_of_array(frames, found, 8, seen.append)
    np.testing.assert_array_equal(found, expected)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_any_layout_and_mapped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 24, 24, 1), np.uint8)
    monkeypatch.setattr(_hog_cuda, "_BLOCK_BYTES", 2 * frames[0].nbytes)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    expected = cs.hog(frames[..., 0])
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=expected.shape
    )
    _hog_cuda.hog_of_array(mapped, out, 8, None)
    np.testing.assert_array_equal(out, expected)
    _hog_cuda.hog_of_array(mapped[::-1, :, ::-1], out, 8, None)
    np.testing.assert_array_equal(out, cs.hog(frames[::-1, :, ::-1, 0]))
    _hog_cuda.hog_of_array(frames[:0], out[:0], 8, None)


def test_a_tensor_gives_a_tensor() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 24, 40, 3), np.uint8)
    expected = cs.hog(frames)
    found = _hog_cuda.hog_of_tensor(torch.from_numpy(frames), expected.shape, 8)
    np.testing.assert_array_equal(found.numpy(), expected)
    turned = torch.from_numpy(frames).transpose(1, 2)
    expected = cs.hog(frames.transpose(0, 2, 1, 3))
    found = _hog_cuda.hog_of_tensor(turned, expected.shape, 8)
    np.testing.assert_array_equal(found.numpy(), expected)
