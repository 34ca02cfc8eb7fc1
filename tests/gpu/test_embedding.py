"""Embedding on a CUDA device against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError
from cliquesim.training import CompactNet, EmbeddingModel, TrainingConfig, embed
from cliquesim.training.map_components import principal_components
from cliquesim.training.pixels import resized

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]

SMALL: dict[str, Any] = {
    "image_size": 66,
    "channels": (8, 16, 32),
    "embedding_dim": 32,
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def float32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def make_frames(n: int, side: int = 66) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    coarse = rng.integers(0, 256, (n, side // 4 + 1, side // 4 + 1, 3))
    frames = np.kron(coarse, np.ones((1, 4, 4, 1)))[:, :side, :side].astype(np.uint8)
    return frames, rng.uniform(0.5, 1, (n, 2)).astype(np.float32)


def shrunk(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames as the device resizes them, in floats: a level off the CPU's integers at most."""
    here, there = (
        resized(frames, side, torch.device(name)).permute(0, 2, 3, 1).cpu().numpy()
        for name in ("cpu", "cuda")
    )
    assert np.abs(here.astype(int) - there).max() <= 1
    return there


def assert_similar(found: Any, expected: Any, share: float) -> None:
    """Where two colours' gradients are about as strong, rounding chooses: few pixels differ."""
    largest = float(np.abs(expected).max())
    gap = np.abs(found - expected)
    assert float((gap > share * largest).mean()) < 2e-3
    assert gap.max() < 3 * share * largest


@pytest.mark.parametrize("front_end", ["gradient", "rgb"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("side", [66, 96])
@pytest.mark.parametrize(("precision", "share"), [("float32", 0.02), ("bfloat16", 0.05)])
def test_features_are_the_cpus(
    front_end: str, flip: bool, side: int, precision: str, share: float
) -> None:
    config = {**SMALL, "precision": precision}
    model = EmbeddingModel.random(TrainingConfig(**config, front_end=front_end))
    plain = EmbeddingModel.random(TrainingConfig(**SMALL, front_end=front_end))
    frames, extent = make_frames(300, side)
    mean, components = principal_components(embed(plain, shrunk(frames, 66), layer="conv"), 16)
    for one in (model.backbone, plain.backbone):
        assert isinstance(one, CompactNet)
        one.set_components(torch.from_numpy(mean), torch.from_numpy(components))
    expected = embed(plain, shrunk(frames, 66), extent=extent, flip=flip)
    settings: dict[str, Any] = {"extent": extent, "flip": flip, "device": "cuda"}
    found = embed(model, frames, **settings, batch_size=128)
    assert_similar(found, expected, share)
    there: Any = torch.from_numpy(frames).cuda()
    tensor: Any = embed(model, there, **settings, batch_size=128)
    assert tensor.is_cuda
    np.testing.assert_array_equal(tensor.cpu().numpy(), found)


def test_many_small_batches_of_a_file(tmp_path: Path) -> None:
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    frames, extent = make_frames(5000)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    expected = embed(model, frames, extent=extent, device="cuda", batch_size=5000)
    found = embed(model, mapped, extent=extent, device="cuda", batch_size=64)
    assert_similar(found, expected, 1e-4)


def test_on_the_callers_stream() -> None:
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    frames, _ = make_frames(2000)
    expected = embed(model, frames, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there: Any = torch.from_numpy(frames).cuda()
        found: Any = embed(model, there, device="cuda")
        np.testing.assert_array_equal(embed(model, frames, device="cuda"), expected)
    stream.synchronize()
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


def test_alexnet() -> None:
    model = EmbeddingModel.random(TrainingConfig.paper(precision="float32"))
    frames, extent = make_frames(20, 240)
    expected = embed(model, frames, extent=extent, layer="fc7")
    found = embed(model, frames, extent=extent, layer="fc7", device="cuda", batch_size=8)
    assert_similar(found, expected, 0.01)


def test_what_cannot_be_done_is_named() -> None:
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    there: Any = torch.zeros((2, 66, 66, 3), dtype=torch.uint8, device="cuda")
    with pytest.raises(InputError, match="frames are on cuda:0, but device='cpu'"):
        embed(model, there)
    free = torch.cuda.mem_get_info()[0]
    many: Any = there[:1].expand(free // (66 * 66 * 3) + 1, 66, 66, 3)
    with pytest.raises(RunError, match=r"batch_size=\d+ does not fit into the GPU's memory"):
        embed(model, many, device="cuda", batch_size=len(many))
