"""The calls that `bench/linkage.py` compares, each in a process of its own, and their input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _measure import Request, measured, serve_child

DATASETS = ("clustered", "gaussian", "lowdim", "duplicates", "gaps", "half-duplicates")
TIED = ("duplicates", "half-duplicates")  # many trees are right, with other heights
STORAGES = ("auto", "none", "triangle16", "triangle", "square")
OURS = ("cliquesim", "cliquesim-inplace")
DEFAULT_PEERS = ("fastcluster", "fastcluster-inplace", "scipy", "sklearn", "cliquesim")
PEERS = (*DEFAULT_PEERS, "cliquesim-inplace")
# Bytes per pair at the peak, condensed input and its copies included, as measured; vectors: 16.
PEER_BYTES = {"fastcluster": 24, "fastcluster-inplace": 16, "scipy": 20, "sklearn": 50}

Heights = tuple[NDArray[np.float64], dict[str, Any]]
Call = Callable[[], Heights]


class Contender(NamedTuple):
    peer: str
    threads: int = 1
    storage: str = "auto"

    @property
    def label(self) -> str:
        if self.peer not in OURS:
            return self.peer
        storage = "" if self.storage == "auto" else f" {self.storage}"
        return f"{self.peer}{storage} x{self.threads}"


class Case(NamedTuple):
    dataset: str
    input: str
    dtype: str
    n: int
    dim: int

    @property
    def series(self) -> str:
        return f"{self.dataset}, {self.input}, {self.dtype}"

    @property
    def pairs(self) -> int:
        return self.n * (self.n - 1) // 2

    @property
    def input_bytes(self) -> int:
        numbers = self.pairs if self.input == "condensed" else self.n * self.dim
        return numbers * np.dtype(self.dtype).itemsize

    @property
    def tied(self) -> bool:
        # Gaps next to large coordinates are rounded, and then some of them are equal.
        rounded = (self.input, self.dtype) == ("vectors", "float32")
        return self.dataset in TIED or (self.dataset == "gaps" and rounded)


def points(dataset: str, n: int, dim: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    if dataset == "clustered":
        groups = max(1, n // 20)
        return 4 * rng.normal(size=(groups, dim))[rng.integers(groups, size=n)] + rng.normal(
            size=(n, dim)
        )
    if dataset == "duplicates":
        return np.ones((n, dim))
    if dataset == "gaps":  # the nearest of each is the one before it: a single chain
        return np.cumsum(np.arange(n) + rng.uniform(0, 0.1, n))[:, None]
    if dataset == "half-duplicates":
        distinct = rng.integers(10, size=((n + 1) // 2, dim))
        return distinct[rng.permutation(n) % len(distinct)].astype(np.float64)
    return rng.normal(size=(n, dim))  # gaussian, lowdim


def condensed(X: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """SciPy's pdist, blockwise: no array in float64 beside the result."""
    from scipy.spatial.distance import cdist

    n = len(X)
    y = np.empty(n * (n - 1) // 2, dtype)
    end = 0
    for first in range(0, n, 256):
        block = cdist(X[first : first + 256], X[first:])
        for k, row in enumerate(block):
            begin, end = end, end + n - first - k - 1
            y[begin:end] = row[k + 1 :]
    return y


def handle(request: Request) -> Request:
    case = Case(*request["case"])
    if request["task"] == "make":
        np.save(request["file"], make(case, request["seed"]))
        return {}
    contender = Contender(*request["contender"])
    prepare(contender, make(case._replace(n=64), 1))[1]()
    held, call = prepare(contender, np.load(request["file"]))
    (heights, info), measures = measured(call)
    return {
        **measures,
        "held_bytes": held,
        "checksum": [float(np.sort(heights).sum()), float(heights.max(initial=0))],
        "info": info,
    }


def make(case: Case, seed: int) -> NDArray[Any]:
    X = points(case.dataset, case.n, case.dim, seed)
    return X.astype(case.dtype) if case.input == "vectors" else condensed(X, case.dtype)


def prepare(contender: Contender, y: NDArray[Any]) -> tuple[int, Call]:
    """Bytes of the input, and what is timed. A copy in the form that a peer reads, or that it may
    write to, is made here, outside."""
    peer, threads, storage = contender
    if peer in OURS:
        options: dict[str, Any] = {"overwrite": peer == "cliquesim-inplace", "storage": storage}

        import cliquesim as cs

        def ours() -> Heights:
            Z, info = cs.linkage(y, num_threads=threads, return_info=True, **options)
            return Z[:, 2], info

        return y.nbytes, ours
    if peer == "scipy":
        from scipy.cluster import hierarchy

        return y.nbytes, lambda: (hierarchy.linkage(y, "complete")[:, 2], {})
    if peer == "sklearn":
        from scipy.spatial.distance import squareform

        square = y.ndim == 1
        X = squareform(y, checks=False) if square else y
        return X.nbytes, sklearn_fit(X, "precomputed" if square else "euclidean")
    import fastcluster

    if peer == "fastcluster":
        return y.nbytes, lambda: (fastcluster.linkage(y, "complete")[:, 2], {})
    own = y.astype(np.float64, copy=False)
    in_place = {"method": "complete", "preserve_input": False}
    return own.nbytes, lambda: (fastcluster.linkage(own, **in_place)[:, 2], {})


def sklearn_fit(X: NDArray[Any], metric: str) -> Call:
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(2, metric=metric, linkage="complete", compute_distances=True)

    def fit() -> Heights:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the whole tree is built, which is the point
            return model.fit(X).distances_, {}

    return fit


if __name__ == "__main__":
    serve_child(handle)
