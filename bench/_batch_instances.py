"""Seeded instances of the batch selection: membership C and similarity S'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

PATTERNS = ("scattered", "chained", "hubs")


def instance(
    pattern: str, n_cliques: int, n_samples: int, seed: int, dimensions: int = 16
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Cliques of 3 to 10 samples that look alike and overlap in one of three ways.

    "scattered": members at random among the samples that show one topic (8 cliques per topic);
    "hubs": the same, but a few samples of each topic are in most of its cliques; "chained": runs of
    a sequence that walks through the descriptor space, so that neighbours overlap. S' is the Gram
    matrix of the cliques' mean descriptors.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, min(11, n_samples), n_cliques)
    C = np.zeros((n_cliques, n_samples))
    if pattern == "chained":
        H = np.cumsum(rng.standard_normal((n_samples, dimensions)), axis=0)
        H -= H.mean(axis=0)
        for k, size in enumerate(sizes):
            C[k, (k * n_samples // n_cliques + np.arange(size)) % n_samples] = 1
    else:
        n_topics = max(1, min(n_cliques // 8, n_samples // 12))
        topic = np.arange(n_samples) % n_topics
        H = rng.standard_normal((n_topics, dimensions))[topic]
        H += 0.7 * rng.standard_normal(H.shape)
        for k, size in enumerate(sizes):
            shown = np.flatnonzero(topic == k % n_topics)
            rank = np.arange(1.0, shown.size + 1)
            popularity = rank**-0.7 if pattern == "hubs" else np.ones(shown.size)
            C[k, rng.choice(shown, size, replace=False, p=popularity / popularity.sum())] = 1
    H /= np.linalg.norm(H, axis=1, keepdims=True)
    means = C @ H / C.sum(axis=1, keepdims=True)
    return sparse.csr_array(C), means @ means.T


def cliques_of_run(
    run: Path, round_number: int = 1
) -> list[tuple[sparse.csr_array, NDArray[np.float64]]]:
    """Membership and similarity of every part (category) that a run folder has cliques of."""
    folder = run / f"round-{round_number}" / "cliques"
    offsets, indices, part = (
        np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("indptr", "indices", "part")
    )
    C = sparse.csr_array((np.ones(indices.size), indices, offsets))
    return [
        (
            C[np.flatnonzero(part == number)],
            np.load(folder / f"similarity-{number}.npy", allow_pickle=False),
        )
        for number in np.unique(part)
    ]
