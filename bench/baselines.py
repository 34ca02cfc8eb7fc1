"""Table 1's counterpart: the learned similarity beside its baselines and ablations, over seeds.

    python bench/baselines.py --seeds 0 1 2 --output bench/results/baselines_athletes.json
    python bench/baselines.py --names hog,hog_lda_stationary,nn_cnn --set training.steps=400

Per seed `cliquesim fit` and `cliquesim evaluate --baselines` run as a user would run them, in
processes of their own; with --run they are kept, and the same command goes on where it stopped.
Every network has the fit's settings and as many steps as its rounds have together. AUCs are means
over the seeds; the gap is the learned similarity's AUC minus the other's, a mean over seeds per
anchor and then over anchors, with a paired 95 % bootstrap interval over the anchors. Prints a
table, and JSON to --output.
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

from _measure import add_manifest, fit_source, provenance, table
from cliquesim.baselines import load_scores
from cliquesim.baselines.run import REFERENCE, difference

HEADER = ("similarity", "AUC", "of seeds", "gap", "interval", "pooled", "gap", "interval", "s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, help="default: the folder frames of the labels'")
    add_manifest(parser)
    parser.add_argument("--labels", type=Path, default=Path("../shared/athletes"))
    parser.add_argument("--names", default="all", help="of baselines and groups, with commas")
    parser.add_argument("--imagenet", type=Path, help="weights of AlexNet, safetensors")
    parser.add_argument("--run", type=Path, help="keep the runs here, RUN-SEED")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    options.frames = options.frames or options.labels / "frames"
    for given in (options.manifest or options.frames, options.labels):
        if not given.exists():
            print(f"skipped: there is no corpus in {given}")
            return 0

    with tempfile.TemporaryDirectory() as temporary:
        place = options.run or Path(temporary) / "run"
        runs = [place.with_name(f"{place.name}-{seed}") for seed in options.seeds]
        done = [measure(options, run, seed) for run, seed in zip(runs, options.seeds, strict=True)]
        rows = combine(runs, [one.pop("baselines") for one in done])
    print(show(rows))
    report = {
        **provenance(("torch", "numpy", "scipy", "scikit-learn")),
        "reference": REFERENCE,
        "rows": rows,
        "runs": done,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(options: argparse.Namespace, run: Path, seed: int) -> dict[str, Any]:
    """Fit and evaluate one seed."""
    cli = [sys.executable, "-m", "cliquesim"]
    threads = [] if options.threads is None else ["--threads", options.threads]
    changes = [word for one in [*options.set, f"seed={seed}"] for word in ("--set", one)]
    fit = [*cli, "fit", *fit_source(options), "--out", run, "--preset", options.preset]
    start = time.monotonic()
    subprocess.run([*map(str, [*fit, *changes, *threads])], check=True, stdout=sys.stderr)
    middle = time.monotonic()
    evaluate = [*cli, "evaluate", run, "--labels", options.labels, "--json"]
    evaluate += ["--baselines", options.names, *threads]
    if options.imagenet:
        evaluate += ["--imagenet", options.imagenet]
    found = subprocess.run([*map(str, evaluate)], check=True, stdout=subprocess.PIPE)
    result = json.loads(found.stdout)
    settings = {k: v for k, v in result["settings"].items() if k not in ("run", "labels")}
    return {
        "seed": seed,
        "fit_seconds": round(middle - start, 1),
        "baselines_seconds": round(time.monotonic() - middle, 1),
        "mean_auc": result["mean_auc"],
        "anchors": result["anchors"],
        "settings": settings,
        "skipped": result["baselines"]["skipped"],
        "baselines": result["baselines"]["rows"],
    }


def combine(runs: Sequence[Path], found: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row per baseline that every seed has: means over the seeds, and paired gaps."""
    by_name = [{row["name"]: row for row in rows} for rows in found]
    names = [name for name in by_name[0] if all(name in rows for rows in by_name)]
    ours = [load_scores(run, REFERENCE) for run in runs]
    combined = []
    for name in names:
        scores = [load_scores(run, name) for run in runs]
        row: dict[str, Any] = {"name": name, "title": by_name[0][name]["title"]}
        row["seconds"] = float(np.mean([rows[name]["seconds"] for rows in by_name]))
        for suffix, own, other in (
            ("", [one[0] for one in ours], [one.get(0) for one in scores]),
            ("_pooled", [pooled(one) for one in ours], [pooled(one) for one in scores]),
        ):
            if None in other:
                continue
            row[f"auc{suffix}"] = float(np.mean([one.auc for one in other]))
            row[f"auc{suffix}_of_seeds"] = [one.auc for one in other]
            row[f"per_category{suffix}"] = {
                category: float(np.mean([one.per_category[category] for one in other]))
                for category in other[0].per_category
            }
            if None not in own:
                row[f"difference{suffix}"] = difference(
                    np.mean([one.per_anchor for one in own], axis=0),
                    np.mean([one.per_anchor for one in other], axis=0),
                )
        combined.append(row)
    return combined


def pooled(scores: dict[int, Any]) -> Any:
    return next((one for p, one in scores.items() if p), None)


def show(rows: Sequence[dict[str, Any]]) -> str:
    def number(value: float | None, form: str = ".3f") -> str:
        return "" if value is None else format(value, form)

    lines = []
    for row in rows:
        cells = [row["title"]]
        for suffix in ("", "_pooled"):
            gap = row.get(f"difference{suffix}") or {}
            interval = f"{gap['low']:+.3f} {gap['high']:+.3f}" if gap else ""
            seeds = " ".join(f"{one:.3f}" for one in row.get("auc_of_seeds", []))
            cells += [number(row.get(f"auc{suffix}")), *([] if suffix else [seeds])]
            cells += [number(gap.get("mean"), "+.3f"), interval]
        lines.append([*cells, f"{row['seconds']:.0f}"])
    return table(HEADER, lines, left=1)


if __name__ == "__main__":
    raise SystemExit(main())
