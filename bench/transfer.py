"""Transfer (Sect. 3.2's question): learned on some motions, measured on motions never seen.

    python bench/transfer.py --labels ../shared/athletes --folds 2 --seeds 0

The categories are dealt into folds in alphabetical order. Each fold is left out once: `cliquesim
fit` sees the frames of the others alone, `cliquesim evaluate --frames` measures on the fold, with
everything (whitening, network, weights of the fusion) from the fit. Prints the mean AUC over all
categories, each measured when it was left out, and JSON to --output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _measure import provenance, table

_METHODS = ("hog_lda", "learned", "fused")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, default=Path("../shared/athletes"))
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    if not (options.labels / "frames").is_dir():
        print(f"skipped: there is no corpus in {options.labels}")
        return 0
    categories = sorted(one.name for one in (options.labels / "frames").iterdir() if one.is_dir())
    folds = [categories[fold :: options.folds] for fold in range(options.folds)]
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            for number, fold in enumerate(folds):
                place = Path(temporary) / f"{seed}-{number}"
                runs.append(measure(options, place, fold, categories, seed))
    mean = {
        method: float(
            np.mean([auc[method] for run in runs for auc in run["per_category"].values()])
        )
        for method in runs[0]["mean_auc"]
    }
    rows = [
        [method, *(f"{mean[one]:.3f}" for one in (method, f"{method}_pooled") if one in mean)]
        for method in _METHODS
    ]
    print(table(("similarity", "AUC", "pooled"), rows, left=1))
    report = {
        **provenance(("torch", "numpy", "scipy")),
        "mean_auc": mean,
        "runs": runs,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(
    options: argparse.Namespace,
    place: Path,
    fold: Sequence[str],
    categories: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Fit on the other categories, evaluate on the fold."""
    seen = select(options.labels, place / "seen", [one for one in categories if one not in fold])
    unseen = select(options.labels, place / "unseen", fold)
    cli = [sys.executable, "-m", "cliquesim"]
    changes = [word for one in [*options.set, f"seed={seed}"] for word in ("--set", one)]
    start = time.monotonic()
    fit = [*cli, "fit", str(seen / "frames"), "--out", str(place / "run"), *changes]
    subprocess.run(fit, check=True, stdout=sys.stderr)
    seconds = time.monotonic() - start
    evaluate = [*cli, "evaluate", str(place / "run"), "--labels", str(unseen)]
    evaluate += ["--frames", str(unseen / "frames"), "--json"]
    found = json.loads(subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "seed": seed,
        "left_out": list(fold),
        "fit_seconds": round(seconds, 1),
        "mean_auc": found["mean_auc"],
        "per_category": found["per_category"],
    }


def select(labels: Path, target: Path, categories: Sequence[str]) -> Path:
    """The corpus of some categories, by links to the files of all."""
    for folder, name in (
        ("frames", "{}"),
        ("bboxes", "{}"),
        ("labels_hdf5", "labels_{}.hdf5"),
        ("image_paths", "imagePaths_{}.txt"),
    ):
        (target / folder).mkdir(parents=True)
        for category in categories:
            source = (labels / folder / name.format(category)).resolve()
            if source.exists():
                (target / folder / source.name).symlink_to(source)
    return target


if __name__ == "__main__":
    raise SystemExit(main())
