"""Claim: on a GPU the moments and the projection take at most twice the time of their arithmetic.

    python bench/whitening_cuda.py --output whitening_cuda.json

From descriptors in the GPU's memory, and from NumPy to NumPy; the factor between them is made on
the CPU and stands beside. The floor of each is N D^2 operations, half of a product as the scatter
is symmetric and the factor triangular, at the speed of torch's float32 products in this run, or the
rows read (and written) at that of its copies, whichever is longer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cliquesim as cs
from _measure import at_least, table
from _measure_cuda import cuda_provenance, repeated, require_gpu, speeds

TOLERANCE = 1e-4  # of the largest whitened number, against the CPU
COMPARED = 2000  # rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(3), default=113_516)
    add("--dim", type=at_least(2), default=1984, help="default: 1984, of 8 x 8 cells of HOG")
    add("--repeats", type=at_least(1), default=5)
    add("--seed", type=at_least(0), default=0)
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if not require_gpu():
        return 1
    X = np.random.default_rng(options.seed).standard_normal((options.n, options.dim), np.float32)
    worst = difference(X)
    least = floor(options.n, options.dim)
    report = {
        **cuda_provenance(),
        "n": options.n,
        "dimensions": options.dim,
        "worst_difference_from_cpu": worst,
        "floor": least,
        "seconds": {
            "GPU to GPU": measure(torch.from_numpy(X).cuda(), options.repeats),
            "NumPy to NumPy": measure(X, options.repeats),
        },
    }
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(worst > TOLERANCE)


def difference(X: np.ndarray) -> float:
    """Largest difference of whitened rows, over the largest number."""
    ours = cs.Whitening(shrinkage=0.1, device="cuda").fit(X).transform(X[:COMPARED])
    expected = cs.Whitening(shrinkage=0.1).fit(X).transform(X[:COMPARED])
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def measure(X: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of the moments, of everything up to the factor, and of the projection."""

    def settings() -> cs.Whitening:
        return cs.Whitening(shrinkage=0.1, device="cuda")

    fitted = settings().fit(X)
    return {
        "moments": repeated(lambda: settings().partial_fit(X), repeats),
        "fit": repeated(lambda: settings().fit(X), repeats),
        "projection": repeated(lambda: fitted.transform(X), repeats),
    }


def floor(n: int, dimensions: int) -> dict[str, float]:
    speed = speeds()
    product = n * dimensions**2 / speed["float32_flops"]
    reading = 4 * n * dimensions / speed["copy_bytes"]
    return {**speed, "moments": max(product, reading), "projection": max(product, 2 * reading)}


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['machine']['gpu']}, {report['n']} rows of {report['dimensions']}")
    rows = []
    for way, parts in report["seconds"].items():
        for part, took in parts.items():
            least = report["floor"].get(part)
            ratio = "" if least is None else f"{took['median'] / least:.1f}"
            rows.append([f"{part}, {way}", f"{1e3 * took['median']:.1f}", ratio])
    print(table(["", "ms", "this / floor"], rows, 1))
    print(f"largest difference from the CPU {report['worst_difference_from_cpu']:.1e}")


if __name__ == "__main__":
    raise SystemExit(main())
