"""Claim: a training step takes little longer than the network's arithmetic, and what is beside its
products (augmentation, gradients, batch norm) a fraction of what torch's own operations take.

    OMP_WAIT_POLICY=passive python bench/training.py --threads 1 2 --output training.json

(The policy is what the command `cliquesim` sets.) One step of the default's training (128 frames,
96 pixels) on synthetic frames, once as it is and once with the pixels, batch norm and ReLU in torch
(`augment` and `GradientFrontEnd.forward`, the references of the tests, and torch's layers); the
pixels alone, and batch norm and ReLU alone with their gradients, both ways; and embedding frames,
both ways. They take turns, medians; freed memory is kept for both, as `train` keeps it. The floor
is the arithmetic of the network's products, forward and backward, at the speed that torch
multiplies matrices with in the training's precision. Prints a table, and JSON to --output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from _measure import Request, at_least, provenance, table, take_turns
from cliquesim import _core
from cliquesim.training import (
    EmbeddingModel,
    GradientFrontEnd,
    TrainingConfig,
    augment,
    embed,
    sample_augmentation,
    trainer,
)
from cliquesim.training._normalisation import NormalisedRelu
from cliquesim.training.augmentation import augment_frames
from cliquesim.training.backbones import fade_surroundings, seen_by_network
from cliquesim.training.pixels import as_floats, resized, resolve_precision

OURS, TORCH = "cliquesim", "torch"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=at_least(1), nargs="+", default=[1])
    parser.add_argument("--size", type=at_least(16), default=TrainingConfig().image_size)
    parser.add_argument("--batch", type=at_least(8), default=TrainingConfig().batch_size)
    parser.add_argument("--repeats", type=at_least(1), default=15)
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    config = TrainingConfig(image_size=options.size, batch_size=options.batch, steps=1000)
    cases = [measure(config, threads, options.repeats) for threads in options.threads]
    print(show(cases))
    report = {**provenance(("torch", "numpy")), "settings": config.to_dict(), "cases": cases}
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(config: TrainingConfig, threads: int, repeats: int) -> dict[str, Any]:
    """Medians of every job, both ways, and the floor of a step."""
    torch.set_num_threads(threads)
    _core.keep_freed_memory(True)
    jobs = make_jobs(config)
    answers: dict[tuple[str, str], list[Request]] = {
        (job, way): [] for job in jobs for way in (OURS, TORCH)
    }

    def call(key: tuple[str, str]) -> Request:
        job, way = key
        with all_in_torch() if way == TORCH else contextlib.nullcontext():
            start = time.perf_counter()
            jobs[job]()
            return {"seconds": time.perf_counter() - start}

    take_turns(answers, 2, call)  # the first calls choose kernels and fill caches
    for one in answers.values():
        one.clear()
    take_turns(answers, repeats, call)
    seconds = {
        job: {way: [one["seconds"] for one in answers[job, way]] for way in (OURS, TORCH)}
        for job in jobs
    }
    flops = network_flops(config)
    peak = product_flops(resolve_precision(config.precision, torch.device("cpu")))
    return {
        "threads": threads,
        "seconds": {
            job: {way: statistics.median(times) for way, times in ways.items()}
            for job, ways in seconds.items()
        },
        "torch_over_ours": {
            job: statistics.median(b / a for a, b in zip(ways[OURS], ways[TORCH], strict=True))
            for job, ways in seconds.items()
        },
        "step_flops": 3 * flops * config.batch_size,
        "product_flops_per_second": peak,
        "floor_seconds": 3 * flops * config.batch_size / peak,
        "images_per_second": config.batch_size / statistics.median(seconds["step"][OURS]),
    }


def make_jobs(config: TrainingConfig) -> dict[str, Callable[[], object]]:
    """What is timed; frames are noise of several scales, their edges are everywhere."""
    rng = np.random.default_rng(0)
    n, side = config.batch_size, config.image_size
    frames = rng.integers(0, 256, (2 * n, side, side, 3), dtype=np.uint8)
    extent = rng.uniform(0.5, 1, (2 * n, 2)).astype(np.float32)
    sets = sp.csr_array(np.kron(np.eye(n // 2), np.ones(4)))
    one = trainer._Trainer(
        frames,
        np.arange(2 * n),
        np.zeros(2 * n, bool),
        np.arange(2 * n) // 8,
        extent,
        trainer.CliqueSampler(sets, None, None, config),
        config,
        torch.device("cpu"),
        None,
    )
    model = EmbeddingModel.random(config)
    front_end = GradientFrontEnd()
    share = torch.from_numpy(extent[:n])
    batch = resized(frames[:n], side, torch.device("cpu"))
    drawn = sample_augmentation(
        n, config.augmentation, torch.Generator().manual_seed(0), None, share
    )

    def pixels() -> Tensor:
        return seen_by_network(
            front_end, trainer.augment_frames(batch, drawn, config.augmentation), share
        )

    layers, side = [], config.image_size
    for channels in config.channels:
        side = (side + 1) // 2
        maps = torch.randn(n, side, side, channels).permute(0, 3, 1, 2)
        maps = maps.to(resolve_precision(config.precision, maps.device)).requires_grad_()
        layers.append((maps, torch.ones_like(maps), NormalisedRelu(channels)))

    def norms() -> None:
        for maps, above, norm in layers:
            torch.autograd.grad(norm(maps), (maps, norm.weight, norm.bias), above)

    return {
        "step": lambda: one.step(len(one.state.loss) % 100),
        "pixels of a step": pixels,
        "batch norm and ReLU of a step": norms,
        "embedding": lambda: embed(model, frames, extent=extent),
    }


@contextlib.contextmanager
def all_in_torch() -> Iterator[None]:
    """Augmentation, gradients, batch norm and ReLU by torch's operations within the block."""

    def augment_by_torch(frames: Tensor, *rest: Any) -> Tensor:
        return augment(as_floats(frames), *rest)

    def gradients_by_torch(self: GradientFrontEnd, images: Tensor, extent: Tensor) -> Tensor:
        return fade_surroundings(self(images), extent).contiguous(memory_format=torch.channels_last)

    def norm_by_torch(self: NormalisedRelu, maps: Tensor) -> Tensor:
        return torch.relu_(torch.nn.BatchNorm2d.forward(self, maps))

    assert trainer.augment_frames is augment_frames
    with (
        mock.patch.object(trainer, "augment_frames", augment_by_torch),
        mock.patch.object(GradientFrontEnd, "on_cpu", gradients_by_torch),
        mock.patch.object(NormalisedRelu, "forward", norm_by_torch),
    ):
        yield


def network_flops(config: TrainingConfig) -> int:
    """Of the compact network's products for one frame, forward; multiply-adds count two."""
    flops, side, before = 0, config.image_size, 3
    for depth, channels in enumerate(config.channels):
        side = (side + 1) // 2
        flops += 2 * side * side * channels * before * (25 if depth == 0 else 9)
        before = channels
    return flops + 2 * before * side * side * config.embedding_dim


def product_flops(dtype: torch.dtype, side: int = 2048) -> float:
    """Of torch's best product of square matrices, per second."""
    a, b = (torch.rand(side, side).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def show(cases: list[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        for job, ways in case["seconds"].items():
            floor = f"{ways[OURS] / case['floor_seconds']:.1f}" if job == "step" else ""
            rows.append(
                [
                    job,
                    str(case["threads"]),
                    f"{1e3 * ways[OURS]:.1f}",
                    f"{1e3 * ways[TORCH]:.1f}",
                    f"{case['torch_over_ours'][job]:.2f}",
                    floor,
                ]
            )
    return table(("job", "threads", "ms", "torch: ms", "torch / ours", "floors"), rows, left=1)


if __name__ == "__main__":
    raise SystemExit(main())
