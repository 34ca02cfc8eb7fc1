"""k-nearest-neighbour classification (Sect. 3.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cliquesim._validation import as_choice, as_count, as_matrix
from cliquesim.errors import InputError
from cliquesim.fusion import standardize

_BLOCK_VALUES = 1 << 24


def knn_accuracy(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    k: int = 5,
    metric: str = "correlation",
) -> float:
    """Share of test rows whose k most similar training rows vote for the right class.

    Parameters
    ----------
    train_features, test_features : (n, E), (m, E)
    train_labels, test_labels : (n,), (m,) of int or str
    k : int
        Neighbours that vote; of classes with equally many votes the one with the most similar
        neighbour wins. Equally similar neighbours are taken in order of their rows.
    metric : "correlation" or "dot"
        Pearson correlation (Sect. 3.5) or inner product.

    Raises
    ------
    InputError
        Shapes that do not fit, k above n, NaN or inf (the row is named).

    Examples
    --------
    >>> knn_accuracy([[1, 0, 0], [0, 1, 0]], ["a", "b"], [[3, 1, 0]], ["a"], k=1)
    1.0
    """
    as_choice(metric, "metric", ("correlation", "dot"))
    train = as_matrix(train_features, "train_features", np.float64)
    test = as_matrix(test_features, "test_features", np.float64)
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"train_features and test_features differ in width: {train.shape[1]}, {test.shape[1]}"
        )
    known, wanted = np.asarray(train_labels), np.asarray(test_labels)
    if known.shape != (len(train),) or wanted.shape != (len(test),) or not len(test):
        raise InputError("train_labels and test_labels must have one label a row")
    if as_count(k, "k", minimum=1) > len(train):
        raise InputError(f"k must be at most the {len(train)} training rows, got {k}")
    if metric == "correlation":
        train, test = standardize(train, np.float64), standardize(test, np.float64)
    classes, codes = np.unique(known, return_inverse=True)
    n_correct = 0
    block = max(1, _BLOCK_VALUES // len(train))
    for start in range(0, len(test), block):
        similarities = test[start : start + block] @ train.T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        votes = codes[nearest]
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
        # argmax takes the first, so the most similar, of the neighbours with most votes.
        winner = votes[np.arange(len(votes)), counts.argmax(axis=1)]
        n_correct += int((classes[winner] == wanted[start : start + block]).sum())
    return n_correct / len(test)
