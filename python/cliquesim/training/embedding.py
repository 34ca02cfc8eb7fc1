"""Embeddings of frames, and one vector per frame out of several features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_count, as_matrix, as_real
from cliquesim.errors import InputError
from cliquesim.training.model import EmbeddingModel
from cliquesim.training.pixels import check_frames, limited_threads, resolve_precision, to_pixels


def embed(
    model: EmbeddingModel,
    frames: NDArray[Any],
    *,
    flip: bool = False,
    layer: str | None = None,
    batch_size: int = 256,
    device: str = "cpu",
    num_threads: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> NDArray[np.float32]:
    """Features (N, E) float32 of a late layer; similarity is their Pearson correlation (Sect. 2.4).

    Parameters
    ----------
    model
        From `train` or `EmbeddingModel.load`.
    frames
        uint8 (N, H, W, 3), read in blocks, so it may be memory-mapped.
    flip
        Embed the mirror images.
    layer
        A layer of the network; None takes the one that was trained.
    progress
        Called with the fraction that is done.

    Raises
    ------
    InputError
        Frames of another type or shape, an unknown layer.
    """
    check_frames(frames)
    as_count(batch_size, "batch_size", 1)
    place = torch.device(device)
    backbone = model.backbone.to(place).eval()
    dtype = resolve_precision(model.config.precision, place)
    blocks = []
    with limited_threads(num_threads), torch.inference_mode():
        for start in range(0, len(frames), batch_size):
            pixels = to_pixels(frames[start : start + batch_size], backbone.image_size, place)
            if flip:
                pixels = pixels.flip(3)
            with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
                features = backbone.embed(pixels, layer)
            blocks.append(features.float().cpu().numpy())
            if progress is not None:
                progress(min(1.0, (start + batch_size) / len(frames)))
    return np.concatenate(blocks)


def standardize(features: ArrayLike) -> NDArray[np.float32]:
    """Rows without their mean, of length 1: dot products become Pearson correlations.

    A constant row becomes 0.
    """
    X = as_matrix(features, "features").astype(np.float64)
    X -= X.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    return (X / np.where(norm > 0, norm, 1.0)).astype(np.float32)


def fuse(
    features: Sequence[ArrayLike],
    *,
    weights: Sequence[float] | None = None,
    metrics: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    n_pairs: int = 200_000,
    seed: int = 0,
) -> NDArray[np.float32]:
    """One vector per frame whose dot product adds up several similarities on a common scale.

    Each feature's similarity is divided by its standard deviation over random pairs of frames
    (of different groups, if given), which needs no labels; the parts are concatenated.
    Subtracting the mean, the other half of a z-score, would not change any ranking.

    Parameters
    ----------
    features
        Arrays (N, D_i).
    weights
        One a feature; equal by default.
    metrics
        `"correlation"` (the default of each) or `"dot"`: what the feature is compared by.
    groups
        int (N,), the sequence of each frame.
    n_pairs
        Random pairs that estimate the spread.

    Returns
    -------
    float32 (N, sum of D_i)

    Examples
    --------
    >>> import numpy as np
    >>> from cliquesim.training import fuse
    >>> rng = np.random.default_rng(0)
    >>> fuse([rng.normal(size=(50, 8)), rng.normal(size=(50, 3))]).shape
    (50, 11)
    """
    if len(features) == 0:
        raise InputError("features must hold at least one array")
    weights = [1.0] * len(features) if weights is None else list(weights)
    metrics = ["correlation"] * len(features) if metrics is None else list(metrics)
    if not len(weights) == len(metrics) == len(features):
        raise InputError("weights and metrics must have one entry for each feature")
    parts = []
    for i, (values, metric) in enumerate(zip(features, metrics, strict=True)):
        if metric not in ("correlation", "dot"):
            raise InputError(f"metrics must be 'correlation' or 'dot', got {metric!r}")
        X = as_matrix(values, f"features[{i}]")
        parts.append(standardize(X) if metric == "correlation" else X)
        if len(X) != len(parts[0]):
            raise InputError(f"features[{i}] has {len(X)} rows, features[0] {len(parts[0])}")
    a, b = _random_pairs(len(parts[0]), groups, n_pairs, seed)
    for i, part in enumerate(parts):
        weight = as_real(weights[i], f"weights[{i}]", 0.0)
        spread = float(np.std(_pair_similarities(part, a, b))) if len(a) else 0.0
        parts[i] = part * np.float32(np.sqrt(weight / spread) if spread > 0 else 0.0)
    return np.concatenate(parts, axis=1)


def _random_pairs(
    n: int, groups: ArrayLike | None, n_pairs: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, n, (2, n_pairs))
    apart = a != b
    if groups is not None:
        labels = np.asarray(groups)
        if labels.shape != (n,):
            raise InputError(f"groups must have shape ({n},), got {labels.shape}")
        different = apart & (labels[a] != labels[b])
        apart = different if different.any() else apart
    return a[apart], b[apart]


def _pair_similarities(
    X: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64], block: int = 4096
) -> NDArray[np.float64]:
    values = [
        np.einsum("ij,ij->i", X[a[s : s + block]], X[b[s : s + block]], dtype=np.float64)
        for s in range(0, len(a), block)
    ]
    return np.concatenate(values)
