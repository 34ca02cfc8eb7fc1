"""`embed(device="cuda")` without a GPU: stand-ins for CUDA and its kernels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_stand_ins

from cliquesim.errors import InputError, RunError
from cliquesim.training import CompactNet, EmbeddingModel, TrainingConfig, _cuda_kernels, embed
from cliquesim.training.map_components import principal_components

SMALL: dict[str, Any] = {
    "image_size": 34,  # rows of bytes are padded
    "channels": (4, 8),
    "embedding_dim": 16,
    "precision": "float32",
}
# Features are sums of some hundred products of pixels that differ by rounding.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """device="cuda" is the CPU, and every tensor is taken for one that is on the device."""
    training_stand_ins.install(monkeypatch)
    module = sys.modules["cliquesim.training.embedding"]
    monkeypatch.setattr(module, "_place", lambda *_: torch.device("cpu"))
    monkeypatch.setattr(module, "on_cuda", lambda values: isinstance(values, torch.Tensor))


def make_frames(n: int, height: int = 40, width: int = 52) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    coarse = rng.integers(0, 256, (n, height // 4 + 1, width // 4 + 1, 3))
    frames = np.kron(coarse, np.ones((1, 4, 4, 1)))[:, :height, :width].astype(np.uint8)
    return frames, rng.uniform(0.4, 1, (n, 2)).astype(np.float32)


@pytest.mark.parametrize("front_end", ["gradient", "rgb"])
@pytest.mark.parametrize("backbone", ["compact", "exemplar"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 7, 14, 100])
def test_features_are_the_cpus(front_end: str, backbone: str, flip: bool, batch_size: int) -> None:
    config = TrainingConfig(**SMALL, front_end=front_end, backbone=backbone)
    model = EmbeddingModel.random(config)
    frames, extent = make_frames(14)
    if isinstance(model.backbone, CompactNet):
        maps = embed(model, frames, layer="conv")
        mean, components = principal_components(maps, 6)
        model.backbone.set_components(torch.from_numpy(mean), torch.from_numpy(components))
    for known in (None, extent):
        expected = embed(model, frames, extent=known, flip=flip)
        settings: dict[str, Any] = {"extent": known, "flip": flip, "batch_size": batch_size}
        seen: list[float] = []
        found = embed(model, frames, **settings, device="cuda", progress=seen.append)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, **CLOSE)
        assert seen == sorted(seen)
        assert len(seen) == -(-14 // batch_size)
        assert seen[-1] == 1.0
        tensor: Any = embed(model, torch.from_numpy(frames), **settings, device="cuda")  # type: ignore[arg-type]
        assert isinstance(tensor, torch.Tensor)
        assert not tensor.is_inference()
        np.testing.assert_allclose(tensor.numpy(), expected, **CLOSE)


def test_pixels_are_those_of_the_kernels_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("augment", "gradient_channels"):
        kernel = getattr(_cuda_kernels, name)

        def noted(*arguments: Any, kernel: Any = kernel, name: str = name, **known: Any) -> None:
            calls.append(name)
            kernel(*arguments, **known)

        monkeypatch.setattr(_cuda_kernels, name, noted)
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    embed(model, make_frames(6)[0], batch_size=4, device="cuda")
    assert calls == ["augment", "gradient_channels"] * 2


def test_a_layer_and_a_mapped_file(tmp_path: Path) -> None:
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    frames, _ = make_frames(9, 34, 34)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    expected = embed(model, frames, layer="conv")
    found = embed(model, mapped, layer="conv", batch_size=4, device="cuda")
    np.testing.assert_allclose(found, expected, **CLOSE)
    found = embed(model, mapped[::-1, :, ::-1], layer="conv", batch_size=4, device="cuda")
    mirrored = embed(model, frames[::-1], layer="conv", flip=True)
    np.testing.assert_allclose(found, mirrored, **CLOSE)
    with pytest.raises(InputError, match="layer must be one of"):
        embed(model, frames, layer="fc9", device="cuda")


def test_memory_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate 5.00 GiB")

    monkeypatch.setattr(_cuda_kernels, "augment", refuse)
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    with pytest.raises(RunError, match=r"batch_size=256 does not fit .*: tried to allocate 5\.00"):
        embed(model, make_frames(3)[0], device="cuda")


def test_frames_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    module = sys.modules["cliquesim.training.embedding"]
    monkeypatch.setattr(module, "on_cuda", lambda values: isinstance(values, torch.Tensor))
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    frames: Any = torch.from_numpy(make_frames(3)[0])
    with pytest.raises(InputError, match="frames are on cpu, but device='cpu'"):
        embed(model, frames)
    with pytest.raises(InputError, match=r"must be uint8 .* got torch\.int32 \(3, 40, 52, 3\)"):
        embed(model, frames.int())
