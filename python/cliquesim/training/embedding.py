"""Embeddings of frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_count, as_extent
from cliquesim.training.model import EmbeddingModel
from cliquesim.training.pixels import (
    as_floats,
    as_torch_device,
    check_frames,
    limited_threads,
    resized,
    resolve_precision,
)


def embed(
    model: EmbeddingModel,
    frames: NDArray[Any],
    *,
    extent: ArrayLike | None = None,
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
    extent
        (N, 2) in (0, 1]: shares of each frame's width and height that the subject takes; None: all.
    flip
        Embed the mirror images.
    layer
        A layer of the network; None takes the one that was trained.
    device
        Torch device.
    progress
        Called with the fraction that is done.

    Raises
    ------
    InputError
        Frames of another type or shape, an unknown layer.
    RunError
        CUDA is asked for and cannot be used; the message says why.
    """
    check_frames(frames)
    as_count(batch_size, "batch_size", 1)
    share = torch.from_numpy(as_extent(extent, len(frames)))
    place = as_torch_device(device, "embedding")
    backbone = model.backbone.to(place).eval()
    dtype = resolve_precision(model.config.precision, place)
    blocks = []
    with limited_threads(num_threads), torch.inference_mode():
        for start in range(0, len(frames), batch_size):
            block = resized(frames[start : start + batch_size], backbone.image_size, place)
            pixels = as_floats(block)
            if flip:
                pixels = pixels.flip(3)
            with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
                features = backbone.embed(
                    pixels, layer, share[start : start + batch_size].to(place)
                )
            blocks.append(features.float().cpu().numpy())
            if progress is not None:
                progress(min(1.0, (start + batch_size) / len(frames)))
    return np.concatenate(blocks)
