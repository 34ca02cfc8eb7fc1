"""HOG on a CUDA device against the CPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.errors import InputError

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]


@pytest.mark.parametrize(
    ("shape", "cell"),
    [
        ((300, 128, 128, 3), 8),
        ((40, 130, 97, 3), 8),
        ((40, 130, 97), 8),
        ((5, 20, 700, 3), 8),
        ((9, 3, 4, 3), 1),
        ((9, 97, 140), 3),
        ((2, 1300, 1600, 3), 230),
        ((2, 1600, 1500), 520),
    ],
)
def test_against_the_cpu(shape: tuple[int, ...], cell: int) -> None:
    import torch

    frames = np.random.default_rng(cell).integers(0, 256, shape, np.uint8)
    frames[:, shape[1] // 2 :] //= 16
    frames[-1] = 77
    expected = cs.hog(frames, cell)
    found = cs.hog(frames, cell, device="cuda")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    on_device = cs.hog(torch.from_numpy(frames).cuda(), cell, device="cuda")
    assert isinstance(on_device, torch.Tensor)
    np.testing.assert_array_equal(on_device.cpu().numpy(), found)


def test_blocks_overlap_and_fill_out(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (500, 64, 64, 3), np.uint8)
    expected = cs.hog(frames, device="cuda")
    import cliquesim.features._hog_cuda  # noqa: F401

    monkeypatch.setattr(sys.modules["cliquesim.features._hog_cuda"], "_BLOCK_BYTES", 1 << 18)
    out, seen = np.zeros_like(expected), []
    assert cs.hog(frames, device="cuda", out=out, progress=seen.append) is out
    np.testing.assert_array_equal(out, expected)
    assert seen[-1] == 1.0


def test_runs_on_the_callers_stream() -> None:
    import torch

    frames = np.random.default_rng(1).integers(0, 256, (2000, 64, 64, 3), np.uint8)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        found = cs.hog(torch.from_numpy(frames).cuda(), device="cuda")
    stream.synchronize()
    np.testing.assert_allclose(found.cpu().numpy(), cs.hog(frames), rtol=0, atol=1e-6)


def test_bad_tensors_are_refused() -> None:
    import torch

    with pytest.raises(InputError, match="images must be uint8"):
        cs.hog(torch.zeros((1, 32, 32, 3), device="cuda"), device="cuda")
    grey = torch.zeros((1, 32, 32), dtype=torch.uint8, device="cuda")
    with pytest.raises(InputError, match="out is for arrays"):
        cs.hog(grey, device="cuda", out=np.zeros((1, 2, 2, 31), np.float32))
    assert cs.hog(grey[:0], device="cuda").shape == (0, 2, 2, 31)
