"""Claim: HOG of 113,516 frames of 128 x 128 RGB in under 0.2 s on an H200-class GPU.

    python bench/hog_cuda.py --output hog_cuda.json

Once from frames in the GPU's memory to features there, once from NumPy to NumPy. The floor of the
first is the larger of two times: frames read and features written at the speed of torch's copies in
this run, and the operations of the definition (see hog.py) at that of its float32 products.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cliquesim as cs
from _measure import at_least, machine_facts, table, versions
from cliquesim._device import cuda_status
from hog import TOLERANCE, Case, costs, make_frames

DISTINCT = 512  # frames, repeated


def main() -> int:
    options = parse()
    available, reason = cuda_status()
    if not available:
        print(f"no GPU to measure on: {reason}", file=sys.stderr)
        return 1
    case = Case(*options.size, options.channels)
    distinct = make_frames(case, min(options.frames, DISTINCT), options.seed)
    order = np.arange(options.frames) % len(distinct)
    frames = torch.from_numpy(distinct).cuda()[torch.from_numpy(order).cuda()]
    found = cs.hog(frames[: len(distinct)], device="cuda").cpu().numpy()
    worst = float(np.abs(found - cs.hog(distinct)).max())
    on_device = seconds(lambda: cs.hog(frames, device="cuda"), options.repeats)
    on_host = frames.cpu().numpy()
    with_transfer = seconds(lambda: cs.hog(on_host, device="cuda"), options.repeats)
    least = floor(case, options.frames)
    report = {
        "command": "python " + " ".join(sys.argv),
        "machine": machine_facts() | {"gpu": torch.cuda.get_device_name()},
        "versions": versions(("numpy", "torch")) | {"cliquesim": cs.__version__},
        "case": case.label,
        "frames": options.frames,
        "worst_difference_from_cpu": worst,
        "floor": least,
        "seconds": on_device,
        "floor_ratio": on_device["median"] / least["seconds"],
        "seconds_with_transfer": with_transfer,
    }
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(worst > TOLERANCE)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--frames", type=at_least(1), default=113_516)
    add("--size", type=at_least(20), nargs=2, default=[128, 128], metavar=("HEIGHT", "WIDTH"))
    add("--channels", type=int, choices=(1, 3), default=3)
    add("--repeats", type=at_least(1), default=7)
    add("--seed", type=at_least(0), default=0)
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if options.output and not options.output.parent.is_dir():
        parser.error(f"{options.output}: there is no folder {options.output.parent}")
    return options


def seconds(body: Callable[[], Any], repeats: int) -> dict[str, float]:
    """After one call that is not counted."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        body()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    counted = times[1:]
    return {"median": float(np.median(counted)), "min": min(counted), "max": max(counted)}


def floor(case: Case, n: int) -> dict[str, float]:
    bytes_, operations = costs(case)
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    bandwidth = 8 * len(source) / seconds(lambda: target.copy_(source), 5)["min"]
    a = torch.rand((8192, 8192), device="cuda")
    flops = 2 * 8192**3 / seconds(lambda: torch.matmul(a, a), 5)["min"]
    return {
        "bytes": n * bytes_,
        "operations": n * operations,
        "bytes_per_second": bandwidth,
        "float32_flops": flops,
        "seconds": n * max(bytes_ / bandwidth, operations / flops),
    }


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['machine']['gpu']}, {report['frames']} frames of {report['case']}")
    rows = [
        [name, *(f"{1e3 * took[key]:.2f}" for key in ("median", "min", "max"))]
        for name, took in (
            ("GPU to GPU", report["seconds"]),
            ("NumPy to NumPy", report["seconds_with_transfer"]),
        )
    ]
    print(table(["from and to", "ms", "min", "max"], rows, 1))
    print(
        f"floor {1e3 * report['floor']['seconds']:.2f} ms, this / floor "
        f"{report['floor_ratio']:.1f}; largest difference from the CPU "
        f"{report['worst_difference_from_cpu']:.1e}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
