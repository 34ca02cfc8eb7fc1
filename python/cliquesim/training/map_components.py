"""The principal components of a trained network's last map, which join its embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cliquesim.training.backbones import CompactNet
from cliquesim.training.embedding import embed
from cliquesim.training.model import EmbeddingModel

SAMPLE = 2048  # pool rows that the components are from
_NEGLIGIBLE = 1e-7  # share of the largest eigenvalue below which a component is rounding


def add_map_components(
    model: EmbeddingModel,
    frames: NDArray[Any],
    frame: NDArray[np.int64],
    flip: NDArray[np.bool_],
    extent: NDArray[np.float32],
    device: str = "cpu",
) -> None:
    """Give a compact network its `"joint"` layer, by the maps of evenly spaced rows of the pool.

    `frame` and `flip` are of each pool row, `extent` of each frame; see `train`. Nothing happens to
    other networks, with `map_components=0`, or where all maps are equal.
    """
    backbone, wanted = model.backbone, model.config.map_components
    if not isinstance(backbone, CompactNet) or wanted == 0:
        return
    rows = np.unique(np.linspace(0, len(frame) - 1, min(SAMPLE, len(frame))).astype(np.int64))
    maps = np.concatenate(
        [
            embed(model, frames[some], extent=extent[some], flip=side, layer="conv", device=device)
            for side in (False, True)
            if len(some := frame[rows[flip[rows] == side]])
        ]
    )
    mean, components = principal_components(maps, wanted)
    if len(components):
        place = backbone.fc.weight.device
        backbone.set_components(
            torch.from_numpy(mean).to(place), torch.from_numpy(components).to(place)
        )


def principal_components(
    rows: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (D,) and at most `count` orthonormal leading directions (k, D) of rows (n, D).

    From the eigenvectors of the rows' products, as there are fewer rows than dimensions.
    """
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    count = min(count, len(rows) - 1)  # centred rows sum to 0
    kept = np.flatnonzero(values > _NEGLIGIBLE * max(values[-1], 0.0))[::-1][:count]
    directions = vectors[:, kept].T @ centred / np.sqrt(values[kept])[:, None]
    return mean, directions.astype(np.float32)
