"""Claim: fitting and applying a whitening takes a quarter of the time of scikit-learn's
PCA(whiten=True), and about half of that with its fastest exact solver.

    python bench/whitening.py --output whitening.json

Peers take turns; BLAS gets as many threads as cliquesim. `blas` is the same method in NumPy and
SciPy: X^T X, a Cholesky factor, a triangular solve. The floor is the arithmetic, N D^2 operations
each for the moments and the triangular projection and 2 D^3 / 3 for the factor and its inverse, at
the speed of a matrix product, or reading X twice and writing the result once, whichever is longer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

import cliquesim as cs
from _measure import (
    Request,
    at_least,
    blas_is_limited,
    measured,
    provenance,
    speeds,
    table,
    take_turns,
)

Matrix = NDArray[np.float32]
Method = Callable[[Matrix, int | None, int], Matrix]
TOLERANCE = 1e-4  # of the largest similarity, against float64


class Case(NamedTuple):
    n: int
    dimensions: int
    components: int | None


def ours(X: Matrix, components: int | None, threads: int) -> Matrix:
    whitening = cs.Whitening(shrinkage=0.0, n_components=components, num_threads=threads)
    return whitening.fit_transform(X)


def pca(solver: str) -> Method:
    def call(X: Matrix, components: int | None, _: int) -> Matrix:
        from sklearn.decomposition import PCA

        result: Matrix = PCA(components, whiten=True, svd_solver=solver).fit_transform(X)
        return result

    return call


def blas(X: Matrix, components: int | None, _: int) -> Matrix:
    centred = X - X.mean(axis=0)
    covariance = (centred.T @ centred) / np.float32(len(X) - 1)
    if components is None:
        upper = linalg.cholesky(covariance, check_finite=False)
        solved: Matrix = linalg.solve_triangular(upper, centred.T, trans=1, check_finite=False)
        return solved.T
    d = len(covariance)
    values, vectors = linalg.eigh(covariance, subset_by_index=(d - components, d - 1))
    result: Matrix = centred @ (vectors / np.sqrt(values))
    return result


METHODS: dict[str, Method] = {
    "cliquesim": ours,
    "sklearn-covariance_eigh": pca("covariance_eigh"),
    "sklearn-auto": pca("auto"),
    "blas": blas,
}


def main() -> int:
    options = parse()
    report: dict[str, Any] = {
        **provenance(("numpy", "scipy", "scikit-learn")),
        "floor": speeds(set(options.threads), quick=options.quick),
        "cases": [],
    }
    for components in options.components:
        case = Case(options.n, options.dim, components or None)
        X = make_rows(case, options.seed)
        report["cases"].append(run_case(case, X, options, report["floor"]))
    print_report(report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    rows = [row for case in report["cases"] for row in case["results"]]
    return int(any(r["difference"] > TOLERANCE for r in rows if r["label"] == "cliquesim"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n", type=at_least(3), help="rows (default: 20000)")
    add("--dim", type=at_least(2), help="default: 1984, of 8 x 8 cells of HOG")
    add("--components", type=at_least(0), nargs="+", help="0 for all of them (default: 0 and 256)")
    add("--threads", type=at_least(1), nargs="+", default=[1, 2])
    add("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    add("--repeats", type=at_least(1), help="default: 3")
    add("--seed", type=at_least(0), default=0)
    add("--quick", action="store_true", help="tiny and few")
    add("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    options.n = options.n or (300 if options.quick else 20_000)
    options.dim = options.dim or (40 if options.quick else 1984)
    options.components = options.components or ([0, 10] if options.quick else [0, 256])
    options.repeats = options.repeats or (1 if options.quick else 3)
    if options.n <= options.dim or max(options.components) > options.dim:
        parser.error("more rows than dimensions, and no more components than dimensions")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"{options.output}: there is no folder {options.output.parent}")
    return options


def make_rows(case: Case, seed: int) -> Matrix:
    """Gaussian rows about a mean, with eigenvalues from 1 to 1 / 1,000."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((case.dimensions, case.dimensions)))
    scale = np.geomspace(1, 1e-3, case.dimensions) ** 0.5
    X = rng.standard_normal((case.n, case.dimensions), np.float32)
    X *= scale.astype(np.float32)
    return X @ basis.astype(np.float32) + rng.standard_normal(case.dimensions).astype(np.float32)


def blas_threads(count: int) -> AbstractContextManager[Any]:
    if not blas_is_limited():
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(count, user_api="blas")


def run_case(
    case: Case, X: Matrix, options: argparse.Namespace, floor: dict[str, Any]
) -> dict[str, Any]:
    sample = slice(0, 200)
    expected = reference_similarities(X, sample, case.components)

    def call(one: tuple[str, int]) -> Request:
        method, threads = METHODS[one[0]], one[1]
        with blas_threads(threads):
            phi, measures = measured(lambda: method(X, case.components, threads))
        apart = np.abs(gram(phi[sample]) - expected).max() / np.abs(expected).max()
        print(f"{one[0]} x{threads}: {measures['seconds']:.2f} s", file=sys.stderr, flush=True)
        return {**measures, "difference": float(apart)}

    runs: dict[tuple[str, int], list[Request]] = {
        (name, threads): [] for name in options.methods for threads in options.threads
    }
    take_turns(runs, options.repeats, call)
    rows = []
    for (name, threads), answers in runs.items():
        seconds = [answer["seconds"] for answer in answers]
        least = floor_seconds(case, floor, str(threads))
        rows.append(
            {
                "label": name,
                "threads": threads,
                "seconds": statistics.median(seconds),
                "seconds_min": min(seconds),
                "seconds_max": max(seconds),
                "peak_bytes_beside": max(a["peak_bytes"] - a["before_bytes"] for a in answers),
                "floor_seconds": least,
                "floor_ratio": statistics.median(seconds) / least,
                "difference": max(answer["difference"] for answer in answers),
            }
        )
    for row in rows:
        row["times_as_fast_as"] = {
            other["label"]: other["seconds"] / row["seconds"]
            for other in rows
            if other["threads"] == row["threads"] and other is not row
        }
    return {**case._asdict(), "results": rows}


def reference_similarities(X: Matrix, sample: slice, components: int | None) -> NDArray[np.float64]:
    rows = X - X.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows / (len(X) - 1))
    kept = slice(None) if components is None else slice(-components, None)
    phi = rows[sample] @ (vectors[:, kept] / np.sqrt(values[kept]))
    return phi @ phi.T


def gram(phi: Matrix) -> NDArray[np.float64]:
    """Similarities: whitened rows are unique but for a rotation."""
    rows = phi.astype(np.float64)
    return rows @ rows.T


def floor_seconds(case: Case, floor: dict[str, Any], threads: str) -> float:
    n, d = case.n, case.dimensions
    single = n * d * d + (n * d * d if case.components is None else 2 * n * d * case.components)
    # With components an eigenvalue problem takes the factor's place: 4 D^3 / 3 to tridiagonal form.
    double = (2 if case.components is None else 4) * d**3 / 3
    flops = floor["flops"]
    arithmetic = single / flops["float32"][threads] + double / flops["float64"][threads]
    bytes_ = 4 * n * (2 * d + (case.components or d))
    return float(max(arithmetic, bytes_ / floor["bytes_per_second"][threads]))


def print_report(report: dict[str, Any]) -> None:
    facts, floor = report["machine"], report["floor"]
    print(f"{facts['cpu']}, {facts['processors']} processors, SIMD level {report['simd']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for t, speed in floor["bytes_per_second"].items():
        gemm = ", ".join(f"{by[t] / 1e9:.0f} Gflop/s in {d}" for d, by in floor["flops"].items())
        print(f"speeds, threads {t}: reads {speed / 1e9:.1f} GB/s, matrix product {gemm}")
    header = ["who", "threads", "median s", "min", "max", "MiB beside", "floor s", "this / floor"]
    for case in report["cases"]:
        kept = "all" if case["components"] is None else case["components"]
        print(f"\n{case['n']} x {case['dimensions']}, components: {kept}")
        names = [name for name in METHODS if any(r["label"] == name for r in case["results"])]
        rows = [_cells(row, names) for row in case["results"]]
        print(table([*header, "difference", *(f"over {name}" for name in names)], rows, 1))


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    ratios = [row["times_as_fast_as"].get(name) for name in names]
    return [
        row["label"],
        str(row["threads"]),
        *(f"{row[key]:#.3g}" for key in ("seconds", "seconds_min", "seconds_max")),
        f"{row['peak_bytes_beside'] / 2**20:.0f}",
        f"{row['floor_seconds']:#.3g}",
        f"{row['floor_ratio']:.2f}",
        f"{row['difference']:.0e}",
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
