"""Embeddings of frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cliquesim._device import on_cuda
from cliquesim._validation import as_count, as_extent
from cliquesim.errors import InputError, RunError
from cliquesim.training.backbones import Backbone
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
        uint8 (N, H, W, 3), read in blocks, so it may be memory-mapped; or a tensor on a CUDA
        device, where the work then is done and a tensor of features comes back.
    extent
        (N, 2) in (0, 1]: shares of each frame's width and height that the subject takes; None: all.
    flip
        Embed the mirror images.
    layer
        A layer of the network; None takes the one that was trained.
    device
        Torch device. On a CUDA device pixels are made by training's kernels.
    progress
        Called with the fraction that is done.

    Raises
    ------
    InputError
        Frames of another type or shape, or on another device; an unknown layer.
    RunError
        CUDA is asked for and cannot be used, or its memory does not suffice; the message says why.
    """
    check_frames(frames)
    as_count(batch_size, "batch_size", 1)
    share = torch.from_numpy(as_extent(extent, len(frames)))
    place = _place(frames, device)
    backbone = model.backbone.to(place).eval()
    dtype = resolve_precision(model.config.precision, place)
    if torch.device(device).type == "cuda":
        # Not in inference mode: a tensor that comes back may be used in a training.
        with limited_threads(num_threads), torch.no_grad(), torch.cuda.device(place):
            # A tensor in, a tensor out: the annotation describes arrays.
            found: NDArray[np.float32] = _embed_on_cuda(
                backbone, frames, share.numpy(), flip, layer, batch_size, place, dtype, progress
            )
            return found
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


def _place(frames: Any, device: str) -> torch.device:
    place = as_torch_device(device, "embedding")
    if not on_cuda(frames):
        return place
    if place.type != "cuda" or torch.device(device).index not in (None, frames.device.index):
        raise InputError(f"frames are on {frames.device}, but device={device!r}")
    there: torch.device = frames.device
    return there


def _embed_on_cuda(
    backbone: Backbone,
    frames: Any,
    extent: NDArray[np.float32],
    flip: bool,
    layer: str | None,
    batch_size: int,
    place: torch.device,
    dtype: torch.dtype,
    progress: Callable[[float], object] | None,
) -> Any:
    from cliquesim.training._cuda_embedding import CudaEmbedding

    try:
        ours = CudaEmbedding(backbone, layer, extent, flip, batch_size, place, dtype)
        if isinstance(frames, torch.Tensor):
            return ours.of_tensor(frames.detach(), progress)
        return ours.of_array(frames, progress)
    except torch.cuda.OutOfMemoryError as error:
        raise RunError(
            f"embedding with batch_size={batch_size} does not fit into the GPU's memory: {error}"
        ) from error
