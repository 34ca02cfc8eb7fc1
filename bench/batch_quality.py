"""Claim: the default batch selection finds the optimum of tiny instances, and on larger ones never
ends above greedy + swaps or random + swaps that restart for the same time.

    python bench/batch_quality.py

200 instances with B = 2, K = 8, r = 3 are brute-forced: the mean gap must be at most 0.5 %, and
the optimum be found in at least 90 %. On 30 seeded instances of three overlap patterns and three
sizes the other methods restart until they have used the CPU time of the selection; their best
counts. Prints tables, and JSON to --output; exit status 1 if the claim does not hold. Everything
runs in one thread, as CPU time is what is compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cliquesim as cs
from _batch_instances import PATTERNS, instance
from cliquesim import _core
from cliquesim.batches.problem import as_problem
from cliquesim.batches.search import DiscreteSearch

SIZES = ((5, 40, 6, 160), (20, 100, 10, 400), (40, 160, 12, 800))  # B, K, r, N
TOLERANCE = 1e-9  # relative: below it two objectives are equal


def brute_force(C: Any, S: Any, r: int, lambda1: float, lambda2: float, p: float = 1 / 16) -> float:
    """Smallest Eq. (1) over all pairs of batches, B = 2."""
    K = C.shape[0]
    rows = np.array([np.isin(np.arange(K), c) for c in itertools.combinations(range(K), r)], float)
    cover = rows @ C
    own = np.einsum("bi,ij,bj->b", rows, S - np.diag(np.diag(S)), rows)
    own -= lambda1 * (cover**p).sum(axis=1)  # 0^p = 0
    first, second = np.triu_indices(len(rows))
    total = ((cover[first] + cover[second]) ** p).sum(axis=1)
    return float((own[first] + own[second] - lambda2 * total).min())


def tiny(count: int, seed: int) -> dict[str, Any]:
    gaps = []
    for number in range(count):
        C, S = instance(PATTERNS[number % 3], 8, 20, seed + number, dimensions=4)
        selection = cs.select_batches(C, S, 2, 3, seed=number, num_threads=1)
        lambdas = selection.lambdas
        best = brute_force(C.toarray(), S, 3, lambdas["lambda1"], lambdas["lambda2"])
        gaps.append((selection.objective - best) / abs(best))
    return {
        "instances": count,
        "mean_gap": float(np.mean(gaps)),
        "largest_gap": float(np.max(gaps)),
        "optimal": float((np.array(gaps) <= TOLERANCE).mean()),
    }


def restarts(
    search: DiscreteSearch,
    start: Callable[[np.random.Generator], NDArray[np.int64]],
    seconds: float,
) -> tuple[float, int]:
    """Best objective of start + swaps, again and again for so many CPU seconds; one at least."""
    rng = np.random.default_rng(0)
    best, count, end = np.inf, 0, time.process_time() + seconds
    while count == 0 or time.process_time() < end:
        best = min(best, float(search.improve(start(rng)).objectives[0]))
        count += 1
    return best, count


def compare(pattern: str, size: tuple[int, int, int, int], seed: int) -> dict[str, Any]:
    """One instance: the default selection, and the restarts that get the same CPU time."""
    B, K, r, N = size
    C, S = instance(pattern, K, N, seed)
    begin = time.process_time()
    selection = cs.select_batches(C, S, B, r, seed=seed, num_threads=1)
    seconds = time.process_time() - begin
    lambdas = selection.lambdas
    problem = as_problem(C, S, 1 / 16)
    search = DiscreteSearch(problem, lambdas["lambda1"], lambdas["lambda2"], B, r, 1)
    others = {
        "greedy+swaps": restarts(search, lambda rng: search.greedy(rng, 2).cliques[1:], seconds),
        "random+swaps": restarts(search, lambda rng: search.random(rng, 1), seconds),
    }
    comparison = selection.info["comparison"]
    return {
        "pattern": pattern,
        "B_K_r_N": list(size),
        "seed": seed,
        "seconds": seconds,
        "stage_seconds": selection.info["times"],
        "objective": selection.objective,
        "cccp+swaps": comparison["cccp+swaps"],
        "before_kicks": min(value for name, value in comparison.items() if name != "kicks"),
        "kicks": selection.info["kicks"],
        **{name: value for name, (value, _) in others.items()},
        "restarts": {name: count for name, (_, count) in others.items()},
        "never_worse": all(
            selection.objective <= value + TOLERANCE * abs(value) for value, _ in others.values()
        ),
    }


def larger(count: int, seed: int) -> list[dict[str, Any]]:
    combinations = itertools.cycle(itertools.product(SIZES, PATTERNS))
    rows = []
    for number, (size, pattern) in zip(range(count), combinations, strict=False):
        rows.append(compare(pattern, size, seed + number))
        print(line(rows[-1]), flush=True)
    return rows


ABOVE = ("before_kicks", "cccp+swaps", "greedy+swaps", "random+swaps")


def line(row: dict[str, Any]) -> str:
    size = "{} x {}, r {}, N {}".format(*row["B_K_r_N"])
    above = "".join(f"{row[name] - row['objective']:14.4f}" for name in ABOVE)
    end = "" if row["never_worse"] else "  WORSE"
    return f"{row['pattern']:10}{size:24}{row['objective']:12.3f}{above}{row['seconds']:9.2f}{end}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", type=int, default=200)
    parser.add_argument("--larger", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    warnings.simplefilter("ignore", cs.BatchWarning)

    report: dict[str, Any] = {
        "command": "python " + " ".join(sys.argv),
        "versions": {
            "cliquesim": cs.__version__,
            "simd": _core.simd_level,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    holds = True
    if options.tiny:
        report["tiny"] = found = tiny(options.tiny, options.seed)
        print(
            f"brute force, {found['instances']} instances: mean gap {found['mean_gap']:.3%}, "
            f"optimum in {found['optimal']:.1%}"
        )
        holds &= found["mean_gap"] <= 0.005 and found["optimal"] >= 0.9
    if options.larger:
        print(" " * 34 + f"{'objective':>12}" + "".join(f"{name:>14}" for name in ABOVE), end="")
        print("      sec   (how far above the objective)")
        report["larger"] = rows = larger(options.larger, options.seed)
        wins = sum(row["never_worse"] for row in rows)
        means = (
            f"{name} {np.mean([r[name] - r['objective'] for r in rows]):.4f}" for name in ABOVE
        )
        print(f"never worse in {wins} of {len(rows)}; mean distance: {', '.join(means)}")
        holds &= wins == len(rows)
    report["holds"] = holds
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
