"""Claim: complete linkage on one GPU, several times faster than cuhc, 100,000 vectors in seconds.

    python bench/linkage_cuda.py --n 20000 50000 --dataset clustered gaussian --output cuda.json

From float32 vectors in host memory to the dendrogram there; cuhc (from PyPI) takes turns with ours
if it is installed. Beside the whole call stand its two parts, the square of distances and its
linkage (which reads and mirrors it first), and the floor: one multiply-add per pair and dimension,
and one writing and reading of the square, at the speeds of torch's products and copies in this run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cliquesim as cs
from _linkage_calls import DATASETS, TIED, points
from _measure import at_least, exponent, table
from _measure_cuda import cuda_provenance, once, require_gpu, speeds
from cliquesim._linkage_cuda import fill_from_vectors


def median(body: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    answers = [once(body) for _ in range(repeats)]
    return answers[-1][0], float(np.median([took for _, took in answers]))


def parts(vectors: torch.Tensor) -> tuple[float, float]:
    """Seconds that the distances take, and their linkage."""
    square = torch.empty((len(vectors), len(vectors)), device=vectors.device)
    _, made = once(lambda: fill_from_vectors(square, vectors, "euclidean"))
    options: dict[str, Any] = {"metric": "precomputed", "overwrite": True, "device": "cuda"}
    return made, once(lambda: cs.linkage(square, **options))[1]


def run_case(
    X: NDArray[np.float32], dataset: str, repeats: int, speed: dict[str, float]
) -> dict[str, Any]:
    n, dimensions = X.shape
    Z, whole = median(lambda: cs.linkage(X, device="cuda"), repeats)
    vectors = torch.from_numpy(X).cuda()
    made, linked = np.median([parts(vectors) for _ in range(repeats)], axis=0)
    torch.cuda.empty_cache()
    row = {
        "dataset": dataset,
        "n": n,
        "dim": dimensions,
        "seconds": whole,
        "distances_seconds": float(made),
        "linkage_seconds": float(linked),
        "floor_seconds": n * n * dimensions / speed["float32_flops"]
        + 8 * n * n / speed["copy_bytes"],
    }
    if find_spec("cuhc"):
        import cuhc

        theirs, took = median(lambda: cuhc.linkage(X, "complete"), repeats)
        row |= {"cuhc_seconds": took, "cuhc_ratio": took / whole}
        gap = np.abs(np.sort(np.asarray(theirs)[:, 2]) - Z[:, 2]).max() / Z[-1, 2]
        row["largest_gap_to_cuhc"] = None if dataset in TIED else float(gap)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--n", type=at_least(2), nargs="+", default=[20_000, 50_000])
    parser.add_argument("--dim", type=at_least(1), default=64)
    parser.add_argument("--dataset", choices=DATASETS, nargs="+", default=["clustered"])
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if not require_gpu():
        return 1
    speed = speeds()
    cs.linkage(np.random.default_rng(0).random((3000, 8), np.float32), device="cuda")
    rows: list[dict[str, Any]] = []
    for dataset in options.dataset:
        for n in options.n:
            width = {"lowdim": 2, "gaps": 1}.get(dataset, options.dim)
            X = points(dataset, n, width, options.seed).astype(np.float32)
            rows.append(run_case(X, dataset, options.repeats, speed))
            print(f"{dataset}, n = {n}: {rows[-1]['seconds']:.3f} s", file=sys.stderr, flush=True)
    report = {
        **cuda_provenance(("cuhc",)),
        "speeds": speed,
        "results": rows,
        "exponents": {
            dataset: exponent(
                [row["n"] for row in rows if row["dataset"] == dataset],
                [row["seconds"] for row in rows if row["dataset"] == dataset],
            )
            for dataset in options.dataset
        },
    }
    names = list(rows[0])
    lines = [[_cell(row[name]) for name in names] for row in rows]
    print(table(names, lines, 1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
