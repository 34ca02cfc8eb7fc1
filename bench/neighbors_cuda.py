"""Claim: both ends' neighbours of 113,516 x 1,984 descriptors in under 1 s on an H200-class GPU.

    python bench/neighbors_cuda.py --output neighbors_cuda.json

From a tensor in the GPU's memory to tensors there, pooled with p = 3 and of mirror images too, and
once from NumPy to NumPy; once with float16 products first; beside them the quantiles of all
similarities. The floor is the products at the speed of torch's in this run, in float32 or, with
those first, in float16, and every similarity written and read once at that of its copies: one
product per unordered pair, two for quantiles, three for mirror images, where s_ij and s_ji differ.

For H100's data sheet (67, 494 and 989 TFLOP/s in float32, TF32 and float16; 3.35 TB/s, H200 4.8):
25.6 TFLOP are 0.38, 0.052 and 0.026 s, and 51.5 GB 0.015 s (0.011 s): one product per unordered
pair is enough in float32. With float16 first, what its floor leaves out is to decide some 150
candidates at each end of every Gaussian row: 270 GB, 0.08 s (0.06 s) where no cache helps. A first
pass in TF32 has no such proof: bounds on its sums are not documented.
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
WAYS = ("float32", "float16")
DTYPES = ("float32", "tf32", "float16")
LEVELS = [0.01, 0.5, 0.95, 0.98, 0.99]


class Contender(NamedTuple):
    name: str
    call: Callable[[], Any]
    products: int  # of an unordered pair
    first: str = "float32"  # which products come first


def main() -> int:
    options = parse()
    if not require_gpu():
        return 1
    X = descriptors(options.dataset, options.n, options.dim, options.seed)
    worst = {way: difference_from_cpu(X[:CHECKED], options.k, way) for way in WAYS}
    speed = speeds(DTYPES)
    rows = []
    for one in contenders(X, options):
        took = repeated(one.call, options.repeats)
        least = floor(options.n, options.dim, one.products, speed)
        ratio = took["median"] / least[one.first]
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
        "float16_info": float16_info(X, options.k),
        "results": rows,
    }
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(max(worst.values()) > TOLERANCE)


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

    def call(rows: Any, precision: str = "float32", **more: Any) -> Callable[[], Any]:
        k = options.k
        more |= {"precision": precision, "device": "cuda"}
        return lambda: cs.neighbors(rows, k=k, n_bottom=k, **more)

    return [
        Contender("both ends", call(there), 1),
        Contender("both ends, float16 first", call(there, "float16"), 1, "float16"),
        Contender("the same, pooled with p = 3", call(there, groups=groups, pool_radius=3), 1),
        Contender("the same, mirror images too", call(there, mirrored=mirrored), 3),
        Contender("both ends, NumPy to NumPy", call(X), 1),
        Contender(
            f"{len(LEVELS)} quantiles",
            lambda: cs.similarity_quantiles(there, LEVELS, device="cuda"),
            2,
        ),
    ]


def float16_info(X: Any, k: int) -> dict[str, Any]:
    found = cs.neighbors(X, k=k, n_bottom=k, precision="float16", device="cuda")
    return found.info


def difference_from_cpu(X: Any, k: int, precision: str) -> float:
    """The largest one, as a share of the longest row's squared length."""
    k = min(k, len(X) - 1)
    found = cs.neighbors(X, k=k, n_bottom=k, precision=precision, device="cuda")
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
        for dtype in DTYPES
    }


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['machine']['gpu']}, {report['n']} x {report['dim']}, k = {report['k']}")
    rows = [
        [
            row["name"],
            *(f"{row['seconds'][key]:.3f}" for key in ("median", "min", "max")),
            *(f"{row['floor_seconds'][key]:.3f}" for key in DTYPES),
            f"{row['floor_ratio']:.2f}",
        ]
        for row in report["results"]
    ]
    header = ["", "s", "min", "max", "floor s", "in TF32", "in float16", "this / floor"]
    print(table(header, rows, 1))
    for way, worst in report["worst_difference_from_cpu"].items():
        print(f"{way}: differs by at most {worst:.1e} of the longest row's squared length from CPU")
    info = report["float16_info"]
    print(
        f"float16: {info['recomputed']} products decided in float32, {info.get('float32_rows')} "
        f"rows searched again, error bound {info['error_bound']:.1e}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
