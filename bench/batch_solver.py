"""Claim: Eq. (5)-(6) solved at least 20 times as fast as by IPOPT with exact derivatives, at sizes
that no general solver reaches, and selections of Eq. (1) no worse than other searches' in the time.

    python bench/batch_solver.py inner --sizes 10x50x1000 30x100x2000 100x100x2000
    python bench/batch_solver.py scale --sizes 100x1000x20000 50x10000x100000
    python bench/batch_solver.py select --sizes 100x100x2000 100x1000x20000

A size is B x K x N: batches, cliques, samples; r = 20 cliques a batch, or K / 5 if that is less.
Every call runs in a process of its own; solvers take turns. All get the same presolve: samples of
no clique dropped, samples of the same cliques merged.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import _batch_solver_calls
from _batch_solver_calls import PATTERNS, SOLVERS, WAYS, Instance
from _measure import (
    Request,
    at_least,
    condense,
    draw,
    exponent,
    provenance,
    run_child,
    table,
    take_turns,
)

SIZES = {
    "inner": ["10x50x1000", "30x100x2000", "100x100x2000"],
    "scale": ["100x1000x20000", "50x10000x100000"],
    "select": ["100x100x2000"],
}
SCRIPT = Path(_batch_solver_calls.__file__)


def main() -> int:
    options = parse()
    report: dict[str, Any] = {
        **provenance(("numpy", "scipy", "cyipopt-wheels", "clarabel", "scs")),
        "options": vars(options),
        "results": [],
    }
    run = {"inner": run_inner, "scale": run_scale, "select": run_select}[options.part]
    for instance in [as_instance(size, options) for size in options.sizes]:
        report["results"] += run(instance, options)
        if options.output:
            options.output.write_text(json.dumps(report, indent=2, default=str) + "\n")
    rows = report["results"]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in HIDDEN))
    print(table(names, [[cell(row.get(name)) for name in names] for row in rows], 2))
    if options.part == "scale" and len(rows) > 1:
        print("growth of the seconds:", growth(rows))
    if options.plot:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if "seconds" in row:
                variables = row["B"] * row["K"]
                lines.setdefault(row["who"], []).append((variables, row["seconds"]))
        draw([("Eq. (5)-(6)", "time (s)", lines)], "variables B K", options.plot, bold="native")
    return 0


HIDDEN = ("info", "terms", "lambdas")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("part", choices=("inner", "scale", "select"))
    add("--sizes", nargs="+", metavar="BxKxN")
    add("--solvers", choices=SOLVERS, nargs="+", default=list(SOLVERS))
    add("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    add("--patterns", choices=PATTERNS, nargs="+", default=["windows"])
    add("--rank", type=at_least(1), default=256, help="of S', at most")
    add("--smoothing", type=float, nargs="+", default=[0.1], help="eps of g")
    add("--tol", type=float, help="default: 1e-8, for `scale` 1e-6")
    add("--threads", type=at_least(1), default=2)
    add("--repeats", type=at_least(1), default=3)
    add("--limit", type=float, default=600.0, help="seconds for one call")
    add("--peer-limit", type=at_least(0), default=10_000, help="larger B K: native alone")
    add("--seeds", type=at_least(1), default=1, help="instances of a size, for `select`")
    add("--output", type=Path, metavar="FILE.json")
    add("--plot", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    options.sizes = options.sizes or SIZES[options.part]
    options.tol = options.tol or (1e-6 if options.part == "scale" else 1e-8)
    for size in options.sizes:
        if len(size.split("x")) != 3 or not all(part.isdigit() for part in size.split("x")):
            parser.error(f"--sizes takes BxKxN, got {size!r}")
    return options


def as_instance(size: str, options: argparse.Namespace) -> Instance:
    B, K, N = map(int, size.split("x"))
    r = min(20, max(1, K // 5))
    return Instance(B, K, N, r, min(options.rank, K), options.patterns[0], 0)


def solve(instance: Instance, options: argparse.Namespace, solver: str, eps: float) -> Request:
    request = {"instance": instance, "task": "solve", "solver": solver, "smoothing": eps}
    request |= {"tol": options.tol, "threads": options.threads, "limit": options.limit}
    answer = run_child(SCRIPT, request, options.limit * 2 + 60)
    told = answer.get("error") or f"{answer['seconds']:.2f} s, {answer['status']}"
    print(f"{size_of(instance)} eps {eps:g} {solver}: {told}", file=sys.stderr, flush=True)
    return answer


def size_of(instance: Instance) -> str:
    return f"{instance.batches}x{instance.cliques}x{instance.samples}"


def run_inner(instance: Instance, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for eps in options.smoothing:
        runs: dict[str, list[Request]] = {}
        for name in options.solvers:
            large = instance.batches * instance.cliques > options.peer_limit and name != "native"
            runs[name] = [{"skipped": "B K > --peer-limit"}] if large else []
        take_turns(runs, options.repeats, lambda name, eps=eps: solve(instance, options, name, eps))
        native = runs.get("native", [{}])[0].get("objective")
        found = [row_of(instance, eps, name, answers, native) for name, answers in runs.items()]
        seconds = {row["who"]: row.get("seconds") for row in found}
        for row in found:
            if row.get("seconds") and seconds.get("native"):
                row["times native"] = row["seconds"] / seconds["native"]
        rows += found
    return rows


def row_of(
    instance: Instance, eps: float, name: str, answers: list[Request], native: float | None
) -> dict[str, Any]:
    start = {"size": size_of(instance), "who": name, "B": instance.batches}
    start |= {"K": instance.cliques, "N": instance.samples, "eps": eps}
    good = [one for one in answers if "seconds" in one]
    if not good:
        return {**start, "status": condense(answers)["status"]}
    last = good[-1]
    row = {
        **start,
        "status": last["status"],
        "seconds": float(np.median([one["seconds"] for one in good])),
        "MiB": max(one["peak_bytes"] - one["before_bytes"] for one in good) / 2**20,
        "objective": last["objective"],
    }
    if native is not None:
        row["off native"] = (last["objective"] - native) / max(abs(native), 1e-300)
    info = last.get("info", {})
    for name in ("iterations", "primal_residual", "dual_residual", "gap", "regime"):
        if name in info:
            row[name] = info[name]
    return {**row, "info": info}


def run_scale(instance: Instance, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The size, and half of each of B, K and N, for the growth."""
    B, K, N = instance.batches, instance.cliques, instance.samples
    family = [
        instance,
        instance._replace(batches=max(1, B // 2)),
        instance._replace(cliques=K // 2, per_batch=min(instance.per_batch, K // 10)),
        instance._replace(samples=N // 2),
    ]
    rows = []
    for one in family:
        for eps in options.smoothing:
            answers = [solve(one, options, "native", eps)]
            rows.append(row_of(one, eps, "native", answers, None))
    return rows


def growth(rows: list[dict[str, Any]]) -> str:
    """Exponents of the seconds over B, K and N, each between a size and its half."""
    told = []
    for whole in rows:
        if "seconds" not in whole:
            continue
        for name in ("B", "K", "N"):
            for half in rows:
                fixed = [n for n in ("B", "K", "N", "eps") if n != name]
                same = all(half[n] == whole[n] for n in fixed)
                if same and "seconds" in half and half[name] == whole[name] // 2:
                    slope = exponent([half[name], whole[name]], [half["seconds"], whole["seconds"]])
                    told.append(f"{whole['size']} eps {whole['eps']:g}: {name}^{slope:.2f}")
    return "; ".join(told)


def run_select(instance: Instance, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Whole selections; the others get as long as "cccp" took."""
    rows = []
    for pattern in options.patterns:
        for seed in range(options.seeds):
            one = instance._replace(pattern=pattern, seed=seed)
            limit = options.limit
            for way in options.ways:
                request: Request = {"instance": one, "task": "select", "way": way}
                request |= {"limit": limit, "threads": options.threads}
                answer = run_child(SCRIPT, request, 3 * limit + 600)
                row = {"size": size_of(one), "who": way, "pattern": pattern, "seed": seed}
                if "error" in answer:
                    rows.append({**row, "status": answer["error"]})
                    continue
                if way == "cccp":
                    limit = answer["seconds"]
                told = f"{answer['seconds']:.1f} s, {answer['objective']:.6g}"
                print(f"{row['size']} {pattern} {seed} {way}: {told}", file=sys.stderr, flush=True)
                rows.append(
                    {
                        **row,
                        "seconds": answer["seconds"],
                        "MiB": (answer["peak_bytes"] - answer["before_bytes"]) / 2**20,
                        "objective": answer["objective"],
                        "runs": answer["runs"],
                        "status": answer["status"],
                        "distinct": answer["distinct"],
                        "regime": answer["regime"],
                        "terms": answer["terms"],
                        "lambdas": answer["lambdas"],
                    }
                )
    return rows


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
