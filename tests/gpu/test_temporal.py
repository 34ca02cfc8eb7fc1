"""Temporal pooling on a CUDA device against the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.errors import InputError

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]


@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize("radius", [0, 1, 3, 40])
def test_against_the_cpu(metric: str, radius: int) -> None:
    import torch

    rng = np.random.default_rng(radius)
    n = 3000
    X = rng.standard_normal((n, 64)).astype(np.float32)
    mirrored = rng.standard_normal((n, 64)).astype(np.float32)
    sequence = np.repeat(np.arange(n // 30), 30)
    rows, cols = rng.integers(0, n, 500), rng.integers(0, n, 900)
    for other in (None, mirrored):
        expected = cs.pooled_similarity(X, rows, cols, sequence, radius, metric, col_features=other)
        found = cs.pooled_similarity(
            X, rows, cols, sequence, radius, metric, device="cuda", col_features=other
        )
        np.testing.assert_allclose(found, expected, atol=1e-4)
    on_device = cs.pooled_similarity(
        torch.from_numpy(X).cuda(), rows, cols, sequence, radius, metric, device="cuda"
    )
    assert isinstance(on_device, torch.Tensor)
    assert on_device.is_cuda


def test_runs_on_the_callers_stream() -> None:
    import torch

    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 32)).astype(np.float32)
    sequence = np.arange(2000) // 50
    frames = np.arange(2000)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        found = cs.pooled_similarity(
            torch.from_numpy(X).cuda(), frames, frames, sequence, device="cuda"
        )
    stream.synchronize()
    expected = cs.pooled_similarity(X, frames, frames, sequence)
    np.testing.assert_allclose(found.cpu().numpy(), expected, atol=1e-4)


def test_bad_rows_are_named() -> None:
    X = np.ones((5, 3), np.float32)
    X[3, 1] = np.nan
    with pytest.raises(InputError, match="features has NaN in row 3"):
        cs.pooled_similarity(X, [0], [1], np.zeros(5, int), device="cuda")
