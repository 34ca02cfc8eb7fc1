"""Claim: complete linkage of a nearest-neighbour graph of a million points and more, in seconds.

    python bench/linkage_graph.py --n 100000 1000000 2000000 --k 16 --output graph.json

The graph holds the distances of every point to its k nearest (3-D points in clusters, found by a
k-d tree, not timed); an absent edge forbids a merge. No other library offers this definition, so
there is no peer: the time is set against one reading of the graph, and against the time it took to
find the neighbours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

import cliquesim as cs
from _measure import at_least, exponent, machine_facts, measured, table, versions


def neighbor_graph(n: int, k: int, seed: int) -> sparse.csr_array:
    rng = np.random.default_rng(seed)
    centres = rng.random((max(1, n // 50), 3)) * n ** (1 / 3)
    X = centres[rng.integers(len(centres), size=n)] + 0.3 * rng.normal(size=(n, 3))
    distances, found = cKDTree(X).query(X, k + 1, workers=-1)
    rows = np.arange(0, n * k + 1, k)
    data = distances[:, 1:].ravel().astype(np.float32)
    return sparse.csr_array((data, found[:, 1:].ravel(), rows), shape=(n, n))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--n", type=at_least(2), nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--k", type=at_least(1), default=16)
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for n in options.n:
        begin = time.perf_counter()
        graph = neighbor_graph(n, options.k, options.seed)
        searched = time.perf_counter() - begin

        def link(graph: sparse.csr_array = graph) -> Any:
            return cs.linkage(graph, metric="precomputed", num_threads=options.threads)

        Z, measures = measured(link)
        begin = time.perf_counter()
        float(graph.data.sum()), int(graph.indices.max())
        read = time.perf_counter() - begin
        merged = int(np.isfinite(Z[:, 2]).sum())
        rows.append(
            {
                "n": n,
                "edges": int(graph.nnz),
                "merges": merged,
                "clusters": n - merged,
                "seconds": measures["seconds"],
                "peak_bytes": measures["peak_bytes"] - measures["before_bytes"],
                "search_seconds": searched,
                "reading_seconds": read,
            }
        )
        print(f"n = {n}: {measures['seconds']:.2f} s", file=sys.stderr, flush=True)
    report = {
        "command": "python " + " ".join(sys.argv),
        "machine": machine_facts(),
        "versions": versions(("numpy", "scipy")) | {"cliquesim": cs.__version__},
        "threads": options.threads,
        "results": rows,
        "exponent": exponent([row["n"] for row in rows], [row["seconds"] for row in rows]),
    }
    names = list(rows[0])
    print(table(names, [[f"{row[name]:.4g}" for name in names] for row in rows], 1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
