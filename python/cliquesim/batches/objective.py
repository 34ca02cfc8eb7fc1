"""Eq. (1)."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from cliquesim._validation import as_real
from cliquesim.batches.problem import as_binary, as_problem


def batch_objective(
    X: ArrayLike,
    membership: Any,
    similarity: ArrayLike,
    lambda1: float,
    lambda2: float,
    p: float = 1 / 16,
) -> float:
    """Objective of the batch selection, Eq. (1) as printed; smaller is better.

    ``tr(X S' X^T) - tr(X diag(S') X^T) - lambda1 sum_b ||x_b C||_p^p - lambda2 ||1 X C||_p^p``

    Parameters
    ----------
    X : (B, K) of 0 and 1
        Which cliques are in which batch.
    membership : (K, N) of 0 and 1, sparse or dense
        C, the samples of each clique.
    similarity : (K, K)
        S', similarity between cliques; only its symmetric part matters.
    lambda1, lambda2 : float
        Weights of the coverage of each batch and of all batches together.
    p : float in (0, 1]

    Returns
    -------
    float

    Raises
    ------
    InputError
        Shapes that do not fit, NaN, entries other than 0 and 1.

    Examples
    --------
    >>> import numpy as np, cliquesim as cs
    >>> S, C = np.array([[1.0, 0.25], [0.25, 1.0]]), np.array([[1, 1, 0], [0, 0, 1]])
    >>> cs.batch_objective([[1, 1]], C, S, lambda1=1.0, lambda2=0.5)
    -4.0
    """
    problem = as_problem(membership, similarity, p)
    terms = problem.terms(as_binary(X, problem.n_cliques))
    weights = (1.0, -as_real(lambda1, "lambda1"), -as_real(lambda2, "lambda2"))
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))
