"""A small training: settings of a tiny network, and frames whose cliques it can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

SMALL: dict[str, Any] = {
    "image_size": 32,
    "channels": (4, 8),
    "embedding_dim": 16,
    "batch_size": 16,
    "images_per_clique": 4,
    "cliques_per_batch": 4,
}


def bars() -> tuple[np.ndarray, sp.csr_array, np.ndarray]:
    """24 frames, 6 cliques of 4, each a bar at its own angle on a noisy background; sequences."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:40, :40] - 19.5
    frames = []
    for clique in range(6):
        for _ in range(4):
            angle = np.pi * clique / 6 + rng.normal(0, 0.05)
            bar = np.abs(x * np.sin(angle) - y * np.cos(angle)) < 3
            color, back = rng.integers(0, 256, (2, 3))
            frames.append(np.where(bar[..., None], color, back) + rng.normal(0, 8, (40, 40, 3)))
    pixels = np.clip(frames, 0, 255).astype(np.uint8)
    return pixels, sp.csr_array(np.kron(np.eye(6), np.ones(4))), np.arange(24) % 4
