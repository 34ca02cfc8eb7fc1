"""Fit a labelled corpus from its frames alone and evaluate it: AUC, time and peak memory.

    python bench/quality.py --frames ../shared/athletes/frames --labels ../shared/athletes

Runs `cliquesim fit` and `cliquesim evaluate` as a user would, in processes of their own, and prints
one JSON object: mean AUC per similarity, seconds and peak memory of the fit, settings, versions.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _measure import add_manifest, fit_source, provenance, stage_costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, default=Path("../shared/athletes/frames"))
    add_manifest(parser)
    parser.add_argument("--labels", type=Path, default=Path("../shared/athletes"))
    parser.add_argument("--run", type=Path, help="keep the run here (default: a temporary folder)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, help="write the JSON here, too")
    arguments = parser.parse_args()

    results = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            run = arguments.run or Path(temporary) / "run"
            if len(arguments.seeds) > 1 and arguments.run:
                run = arguments.run.with_name(f"{arguments.run.name}-{seed}")
            results.append(measure(arguments, run, seed))
            print(json.dumps(results[-1]["mean_auc"]), file=sys.stderr)
    methods = results[0]["mean_auc"]
    report = {
        **provenance(("torch", "numpy", "scipy")),
        "mean_auc": {m: sum(r["mean_auc"][m] for r in results) / len(results) for m in methods},
        "runs": results,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def measure(arguments: argparse.Namespace, run: Path, seed: int) -> dict[str, object]:
    cli = [sys.executable, "-m", "cliquesim"]
    changes = [word for one in [*arguments.set, f"seed={seed}"] for word in ("--set", one)]
    start = time.monotonic()
    subprocess.run([*cli, "fit", *fit_source(arguments), "--out", run, *changes], check=True)
    seconds = time.monotonic() - start
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    evaluated = subprocess.run(
        [*cli, "evaluate", run, "--labels", arguments.labels, "--json"],
        check=True,
        stdout=subprocess.PIPE,
    )
    result = json.loads(evaluated.stdout)
    return {
        "seed": seed,
        "mean_auc": result["mean_auc"],
        "per_category": result["per_category"],
        "fit_seconds": round(seconds, 1),
        "fit_peak_memory_mib": round(memory),
        "stages": stage_costs(run),
        "summary": json.loads((run / "summary.json").read_text()),
        "settings": result["settings"],
    }


if __name__ == "__main__":
    main()
