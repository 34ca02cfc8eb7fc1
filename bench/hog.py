"""Claim: exact UoCTTI HOG at least 6 times as fast as dlib's C++ and 7 times as fast as OpenCV's
HOGDescriptor on one core, and 1.8 times as fast again on two.

    python bench/hog.py --output hog.json

Peers take turns, each with one thread; see _hog_peers.py. The floor is the larger of reading the
frames and writing the features at the measured bandwidth, and the operations of the definition at
the speed of a float32 matrix product. The last part describes a file of frames into another file
and says how much memory that took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import cliquesim as cs
from _hog_peers import CELL, PEERS, SHARES, Frames, MissingError, Peer, timed
from _measure import (
    Request,
    at_least,
    measured,
    provenance,
    speeds,
    table,
    take_turns,
)
from cliquesim import _core

OPERATIONS_PER_CHANNEL = 5  # two differences, two squares, their sum
OPERATIONS_PER_PIXEL = 8 + 1 + 8  # four products and comparisons, a root, four multiply-adds
OPERATIONS_PER_CELL = 4 * (27 * 3 + 18) + 27  # four times product, minimum, sum; 31 scalings
TOLERANCE = 1e-6


class Case(NamedTuple):
    height: int
    width: int
    channels: int

    @property
    def label(self) -> str:
        return f"{self.height} x {self.width} {'RGB' if self.channels == 3 else 'grey'}"


def main() -> int:
    options = parse()
    report: dict[str, Any] = {
        **provenance(("numpy", "scikit-image")),
        "floor": speeds({1, *options.threads}, quick=options.quick),
        "missing": {},
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peers = find_peers(options.peers, folder, report)
        for case in options.cases:
            frames = make_frames(case, options.frames, options.seed)
            report["cases"].append(run_case(case, frames, peers, options, report["floor"]))
        report["streaming"] = stream(options.stream, folder, options.seed)
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(row["agrees"] is False for c in report["cases"] for row in c["results"]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--size", nargs="+", metavar="HxW", help="default: 128x128 64x64 80x80 130x97")
    add("--channels", type=int, choices=(1, 3), nargs="+", default=[3, 1])
    add("--frames", type=at_least(4), help="frames per call (default: 512)")
    add("--threads", type=at_least(1), nargs="+", default=[1, 2], help="of cliquesim")
    add("--levels", choices=_core.runnable_levels(), nargs="+", help="default: the best")
    add("--peers", choices=PEERS, nargs="*", default=list(PEERS))
    add("--repeats", type=at_least(1), help="default: 9")
    add("--stream", type=at_least(1), help="frames of the file (default: 20000)")
    add("--seed", type=at_least(0), default=0)
    add("--quick", action="store_true", help="tiny and few")
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    options.frames = options.frames or (8 if options.quick else 512)
    options.repeats = options.repeats or (2 if options.quick else 9)
    options.stream = options.stream or (8 if options.quick else 20_000)
    options.levels = options.levels or [_core.simd_level]
    sizes = options.size or (
        ["40x48"] if options.quick else ["128x128", "64x64", "80x80", "130x97"]
    )
    try:
        sides = [tuple(map(int, size.split("x"))) for size in sizes]
        options.cases = [Case(h, w, c) for h, w in sides for c in options.channels]
    except ValueError:
        parser.error("--size wants HEIGHTxWIDTH")
    if any(min(case[:2]) < 5 * CELL // 2 for case in options.cases):
        parser.error("frames of three cells or more")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"{options.output}: there is no folder {options.output.parent}")
    return options


def find_peers(names: list[str], folder: Path, report: dict[str, Any]) -> dict[str, Peer]:
    found = {}
    for name in names:
        try:
            found[name] = PEERS[name](folder)
        except MissingError as error:
            report["missing"][name] = str(error)
    if "opencv" in found:
        import cv2

        report["versions"]["opencv"] = cv2.__version__
    return found


def make_frames(case: Case, n: int, seed: int) -> Frames:
    """Waves of several directions with some noise: every orientation, flat regions and edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: case.height, : case.width].astype(np.float32)
    shape = (n, case.height, case.width, case.channels)
    frames = np.empty(shape, np.uint8)
    for frame in frames:
        fy, fx = rng.normal(0, 0.15, (2, case.channels)).astype(np.float32)
        waves = np.sin(y[..., None] * fy + x[..., None] * fx)
        noise = rng.normal(0, 8, waves.shape)
        frame[...] = np.clip(127 + 90 * waves + noise, 0, 255)
    return frames if case.channels == 3 else frames[..., 0]


def run_case(
    case: Case,
    frames: Frames,
    peers: dict[str, Peer],
    options: argparse.Namespace,
    floor: dict[str, Any],
) -> dict[str, Any]:
    expected = cs.hog(frames)
    out = np.empty_like(expected)

    def call(one: tuple[str, int]) -> Request:
        name, threads = one
        if name in peers:
            part = frames[: max(2, int(SHARES.get(name, 1.0) * len(frames)))]
            seconds, features = peers[name](part)
            return {"seconds": seconds / len(part), "agrees": agrees(features, expected, case)}
        level = _core.load_level(name)
        batch = frames.reshape(*frames.shape[:3], -1)
        seconds = timed(lambda: level.hog(batch, out, CELL, threads, None))
        worst = float(np.abs(out - expected).max())
        return {"seconds": seconds / len(frames), "agrees": worst <= TOLERANCE}

    ours = [(level, threads) for level in options.levels for threads in options.threads]
    runs: dict[tuple[str, int], list[Request]] = {one: [] for one in ours}
    runs |= {(name, 1): [] for name in peers}
    for one in runs:
        call(one)  # first touch
    take_turns(runs, options.repeats, call)
    bytes_, operations = costs(case)
    rows = []
    for (name, threads), answers in runs.items():
        seconds = [answer["seconds"] for answer in answers]
        least = max(
            bytes_ / floor["bytes_per_second"][str(threads)],
            operations / floor["flops"]["float32"][str(threads)],
        )
        median = statistics.median(seconds)
        rows.append(
            {
                "label": name if name in peers else f"cliquesim {name} x{threads}",
                "peer": name in peers,
                "threads": threads,
                "seconds_per_frame": median,
                "seconds_min": min(seconds),
                "seconds_max": max(seconds),
                "frames_per_second": 1 / median,
                "floor_seconds": least,
                "floor_ratio": median / least,
                "agrees": answers[0]["agrees"],
            }
        )
    for row in rows:
        others = [other for other in rows if other["peer"]]
        row["times_as_fast_as"] = {
            other["label"]: other["seconds_per_frame"] / row["seconds_per_frame"]
            for other in others
            if not row["peer"]
        }
    return {
        "case": case.label,
        "frames": len(frames),
        "bytes_per_frame": bytes_,
        "operations_per_frame": operations,
        "results": rows,
    }


def costs(case: Case) -> tuple[int, int]:
    """Bytes of a frame and its features, and operations of the definition."""
    pixels = case.height * case.width
    rows, cols = (int(side / CELL + 0.5) for side in case[:2])
    features = (rows - 2) * (cols - 2)
    operations = pixels * (OPERATIONS_PER_CHANNEL * case.channels + OPERATIONS_PER_PIXEL)
    operations += features * OPERATIONS_PER_CELL
    return pixels * case.channels + features * 31 * 4, operations


def agrees(
    features: NDArray[np.float32] | None, expected: NDArray[np.float32], case: Case
) -> bool | None:
    """Whether a peer gives the same, where its rules are: see design notes in tests/python.

    dlib takes another channel where gradients tie, so only grey frames are compared; VLFeat treats
    the border and the texture channels in its own way. Both differ in sizes that are no multiple of
    the cell size.
    """
    if features is None or case.height % CELL or case.width % CELL:
        return None
    mine = expected[: len(features)]
    if features.ndim == 4:
        inner = (slice(None), slice(1, -1), slice(1, -1), slice(27))
        difference = mine[inner] - features[:, 1:-1, 1:-1][inner]
    elif case.channels == 1:
        difference = mine.reshape(features.shape) - features
    else:
        return None
    return bool(np.abs(difference).max(initial=0) <= TOLERANCE)


def stream(n: int, folder: Path, seed: int) -> dict[str, Any]:
    """HOG of a memory-mapped file into another: the process must not grow with the file."""
    case = Case(128, 128, 3)
    block = make_frames(case, min(n, 64), seed)
    path = folder / "stream.npy"
    shape = (n, *block.shape[1:])
    frames = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, n, len(block)):
        frames[start : start + len(block)] = block[: n - start]
    frames.flush()
    del frames
    mapped = np.load(path, mmap_mode="r")
    out = np.lib.format.open_memmap(
        folder / "features.npy", mode="w+", dtype=np.float32, shape=(n, 14, 14, 31)
    )
    _, measures = measured(lambda: cs.hog(mapped, out=out))
    return {
        "frames": n,
        "input_bytes": int(mapped.nbytes),
        "output_bytes": int(out.nbytes),
        "seconds": measures["seconds"],
        "frames_per_second": n / measures["seconds"],
        "peak_bytes_beside": measures["peak_bytes"] - measures["before_bytes"],
    }


def print_report(report: dict[str, Any]) -> None:
    facts, floor = report["machine"], report["floor"]
    print(f"{facts['cpu']}, {facts['processors']} processors, SIMD level {report['simd']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for t, speed in floor["bytes_per_second"].items():
        flops = floor["flops"]["float32"][t] / 1e9
        print(f"speeds, threads {t}: reads {speed / 1e9:.1f} GB/s, float32 {flops:.0f} Gflop/s")
    for name, why in report["missing"].items():
        print(f"without {name}: {why}")
    for case in report["cases"]:
        print(
            f"\n{case['case']}, {case['frames']} frames a call: {case['bytes_per_frame']} bytes, "
        )
        print(f"{case['operations_per_frame']} operations a frame")
        names = [row["label"] for row in case["results"] if row["peer"]]
        header = ["who", "frames/s", "us/frame", "min", "max", "floor us", "this / floor", "agrees"]
        rows = [_cells(row, names) for row in case["results"]]
        print(table([*header, *(f"over {name}" for name in names)], rows, 1))
    s = report["streaming"]
    print(
        f"\nfile of {s['frames']} frames ({s['input_bytes'] / 2**20:.0f} MiB) into a file of "
        f"features ({s['output_bytes'] / 2**20:.0f} MiB): {s['seconds']:.2f} s, "
        f"{s['frames_per_second']:.0f} frames/s, peak {s['peak_bytes_beside'] / 2**20:.0f} MiB"
    )


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    times = [row[key] for key in ("seconds_per_frame", "seconds_min", "seconds_max")]
    agreed = {True: "yes", False: "NO", None: "-"}[row["agrees"]]
    return [
        row["label"],
        f"{row['frames_per_second']:.0f}",
        *(f"{1e6 * t:#.3g}" for t in times),
        f"{1e6 * row['floor_seconds']:#.3g}",
        f"{row['floor_ratio']:.1f}",
        agreed,
        *(f"{row['times_as_fast_as'].get(name, float('nan')):.2f}" for name in names),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
