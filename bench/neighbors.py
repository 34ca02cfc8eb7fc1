"""Claim: exact nearest and farthest rows of every row in half the time of faiss's exact search for
the nearest alone, and the same bits from int16 products in still less.

    python bench/neighbors.py --n 20000 --dim 1984 --k 50 --output neighbors.json

faiss (IndexFlatIP, building it included) gives the top k, and for both ends searches once more with
negated queries. Every call runs in a process of its own, after a small one; all take turns. Prints
medians, peak memory beside the descriptors, the median of the rounds' ratios to faiss, and the
floor: one product of every unordered pair at the rate at which this processor multiplies and adds
in float32 out of its registers (twice that rate in int16).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _neighbors_calls
from _measure import (
    Request,
    at_least,
    condense,
    provenance,
    run_child,
    table,
    take_turns,
)
from _neighbors_calls import Case, Contender
from cliquesim import _core

Runs = dict[Contender, list[Request]]


def main() -> int:
    options = parse()
    report: dict[str, Any] = {
        **provenance(("numpy", "faiss-cpu")),
        "multiply_add_flops": _core._multiply_add_rate(0.2),
        "cases": [],
    }
    for threads in options.threads:
        for n in options.n:
            case = Case(options.dataset, n, options.dim, options.k, threads)
            runs = run_case(case, options)
            report["cases"].append(summarise(case, runs, report["multiply_add_flops"]))
            if options.output:  # after every case: a long run may be cut short
                options.output.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)
    rows = [row for case in report["cases"] for row in case["results"]]
    wrong = any("DISAGREE" in case["agreement"] for case in report["cases"])
    return int(wrong or any(row["status"].startswith("failed") for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(2), nargs="+", help="descriptors (default: 20000)")
    add("--dim", type=at_least(1), help="of a descriptor (default: 1984)")
    add("--k", type=at_least(1), default=50, help="at each end (default: 50)")
    add("--threads", type=at_least(1), nargs="+", default=[1])
    add("--dataset", choices=("gaussian", "clustered"), default="gaussian")
    add("--pool-radius", type=at_least(0), default=3, help="0: leave pooling out (default: 3)")
    add("--no-faiss", action="store_true")
    add("--repeats", type=at_least(1), help="calls of each (default: 3)")
    add("--timeout", type=at_least(1), default=3600, help="of one process, seconds")
    add("--seed", type=at_least(0), default=0)
    add("--output", type=Path, metavar="FILE.json", help="write everything here")
    add("--quick", action="store_true", help="a tiny size, one repeat: does it run?")
    options = parser.parse_args()
    options.n = options.n or ([700] if options.quick else [20_000])
    options.dim = options.dim or (64 if options.quick else 1984)
    options.repeats = options.repeats or (1 if options.quick else 3)
    if not options.no_faiss and find_spec("faiss") is None:
        parser.error("faiss-cpu is not installed; install it or say --no-faiss")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"{options.output}: there is no folder {options.output.parent}")
    return options


def contenders(options: argparse.Namespace) -> list[Contender]:
    listed = [] if options.no_faiss else [Contender("faiss")]
    for precision in ("float32", "int16"):
        listed += [Contender("cliquesim", ends, precision) for ends in ("top", "both")]
        if options.pool_radius:
            listed.append(Contender("cliquesim", "both", precision, options.pool_radius))
    return listed


def run_case(case: Case, options: argparse.Namespace) -> Runs:
    runs: Runs = {one: [] for one in contenders(options)}

    def call(one: Contender) -> Request:
        request: Request = {"case": case, "contender": one, "seed": options.seed}
        answer = run_child(Path(_neighbors_calls.__file__), request, options.timeout)
        took = f"{answer['seconds']:.3f} s" if "seconds" in answer else answer["error"]
        print(f"n = {case.n}, x{case.threads}, {one.label}: {took}", file=sys.stderr, flush=True)
        return answer

    take_turns(runs, options.repeats, call)
    return runs


def summarise(case: Case, runs: Runs, flops: float) -> dict[str, Any]:
    floor = case.flop / flops / case.threads
    peers = runs.get(Contender("faiss"), [])
    rows = []
    for one, answers in runs.items():
        row = {"label": one.label, **one._asdict(), **condense(answers)}
        if row["status"] == "ok" and one.library != "faiss":
            row["floor_ratio"] = row["seconds"] / floor
            row["info"] = answers[-1]["info"]
            row["faiss_ratio"] = faiss_ratio(peers, answers, one.ends)
        rows.append(row)
    return {
        **case._asdict(),
        "floor_seconds": floor,
        "faiss_seconds": faiss_seconds(peers),
        "pooling_costs": pooling_costs(rows),
        "agreement": agreement(runs),
        "results": rows,
    }


def faiss_seconds(answers: list[Request]) -> dict[str, float]:
    if not answers or "seconds" not in answers[-1]:
        return {}
    return {
        "top": statistics.median(answer["top_seconds"] for answer in answers),
        "both": statistics.median(answer["seconds"] for answer in answers),
    }


def faiss_ratio(peers: list[Request], answers: list[Request], ends: str) -> float | None:
    """Median of the rounds' ratios: what slows the machine for a while slows both."""
    key = "top_seconds" if ends == "top" else "seconds"
    rounds = [
        peer[key] / answer["seconds"]
        for peer, answer in zip(peers, answers, strict=False)
        if key in peer and "seconds" in answer
    ]
    return statistics.median(rounds) if rounds else None


def pooling_costs(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Share of the time without pooling that pooling adds, by precision."""
    both = {
        (row["precision"], row["pool_radius"] > 0): [run["seconds"] for run in row["runs"]]
        for row in rows
        if row["library"] == "cliquesim" and row["ends"] == "both" and row["status"] == "ok"
    }
    return {
        precision: statistics.median(
            pooled / plain - 1
            for pooled, plain in zip(both[precision, True], both[precision, False], strict=True)
        )
        for precision in ("float32", "int16")
        if (precision, True) in both and (precision, False) in both
    }


def agreement(runs: Runs) -> str:
    """int16 and float32 to the last bit; the sum of the top similarities with faiss."""
    digests: dict[tuple[str, int], set[str]] = {}
    sums: dict[str, float] = {}
    for one, answers in runs.items():
        for answer in answers:
            if "checksum" not in answer:
                continue
            if not one.pool_radius:
                sums[one.library] = answer["checksum"]
            for end, digest in zip(("top", "bottom"), answer.get("digest", ()), strict=False):
                if end == "top" or one.ends == "both":
                    digests.setdefault((end, one.pool_radius), set()).add(digest)
    if any(len(seen) > 1 for seen in digests.values()):
        return "cliquesim's results DISAGREE"
    told = "cliquesim's results are the same to the last bit"
    if len(sums) == 2:
        apart = abs(sums["cliquesim"] / sums["faiss"] - 1)
        told += f", their sum that of faiss within {apart:.1e}"
        if not apart < 1e-5:
            told = f"the sums of cliquesim and faiss DISAGREE by {apart:.1e}"
    return told


def print_report(report: dict[str, Any]) -> None:
    facts = report["machine"]
    print(f"{facts['cpu']}, {facts['processors']} processors, SIMD level {report['simd']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(f"multiplies and adds out of registers: {report['multiply_add_flops'] / 1e9:.0f} Gflop/s")
    header = ["", "median s", "min", "max", "MiB beside", "faiss / this", "this / floor"]
    for case in report["cases"]:
        rows = []
        for row in case["results"]:
            if row["status"] != "ok":
                rows.append([row["label"], row["status"], *[""] * 5])
                continue
            times = [f"{row[key]:#.3g}" for key in ("seconds", "seconds_min", "seconds_max")]
            ratios = [row.get("faiss_ratio"), row.get("floor_ratio")]
            rows.append(
                [row["label"], *times, f"{row['beside_bytes'] / 2**20:.0f}"]
                + [f"{ratio:.2f}" if ratio else "-" for ratio in ratios]
            )
        print(
            f"\nn = {case['n']}, D = {case['dim']}, k = {case['k']}, {case['dataset']}, "
            f"{case['threads']} threads; floor {case['floor_seconds']:#.3g} s\n"
            + table(header, rows, 1)
        )
        if case["faiss_seconds"]:
            print(f"faiss, top alone: {case['faiss_seconds']['top']:#.3g} s")
        for precision, share in case["pooling_costs"].items():
            print(f"pooling costs {100 * share:.1f} % in {precision}")
        print(case["agreement"])


if __name__ == "__main__":
    raise SystemExit(main())
