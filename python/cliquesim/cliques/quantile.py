"""How strict cliques should be, chosen without labels.

Strict cliques are pure and leave frames out, loose ones hold everything and mean little. Cliques
made from one half of the descriptors' dimensions are therefore judged by the other half: what share
of a frame's vector do the other members of its cliques explain there, and nothing where it is in
none? Whitened dimensions are nearly uncorrelated: what one half shows by chance the other does not.
The share hardly changes as long as looser cliques spoil what they add: of the quantiles near its
top the strictest is taken, as the one-standard-error rule takes the simplest model (Breiman et al.,
Classification and Regression Trees, 1984, section 3.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.98, 0.99)
TOLERANCE = 0.03  # of the largest share, that is given up for stricter cliques
_BLOCK = 2048  # cliques worked on at a time


def explained_share(membership: Any, X: NDArray[np.float32]) -> float:
    """Mean share of a row's vector that the other members of its cliques explain.

    That is the squared correlation of the row with their mean, negative where they point the other
    way; a mean over the row's cliques, and 0 where it has none.

    Parameters
    ----------
    membership : sparse (K, N), C of Eq. (1).
    X : float32 (N, E), centred rows of length 1 (`standardize`).
    """
    C = membership.tocsr().astype(np.float32)
    share = np.zeros(len(X))
    for begin in range(0, C.shape[0], _BLOCK):
        block = C[begin : begin + _BLOCK]
        row, clique = block.indices, np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        others = (block @ X)[clique] - X[row]
        length = np.linalg.norm(others, axis=1)
        correlation = np.einsum("ij,ij->i", others, X[row]) / np.where(length > 0, length, np.inf)
        share += np.bincount(row, correlation * np.abs(correlation), minlength=len(X))
    return float(np.mean(share / np.maximum(1, np.bincount(C.indices, minlength=len(X)))))


def strictest(quantiles: Sequence[float], shares: Sequence[float]) -> float:
    """The largest of the quantiles that explains all but `TOLERANCE` of the largest share."""
    enough = (1 - TOLERANCE) * max(shares)
    return max(q for q, share in zip(quantiles, shares, strict=True) if share >= enough)


def halves(width: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random halves of the columns, each ascending."""
    shuffled = np.random.default_rng(seed).permutation(width)
    return np.sort(shuffled[: width // 2]), np.sort(shuffled[width // 2 :])
