"""Whitening on a CUDA device against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError
from cliquesim.features.descriptors import HogLda

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]

# As in tests/python/test_whitening_cuda.py.
MOMENTS = 2e-6
WHITENED = 1e-5


def make_rows(n: int, d: int) -> Any:
    rng = np.random.default_rng(d)
    mixing = 0.15 * rng.normal(size=(d, d)) / np.sqrt(d) + np.diag(rng.uniform(0.5, 2, d))
    return (rng.normal(size=(n, d)) @ mixing + 3 * rng.normal(size=d)).astype(np.float32)


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def on_device(X: Any) -> Any:
    import torch

    return torch.from_numpy(X).cuda()


@pytest.mark.parametrize("dimensions", [5, 513, 1984])
@pytest.mark.parametrize("components", [None, 4, 0.9])
def test_against_the_cpu(dimensions: int, components: int | float | None) -> None:
    X = make_rows(20_000, dimensions)
    settings: dict[str, Any] = {"shrinkage": 0.1, "n_components": components}
    expected = cs.Whitening(**settings).fit(X)
    phi = expected.transform(X)
    for one in (X, on_device(X)):
        whitening = cs.Whitening(**settings, device="cuda").fit(one)
        assert_close(whitening.mean_, expected.mean_, MOMENTS)
        assert_close(whitening.covariance_, expected.covariance_, MOMENTS)
        found = whitening.transform(one)
        assert type(found) is type(one)
        rows = found if isinstance(found, np.ndarray) else found.cpu().numpy()
        if components is None:
            assert_close(rows, phi, WHITENED)
        some = slice(None, None, 20)
        assert_close(rows[some] @ rows[some].T, phi[some] @ phi[some].T, WHITENED)


def test_tf32_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    X = make_rows(5000, 512)
    expected = cs.Whitening(shrinkage=0.1, device="cuda").fit(X).covariance_
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    found = cs.Whitening(shrinkage=0.1, device="cuda").fit(X).covariance_
    np.testing.assert_array_equal(found, expected)


def test_files_in_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cliquesim.features import _whitening_cuda

    X = make_rows(30_000, 300)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = cs.Whitening(shrinkage=0.1).fit(X)
    phi = expected.transform(X)
    monkeypatch.setattr(_whitening_cuda, "_BLOCK_BYTES", 1)
    whitening = cs.Whitening(shrinkage=0.1, device="cuda").fit(mapped)
    assert_close(whitening.covariance_, expected.covariance_, MOMENTS)
    out = np.lib.format.open_memmap(
        tmp_path / "phi.npy", mode="w+", dtype=np.float32, shape=phi.shape
    )
    seen: list[float] = []
    assert whitening.transform(mapped, seen.append, out) is out
    assert_close(out, phi, WHITENED)
    assert seen[-1] == 1.0


def test_on_the_callers_stream() -> None:
    import torch

    X = make_rows(20_000, 400)
    whitening = cs.Whitening(shrinkage=0.1, device="cuda").fit(X)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        found: Any = whitening.transform(on_device(X))
    stream.synchronize()
    assert_close(found.cpu().numpy(), whitening.transform(X), WHITENED)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_broken_row_is_named(value: float) -> None:
    X = make_rows(20_000, 300)
    good = cs.Whitening(shrinkage=0.1, device="cuda").fit(X)
    X[[12_345, 19_000], 7] = value
    kind = "NaN" if np.isnan(value) else "an infinite value"
    for one in (X, on_device(X)):
        with pytest.raises(InputError, match=f"X has {kind} in row 12345$"):
            cs.Whitening(device="cuda").fit(one)
        with pytest.raises(InputError, match=f"X has {kind} in row 12345$"):
            good.transform(one)


def test_memory_that_is_not_there_is_named() -> None:
    import torch

    free = torch.cuda.mem_get_info()[0]
    X: Any = torch.zeros((1, 1), device="cuda").expand(free // 4, 8)
    whitening = cs.Whitening(shrinkage=0.1, device="cuda").fit(make_rows(20, 8))
    with pytest.raises(RunError, match=r"whitening: .* take about \d+ bytes .* are free"):
        whitening.transform(X)


def test_hog_lda(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (600, 64, 64, 3), np.uint8)
    found = []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        lda = HogLda(shrinkage=3.0, device=device)
        found.append(lda.fit_transform(frames, np.arange(600) // 50, tmp_path / device))
    assert_close(found[1], found[0], 10 * WHITENED)
