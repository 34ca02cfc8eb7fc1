"""What a run will take, before it starts: counts of work times rates measured on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from cliquesim.cliques.quantile import QUANTILES
from cliquesim.config import Config


@dataclass(frozen=True)
class StageEstimate:
    """Expected cost of one stage: seconds, peak memory and disk in MiB, and the work in words."""

    name: str
    work: str
    seconds: float
    memory_mib: float
    disk_mib: float


@dataclass(frozen=True)
class Rates:
    """Measured in well under two seconds; all on the threads that the run would use."""

    gemm_flops: float  # float32 multiply-adds count two
    images_trained: float  # per second, forward and backward
    images_embedded: float

    @classmethod
    def measure(cls, config: Config, num_threads: int | None) -> Rates:
        """Time one product and one training step of the configured network."""
        import torch

        from cliquesim.training import EmbeddingModel
        from cliquesim.training.pixels import limited_threads, resolve_precision

        a = torch.rand(1024, 1024)
        images = min(32, config.training.batch_size)
        side = config.training.image_size
        network = EmbeddingModel.random(config.training).backbone
        pixels = torch.rand(images, 3, side, side)
        dtype = resolve_precision(config.training.precision, torch.device("cpu"))

        def run() -> torch.Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return network(pixels)  # type: ignore[no-any-return]

        with limited_threads(num_threads):
            product = _seconds(lambda: a @ a)
            with torch.no_grad():
                forward = _seconds(run)
            network.train()
            both = _seconds(lambda: run().float().square().mean().backward())  # type: ignore[no-untyped-call]
        return cls(2 * 1024**3 / product, images / both, images / forward)


def _seconds(action: object, repeats: int = 2) -> float:
    assert callable(action)
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def estimate(
    part_sizes: list[int], config: Config, num_threads: int | None = None
) -> list[StageEstimate]:
    """Expected cost of every stage for a corpus whose categories have `part_sizes` frames.

    The number of rounds is the most that the settings allow; sequences and cliques are not known
    beforehand: a clique is taken for three rows of the pool, and a frame as in one clique.
    """
    rates = Rates.measure(config, num_threads)
    n = sum(part_sizes)
    sides = 2 if config.mirror else 1
    cells = [(round(side / config.cell_size) - 2) ** 2 * 31 for side in config.scales]
    width = sum(cells)
    base = 350.0  # interpreter, NumPy and torch
    mib = float(1 << 20)
    frames_mib = n * config.frame_size**2 * 3 / mib
    descriptors_mib = 4.0 * sides * n * width / mib
    pixels = sum(side**2 for side in config.scales)
    # Choosing lambda factorises the covariance once per candidate, and clips its eigenvalues.
    per_covariance = 80.0 if config.shrinkage == "auto" else 10.0
    whitening = sum(2.0 * sides * n * d**2 + per_covariance * d**3 for d in cells)
    largest = max(part_sizes, default=0)
    stages = [
        StageEstimate(
            "corpus",
            f"decode and crop {n} frames",
            n * 0.0015,
            base + 64,
            frames_mib,
        ),
        StageEstimate(
            "descriptors",
            f"HOG at {len(cells)} scale(s), {width} dimensions, and whitening",
            sides * n * (pixels * 8e-9 + 4e-4) + whitening / rates.gemm_flops,
            base + descriptors_mib * 0.6 + 24.0 * max(cells) ** 2 / mib,
            descriptors_mib,
        ),
    ]
    training = config.training.with_steps(sides * n)
    pairs = sum((sides * size) ** 2 for size in part_sizes)
    n_cliques = [min(config.max_cliques, sides * size // 3) for size in part_sizes]
    if config.clique_quantile == "auto":  # two halves of the descriptors: a search, then cliques
        k = config.n_neighbors
        cliques = 2.0 * len(QUANTILES) * sides * n * k**2 * width
        stages.append(
            StageEstimate(
                "quantile",
                f"cliques at {len(QUANTILES)} quantiles, twice",
                (pairs * width + cliques) / rates.gemm_flops + 2 * pairs * 3e-9,
                base + descriptors_mib,
                0.0,
            )
        )
    for number in range(1, config.max_rounds + 1):
        students = number - 1 if config.students == "all" else min(number - 1, 1)
        dimensions = width + students * config.training.n_features
        k = config.n_neighbors
        passes = 2 if number > 1 and config.teacher_expansion else 1
        part_mib = 4.0 * sides * largest * dimensions / mib
        stages += [
            StageEstimate(
                f"round-{number}/neighbors",
                f"{pairs / 1e6:.1f} million similarities, {k} neighbours",
                passes * (pairs * dimensions / rates.gemm_flops + pairs * 3e-9),
                base + 2 * part_mib,
                12.0 * sides * n * k / mib,
            ),
            StageEstimate(
                f"round-{number}/cliques",
                f"{sides * n} neighbourhoods",
                2.0 * sides * n * k**2 * dimensions / rates.gemm_flops,
                base + 2 * part_mib,
                sum(8.0 * count**2 for count in n_cliques) / mib,
            ),
            StageEstimate(
                f"round-{number}/batches",
                f"B = {config.n_batches}, r = {config.cliques_per_batch}, of some "
                f"{sum(n_cliques)} cliques",
                4e-4 * config.n_batches * sum(n_cliques),
                base + 200,
                1.0,
            ),
            StageEstimate(
                f"round-{number}/training",
                f"{training.n_steps} steps of {training.batch_size} images",
                training.n_steps * training.batch_size * 1.15 / rates.images_trained,
                base + 600,
                20.0,
            ),
            StageEstimate(
                f"round-{number}/features",
                f"{sides * n} images through the network",
                sides * n / rates.images_embedded,
                base + 400,
                4.0 * sides * n * config.training.n_features / mib,
            ),
        ]
    students = config.max_rounds if config.students == "all" else 1
    final = students * config.training.n_features
    final += width if config.embedding == "fused" else 0
    stages.append(
        StageEstimate(
            "embedding",
            f"{final} dimensions a frame",
            n * final * 4e-9,
            base + 12.0 * n * final / mib,
            4.0 * n * final / mib,
        )
    )
    whitening_mib = sum(4.0 * d**2 for d in cells) / mib
    stages.append(StageEstimate("model", "weights and whitening", 1.0, base, whitening_mib + 10.0))
    return [
        StageEstimate(
            s.name, s.work, round(float(s.seconds), 1), round(s.memory_mib), round(s.disk_mib, 1)
        )
        for s in stages
    ]


def part_sizes_of(category: np.ndarray, within_category: bool) -> list[int]:
    """Frames per category, or all in one part."""
    if not within_category:
        return [len(category)]
    return [int(count) for count in np.unique(category, return_counts=True)[1]]
