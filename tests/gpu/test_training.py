"""Training on a CUDA device: its kernels against torch's operations, its steps against the CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F  # noqa: N812
from training_stand_ins import in_blocks

from cliquesim._device import cuda_status
from cliquesim.training import (
    AugmentationConfig,
    GradientFrontEnd,
    TrainingConfig,
    _cuda_pixels,
    _cuda_step,
    augment,
    embed,
    train,
)
from cliquesim.training._activation import (
    ActivationSteps,
    ResponseNorm,
    activate,
    activate_by_torch,
)
from cliquesim.training._cuda_inputs import StepBuffer
from cliquesim.training._cuda_pixels import CudaCorpus, NetworkInput
from cliquesim.training._fused_adagrad import FusedAdagrad
from cliquesim.training.backbones import AlexNet, RGBFrontEnd, seen_by_network
from cliquesim.training.pixels import as_floats
from cliquesim.training.sampling import CliqueSampler
from cliquesim.training.step_inputs import StepSource

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]

CUDA = torch.device("cuda", 0)
SMALL: dict[str, Any] = {
    "image_size": 64,
    "channels": (8, 16, 32),
    "embedding_dim": 32,
    "batch_size": 32,
    "images_per_clique": 4,
    "cliques_per_batch": 8,
    "precision": "float32",
}
ALEXNET = TrainingConfig.paper(
    steps=8, batch_size=16, cliques_per_batch=4, precision="bfloat16", checkpoint_every=5
)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "adagrad": {
        "loss": "softmax",
        "cosine_scale": None,
        "front_end": "rgb",
        "optimizer": "adagrad",
        "averaging": "none",
        "augmentation": AugmentationConfig.paper(),
    },
    "sgd": {"loss": "softmax", "head": "global", "optimizer": "sgd", "averaging": "swa"},
}


@pytest.fixture(autouse=True)
def float32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def make_data(side: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (48, side // 4 + 1, side // 4 + 1, 3))
    frames = np.kron(coarse, np.ones((1, 4, 4, 1)))[:, :side, :side].astype(np.uint8)
    return {
        "frames": frames,
        "membership": sp.csr_array(np.kron(np.eye(12), np.ones(4))),
        "pool": np.column_stack((np.arange(48), np.arange(48) % 3 == 0)).astype(int),
        "sequence": np.arange(48) % 6,
        "extent": rng.uniform(0.5, 1, (48, 2)).astype(np.float32),
    }


def weights(result: Any) -> list[np.ndarray]:
    return [value.cpu().numpy() for value in result.model.backbone.state_dict().values()]


def assert_same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.loss, b.loss)
    for one, other in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("front_end", [GradientFrontEnd(), RGBFrontEnd()], ids=["gradient", "rgb"])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("side", [64, 227])
@pytest.mark.parametrize("changes", [AugmentationConfig(), AugmentationConfig.paper()])
def test_the_networks_input(
    front_end: Any,
    resident: bool,
    side: int,
    changes: AugmentationConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not resident:
        monkeypatch.setattr(_cuda_pixels, "free_memory", lambda _: 0)
    data = make_data(side)
    config = TrainingConfig(**{**SMALL, "image_size": side}, steps=1, augmentation=changes)
    source = StepSource(
        CliqueSampler(data["membership"], None, None, config),
        data["pool"][:, 0],
        data["pool"][:, 1].astype(bool),
        data["sequence"],
        data["extent"],
        config,
    )
    inputs = source.draw(0)
    buffer = StepBuffer(32, CUDA)
    buffer.write(0, inputs, 0.1, 0.1)
    buffer.upload(0)
    corpus = CudaCorpus(data["frames"], side, CUDA)
    assert corpus.on_device == resident
    pixels = as_floats(torch.from_numpy(data["frames"][inputs.frames]).permute(0, 3, 1, 2))
    images = augment(pixels, inputs.sample, changes)
    expected = seen_by_network(front_end, images, inputs.extent)
    # Where two colours' gradients are about as strong, rounding chooses.
    few = 1e-4 if isinstance(front_end, GradientFrontEnd) else 0.0
    for dtype, share in ((torch.float32, 1e-4), (torch.bfloat16, 2**-8)):
        made = NetworkInput(corpus, front_end, changes, 32, side, dtype, CUDA)
        found = made.make(buffer.changes)
        assert found.dtype == dtype
        close = torch.isclose(found.float().cpu(), expected, rtol=share, atol=5e-4)
        assert float((~close).float().mean()) <= few


@pytest.mark.parametrize("norm", [None, ResponseNorm(1e-2), ResponseNorm(1e-2, 0.6)])
@pytest.mark.parametrize(("pools", "biased"), [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize(
    ("channels", "parts"), [(8, (1, 1)), (40, (1, 1)), (96, (1, 2)), (256, (2, 1))]
)
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 2e-5), (torch.bfloat16, 2**-7)])
def test_activation(
    channels: int,
    parts: tuple[int, int],
    dtype: torch.dtype,
    share: float,
    biased: bool,
    norm: ResponseNorm | None,
    pools: bool,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn((5, channels, 27, 38), generator=generator) * 20).to(dtype)
    inputs = list(x.chunk(parts[0], 1))
    if biased:
        inputs.append((torch.randn(channels, generator=generator) * 5).to(dtype))
    steps = ActivationSteps(biased, norm, pools, parts[1])
    plain = [one.float().requires_grad_() for one in inputs]
    unpooled = dataclasses.replace(steps, pools=False, parts=1)
    (y,) = activate_by_torch(plain[: parts[0]], plain[parts[0]] if biased else None, unpooled)
    if steps.pools:  # windows compare what is rounded
        y = F.max_pool2d(y + (y.to(dtype).float() - y).detach(), 3, stride=2)
    expected = y.chunk(parts[1], 1)
    above = [torch.randn(y.shape, generator=generator).to(dtype) for y in expected]
    gradients = torch.autograd.grad(expected, plain, [dy.float() for dy in above])
    ours = [one.detach().to(CUDA, dtype).requires_grad_() for one in plain]
    found = activate(ours[: parts[0]], ours[parts[0]] if biased else None, steps)
    assert all(y.dtype == dtype for y in found)
    found_gradients = torch.autograd.grad(found, ours, [dy.to(CUDA) for dy in above])
    for number, (a, b) in enumerate(
        zip((*found, *found_gradients), (*expected, *gradients), strict=True)
    ):
        gap = (a.detach().float().cpu() - b.detach()).abs()
        allowed = share * (b.detach().abs() + float(b.detach().abs().max()))
        # Rounded the other way, another number may be the largest of a window.
        moved = steps.pools and number >= len(found)
        assert float((gap > allowed).float().mean()) <= (1e-3 if moved else 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alexnet_of_blocks_is_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = AlexNet().to(CUDA, memory_format=torch.channels_last)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    images = torch.randn(4, 3, 227, 227, device=CUDA)
    blocks = F.pad(in_blocks(images, 4), (0, 0, 0, 0, 0, 16))
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        found = net._convolved_by_group(blocks.contiguous(memory_format=torch.channels_last))
    expected = net._convolved(images)
    share = 1e-3 if dtype == torch.float32 else 0.05
    at_most = share * float(expected.detach().abs().max())
    torch.testing.assert_close(found.float(), expected, rtol=share, atol=at_most)


def test_adagrad_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7,), (300, 65), (16, 8, 3, 3), *[(5, 3)] * 70]
    start = [torch.randn(shape, generator=generator).to(CUDA) for shape in shapes]
    start[2] = start[2].contiguous(memory_format=torch.channels_last)
    ours, torchs = ([one.clone().requires_grad_() for one in start] for _ in range(2))
    groups = [{"params": ours[:2], "weight_decay": 0.1}, {"params": ours[2:], "weight_decay": 0.0}]
    fused = FusedAdagrad(groups, 0.05, 1e-4)
    for group in fused.param_groups:
        group["lr"] = torch.tensor(0.05, device=CUDA)
    groups = [
        {"params": torchs[:2], "weight_decay": 0.1},
        {"params": torchs[2:], "weight_decay": 0.0},
    ]
    plain = torch.optim.Adagrad(groups, lr=0.05, eps=1e-4)
    for _ in range(4):
        for a, b in zip(ours, torchs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator).to(CUDA)
            b.grad = a.grad.clone()
        fused.step()
        plain.step()
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_is_the_cpus(name: str) -> None:
    data = make_data(64)
    config = TrainingConfig(**SMALL, steps=12, **SETTINGS[name])
    expected = train(**data, config=config)
    found = train(**data, config=config, device="cuda")
    np.testing.assert_allclose(found.loss, expected.loss, rtol=5e-3)
    layer = expected.model.backbone.trained_layer  # the other part may turn its axes
    features = [embed(one.model, data["frames"], layer=layer) for one in (found, expected)]
    np.testing.assert_allclose(*features, atol=0.05 * float(np.abs(features[1]).max()))


@pytest.mark.parametrize("name", [*SETTINGS, "alexnet"])
def test_a_resumed_run_equals_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    data = make_data(64)
    config = ALEXNET
    if name != "alexnet":
        config = TrainingConfig(**SMALL, steps=12, checkpoint_every=5, **SETTINGS[name])
    file = tmp_path / "checkpoint.safetensors"

    def stop(step: int, total: int, loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    before = torch.cuda.get_rng_state(CUDA)
    whole = train(**data, config=config, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(CUDA), before)
    with pytest.raises(KeyboardInterrupt):
        train(**data, config=config, device="cuda", checkpoint=file, progress=stop)
    resumed = train(**data, config=config, device="cuda", checkpoint=file)
    assert resumed.resumed_from == 5
    assert_same(resumed, whole)


@pytest.mark.parametrize("name", [*SETTINGS, "alexnet"])
def test_a_graph_equals_no_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(64)
    config = ALEXNET if name == "alexnet" else TrainingConfig(**SMALL, steps=8, **SETTINGS[name])
    replays = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replays.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    graph = train(**data, config=config, device="cuda")
    assert len(replays) == 5
    monkeypatch.setattr(_cuda_step, "_MOST_GRAPHS", 0)
    assert_same(train(**data, config=config, device="cuda"), graph)
    assert len(replays) == 5


def test_frames_in_pinned_memory_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(64)
    config = TrainingConfig(**SMALL, steps=6)
    resident = train(**data, config=config, device="cuda")
    monkeypatch.setattr(_cuda_pixels, "free_memory", lambda _: 0)
    assert_same(train(**data, config=config, device="cuda"), resident)


def test_runs_on_another_stream() -> None:
    data = make_data(64)
    config = TrainingConfig(**SMALL, steps=6)
    expected = train(**data, config=config, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        found = train(**data, config=config, device="cuda")
    stream.synchronize()
    assert_same(found, expected)
