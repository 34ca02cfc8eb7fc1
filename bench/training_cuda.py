"""Claim: AlexNet trains at 55,000 images/s or more on an H200-class GPU, augmentation included.

    python bench/training_cuda.py --output training_cuda.json

Steps of the paper's training (227 pixels, batches of 128, AdaGrad, softmax) with bfloat16 products,
as they are, without the CUDA graph, with the convolutions that cuDNN finds fastest (a seed does not
repeat then), and by torch's operations from frames in the host's memory; and their parts: the
numbers of a step on the host, the pixels, conv1 of blocks of 4 x 4 pixels and of pixels, what
follows it (bias, ReLU, LRN, pooling) and AdaGrad, the latter two beside torch's. The floor is the
products of the network, forward and backward, at the speed of torch's bfloat16 products in this
run, and AdaGrad's 20 bytes a weight of the network at that of its copies. Prints a table, with
--kernels the longest kernels of a step, and JSON to --output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd import DeviceType

from _measure import at_least, table
from _measure_cuda import cuda_provenance, repeated, require_gpu, speeds
from cliquesim.training import TrainingConfig, trainer
from cliquesim.training._activation import (
    ActivationSteps,
    ResponseNorm,
    activate,
    activate_by_torch,
)
from cliquesim.training._cuda_step import repeatable_convolutions
from cliquesim.training._fused_adagrad import FusedAdagrad
from cliquesim.training.backbones import AlexNet, convolution_of_blocks
from cliquesim.training.optimizers import build_optimizer

BYTES_PER_WEIGHT = 20
SETTLING_STEPS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=at_least(256), default=4096)
    parser.add_argument("--batch", type=at_least(8), default=128)
    parser.add_argument("--steps", type=at_least(1), default=200, help="of one measurement")
    parser.add_argument("--repeats", type=at_least(1), default=5)
    parser.add_argument("--kernels", type=at_least(0), default=0, help="of a step, the longest")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if not require_gpu():
        return 1
    config = TrainingConfig.paper(
        batch_size=options.batch, precision="bfloat16", steps=1_000_000_000
    )
    report = {
        **cuda_provenance(),
        "frames": options.frames,
        "settings": config.to_dict(),
        **measure(config, options.frames, options.steps, options.repeats, options.kernels),
    }
    print(show(report))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(
    config: TrainingConfig, n: int, steps: int, repeats: int, kernels: int
) -> dict[str, Any]:
    """Seconds of every way and part, and the floor of a step."""
    frames = np.random.default_rng(0).integers(0, 256, (n, 227, 227, 3), dtype=np.uint8)
    ours = make_trainer(frames, config)
    least = floor(config, ours)
    ways: dict[str, Callable[[int], None]] = {"step": ours.step}
    plain = make_trainer(frames, config)
    assert plain.cuda is not None
    plain.cuda.graphs_wanted = False
    ways["step without a graph"] = plain.step
    by_torch = make_trainer(frames, config)
    by_torch.cuda = None
    by_torch.state.optimizer = build_optimizer(config, list(by_torch.state.modules.values()))
    with repeatable_convolutions():  # as `train` has them
        found = {name: per_step(step, steps, repeats) for name, step in ways.items()}
        longest = kernel_seconds(plain.step, kernels) if kernels else {}
        for name, body in parts(ours).items():
            found[name] = repeated(body, 10 * repeats)["median"]
    torch.backends.cudnn.benchmark = True
    fastest = make_trainer(frames, config)
    found["step, fastest convolutions"] = per_step(fastest.step, steps, repeats)
    torch.backends.cudnn.benchmark = False
    with mock.patch.object(AlexNet, "_convolved_by_group", AlexNet._convolved):
        found["step by torch"] = per_step(by_torch.step, max(1, steps // 10), repeats)
    return {
        "seconds": found,
        "images_per_second": config.batch_size / found["step"],
        "floor": least,
        "floor_ratio": found["step"] / least["seconds"],
        "kernels": longest,
    }


def make_trainer(frames: np.ndarray, config: TrainingConfig) -> trainer._Trainer:
    """Cliques of four frames."""
    n = len(frames)
    sets = sp.csr_array(np.kron(np.eye(n // 4), np.ones(4)))[:, :n]
    return trainer._Trainer(
        frames,
        np.arange(sets.shape[1]),
        np.zeros(n, bool),
        None,
        np.ones((n, 2), np.float32),
        trainer.CliqueSampler(sets, None, None, config),
        config,
        torch.device("cuda", torch.cuda.current_device()),
        None,
    )


def per_step(step: Callable[[int], None], steps: int, repeats: int) -> float:
    """Median of the runs' mean."""
    done = 0

    def some(count: int) -> None:
        nonlocal done
        for _ in range(count):
            step(done)
            done += 1

    some(SETTLING_STEPS)
    return repeated(lambda: some(steps), repeats)["median"] / steps


def kernel_seconds(step: Callable[[int], None], most: int) -> dict[str, float]:
    """Of a step without a graph, by kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        step(0)
        torch.cuda.synchronize()
    rows = [row for row in seen.key_averages() if row.device_type != DeviceType.CPU]
    rows.sort(key=lambda row: -row.self_device_time_total)
    return {f"{one.count} x {one.key}": 1e-6 * one.self_device_time_total for one in rows[:most]}


def parts(one: trainer._Trainer) -> dict[str, Callable[[], object]]:
    """Parts of a step, each on its own."""
    step = one.cuda
    assert step is not None
    assert isinstance(one.state.optimizer, FusedAdagrad)
    numbers = step.source.draw(0)

    def draw() -> None:
        step.buffer.write(0, step.source.draw(0), 0.1, 0.1)

    x = torch.randn((len(numbers.frames), 96, 55, 55), device="cuda", dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    bias = torch.randn(96, device="cuda", dtype=torch.bfloat16).requires_grad_()
    steps = ActivationSteps(norm=ResponseNorm(), pools=True)

    def both_ways(way: Callable[..., list[Tensor]]) -> Callable[[], object]:
        def body() -> None:
            (y,) = way([x], bias, steps)
            torch.autograd.grad(y, (x, bias), y.detach())

        return body

    seen = step.input.make(step.buffer.changes)
    frames = torch.randn((len(seen), 3, 227, 227), device="cuda", dtype=torch.bfloat16)
    frames = frames.contiguous(memory_format=torch.channels_last)
    first = torch.randn((96, 3, 11, 11), device="cuda", dtype=torch.bfloat16)
    first = first.contiguous(memory_format=torch.channels_last).requires_grad_()

    def convolved(convolution: Callable[..., Tensor], images: Tensor) -> Callable[[], object]:
        def body() -> None:
            y = convolution(images, first, stride=4)
            torch.autograd.grad(y, first, y.detach())

        return body

    weights = [p for m in one.state.modules.values() for p in m.parameters()]
    rounded = one.state.optimizer.rounded
    for weight in [*weights, *rounded.values()]:
        weight.grad = torch.ones_like(weight)
    by_torch = torch.optim.Adagrad(weights, lr=1e-3, eps=1e-4, foreach=True)
    return {
        "numbers of a step, on the host": draw,
        "pixels": lambda: step.input.make(step.buffer.changes),
        "conv1, both ways": convolved(convolution_of_blocks, seen),
        "conv1, both ways, of pixels": convolved(F.conv2d, frames),
        "what follows conv1, both ways": both_ways(activate),
        "what follows conv1, both ways, torch": both_ways(activate_by_torch),
        "AdaGrad": one.state.optimizer.step,
        "AdaGrad, torch": by_torch.step,
    }


def floor(config: TrainingConfig, one: trainer._Trainer) -> dict[str, float]:
    """Seconds of a step that arithmetic and memory alone take."""
    flops = config.batch_size * step_flops(one.model.backbone, config.image_size)
    weights = sum(p.numel() for p in one.model.backbone.parameters())
    speed = speeds(("bfloat16",))
    seconds = flops / speed["bfloat16_flops"] + BYTES_PER_WEIGHT * weights / speed["copy_bytes"]
    return {"flops": flops, "weights": weights, **speed, "seconds": seconds}


def step_flops(backbone: nn.Module, size: int) -> int:
    """Of the products for one frame, forward and backward; multiply-adds count two."""
    flops: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.get_parameter("weight")
        forward = 2 * output[0].numel() * weight[0].numel()
        # The first layer's input has no gradient.
        flops.append(forward * (3 if flops else 2))

    layers = [m for m in backbone.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        device = next(backbone.parameters()).device
        images = torch.zeros((1, 3, size, size), device=device)
        with mock.patch.object(AlexNet, "_convolved_by_group", AlexNet._convolved):
            backbone.embed_seen(images)
    for hook in hooks:
        hook.remove()
    return sum(flops)


def show(report: dict[str, Any]) -> str:
    seconds = {**report["seconds"], **report["kernels"]}
    rows = [[name[:100], f"{1e3 * one:.3f}"] for name, one in seconds.items()]
    return "\n".join(
        [
            f"{report['machine']['gpu']}, batches of {report['settings']['batch_size']}",
            table(("what", "ms"), rows, left=1),
            f"{report['images_per_second']:,.0f} images/s; floor of a step "
            f"{1e3 * report['floor']['seconds']:.3f} ms, this / floor {report['floor_ratio']:.2f}",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
