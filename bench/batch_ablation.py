"""Claim: every term of Eq. (1) does what Sect. 2.3 says, seen by leaving it out.

    python bench/batch_ablation.py
    python bench/batch_ablation.py --run RUN --n-batches 50 --cliques-per-batch 16

Without the similarity similar cliques are in one batch (S' within batches: mean, and largest per
batch); without the coverage of each batch small, degenerate cliques are (distinct samples per
batch, clique size); without the coverage of all batches together the batches are the same (distinct
batches, overlap). Prints a table, and JSON to --output; exit status 1 if an effect is missing in
the mean over the instances.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import cliquesim as cs
from _batch_instances import PATTERNS, cliques_of_run, instance
from cliquesim import _core

COLUMNS = ("similarity_mean", "similarity_max", "samples_per_batch", "clique_size")
COLUMNS += ("distinct_batches", "overlap_mean", "coverage")
VARIANTS = ("full", "without similarity", "without batch coverage", "without total coverage")


def select(C: Any, S: Any, options: argparse.Namespace, variant: str) -> dict[str, Any]:
    """Measured with the S' that is given, also where it was left out of the objective.

    Without the similarity the ratio of the other two weights is kept. lambda1 and lambda2 weigh
    alike here: with the defaults the coverage of each batch is a hundredth of that of all together.
    """
    shape = (options.n_batches, options.cliques_per_batch)
    threads = {"num_threads": options.threads, "seed": options.seed}
    weight = options.weight * default_unit(C, S, shape)
    lambdas = {"lambda1": weight, "lambda2": weight}
    if variant == "without batch coverage":
        lambdas["lambda1"] = 0.0
    if variant == "without total coverage":
        lambdas["lambda2"] = 0.0
    seen = 0.0 * S if variant == "without similarity" else S
    selection = cs.select_batches(C, seen, *shape, **lambdas, **threads)
    return {**selection.summary(), **measure(selection.X, C, S)}


def default_unit(C: Any, S: Any, shape: tuple[int, int]) -> float:
    """The unit that the defaults of lambda1 and lambda2 are given in."""
    random = cs.select_batches(C, S, *shape, method="random", local_search=False)
    return random.lambdas["lambda1"] / 0.1


def measure(X: Any, C: Any, S: Any) -> dict[str, float]:
    """S' over the pairs within the batches of X, its largest value in a batch (mean over the
    batches), and the mean size of their cliques."""
    batches = [np.flatnonzero(row) for row in X]
    pairs = np.array([S[np.ix_(k, k)][np.triu_indices(len(k), 1)] for k in batches])
    return {
        "similarity_mean": float(pairs.mean()),
        "similarity_max": float(pairs.max(axis=1).mean()),
        "clique_size": float(np.diff(C.indptr)[np.concatenate(batches)].mean()),
    }


def effects(rows: dict[str, dict[str, float]]) -> dict[str, bool]:
    """What Sect. 2.3 says of each term."""
    full = rows["full"]
    blind, batch, total = (rows[variant] for variant in VARIANTS[1:])
    return {
        "similar cliques in one batch": blind["similarity_mean"] > full["similarity_mean"]
        and blind["similarity_max"] > full["similarity_max"],
        "small cliques": batch["samples_per_batch"] < full["samples_per_batch"]
        and batch["clique_size"] < full["clique_size"],
        "identical batches": total["distinct_batches"] < full["distinct_batches"]
        and total["overlap_mean"] > full["overlap_mean"],
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = [" " * 24 + "".join(f"{column:>18}" for column in COLUMNS)]
    lines += [
        f"{variant:24}" + "".join(f"{row[column]:18.3f}" for column in COLUMNS)
        for variant, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="take the cliques of this run folder")
    parser.add_argument("--cliques", type=int, default=60)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--instances", type=int, default=3, help="per overlap pattern")
    parser.add_argument("--n-batches", type=int, default=10)
    parser.add_argument("--cliques-per-batch", type=int, default=6)
    parser.add_argument("--weight", type=float, default=1.0, help="lambda1 = lambda2, in units")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    warnings.simplefilter("ignore", cs.BatchWarning)

    problems = {
        f"{pattern}-{seed}": instance(pattern, options.cliques, options.samples, seed)
        for pattern in PATTERNS
        for seed in range(options.instances)
    }
    if options.run:
        parts = cliques_of_run(options.run)
        problems = {
            f"part-{number}": part
            for number, part in enumerate(parts)
            if part[0].shape[0] > options.cliques_per_batch
        }
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (C, S) in problems.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = {variant: select(C, S, options, variant) for variant in VARIANTS}
    mean = {
        variant: {
            column: float(np.mean([result[variant][column] for result in results.values()]))
            for column in COLUMNS
        }
        for variant in VARIANTS
    }
    shown = effects(mean)
    print(table(mean))
    for effect, there in shown.items():
        each = [effects(result)[effect] for result in results.values()]
        print(f"{effect}: {'yes' if there else 'NO'} (in {sum(each)} of {len(each)} instances)")
    report = {
        "options": {key: str(value) for key, value in vars(options).items()},
        "versions": {
            "cliquesim": cs.__version__,
            "simd": _core.simd_level,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "mean": mean,
        "effects": shown,
        "instances": results,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(shown.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
