"""Claim: HOG, whitening and neighbours of the paper's whole benchmark, 113,516 frames with 1,984
numbers each, run on a small machine: a few minutes, below 8 GiB.

    python bench/stages.py --n 113516 --threads 2 --output stages.json

Frames of 80 x 80 px (8 x 8 cells of HOG) are drawn sequence by sequence, as textures that move, and
are not kept; the time to draw them is told apart. Prints the time of every stage and the peak
memory of the process during it, with all that the stage is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cliquesim as cs
from _measure import at_least, measured, provenance, table
from cliquesim import _core

SIDE = 80
SEQUENCE = 100
GIB = 2**30


def draw_frames(n: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Sequences (frames, SIDE, SIDE, 3), n frames in all."""
    rng = np.random.default_rng(seed)
    for begin in range(0, n, SEQUENCE):
        coarse = rng.random((17, 17, 3), dtype=np.float32)
        fine = np.kron(coarse, np.ones((8, 8, 1), np.float32))
        for axis in (0, 1):
            fine = sum(np.roll(fine, shift, axis) for shift in range(-3, 4)) / 7
        places = 20 + 15 * np.sin(np.arange(SEQUENCE)[:, None] / rng.uniform(5, 20, 2))
        frames = [fine[y : y + SIDE, x : x + SIDE] for y, x in places.astype(int)]
        noise = rng.integers(0, 12, (SEQUENCE, SIDE, SIDE, 1), dtype=np.uint8)
        yield ((240 * np.stack(frames)).astype(np.uint8) + noise)[: n - begin]


def describe(n: int, threads: int, seed: int) -> tuple[NDArray[np.float32], float]:
    """HOG of all frames, and the seconds that drawing them took."""
    X, drawing, done = None, 0.0, 0
    frames = draw_frames(n, seed)
    while done < n:
        begin = time.perf_counter()
        part = next(frames)
        drawing += time.perf_counter() - begin
        features = cs.hog(part, num_threads=threads).reshape(len(part), -1)
        if X is None:
            X = np.empty((n, features.shape[1]), np.float32)
        X[done : done + len(part)] = features
        done += len(part)
    assert X is not None
    return X, drawing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(2), default=113_516)
    add("--k", type=at_least(1), default=50, help="neighbours at each end (default: 50)")
    add("--threads", type=at_least(1), default=_core.available_processors())
    add("--pool-radius", type=at_least(0), default=0)
    add("--seed", type=at_least(0), default=0)
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    stages: dict[str, dict[str, Any]] = {}

    def note(stage: str, measures: dict[str, Any], **more: Any) -> None:
        stages[stage] = measures | more
        seconds, peak = measures["seconds"], measures["peak_bytes"] / GIB
        print(f"{stage}: {seconds:.1f} s, peak {peak:.2f} GiB", file=sys.stderr, flush=True)

    (X, drawing), measures = measured(lambda: describe(options.n, options.threads, options.seed))
    note("drawing", {**measures, "seconds": drawing})
    note("hog", {**measures, "seconds": measures["seconds"] - drawing}, shape=X.shape)
    whitening = cs.Whitening(num_threads=options.threads)
    note("whitening, fit", measured(lambda: whitening.fit(X))[1])
    X, measures = measured(lambda: whitening.transform(X))
    note("whitening, transform", measures)
    found, measures = measured(
        lambda: cs.neighbors(
            X,
            k=options.k,
            n_bottom=options.k,
            groups=np.arange(options.n) // SEQUENCE,
            pool_radius=options.pool_radius,
            num_threads=options.threads,
        )
    )
    note("neighbours", measures, info=found.info)
    timed = [stage for name, stage in stages.items() if name != "drawing"]
    report = {
        **provenance(("numpy",)),
        "n": options.n,
        "k": options.k,
        "threads": options.threads,
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in timed),
        "peak_bytes": max(stage["peak_bytes"] for stage in timed),
    }
    rows = [
        [name, f"{stage['seconds']:.1f}", f"{stage['peak_bytes'] / GIB:.2f}"]
        for name, stage in stages.items()
    ]
    rows.append(["all", f"{report['seconds']:.1f}", f"{report['peak_bytes'] / GIB:.2f}"])
    print(table(["stage", "seconds", "peak GiB"], rows, 1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
