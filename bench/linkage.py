"""Claim: exact complete linkage in less time and memory than any other library, of condensed
distances as well as of vectors, close to what the machine's memory and arithmetic allow.

    python bench/linkage.py --n 2000 5000 10000 --dataset clustered gaussian \
        --input condensed vectors --output linkage.json --plot linkage.png

Every call runs in a process of its own, after a tiny one that starts threads and loads code; peers
take turns. Prints medians, peak memory, the ratio to the fastest peer, and the floor: reading the
condensed input once, or one multiply-add per pair and dimension, at speeds measured in this run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import _linkage_calls
import cliquesim as cs
from _linkage_calls import (
    DATASETS,
    DEFAULT_PEERS,
    OURS,
    PEER_BYTES,
    PEERS,
    STORAGES,
    Case,
    Contender,
)
from _measure import (
    Panel,
    Request,
    at_least,
    condense,
    draw,
    exponent,
    free_memory,
    machine_facts,
    run_child,
    speeds,
    table,
    take_turns,
    versions,
)
from cliquesim import _core

Runs = dict[Contender, list[Request]]
Lines = dict[str, list[tuple[float, float]]]


def main() -> int:
    options = parse()
    report: dict[str, Any] = {
        "command": command(options),
        "options": {name: value for name, value in vars(options).items() if name != "scratch"},
        "machine": machine_facts(),
        "simd": _core.simd_level,
        "versions": {
            **versions(("numpy", "scipy", "fastcluster", "scikit-learn")),
            "cliquesim": cs.__version__,
        },
        "floor": speeds({1, *options.threads}, quick=options.quick),
        "cases": [],
    }
    for case in list_cases(options):
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            runs = run_case(case, options, Path(folder) / "y.npy")
        report["cases"].append(summarise(case, runs, report["floor"]))
        report["exponents"] = fit_exponents(report["cases"])
        if options.output:  # after every case: a long run may be cut short
            options.output.write_text(json.dumps(report, indent=2, default=str) + "\n")
    print_report(report)
    if options.plot:
        plot(report["cases"], options.plot)
    rows = [row for case in report["cases"] for row in case["results"]]
    wrong = any("DISAGREE" in case["agreement"] for case in report["cases"])
    return int(wrong or any(row["status"].startswith("failed") for row in rows))


def command(options: argparse.Namespace) -> str:
    """As it was given, but for the place of this machine's temporary files."""
    words = ["python", *sys.argv]
    if options.scratch:
        at = words.index("--scratch") if "--scratch" in words else len(words)
        del words[at : at + 2]
    return " ".join(words)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(2), nargs="+", help="observations (default: 1000 3000 10000)")
    add("--dim", type=at_least(1), default=64, help="of vectors (default: 64)")
    add("--threads", type=at_least(1), nargs="+", default=[1, 2], help="of cliquesim")
    add("--dtype", choices=("float32", "float64"), nargs="+", default=["float32"])
    add("--dataset", choices=DATASETS, nargs="+", default=["clustered"])
    add("--input", choices=("condensed", "vectors"), nargs="+", default=["condensed"])
    add("--storage", choices=STORAGES, nargs="+", help="of cliquesim, for vectors")
    add("--peers", choices=PEERS, nargs="+", default=list(DEFAULT_PEERS))
    add("--peer-limit-n", type=at_least(0), default=30_000, help="larger n: cliquesim alone")
    add("--repeats", type=at_least(1), help="calls of each (default: 3)")
    add(
        "--timeout",
        type=at_least(1),
        default=3600,
        help="of one process, start and reading the input included, seconds",
    )
    add("--seed", type=at_least(0), default=0)
    add("--scratch", type=Path, help="folder on a disk for the input, while it is needed")
    add("--output", type=Path, metavar="FILE.json", help="write everything here")
    add("--plot", type=Path, metavar="FILE.png", help="draw time and memory over n here")
    add("--quick", action="store_true", help="tiny sizes, one repeat: does it run?")
    options = parser.parse_args()
    options.n = options.n or ([50, 100] if options.quick else [1000, 3000, 10_000])
    options.repeats = options.repeats or (1 if options.quick else 3)
    for name in ("n", "threads", "dtype", "dataset", "input", "peers"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    _check(parser, options)
    options.storage = list(dict.fromkeys(options.storage or ["auto"]))
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    modules = {peer: peer.removesuffix("-inplace") for peer in options.peers}
    for peer, module in modules.items():
        if find_spec(module) is None:
            parser.error(f"{module} is not installed; install it or leave {peer} out of --peers")
    if options.storage and "vectors" not in options.input:
        parser.error("--storage is for vectors: add --input vectors")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed")
    for file in (options.output, options.plot):
        if file and not file.parent.is_dir():
            parser.error(f"{file}: there is no folder {file.parent}")
    if options.plot and options.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot writes .png, .svg or .pdf, got {options.plot.name}")
    if options.scratch and not options.scratch.is_dir():
        parser.error(f"--scratch {options.scratch} is no folder")


def contenders(case: Case, options: argparse.Namespace) -> list[Contender]:
    listed: list[Contender] = []
    vectors = case.input == "vectors"
    for peer in options.peers:
        if vectors and peer.endswith("-inplace"):
            continue  # vectors are not written to
        if peer not in OURS:
            listed.append(Contender(peer))
            continue
        storages = options.storage if vectors else ["auto"]
        listed += [Contender(peer, t, s) for s in storages for t in options.threads]
    return listed


def list_cases(options: argparse.Namespace) -> list[Case]:
    widths = {"lowdim": 2, "gaps": 1}
    series = itertools.product(options.dataset, options.input, options.dtype, sorted(options.n))
    return [Case(d, i, t, n, widths.get(d, options.dim)) for d, i, t, n in series]


def run_case(case: Case, options: argparse.Namespace, file: Path) -> Runs:
    script = Path(_linkage_calls.__file__)
    common: Request = {"case": case, "file": str(file), "seed": options.seed}
    made = run_child(script, {"task": "make", **common}, 24 * 3600)
    if "error" in made:
        return {one: [made] for one in contenders(case, options)}
    runs: Runs = {}
    for one in contenders(case, options):
        reason = why_skipped(one, case, options.peer_limit_n)
        runs[one] = [{"skipped": reason}] if reason else []

    def call(one: Contender) -> Request:
        answer = run_child(script, {"task": "call", "contender": one, **common}, options.timeout)
        took = f"{answer['seconds']:.3f} s" if "seconds" in answer else answer["error"]
        told = f"{case.series}, n = {case.n}, {one.label}: {took}"
        print(told, file=sys.stderr, flush=True)
        return answer

    take_turns(runs, options.repeats, call)
    return runs


def why_skipped(one: Contender, case: Case, limit_n: int) -> str:
    if one.peer in OURS:
        return ""
    if case.n > limit_n:
        return f"n > --peer-limit-n {limit_n}"
    need = case.pairs * (PEER_BYTES[one.peer] if case.input == "condensed" else 16)
    return f"needs {need / 2**30:.0f} GiB" if need > 0.9 * free_memory() else ""


def summarise(case: Case, runs: Runs, floor: dict[str, Any]) -> dict[str, Any]:
    rows = [_row(case, one, answers, floor) for one, answers in runs.items()]
    peers = [row for row in rows if row["status"] == "ok" and row["peer"] not in OURS]
    best = min(peers, key=lambda row: row["seconds"], default=None)
    for row in rows:
        if best and row["status"] == "ok":
            row["best_peer_ratio"] = best["seconds"] / row["seconds"]
    return {
        "series": case.series,
        **case._asdict(),
        "input_bytes": case.input_bytes,
        "best_peer": best["label"] if best else None,
        "best_peer_ratio": {
            row["label"]: row["best_peer_ratio"]
            for row in rows
            if row["peer"] in OURS and "best_peer_ratio" in row
        },
        "agreement": agreement(case, runs),
        "results": rows,
    }


def _row(
    case: Case, one: Contender, answers: list[Request], floor: dict[str, Any]
) -> dict[str, Any]:
    row = {"label": one.label, **one._asdict(), **condense(answers)}
    if row["status"] != "ok":
        return row
    if case.input == "condensed":
        least = case.input_bytes / floor["bytes_per_second"][str(one.threads)]
    else:
        least = 2 * case.pairs * case.dim / floor["flops"][case.dtype][str(one.threads)]
    return {**row, "floor_seconds": least, "floor_ratio": row["seconds"] / least}


def agreement(case: Case, runs: Runs) -> str:
    """Whether the heights of all calls have the same sum and the same largest."""
    if case.tied:
        return "heights not checked: of equal distances, several trees are right"
    checked = [
        (one.label, answer["checksum"])
        for one, answers in runs.items()
        for answer in answers
        if "checksum" in answer and one.storage != "triangle16"  # its heights are rounded
    ]
    if len({label for label, _ in checked}) < 2:
        return "heights not checked: nothing to compare with"
    allowed = 1e-5 if case.dtype == "float32" else 1e-9
    values = np.array([checksum for _, checksum in checked])
    apart = np.abs(values / values[0] - 1).max(axis=1)
    worst = int(np.argmax(apart))  # NaN, if there is one
    if not apart[worst] <= allowed:
        return f"heights DISAGREE: {checked[worst][0]} and {checked[0][0]} by {apart[worst]:.1e}"
    return f"heights agree within {apart[worst]:.1e} (allowed: {allowed:g})"


def fit_exponents(cases: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    fitted: dict[str, dict[str, float]] = {}
    for name, lines in series(cases, "seconds").items():
        slopes = {label: exponent(*zip(*line, strict=True)) for label, line in lines.items()}
        fitted[name] = {label: slope for label, slope in slopes.items() if slope is not None}
    return fitted


def series(cases: list[dict[str, Any]], value: str) -> dict[str, Lines]:
    """By dataset, input and dtype, then by peer: pairs of n and the value."""
    found: dict[str, Lines] = {}
    for case in cases:
        lines = found.setdefault(case["series"], {})
        for row in case["results"]:
            if row["status"] == "ok":
                lines.setdefault(row["label"], []).append((case["n"], row[value]))
    return found


def print_report(report: dict[str, Any]) -> None:
    header = ["n", "D", "peer", "median s", "min", "max", "MiB beside", "with input"]
    header += ["best peer / this", "floor s", "this / floor"]
    facts, floor = report["machine"], report["floor"]
    print(f"{facts['cpu']}, {facts['processors']} processors, SIMD level {report['simd']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for t, speed in floor["bytes_per_second"].items():
        gemm = ", ".join(f"{by[t] / 1e9:.0f} Gflop/s in {d}" for d, by in floor["flops"].items())
        print(f"speeds, threads {t}: reads {speed / 1e9:.1f} GB/s, matrix product {gemm}")
    print(f"BLAS threads: {floor['blas_threads']}")
    for name, slopes in report["exponents"].items():
        listed = [case for case in report["cases"] if case["series"] == name]
        rows = [_cells(case, row) for case in listed for row in case["results"]]
        print(f"\n{name}\n" + table(header, rows, 3))
        for case in listed:
            why = [f"{r['label']} {r['status']}" for r in case["results"] if r["status"] != "ok"]
            print(f"n = {case['n']}: " + "; ".join([case["agreement"], *why]))
        if slopes:
            told = ", ".join(f"{label} {slope:.2f}" for label, slope in slopes.items())
            print(f"time over n, exponent: {told}")


def _cells(case: dict[str, Any], row: dict[str, Any]) -> list[str]:
    start = [str(case["n"]), str(case["dim"]), row["label"]]
    if row["status"] != "ok":
        return [*start, row["status"].split(":")[0], *[""] * 7]
    ratio = f"{row['best_peer_ratio']:.2f}" if "best_peer_ratio" in row else "-"
    times = [f"{row[key]:#.3g}" for key in ("seconds", "seconds_min", "seconds_max")]
    memory = [f"{row[key] / 2**20:.1f}" for key in ("beside_bytes", "with_input_bytes")]
    return [
        *start,
        *times,
        *memory,
        ratio,
        f"{row['floor_seconds']:#.3g}",
        f"{row['floor_ratio']:.1f}",
    ]


def plot(cases: list[dict[str, Any]], file: Path) -> None:
    panels: list[Panel] = []
    memory = series(cases, "with_input_bytes")
    for name, times in series(cases, "seconds").items():
        sizes = {peer: [(n, v / 2**20) for n, v in line] for peer, line in memory[name].items()}
        panels += [
            (name, "time (s)", times),
            (name, "peak memory with the input (MiB)", sizes),
        ]
    draw(panels, "observations n", file, bold="cliquesim")


if __name__ == "__main__":
    raise SystemExit(main())
