"""The data of Eq. (1), checked once and in the form that the kernels take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse

from cliquesim import _core
from cliquesim._validation import as_matrix, as_real
from cliquesim.errors import InputError

Float: TypeAlias = NDArray[np.float64]
Int: TypeAlias = NDArray[np.int64]

LARGEST = 1e100  # of similarities and lambdas: their sums and squares must not overflow


@dataclass(frozen=True)
class BatchProblem:
    """S' and C: `similarity` (K, K) and the membership with equal samples merged.

    Clique k holds the merged samples ``indices[offsets[k]:offsets[k + 1]]``; merged sample n stands
    for ``weights[n]`` samples.
    """

    similarity: Float
    offsets: Int
    indices: Int
    weights: Float
    p: float

    @property
    def n_cliques(self) -> int:
        return int(self.similarity.shape[0])

    @property
    def arrays(self) -> tuple[Float, Int, Int, Float]:
        """Arguments that every kernel takes in this order."""
        return self.similarity, self.offsets, self.indices, self.weights

    @property
    def clique_sizes(self) -> Float:
        """Samples of each clique."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.weights[self.indices])])
        return np.asarray(cumulative[self.offsets[1:]] - cumulative[self.offsets[:-1]])

    def covered(self, cliques: NDArray[np.bool_]) -> float:
        """Share of the samples that some clique of `cliques` (K,) holds."""
        holder = np.repeat(cliques, np.diff(self.offsets))
        return float(self.weights[np.unique(self.indices[holder])].sum() / self.weights.sum())

    def with_similarity(self, similarity: Float) -> BatchProblem:
        return replace(self, similarity=similarity)

    def terms(
        self, X: ArrayLike, smoothing: float = 0.0, num_threads: int = 0
    ) -> tuple[float, float, float]:
        """The three terms of Eq. (1) without lambda and sign: similarity and both coverages."""
        x = np.ascontiguousarray(X, dtype=np.float64)
        return _core.objective_terms(x, *self.arrays, self.p, smoothing, num_threads)


def as_problem(membership: Any, similarity: ArrayLike, p: float) -> BatchProblem:
    """Check and convert; raises InputError that names the argument and the row."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.floating)) or not 0 < p <= 1:
        raise InputError(f"p must be in (0, 1], got {p!r}")
    S = as_matrix(similarity, "similarity", np.float64)
    if S.shape[0] != S.shape[1]:
        raise InputError(f"similarity must be square (K, K), got shape {S.shape}")
    if S.shape[0] == 0:
        raise InputError("similarity must hold at least one clique, got shape (0, 0)")
    too_large = np.flatnonzero((np.abs(S) > LARGEST).any(axis=1))
    if too_large.size:
        raise InputError(f"similarity has an entry beyond {LARGEST:g} in row {too_large[0]}")
    C = _as_membership(membership)
    if C.shape[0] != S.shape[0]:
        raise InputError(
            f"membership has {C.shape[0]} cliques (rows), but similarity is {S.shape[0]} x "
            f"{S.shape[1]}"
        )
    # tr(X S' X^T) knows only the symmetric part.
    S = np.ascontiguousarray(0.5 * (S + S.T))
    offsets, indices, weights = _core.merge_samples(
        C.indptr.astype(np.int64), C.indices.astype(np.int64), C.shape[1]
    )
    return BatchProblem(S, offsets, indices, weights, float(p))


def _as_membership(membership: Any) -> Any:
    if not sparse.issparse(membership):
        membership = as_matrix(membership, "membership", np.float64)
    if membership.ndim != 2:
        raise InputError(f"membership must have 2 dimensions, got shape {membership.shape}")
    C: Any = sparse.csr_array(membership, copy=True)
    C.sum_duplicates()
    if C.data.dtype.kind not in "fiub":
        raise InputError(f"membership must hold numbers, got dtype {C.data.dtype}")
    C.eliminate_zeros()
    wrong = np.flatnonzero(C.data != 1)
    if wrong.size:
        row = int(np.searchsorted(C.indptr, wrong[0], side="right")) - 1
        raise InputError(
            f"membership must hold only 0 and 1, row {row} holds {C.data[wrong[0]].item()!r}"
        )
    return C


def as_weight(value: float, name: str) -> float:
    """A lambda."""
    return as_real(value, name, 0.0, LARGEST)


def as_binary(X: ArrayLike, n_cliques: int) -> Float:
    """X of shape (B, K) with entries 0 and 1."""
    x = as_matrix(X, "X", np.float64)
    if x.shape[1] != n_cliques:
        raise InputError(f"X must have one column per clique, {n_cliques}, got shape {x.shape}")
    wrong = np.flatnonzero(((x != 0) & (x != 1)).any(axis=1))
    if wrong.size:
        raise InputError(f"X must hold only 0 and 1; row {wrong[0]} does not")
    return x


def smallest_eigenvalue(similarity: Float) -> float:
    return float(linalg.eigvalsh(similarity, subset_by_index=[0, 0])[0])


def is_positive_semidefinite(similarity: Float, tolerance: float = 1e-9) -> bool:
    """Up to `tolerance` times the largest entry. A Cholesky factorisation, O(K^3 / 3)."""
    largest = float(np.abs(similarity).max())
    if largest == 0.0:
        return True
    shift = tolerance * largest
    try:
        linalg.cholesky(similarity + shift * np.eye(similarity.shape[0]), check_finite=False)
    except linalg.LinAlgError:
        return False
    return True


def make_positive_semidefinite(similarity: Float, how: str) -> tuple[Float, float]:
    """S' that makes u of Eq. (3) convex, and the diagonal shift that was added.

    "shift" adds delta I; Eq. (1) subtracts the diagonal, so it keeps its value for every binary X.
    "project" is the paper's: negative eigenvalues become 0.
    """
    if is_positive_semidefinite(similarity):
        return similarity, 0.0
    if how == "shift":
        delta = -smallest_eigenvalue(similarity) * (1 + 1e-9)
        return similarity + delta * np.eye(similarity.shape[0]), delta
    values, vectors = linalg.eigh(similarity)
    projected = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return np.ascontiguousarray(0.5 * (projected + projected.T)), 0.0


def default_lambda(problem: BatchProblem, cliques_per_batch: int) -> float:
    """The lambda that gives the coverage of a clique the weight of its similarities.

    2 (r - 1) sigma / m: sigma is the standard deviation of S' off the diagonal, so 2 (r - 1) sigma
    is how much the choice of one clique can change the similarity term of its batch, and m, the
    mean number of samples of a clique, how much it can change a coverage term.
    """
    S = problem.similarity
    n = problem.n_cliques
    off_diagonal = S[~np.eye(n, dtype=bool)] if n <= 2000 else S
    sigma = float(off_diagonal.std()) if off_diagonal.size else 0.0
    if sigma <= 1e-12 * float(np.abs(S).max()):
        sigma = float(np.abs(S).max()) or 1.0
    mean_size = max(float(problem.clique_sizes.mean()), 1.0)
    return 2.0 * max(cliques_per_batch - 1, 1) * sigma / mean_size


@dataclass(frozen=True)
class StepSettings:
    """How one CCCP step is solved."""

    lambda1: float
    lambda2: float
    smoothing: float
    tol: float = 1e-8
    max_iterations: int = 200
    solver: str = "native"
    num_threads: int = 0
    device: str = "cpu"
