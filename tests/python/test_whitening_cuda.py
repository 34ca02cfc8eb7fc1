"""`cs.Whitening(device="cuda")` without a GPU: torch's CPU device against the C++ kernels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from whitening_reference import assert_close, correlated

import cliquesim as cs
from cliquesim import _core, _device
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError
from cliquesim.features import _whitening_cuda
from cliquesim.features.descriptors import HogLda

CPU = torch.device("cpu")
# Both sum float32 products of some hundred rows in their own order: sqrt(1024) times 6e-8 of the
# largest entry. A covariance that is off by this moves whitened rows, at a condition of about 10,
# by a few times as much.
MOMENTS = 2e-6
WHITENED = 1e-5


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """device="cuda" is torch's CPU device, and every tensor is taken for one that is there."""
    import sys

    module = sys.modules["cliquesim.features.whitening"]
    monkeypatch.setattr(_device, "cuda_status", lambda: (True, "a stand-in"))
    monkeypatch.setattr(_whitening_cuda, "device_of", lambda _: CPU)
    monkeypatch.setattr(module, "on_cuda", lambda values: isinstance(values, torch.Tensor))


@pytest.fixture(params=[(1, 3), (5, 8), (64, 512)], ids=str)
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, panel = request.param
    monkeypatch.setattr(_whitening_cuda, "_PRODUCT_ROWS", rows)
    monkeypatch.setattr(_whitening_cuda, "_PANEL", panel)
    monkeypatch.setattr(_whitening_cuda, "_BLOCK_BYTES", 4 * 13 * 3 * rows)


def moments(X: Any, shift: np.ndarray, device: bool) -> tuple[np.ndarray, np.ndarray]:
    total, scatter = np.ones(len(shift)), np.ones((len(shift),) * 2)
    if device:
        _whitening_cuda.add_moments(X, shift, total, scatter, CPU, None)
    else:
        assert _core.add_moments(X, shift, total, scatter, 1, None) == -1
    return total, np.tril(scatter)


@pytest.mark.parametrize("n", [1, 2, 40, 197])
def test_moments_whatever_the_blocks(small_blocks: None, n: int) -> None:
    X = correlated(n, n, 13)
    shift = X[:5].mean(axis=0)
    expected = moments(X, shift, device=False)
    for rows in (X, torch.from_numpy(X), X.astype(np.float64), torch.from_numpy(X).double()):
        for found, one in zip(moments(rows, shift, device=True), expected, strict=True):
            assert_close(found, one, MOMENTS)


def test_moments_of_many_rows_lose_nothing() -> None:
    X = correlated(1, 20_000, 37, offset=300.0)
    shift = X[:1024].mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = X.astype(np.float64) - shift
    total, scatter = moments(X, shift, device=True)
    assert_close(total - 1, centred.sum(axis=0), MOMENTS)
    assert_close(scatter - np.tril(np.ones((37, 37))), np.tril(centred.T @ centred), MOMENTS)


@pytest.mark.parametrize("components", [1, 8, 13])
@pytest.mark.parametrize("triangular", [True, False])
@pytest.mark.parametrize("n", [1, 40, 197])
def test_projection_whatever_the_blocks(
    small_blocks: None, n: int, components: int, triangular: bool
) -> None:
    X, P = correlated(2, n, 13), correlated(3, 13, components, 0.0)
    P = np.triu(P) if triangular else P
    P[:, -1] *= components != 8  # a panel of zeros alone
    mean = X.mean(axis=0)
    expected, found = (np.full((n, components), np.nan, np.float32) for _ in range(2))
    _core.project(X, mean, P, expected, 1, None)
    seen: list[float] = []
    _whitening_cuda.project(X, mean, P, found, CPU, seen.append)
    # Float32 sums of 13 products.
    assert_close(found, expected, 1e-6)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    tensor = _whitening_cuda.project_tensor(torch.from_numpy(X), mean, P)
    assert_close(tensor.numpy(), expected, 1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [(0,), (196,), (70, 71, 150)])
def test_the_first_broken_row_is_named(
    small_blocks: None, without_gpu: None, value: float, rows: tuple[int, ...]
) -> None:
    X = correlated(4, 197, 13)
    good = X.copy()
    for row in rows:
        X[row, row % 13] = value
    kind = "NaN" if np.isnan(value) else "an infinite value"
    for one in (X, torch.from_numpy(X)):
        whitening = cs.Whitening(shrinkage=1.0, device="cuda")
        with pytest.raises(InputError, match=f"X has {kind} in row {rows[0]}$"):
            whitening.fit(one)
        with pytest.raises(InputError, match="not fitted"):
            whitening.transform(good)
        whitening.fit(good)
        with pytest.raises(InputError, match=f"X has {kind} in row {rows[0]}$"):
            whitening.transform(one)


def test_numbers_beyond_float32_are_refused(without_gpu: None) -> None:
    X = correlated(5, 20, 4).astype(np.float64)
    X[7, 1] = 1e300
    for one in (X, torch.from_numpy(X)):
        with pytest.raises(InputError, match="X has an infinite value in row 7"):
            cs.Whitening(device="cuda").fit(one)


SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"shrinkage": 0.3},
    "auto": {},
    "stationary": {"estimator": "stationary", "shrinkage": 1.0, "common_mean": True},
    "principal": {"shrinkage": 0.1, "n_components": 9},
    "share": {"shrinkage": 0.0, "n_components": 0.9},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_whitening_is_the_cpus(
    without_gpu: None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_whitening_cuda, "_PANEL", 16)
    X = correlated(6, 700, 48).reshape(700, 3, 4, 4)
    groups = np.arange(700) // 70
    expected = cs.Whitening(**SETTINGS[name]).fit(X, groups)
    phi = expected.transform(X)
    for one in (X, torch.from_numpy(X)):
        whitening = cs.Whitening(**SETTINGS[name], device="cuda").fit(one, groups)
        assert_close(whitening.mean_, expected.mean_, MOMENTS)
        assert_close(whitening.covariance_, expected.covariance_, MOMENTS)
        assert whitening.relative_shrinkage_ == pytest.approx(expected.relative_shrinkage_, 1e-4)
        found = whitening.transform(one)
        assert type(found) is type(one)
        found = np.asarray(found)
        if whitening.n_components is None:
            assert_close(found, phi, WHITENED)
        # Directions of nearly equal variance may turn; similarities do not change by that.
        assert_close(found @ found.T, phi @ phi.T, WHITENED)
    halves = cs.Whitening(**{"shrinkage": 0.5, **SETTINGS[name]}, device="cuda")
    halves.partial_fit(X[:300]).partial_fit(torch.from_numpy(X[300:]))
    assert_close(halves.covariance_, expected.covariance_, MOMENTS)


def test_layouts_files_and_out(
    without_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_whitening_cuda, "_PRODUCT_ROWS", 7)
    monkeypatch.setattr(_whitening_cuda, "_BLOCK_BYTES", 4 * 20 * 7)
    X = correlated(7, 90, 20)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whitening = cs.Whitening(shrinkage=1.0, device="cuda").fit(mapped)
    phi = whitening.transform(X)
    out = np.lib.format.open_memmap(
        tmp_path / "phi.npy", mode="w+", dtype=np.float32, shape=(90, 20)
    )
    assert whitening.transform(mapped, out=out) is out
    np.testing.assert_array_equal(out, phi)
    assert_close(whitening.transform(X[::-1]), phi[::-1], WHITENED)
    for one in (torch.from_numpy(X.T.copy()).T, torch.from_numpy(X).double()):
        assert_close(np.asarray(whitening.transform(one)), phi, WHITENED)  # type: ignore[arg-type]
    half = torch.from_numpy(X).bfloat16()
    other = cs.Whitening(device="cuda").fit(half)  # type: ignore[arg-type]
    assert_close(other.mean_, half.float().numpy().mean(axis=0, dtype=np.float64), MOMENTS)
    assert whitening.transform(X[:0]).shape == (0, 20)
    assert whitening.transform(torch.empty((0, 20))).shape == (0, 20)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="out is for arrays"):
        whitening.transform(torch.from_numpy(X), out=phi)  # type: ignore[arg-type]


def test_mapped_files_do_not_stay_in_memory(
    without_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024

    monkeypatch.setattr(_whitening_cuda, "_BLOCK_BYTES", 1 << 20)
    np.save(tmp_path / "x.npy", correlated(18, 60_000, 100))  # 24 MB
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(
        tmp_path / "phi.npy", mode="w+", dtype=np.float32, shape=mapped.shape
    )
    # torch's own files come into memory with its first product.
    whitening = cs.Whitening(shrinkage=1.0, device="cuda").fit(np.array(mapped[:2000]))
    before = resident()
    peaks: list[int] = []
    whitening.fit(mapped, progress=lambda _: peaks.append(resident()))
    whitening.transform(mapped, lambda _: peaks.append(resident()), out)
    assert len(peaks) > 40
    assert max(peaks) - before < 8 << 20


def test_bad_tensors_are_refused(without_gpu: None) -> None:
    X = torch.zeros(4, 6, dtype=torch.complex64)
    with pytest.raises(InputError, match=r"real numbers, got dtype torch\.complex64"):
        cs.Whitening(device="cuda").fit(X)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"must have shape .*got \(4, 3, 2\)"):
        cs.Whitening(device="cuda").fit(torch.zeros(4, 3, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs descriptors of shape .*got \(4, 6\)"):
        cs.Whitening("stationary", device="cuda").fit(torch.zeros(4, 6))  # type: ignore[arg-type]
    whitening = cs.Whitening(shrinkage=1.0, device="cuda").fit(correlated(0, 9, 6))
    with pytest.raises(InputError, match=r"of shape \(5,\), but .* fitted on \(6,\)"):
        whitening.transform(torch.zeros(4, 5))  # type: ignore[arg-type]


def test_the_device_is_a_parameter_and_not_stored(without_gpu: None) -> None:
    whitening = cs.Whitening(shrinkage=1.0, device="cuda")
    assert whitening.get_params()["device"] == "cuda"
    X = correlated(8, 60, 5)
    phi = whitening.fit(X).transform(X)
    stored = cs.Whitening.from_state(whitening.state_dict())
    assert stored.device == "cpu"
    assert_close(stored.transform(X), phi, WHITENED)
    np.testing.assert_array_equal(stored.set_params(device="cuda").transform(X), phi)
    np.testing.assert_array_equal(copy.deepcopy(whitening).transform(X), phi)


def test_hog_lda_whitens_on_its_device(
    without_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = cs.hog
    module = __import__("cliquesim.features.descriptors", fromlist=["hog"])
    monkeypatch.setattr(module, "hog", lambda images, device, **k: describe(images, **k))
    calls: list[int] = []
    project = _whitening_cuda.project

    def counted(rows: Any, *others: Any) -> None:
        calls.append(len(rows))
        project(rows, *others)

    monkeypatch.setattr(_whitening_cuda, "project", counted)
    frames = np.random.default_rng(9).integers(0, 256, (30, 48, 48, 3), np.uint8)
    settings: dict[str, Any] = {"sides": (40, 48), "shrinkage": 3.0}
    folders = [tmp_path / "cpu", tmp_path / "cuda"]
    found = []
    for device, folder in zip(("cpu", "cuda"), folders, strict=True):
        folder.mkdir()
        lda = HogLda(**settings, device=device)
        found.append(np.array(lda.fit_transform(frames, np.arange(30) // 10, folder)))
        lda.save(folder / "lda")
    assert calls == [60, 60]
    assert_close(found[1], found[0], WHITENED)
    again = HogLda.load(folders[1] / "lda", device="cuda")
    assert_close(again.transform(frames), found[0][:30], WHITENED)
    assert calls == [60, 60, 30, 30]
    assert_close(HogLda.load(folders[1] / "lda").transform(frames), found[0][:30], WHITENED)
    assert len(calls) == 4


def test_cuda_without_a_gpu_is_refused_with_the_reason() -> None:
    available, reason = cuda_status()
    if available:
        pytest.skip("CUDA can be used here")
    X = correlated(0, 20, 4)
    with pytest.raises(RunError, match="whitening cannot run with device='cuda'") as error:
        cs.Whitening(device="cuda").fit(X)
    assert reason in str(error.value)
    fitted = cs.Whitening(shrinkage=1.0).fit(X).set_params(device="cuda")
    with pytest.raises(RunError, match="whitening cannot run with device='cuda'"):
        fitted.transform(X)
    with pytest.raises(InputError, match="device must be one of"):
        cs.Whitening(device="tpu").fit(X)


def test_memory_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    def refuse(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(_device, "free_memory", lambda _: 77)
    monkeypatch.setattr(torch, "from_numpy", refuse)
    X = correlated(0, 10, 6)
    cuda = torch.device("cuda", 0)
    with pytest.raises(RunError, match=r"moments take about \d{5,} bytes .*, and 77 are free"):
        _whitening_cuda.add_moments(X, X[0], np.zeros(6), np.zeros((6, 6)), cuda, None)
    with pytest.raises(RunError, match=r"projection take about \d{5,} bytes"):
        _whitening_cuda.project(X, X[0], np.eye(6, dtype=np.float32), X.copy(), cuda, None)
