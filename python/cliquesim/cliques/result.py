"""What building cliques gives back, and what is said about it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cliquesim.errors import InputError

_HIGH_SAME_GROUP_SHARE = 0.5
_LOW_COVERAGE = 0.25


class CliqueWarning(UserWarning):
    """The cliques were built, but training on them may learn something else than similarity."""


@dataclass(frozen=True, eq=False)
class Cliques:
    """K cliques of N frames.

    Attributes
    ----------
    membership : scipy.sparse CSR matrix, (K, N)
        C of Eq. (1): 1 where a frame belongs to a clique. Every row is different.
    similarity : (K, K) float64
        S': mean pairwise similarity of two cliques' frames; positive semi-definite.
    intra_similarity : (K,) float64
        Mean similarity over the pairs of different members, negative ones counted as 0.
    threshold : float
        Similarity that all pairs of a candidate clique reached.
    same_group_pairs : float
        Share of pairs of members that come from one group; 0 without groups.
    info : dict
        Numbers of each step and seconds; see `build_cliques`.
    """

    membership: sparse.csr_matrix
    similarity: NDArray[np.float64]
    intra_similarity: NDArray[np.float64]
    threshold: float
    same_group_pairs: float
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.intra_similarity)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Members of every clique, (K,)."""
        return np.diff(self.membership.indptr).astype(np.int64)

    @property
    def coverage(self) -> float:
        """Share of frames that belong to a clique."""
        n = self.membership.shape[1]
        return len(np.unique(self.membership.indices)) / n if n else 0.0

    def members(self, k: int) -> NDArray[np.int64]:
        """Frames of clique k, ascending."""
        if not 0 <= k < len(self):
            raise InputError(f"k must be in [0, {len(self) - 1}], got {k}")
        begin, end = self.membership.indptr[k : k + 2]
        return self.membership.indices[begin:end].astype(np.int64)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays that `from_arrays` reads again; `info` is not among them."""
        return {
            "indptr": self.membership.indptr.astype(np.int64),
            "indices": self.membership.indices.astype(np.int64),
            "n_frames": np.array(self.membership.shape[1], np.int64),
            "similarity": self.similarity,
            "intra_similarity": self.intra_similarity,
            "threshold": np.array(self.threshold),
            "same_group_pairs": np.array(self.same_group_pairs),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any] | None = None
    ) -> Cliques:
        """The cliques of `to_arrays`.

        Raises
        ------
        InputError
            An array is missing, or the shapes do not fit each other.
        """
        names = ("indptr", "indices", "n_frames", "similarity", "intra_similarity", "threshold")
        for name in (*names, "same_group_pairs"):
            if name not in arrays:
                raise InputError(f"the arrays of the cliques lack {name!r}")
        indptr, indices = np.asarray(arrays["indptr"]), np.asarray(arrays["indices"])
        n, K = int(arrays["n_frames"]), len(indptr) - 1
        intra = np.asarray(arrays["intra_similarity"], np.float64)
        similarity = np.asarray(arrays["similarity"], np.float64)
        if K < 0 or indptr[0] != 0 or indptr[-1] != indices.size or (np.diff(indptr) < 0).any():
            raise InputError("indptr must ascend from 0 to the length of indices")
        if indices.size and not 0 <= indices.min() <= indices.max() < n:
            raise InputError(f"indices must be in [0, {n - 1}]")
        if similarity.shape != (K, K) or intra.shape != (K,):
            raise InputError(
                f"{K} cliques need similarity ({K}, {K}) and intra_similarity ({K},), "
                f"got {similarity.shape} and {intra.shape}"
            )
        return cls(
            membership_matrix(indptr, indices, n),
            similarity,
            intra,
            float(arrays["threshold"]),
            float(arrays["same_group_pairs"]),
            dict(info or {}),
        )


def membership_matrix(indptr: NDArray[Any], indices: NDArray[Any], n: int) -> sparse.csr_matrix:
    """C of Eq. (1), (K, n), from the offsets and the members of the cliques."""
    ones = np.ones(len(indices), np.int32)
    return sparse.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, n))


def warn_about(cliques: Cliques, has_groups: bool) -> None:
    """Warn the caller of `build_cliques` when training on the cliques would go astray."""
    if has_groups and cliques.same_group_pairs > _HIGH_SAME_GROUP_SHARE:
        warnings.warn(
            f"{cliques.same_group_pairs:.0%} of the pairs within cliques are of one group: "
            "training would learn which sequence a frame is from. Lower per_group, or set "
            "group_window",
            CliqueWarning,
            stacklevel=3,
        )
    if cliques.coverage < _LOW_COVERAGE:
        warnings.warn(
            f"the cliques cover {cliques.coverage:.0%} of the frames. Lower similarity_quantile or "
            "min_size, raise max_cliques, or take more neighbours",
            CliqueWarning,
            stacklevel=3,
        )
