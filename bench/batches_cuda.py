"""Claim: batches of Eq. (1) selected on one GPU at least 3 times as fast as on 16 cores.

    python bench/batches_cuda.py --sizes 100x100x2000 --threads 16 --output batches_cuda.json

Per size (B x K x N) `select_batches` and one `solve_relaxed` on the CPU and on the GPU, which take
turns; medians. "device" is what the GPU's own work takes in the convex problem, from its events in
torch's profiler, and "kernels" how many it is: the rest of the time the GPU waits. "single" are the
same where all kernels are launched one by one, "graphs" how many CUDA graphs a call makes.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import cliquesim as cs
from _batch_solver_calls import PATTERNS, Instance, make
from _measure import at_least, processors, table
from _measure_cuda import cuda_provenance, once, require_gpu
from cliquesim.batches import _graph_cuda

LAMBDAS = (0.1, 1.0, 0.5)


def compare(call: Callable[[str], Any], repeats: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The last results and the median seconds on both devices, after one call of each."""
    results = {device: call(device) for device in ("cpu", "cuda")}
    took: dict[str, list[float]] = {device: [] for device in results}
    for _ in range(repeats):
        for device, each in took.items():
            results[device], one = once(lambda device=device: call(device))
            each.append(one)
    return results, {device: float(np.median(each)) for device, each in took.items()}


def on_device(call: Callable[[], Any]) -> tuple[float, int]:
    """Seconds of the GPU's kernels in one call, and their number."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.events() if event.device_type.name == "CUDA"]
    return sum(event.time_range.elapsed_us() for event in kernels) / 1e6, len(kernels)


def without_graphs(call: Callable[[], Any]) -> Any:
    _graph_cuda.graphs.wanted, wanted = False, _graph_cuda.graphs.wanted
    try:
        return call()
    finally:
        _graph_cuda.graphs.wanted = wanted


def graphs_made(call: Callable[[], Any]) -> int:
    before = _graph_cuda.graphs.made
    call()
    return _graph_cuda.graphs.made - before


def run_size(instance: Instance, threads: int, repeats: int) -> list[dict[str, Any]]:
    C, S = make(instance)
    rng = np.random.default_rng(instance.seed + 1)
    X = 1 + 0.1 * rng.uniform(-1, 1, (instance.batches, instance.cliques))
    X *= instance.per_batch / X.sum(axis=1, keepdims=True)

    def relaxed(device: str) -> Any:
        return cs.solve_relaxed(
            X, C, S, instance.per_batch, *LAMBDAS, smoothing=0.1, num_threads=threads, device=device
        )

    def select(device: str) -> Any:
        return cs.select_batches(
            C, S, instance.batches, instance.per_batch, num_threads=threads, device=device
        )

    size = f"{instance.batches}x{instance.cliques}x{instance.samples}"
    rows = []
    for name, call in (("relaxed", relaxed), ("select", select)):
        found, took = compare(call, repeats)
        row = {
            "size": size,
            "call": name,
            "cpu": took["cpu"],
            "cuda": took["cuda"],
            "cpu / cuda": took["cpu"] / took["cuda"],
            "objective, cpu": float(found["cpu"].objective),
            "objective, cuda": float(found["cuda"].objective),
            "status": found["cuda"].status,
            "graphs": graphs_made(lambda call=call: call("cuda")),
        }
        if name == "relaxed":
            row["largest gap of X"] = float(np.abs(found["cuda"].X - found["cpu"].X).max())
            row["iterations"] = found["cuda"].info["iterations"]
            row["device"], row["kernels"] = on_device(lambda: relaxed("cuda"))
            single = [without_graphs(lambda: once(lambda: relaxed("cuda")))[1] for _ in range(3)]
            row["single"] = float(np.median(single))
            row["device, single"], row["kernels, single"] = without_graphs(
                lambda: on_device(lambda: relaxed("cuda"))
            )
        else:
            row["times"] = {device: one.info["times"] for device, one in found.items()}
        rows.append(row)
        print(f"{size} {name}: {took}", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["100x100x2000"], metavar="BxKxN")
    parser.add_argument("--pattern", choices=PATTERNS, default="windows")
    parser.add_argument("--threads", type=at_least(1), default=min(16, processors()))
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if not require_gpu():
        return 1
    warnings.simplefilter("ignore", cs.batches.BatchWarning)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        B, K, N = map(int, size.split("x"))
        one = Instance(B, K, N, min(20, max(1, K // 5)), min(256, K), options.pattern, 0)
        rows += run_size(one, options.threads, options.repeats)
    report = {
        **cuda_provenance(),
        "threads": options.threads,
        "results": rows,
    }
    names = ["size", "call", "cpu", "cuda", "cpu / cuda", "graphs"]
    names += ["objective, cpu", "objective, cuda"]
    print(table(names, [[cell(row[name]) for name in names] for row in rows], 2))
    if not _graph_cuda.graphs.wanted:
        print("no CUDA graph could be made: every kernel was launched by itself")
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
