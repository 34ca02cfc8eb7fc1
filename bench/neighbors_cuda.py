"""Claim: both ends' neighbours of 113,516 x 1,984 descriptors in under 1 s on an H200-class GPU.

    python bench/neighbors_cuda.py --output neighbors_cuda.json

From a tensor in the GPU's memory to tensors there, pooled with p = 3 and of mirror images too, and
once from NumPy to NumPy; beside them the quantiles of all similarities. The floor is the products
at the speed of torch's in float32 in this run, and every similarity written and read once at that
of its copies: one product per unordered pair, two for quantiles, three for mirror images, where
s_ij and s_ji differ.

For H100's data sheet (67, 494 and 989 TFLOP/s in float32, TF32 and bfloat16; 3.35 TB/s, H200 4.8):
25.6 TFLOP are 0.38, 0.052 and 0.026 s, and 51.5 GB 0.015 s (0.011 s): one product per unordered
pair is enough in float32. A first pass in TF32 would save most of it, but bounds on its sums are
not documented, and without a bound it is not exact.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import cliquesim as cs
from _measure import at_least, table
from _measure_cuda import cuda_provenance, repeated, require_gpu, speeds
from _neighbors_calls import SEQUENCE, descriptors

CHECKED = 5000  # rows that the CPU compares, too
TOLERANCE = 1e-4  # of a similarity, as a share of the longest row's squared length
LEVELS = [0.01, 0.5, 0.95, 0.98, 0.99]


class Contender(NamedTuple):
    name: str
    call: Callable[[], Any]
    products: int  # of an unordered pair


def main() -> int:
    options = parse()
    if not require_gpu():
        return 1
    X = descriptors(options.dataset, options.n, options.dim, options.seed)
    worst = difference_from_cpu(X[:CHECKED], options.k)
    speed = speeds(("float32", "tf32", "bfloat16"))
    rows = []
    for one in contenders(X, options):
        took = repeated(one.call, options.repeats)
        least = floor(options.n, options.dim, one.products, speed)
        ratio = took["median"] / least["float32"]
        rows.append(
            {"name": one.name, "seconds": took, "floor_seconds": least, "floor_ratio": ratio}
        )
    report = {
        **cuda_provenance(),
        "n": options.n,
        "dim": options.dim,
        "k": options.k,
        "dataset": options.dataset,
        "worst_difference_from_cpu": worst,
        "speeds": speed,
        "results": rows,
    }
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(worst > TOLERANCE)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(2), default=113_516)
    add("--dim", type=at_least(1), default=1984)
    add("--k", type=at_least(1), default=50, help="at each end (default: 50)")
    add("--dataset", choices=("gaussian", "clustered"), default="gaussian")
    add("--repeats", type=at_least(1), default=5)
    add("--seed", type=at_least(0), default=0)
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if options.output and not options.output.parent.is_dir():
        parser.error(f"{options.output}: there is no folder {options.output.parent}")
    return options


def contenders(X: Any, options: argparse.Namespace) -> list[Contender]:
    there = torch.from_numpy(X).cuda()
    mirrored = there.flip(1).contiguous()
    groups = np.arange(options.n) // SEQUENCE

    def call(rows: Any, **more: Any) -> Callable[[], Any]:
        k = options.k
        return lambda: cs.neighbors(rows, k=k, n_bottom=k, device="cuda", **more)

    return [
        Contender("both ends", call(there), 1),
        Contender("the same, pooled with p = 3", call(there, groups=groups, pool_radius=3), 1),
        Contender("the same, mirror images too", call(there, mirrored=mirrored), 3),
        Contender("both ends, NumPy to NumPy", call(X), 1),
        Contender(
            f"{len(LEVELS)} quantiles",
            lambda: cs.similarity_quantiles(there, LEVELS, device="cuda"),
            2,
        ),
    ]


def difference_from_cpu(X: Any, k: int) -> float:
    """The largest one, as a share of the longest row's squared length."""
    k = min(k, len(X) - 1)
    found = cs.neighbors(X, k=k, n_bottom=k, device="cuda")
    expected = cs.neighbors(X, k=k, n_bottom=k)
    gaps = [
        np.abs(found.similarities - expected.similarities).max(),
        np.abs(found.bottom_similarities - expected.bottom_similarities).max(),
    ]
    return float(max(gaps) / np.square(X).sum(axis=1).max())


def floor(n: int, dim: int, products: int, speed: dict[str, float]) -> dict[str, float]:
    """Seconds, by the precision of the products."""
    pairs = products * n * (n - 1) / 2
    return {
        dtype: 2 * dim * pairs / speed[f"{dtype}_flops"] + 8 * pairs / speed["copy_bytes"]
        for dtype in ("float32", "tf32", "bfloat16")
    }


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['machine']['gpu']}, {report['n']} x {report['dim']}, k = {report['k']}")
    rows = [
        [
            row["name"],
            *(f"{row['seconds'][key]:.3f}" for key in ("median", "min", "max")),
            *(f"{row['floor_seconds'][key]:.3f}" for key in ("float32", "tf32", "bfloat16")),
            f"{row['floor_ratio']:.2f}",
        ]
        for row in report["results"]
    ]
    header = ["", "s", "min", "max", "floor s", "in TF32", "in bfloat16", "this / floor"]
    print(table(header, rows, 1))
    worst = report["worst_difference_from_cpu"]
    print(f"largest difference from the CPU: {worst:.1e} of the longest row's squared length")


if __name__ == "__main__":
    raise SystemExit(main())
