"""The CUDA way of a training step without a GPU, with plain stand-ins for CUDA and the kernels.

The kernels' own arithmetic is tested in tests/cpp/test_training_cuda*.cpp.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F  # noqa: N812
import toy_training
import training_stand_ins

from cliquesim._device import cuda_status
from cliquesim._pinned import PinnedBlock
from cliquesim.errors import RunError
from cliquesim.training import (
    AugmentationConfig,
    EmbeddingModel,
    GradientFrontEnd,
    TrainingConfig,
    _cuda_kernels,
    _cuda_pixels,
    augment,
    embed,
    train,
    trainer,
)
from cliquesim.training._activation import (
    Activation,
    ActivationSteps,
    ResponseNorm,
    activate,
)
from cliquesim.training._cuda_inputs import StepBuffer
from cliquesim.training._cuda_pixels import CudaCorpus, NetworkInput
from cliquesim.training._cuda_step import CudaStep
from cliquesim.training._fused_adagrad import FusedAdagrad
from cliquesim.training.backbones import AlexNet, RGBFrontEnd, seen_by_network
from cliquesim.training.optimizers import build_optimizer
from cliquesim.training.pixels import as_floats, resized
from cliquesim.training.sampling import CliqueSampler
from cliquesim.training.step_inputs import StepSource

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {**toy_training.SMALL, "precision": "float32"}


_real_capture = CudaStep._capture


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    training_stand_ins.install(monkeypatch)


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(0)
    # Some structure: noise of four pixels' width.
    coarse = rng.integers(0, 256, (24, 10, 10, 3))
    frames = np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)
    membership = sp.csr_array(np.kron(np.eye(6), np.ones(4)))
    pool = np.column_stack((np.arange(24), np.arange(24) % 3 == 0)).astype(int)
    extent = rng.uniform(0.5, 1, (24, 2)).astype(np.float32)
    return frames, membership, pool, np.arange(24) % 4, extent


def make_trainer(toy, config: TrainingConfig, batches=None, cuda: bool = False):
    frames, membership, pool, sequence, extent = toy
    sampler = CliqueSampler(membership, batches, None, config)
    one = trainer._Trainer(
        frames,
        pool[:, 0],
        pool[:, 1].astype(bool),
        sequence,
        extent,
        sampler,
        config,
        CPU,
        None,
    )
    if cuda:
        state, backbone = one.state, one.model.backbone
        state.optimizer = build_optimizer(config, list(state.modules.values()), graph_safe=True)
        one.cuda = CudaStep(frames, one.source, state, backbone, one.head, CPU, one.dtype, one.mean)
    return one


def weights(result: trainer.TrainingResult) -> list[np.ndarray]:
    return [value.numpy() for value in result.model.backbone.state_dict().values()]


SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "loss": "softmax",
        "cosine_scale": None,
        "front_end": "rgb",
        "optimizer": "adagrad",
        "averaging": "none",
        "weight_decay": 0.01,
        "learning_rate": 0.01,
        "augmentation": AugmentationConfig.paper(),
    },
    "sgd": {"loss": "softmax", "head": "global", "optimizer": "sgd", "averaging": "swa"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_is_that_of_torchs_operations(toy, name: str) -> None:
    config = TrainingConfig(**SMALL, steps=9, **SETTINGS[name])
    expected = make_trainer(toy, config).run(None, None)
    one = make_trainer(toy, config, cuda=True)
    found = one.run(None, None)
    assert one.cuda is not None
    assert [graph.replays for graph in one.cuda.graphs.values()] == [6]
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-4)
    for a, b in zip(weights(found), weights(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3)


def test_every_number_of_cliques_has_its_graph(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = np.zeros((3, 6), bool)
    batches[0, :2], batches[1, :3], batches[2, 2:] = True, True, True
    config = TrainingConfig(
        **{**SMALL, "images_per_clique": None}, steps=15, loss="softmax", checkpoint_every=100
    )
    expected = make_trainer(toy, config, batches).run(None, None).loss
    one = make_trainer(toy, config, batches, cuda=True)
    np.testing.assert_allclose(one.run(None, None).loss, expected, rtol=2e-4)
    assert one.cuda is not None
    assert {n: graph.replays for n, graph in one.cuda.graphs.items()} == {2: 2, 3: 2, 4: 2}
    contrastive = make_trainer(toy, dataclasses.replace(config, loss="contrastive"), batches, True)
    contrastive.run(None, None)
    assert contrastive.cuda is not None
    assert [graph.replays for graph in contrastive.cuda.graphs.values()] == [12]
    without = make_trainer(toy, config, batches, cuda=True)
    assert without.cuda is not None
    without.cuda.graphs_wanted = False
    np.testing.assert_array_equal(without.run(None, None).loss, one.state.loss)
    assert not without.cuda.graphs


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_equals_the_uninterrupted_one(toy, tmp_path, name: str) -> None:
    config = TrainingConfig(**SMALL, steps=9, checkpoint_every=5, **SETTINGS[name])
    file = tmp_path / "checkpoint.safetensors"

    def stop(step: int, total: int, loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    whole = make_trainer(toy, config, cuda=True).run(None, None)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(toy, config, cuda=True).run(file, stop)
    resumed = make_trainer(toy, config, cuda=True).run(file, None)
    assert resumed.resumed_from == 5
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    for a, b in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoint_goes_from_one_device_to_the_other(toy, tmp_path, name: str) -> None:
    config = TrainingConfig(**SMALL, steps=9, checkpoint_every=5, **SETTINGS[name])
    whole = make_trainer(toy, config).run(None, None)

    def stop(step: int, total: int, loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    for first in (False, True):
        file = tmp_path / f"{first}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            make_trainer(toy, config, cuda=first).run(file, stop)
        resumed = make_trainer(toy, config, cuda=not first).run(file, None)
        assert resumed.resumed_from == 5
        np.testing.assert_allclose(resumed.loss, whole.loss, rtol=2e-4)


def test_without_a_graph_training_goes_on_with_a_warning(toy, monkeypatch) -> None:
    config = TrainingConfig(**SMALL, steps=8)
    expected = make_trainer(toy, config, cuda=True).run(None, None).loss
    monkeypatch.setattr(CudaStep, "_capture", _real_capture)

    def refuse() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph.*not permitted") as warned:
        found = make_trainer(toy, config, cuda=True).run(None, None).loss
    assert len(warned) == 1
    np.testing.assert_array_equal(found, expected)


def test_fused_adagrad_is_torchs_whatever_the_memory_format() -> None:
    start = torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    ours, torchs = (start.clone().requires_grad_() for _ in range(2))
    idle = torch.ones(3, requires_grad=True)
    fused = FusedAdagrad([{"params": [ours, idle], "weight_decay": 0.1}], 0.05, 1e-4)
    plain = torch.optim.Adagrad([torchs], lr=0.05, eps=1e-4, weight_decay=0.1)
    for step in range(4):
        gradient = torch.randn(6, 4, 3, 3)
        if step % 2:
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        ours.grad, torchs.grad = gradient, gradient.clone()
        fused.step()
        plain.step()
    torch.testing.assert_close(ours, torchs)
    assert (idle == 1).all()


def test_a_loss_without_value_stops_the_training(toy) -> None:
    config = TrainingConfig(**SMALL, steps=200, loss="softmax", optimizer="sgd", learning_rate=1e30)
    with pytest.raises(RunError, match="lower learning_rate"):
        make_trainer(toy, config, cuda=True).run(None, None)


def test_a_loss_is_read_when_the_next_step_is_on_its_way(toy, tmp_path, monkeypatch) -> None:
    config = TrainingConfig(**SMALL, steps=7, checkpoint_every=3)
    expected = make_trainer(toy, config).run(None, None).loss
    events: list[Any] = []
    launch, read, save = CudaStep._launch, PinnedBlock.array, trainer.save_checkpoint

    def launched(step: CudaStep, n_cliques: int) -> None:
        events.append("launch")
        launch(step, n_cliques)

    def has_read(block: PinnedBlock) -> Any:
        events.append("read")
        return read(block)

    def saved(path: Any, state: Any, key: str) -> None:
        events.append(("save", state.step))
        save(path, state, key)

    monkeypatch.setattr(CudaStep, "_launch", launched)
    monkeypatch.setattr(PinnedBlock, "array", has_read)
    monkeypatch.setattr(trainer, "save_checkpoint", saved)
    told: list[tuple[int, int, float]] = []

    def progress(*call: Any) -> None:
        events.append(("told", call[0]))
        told.append(call)

    one = make_trainer(toy, config, cuda=True)
    found = one.run(tmp_path / "checkpoint.safetensors", progress).loss
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert told == [(step + 1, 7, loss) for step, loss in enumerate(found)]
    third = ["launch", "launch", "read", ("told", 1), "launch", "read", ("told", 2)]
    assert events[:10] == [*third, "read", ("save", 3), ("told", 3)]
    assert events[-4:] == ["launch", "read", ("save", 7), ("told", 7)]


@pytest.mark.parametrize("bad", [1, 4, 5, 6, 9])
def test_a_loss_without_value_is_named_by_its_own_step(toy, tmp_path, monkeypatch, bad) -> None:
    config = TrainingConfig(**SMALL, steps=9, checkpoint_every=5)
    file = tmp_path / "checkpoint.safetensors"
    launch, count = CudaStep._launch, 0

    def launched(step: CudaStep, n_cliques: int) -> None:
        nonlocal count
        count += 1
        launch(step, n_cliques)
        if count == bad:
            step.loss.fill_(float("nan"))

    monkeypatch.setattr(CudaStep, "_launch", launched)
    one = make_trainer(toy, config, cuda=True)
    told: list[int] = []
    with pytest.raises(RunError, match=f"nan in step {bad}: lower learning_rate"):
        one.run(file, lambda step, steps, loss: told.append(step))
    assert told == list(range(1, bad))
    assert one.state.step == bad - 1
    assert file.exists() == (bad > 5)
    monkeypatch.undo()
    training_stand_ins.install(monkeypatch)
    if bad > 5:
        assert make_trainer(toy, config, cuda=True).run(file, None).resumed_from == 5


# --- pixels ---


@pytest.mark.parametrize("front_end", [GradientFrontEnd(), RGBFrontEnd()])
@pytest.mark.parametrize("free", [0, 1 << 30])
@pytest.mark.parametrize("block", [1, 3])
def test_the_networks_input_is_that_of_torch(toy, front_end, free, block, monkeypatch) -> None:
    frames, membership, pool, sequence, extent = toy
    pinned: list[torch.Tensor] = []
    freed: list[torch.Tensor] = []
    monkeypatch.setattr(_cuda_pixels, "free_memory", lambda _: free)
    monkeypatch.setattr(_cuda_pixels, "_pin", pinned.append)
    monkeypatch.setattr(_cuda_pixels, "_unpin", freed.append)
    monkeypatch.setattr(_cuda_pixels, "_BLOCK_BYTES", 5 * frames[0].nbytes)
    config = TrainingConfig(**SMALL, steps=1, augmentation=AugmentationConfig.paper())
    source = StepSource(
        CliqueSampler(membership, None, None, config),
        pool[:, 0],
        pool[:, 1].astype(bool),
        sequence,
        extent,
        config,
    )
    inputs = source.draw(0)
    buffer = StepBuffer(16, CPU)
    buffer.write(0, inputs, 0.5, 0.25)
    buffer.upload(0)
    corpus = CudaCorpus(frames, 32, CPU)
    assert corpus.on_device == bool(free)
    network_input = NetworkInput(
        corpus, front_end, config.augmentation, 16, 32, torch.float32, CPU, block
    )
    found = network_input.make(buffer.changes)
    pixels = resized(frames[inputs.frames], 32, CPU)
    images = augment(as_floats(pixels), inputs.sample, config.augmentation)
    expected = seen_by_network(front_end, images, inputs.extent)
    if isinstance(front_end, RGBFrontEnd) and block > 1:
        expected = training_stand_ins.in_blocks(expected, block)
        expected = F.pad(expected, (0, 0, 0, 0, 0, 64 - expected.shape[1]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert len(pinned) == (0 if free else 1)
    del network_input, corpus
    assert [one.data_ptr() for one in freed] == [one.data_ptr() for one in pinned]


def test_pinned_memory_that_is_not_there_is_named(toy, monkeypatch) -> None:
    def refuse(pixels: torch.Tensor) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(_cuda_pixels, "free_memory", lambda _: 0)
    monkeypatch.setattr(_cuda_pixels, "_pin", refuse)
    with pytest.raises(RunError, match=r"0\.0 GiB of pinned memory for 24 frames"):
        CudaCorpus(toy[0], 32, CPU)


def test_two_steps_numbers_lie_apart_and_arrive_whole(toy) -> None:
    config = TrainingConfig(**SMALL, steps=4)
    one = make_trainer(toy, config)
    first, second = one.source.draw(0), one.source.draw(1)
    buffer = StepBuffer(16, CPU)
    buffer.write(0, first, 0.5, 0.25)
    buffer.write(1, second, 0.75, 0.125)
    layout = _cuda_kernels.FRAME_CHANGE
    fields = ("frame", "other", "affine", "colour", "ellipse", "erase", "extent")
    assert layout.fields is not None
    assert [layout.fields[name][1] for name in fields] == [0, 8, 16, 40, 64, 72, 88]
    assert layout.itemsize == 96
    for step, inputs, rate in ((0, first, 0.5), (1, second, 0.75)):
        buffer.upload(step)
        assert float(buffer.rate) == rate
        assert float(buffer.average) == 0.125 * (2 - step)
        assert torch.equal(buffer.labels, inputs.labels)
        assert torch.equal(buffer.cliques[:4], inputs.cliques)
        assert torch.equal(buffer.same_sequence, inputs.same_sequence)
        assert torch.equal(buffer.ignored, inputs.ignored)
        changes = training_stand_ins.changes_of(buffer.changes)
        np.testing.assert_array_equal(changes["frame"], inputs.frames)
        np.testing.assert_array_equal(changes["extent"], inputs.extent)
        np.testing.assert_array_equal(changes["colour"][:, 4], inputs.sample.contrast)


# --- AlexNet ---

STEPS = [
    ActivationSteps(),
    ActivationSteps(parts=2),
    ActivationSteps(pools=True),
    ActivationSteps(norm=ResponseNorm(1e-2, 0.75, 1.5), pools=True, parts=2),
    ActivationSteps(rectifies=False, norm=ResponseNorm(1e-2, 0.6, 1.0)),
]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("biased", [False, True])
def test_an_activation_is_torchs_with_its_gradient(
    steps: ActivationSteps, parts: int, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(3, 16 // parts, 9, 8, generator=generator) * 5 for _ in range(parts)]
    inputs = [*x, torch.randn(16, generator=generator)] if biased else x
    theirs, ours = ([one.clone().requires_grad_() for one in inputs] for _ in range(2))
    expected = activate(theirs[:parts], theirs[parts] if biased else None, steps)
    found = Activation.apply(ours[parts] if biased else None, steps, *ours[:parts])
    above = [torch.randn(y.shape, generator=generator) for y in expected]
    assert len(found) == len(expected) == steps.parts
    gradients = (
        torch.autograd.grad(found, ours, above),
        torch.autograd.grad(expected, theirs, above),
    )
    for a, b in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lrn", ["before_pool", "after_pool"])
@pytest.mark.parametrize("block", [1, 4])
def test_alexnet_by_group_is_alexnet(lrn: str, block: int) -> None:
    torch.manual_seed(0)
    net = AlexNet(lrn=lrn).to(memory_format=torch.channels_last)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # far from 0, whatever the layer
    images = torch.randn(2, 3, 227, 227)
    blocks = training_stand_ins.in_blocks(images, block)
    if block > 1:
        blocks = F.pad(blocks, (0, 0, 0, 0, 0, 16))
    found, expected = net._convolved_by_group(blocks), net._convolved(images)
    torch.testing.assert_close(
        found, expected, rtol=1e-3, atol=1e-4 * float(expected.detach().max())
    )
    weights = [one.weight for one in (net.conv1, net.conv2, net.conv3, net.conv4, net.conv5)]
    weights += [one.bias for one in (net.conv1, net.conv2, net.conv3, net.conv4, net.conv5)]
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()))


def test_alexnet_trains_on_weights_that_adagrad_rounds(toy) -> None:
    paper = TrainingConfig.paper(
        batch_size=8, cliques_per_batch=4, steps=5, precision="bfloat16", learning_rate=1e-4
    )
    frames = toy[0].repeat(6, 1).repeat(6, 2)[:, :227, :227]
    large = (np.ascontiguousarray(frames), *toy[1:])
    runs = {}
    for rounds in (True, False):
        one = make_trainer(large, paper, cuda=True)
        step = one.cuda
        assert step is not None
        assert len(step.rounded) == 14  # weights and biases of seven layers
        if not rounds:
            step.rounded = {}
            step.state.optimizer.rounded.clear()
        runs[rounds] = one.run(None, None)
        for name, copy in step.rounded.items():
            parameter = dict(step.backbone.named_parameters())[name.removeprefix("backbone.")]
            assert copy.dtype == torch.bfloat16
            torch.testing.assert_close(copy, parameter.to(torch.bfloat16), rtol=0, atol=0)
    np.testing.assert_allclose(runs[True].loss, runs[False].loss, rtol=1e-3)
    for a, b in zip(weights(runs[True]), weights(runs[False]), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_cuda_without_a_gpu_is_refused_with_the_reason(toy) -> None:
    available, reason = cuda_status()
    if available:
        pytest.skip("CUDA can be used here")
    config = TrainingConfig(**SMALL, steps=1)
    with pytest.raises(RunError, match="training cannot run with device='cuda'") as error:
        train(toy[0], toy[1], config=config, device="cuda:0")
    assert reason in str(error.value)
    with pytest.raises(RunError, match="embedding cannot run with device='cuda'"):
        embed(EmbeddingModel.random(config), toy[0], device="cuda")
