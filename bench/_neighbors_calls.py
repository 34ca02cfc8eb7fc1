"""The calls that neighbors.py measures, each in a process of its own."""

from __future__ import annotations

import hashlib
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _measure import Request, measured, serve_child

SEQUENCE = 100  # frames, for pooling


class Contender(NamedTuple):
    """`ends`: "top" or "both"; `precision` of cliquesim."""

    library: str
    ends: str = "both"
    precision: str = ""
    pool_radius: int = 0

    @property
    def label(self) -> str:
        pooled = f", pooled p = {self.pool_radius}" if self.pool_radius else ""
        return f"{self.library} {self.precision}".strip() + f" {self.ends}{pooled}"


class Case(NamedTuple):
    dataset: str
    n: int
    dim: int
    k: int
    threads: int

    @property
    def flop(self) -> float:
        """Of one product per unordered pair."""
        return float(self.n) * (self.n - 1) * self.dim


def descriptors(dataset: str, n: int, dim: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, dim), dtype=np.float32)
    if dataset == "clustered":  # sequences of similar frames
        centres = rng.standard_normal((n // SEQUENCE + 1, dim), dtype=np.float32)
        X *= 0.7
        X += centres[np.arange(n) // SEQUENCE]
    return X


def of_faiss(X: NDArray[np.float32], case: Case, ends: str) -> Request:
    """Top-k, and for the other end the same search with negated queries; each row finds itself."""
    import faiss

    faiss.omp_set_num_threads(case.threads)
    begin = time.perf_counter()
    index = faiss.IndexFlatIP(case.dim)
    index.add(X)
    values, found = index.search(X, case.k + 1)
    top = time.perf_counter() - begin
    if ends == "both":
        index.search(-X, case.k)
    itself = found == np.arange(case.n)[:, None]
    return {"top_seconds": top, "checksum": float(values[~itself].sum(dtype=np.float64))}


def of_cliquesim(X: NDArray[np.float32], case: Case, contender: Contender) -> Request:
    import cliquesim as cs

    found = cs.neighbors(
        X,
        k=case.k,
        n_bottom=case.k if contender.ends == "both" else 0,
        groups=np.arange(case.n) // SEQUENCE if contender.pool_radius else None,
        pool_radius=contender.pool_radius,
        precision=contender.precision,
        num_threads=case.threads,
    )
    digest = hashlib.sha256()
    for array in (found.indices, found.similarities):
        digest.update(array.tobytes())
    bottom = hashlib.sha256(found.bottom_indices.tobytes() + found.bottom_similarities.tobytes())
    return {
        "checksum": float(found.similarities.sum(dtype=np.float64)),
        "digest": [digest.hexdigest(), bottom.hexdigest()],
        "info": found.info,
    }


def handle(request: Request) -> Request:
    case, contender = Case(*request["case"]), Contender(*request["contender"])
    small = case._replace(n=500)
    for one in (small, case):  # threads start and code is loaded with the small one
        X = descriptors(one.dataset, one.n, one.dim, request["seed"])

        def call(X: Any = X, one: Case = one) -> Request:
            if contender.library == "faiss":
                return of_faiss(X, one, contender.ends)
            return of_cliquesim(X, one, contender)

        answer, measures = measured(call)
    return {**answer, **measures, "held_bytes": X.nbytes}


if __name__ == "__main__":
    serve_child(handle)
