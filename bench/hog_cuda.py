"""Claim: HOG of 113,516 frames of 128 x 128 RGB in under 0.2 s on an H200-class GPU.

    python bench/hog_cuda.py --output hog_cuda.json

Once from frames in the GPU's memory to features there, once from NumPy to NumPy. The floor of the
first is the larger of two times: frames read and features written at the speed of torch's copies in
this run, and the operations of the definition (see hog.py) at that of its float32 products.
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
from hog import TOLERANCE, Case, costs, make_frames

DISTINCT = 512  # frames, repeated


def main() -> int:
    options = parse()
    if not require_gpu():
        return 1
    case = Case(*options.size, options.channels)
    distinct = make_frames(case, min(options.frames, DISTINCT), options.seed)
    order = np.arange(options.frames) % len(distinct)
    frames = torch.from_numpy(distinct).cuda()[torch.from_numpy(order).cuda()]
    found = cs.hog(frames[: len(distinct)], device="cuda").cpu().numpy()
    worst = float(np.abs(found - cs.hog(distinct)).max())
    on_device = repeated(lambda: cs.hog(frames, device="cuda"), options.repeats)
    on_host = frames.cpu().numpy()
    with_transfer = repeated(lambda: cs.hog(on_host, device="cuda"), options.repeats)
    least = floor(case, options.frames)
    report = {
        **cuda_provenance(),
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


def floor(case: Case, n: int) -> dict[str, float]:
    bytes_, operations = costs(case)
    speed = speeds()
    seconds = max(bytes_ / speed["copy_bytes"], operations / speed["float32_flops"])
    return {"bytes": n * bytes_, "operations": n * operations, **speed, "seconds": n * seconds}


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
