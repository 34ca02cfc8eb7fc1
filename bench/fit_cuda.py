"""Claim: a whole fit of the paper's size, 113,516 frames, takes under 20 minutes on one GPU.

    python bench/fit_cuda.py --output fit_cuda.json
    python bench/fit_cuda.py --frames 7095 --categories 1 --output fit_cuda_category.json
    python bench/fit_cuda.py --device cpu --frames 2000 --set training.steps=200

Frames of stick figures that swing their limbs, 100 a sequence, in 16 categories, are drawn first,
which does not count. Then the default preset runs, three rounds, as it is; the second command fits
one category of that size. Prints the seconds and the peak memory of every stage, and JSON to
--output; --run keeps the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import cliquesim as cs
from _measure import at_least, provenance, stage_costs, table
from _measure_cuda import cuda_provenance, require_gpu
from _stick_figures import draw_sequences
from cliquesim import pipeline
from cliquesim.config import make_config, parse_setting

SEQUENCE = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=at_least(300), default=113_516)
    parser.add_argument("--categories", type=at_least(1), default=16, help="default: 16")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--threads", type=at_least(1))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="keep the run here")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if options.device == "cuda" and not require_gpu():
        return 1
    config = make_config(changes={"agreement": 1.0, **dict(map(parse_setting, options.set))})
    warnings.simplefilter("ignore", cs.BatchWarning)
    warnings.simplefilter("ignore", cs.CliqueWarning)
    with tempfile.TemporaryDirectory() as folder:
        corpus = draw(options.frames, options.categories, config.frame_size, options.seed)
        begin = time.perf_counter()
        found = pipeline.fit(
            corpus,
            options.run or Path(folder) / "run",
            config,
            device=options.device,
            num_threads=options.threads,
        )
        seconds = time.perf_counter() - begin
        stages = stage_costs(found.folder)
    head = cuda_provenance if options.device == "cuda" else provenance
    summary = {name: value for name, value in found.summary.items() if name != "run"}
    report = {
        **head(("numpy", "torch", "scipy")),
        "device": options.device,
        "frames": options.frames,
        "categories": options.categories,
        "seconds": seconds,
        "stages": stages,
        "summary": summary,
    }
    print(show(report))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def draw(n: int, categories: int, side: int, seed: int) -> cs.Corpus:
    """A corpus of n frames."""
    sequence = np.arange(n) // SEQUENCE
    sequences = int(sequence[-1]) + 1
    category = np.arange(sequences) * min(categories, max(1, sequences // 3)) // sequences
    frames = np.empty((n, side, side, 3), np.uint8)
    draw_sequences(frames, SEQUENCE, category.tolist(), seed)
    return cs.Corpus.from_arrays(frames, sequence=sequence, category=category[sequence])


def show(report: dict[str, Any]) -> str:
    lines = [
        [name, f"{one['seconds']:.1f}", f"{one['peak_memory_mib']:.0f}"]
        for name, one in report["stages"].items()
    ]
    total = f"{report['frames']} frames, {report['device']}: {report['seconds']:.0f} s"
    return table(("stage", "s", "MiB"), lines, left=1) + "\n" + total


if __name__ == "__main__":
    raise SystemExit(main())
