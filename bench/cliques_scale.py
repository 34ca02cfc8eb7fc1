"""Claim: 100,000 descriptors of 512 dimensions go through neighbours, cliques and batches in one
process, without any N x N array (40 GB in float32) and under 6 GiB.

    python bench/cliques_scale.py --n 100000 --dimensions 512

Prints one JSON object: seconds, CPU seconds and the peak resident set size after every stage.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

import cliquesim as cs
from cliquesim import _core

T = TypeVar("T")


def peak_gib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Stages:
    """Times each stage, and reads the process's peak memory after it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {"imports": {"peak_gib": peak_gib()}}

    def run(self, name: str, body: Callable[[], T]) -> T:
        print(f"{name} ...", file=sys.stderr, flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        result = body()
        self.rows[name] = {
            "seconds": round(time.perf_counter() - wall, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "peak_gib": round(peak_gib(), 3),
        }
        print(f"{name}: {self.rows[name]}", file=sys.stderr, flush=True)
        return result


def synthetic(
    n: int, dimensions: int, seed: int, length: int = 50, per_posture: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that walk through postures, three frames each, with noise; about `per_posture`
    frames show the same one. Rows have length 1."""
    rng = np.random.default_rng(seed)
    postures = rng.normal(size=(max(2, n // per_posture), dimensions)).astype(np.float32)
    sequence = np.arange(n) // length
    start = rng.integers(len(postures), size=sequence[-1] + 1)
    shown = (start[sequence] + np.arange(n) % length // 3) % len(postures)
    X = np.empty((n, dimensions), np.float32)
    for begin in range(0, n, 8192):  # no second copy
        part = slice(begin, begin + 8192)
        noise = rng.standard_normal(X[part].shape, np.float32)
        X[part] = postures[shown[part]] + noise
        X[part] /= np.linalg.norm(X[part], axis=1, keepdims=True)
    return X, sequence.astype(np.int64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--quantile", type=float, default=0.999)
    parser.add_argument("--max-cliques", type=int, default=2000)
    parser.add_argument("--n-batches", type=int, default=50)
    parser.add_argument("--cliques-per-batch", type=int, default=16)
    parser.add_argument("--time-limit", type=float, default=120, help="of the batches, seconds")
    parser.add_argument("--limit-gib", type=float, default=6.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    stages = Stages()
    X, groups = stages.run(
        "descriptors", lambda: synthetic(options.n, options.dimensions, options.seed)
    )
    neighbors = stages.run(
        "neighbors",
        lambda: cs.neighbors(X, k=options.k, groups=groups, num_threads=options.threads),
    )
    cliques = stages.run(
        "cliques",
        lambda: cs.build_cliques(
            X,
            neighbors,
            groups,
            similarity_quantile=options.quantile,
            max_cliques=options.max_cliques,
            num_threads=options.threads,
            seed=options.seed,
        ),
    )
    batches = stages.run(
        "batches",
        lambda: cs.select_batches(
            cliques.membership,
            cliques.similarity,
            options.n_batches,
            options.cliques_per_batch,
            seed=options.seed,
            time_limit=options.time_limit,
            num_threads=options.threads,
        ),
    )
    peak = peak_gib()
    report: dict[str, Any] = {
        "options": vars(options),
        "versions": {
            "cliquesim": cs.__version__,
            "simd": _core.simd_level,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "processors": _core.available_processors(),
        "stages": stages.rows,
        "cliques": {**cliques.info, "mean_size": float(cliques.sizes.mean())},
        "batches": {"distinct": int(batches.n_distinct_batches), "status": str(batches.status)},
        "n_by_n_gib": options.n**2 * 4 / 2**30,
        "peak_gib": round(peak, 3),
        "within_limit": peak <= options.limit_gib,
    }
    print(json.dumps(report, indent=2))
    return 0 if report["within_limit"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
