"""UoCTTI HOG descriptors (Sect. 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliquesim import _core
from cliquesim._device import check_device
from cliquesim._mapped import is_mapped, release
from cliquesim._validation import as_count, as_output, as_threads
from cliquesim.errors import InputError

if TYPE_CHECKING:
    import torch

HOG_CHANNELS = 31
_CHUNK_BYTES = 1 << 26


def hog_shape(height: int, width: int, cell_size: int = 8) -> tuple[int, int]:
    """Rows and columns of the descriptor of a `height` x `width` frame.

    ``round(pixels / cell_size) - 2`` with halves rounded up, as C and MATLAB do.

    Raises
    ------
    InputError
        The frame has fewer than 3 x 3 cells (or pixels).
    """
    rows, cols = ((2 * side + cell_size) // (2 * cell_size) - 2 for side in (height, width))
    if min(rows, cols) < 1 or min(height, width) < 3:
        needed = max(3, (5 * cell_size + 1) // 2)
        raise InputError(
            f"images of {height} x {width} pixels are too small for HOG with cell_size={cell_size}:"
            f" at least 3 x 3 cells, that is {needed} x {needed} pixels, are needed"
        )
    return rows, cols


def hog(
    images: NDArray[np.uint8] | torch.Tensor,
    cell_size: int = 8,
    num_threads: int | None = None,
    device: str = "cpu",
    progress: Callable[[float], object] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """UoCTTI HOG of every frame, by the rules of voc-release (Felzenszwalb et al. 2010).

    Per cell 18 signed orientations, 9 unsigned ones and 4 texture energies. The strongest channel's
    central difference votes into the nearest of 18 orientations (decided exactly, in integers; the
    earlier channel wins ties) and bilinearly into 4 cells; cells are normalised by their four 2 x 2
    neighbourhoods and clipped at 0.2; the outermost cells only serve to normalise.

    Parameters
    ----------
    images : uint8 array, (N, H, W, 3) RGB or (N, H, W) grey
        May be memory-mapped, read-only or not contiguous; it is never copied as a whole, and of a
        mapped array 64 MiB at a time are in memory.
    cell_size : int
        Side of a cell in pixels.
    num_threads : int, optional
        Threads; all processors of this process by default. Frames are spread over them, the result
        does not depend on it.
    device : {"cpu", "cuda"}
        With "cuda", an array goes to the current device and comes back block by block; a tensor on
        a CUDA device is described there, on the caller's current stream. The sums are those of the
        CPU in the same order, equal within float32 rounding.
    progress : callable, optional
        Gets the finished share, 0 to 1, a few times a second.
    out : float32 array (N, h, w, 31), C-contiguous, optional
        Where to write (for example a memory-mapped file); not for tensors.

    Returns
    -------
    float32 array (N, h, w, 31), h = round(H / cell_size) - 2, w = round(W / cell_size) - 2
        With device="cuda", a torch tensor on that device if `images` is one there.

    Raises
    ------
    InputError
        Not uint8, wrong shape, or frames of fewer than 3 x 3 cells.
    RunError
        CUDA cannot be used, or its memory does not suffice; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> import cliquesim as cs
    >>> frames = np.random.default_rng(0).integers(0, 256, (10, 96, 64, 3), dtype=np.uint8)
    >>> cs.hog(frames).shape
    (10, 10, 6, 31)
    """
    check_device(device, "hog")
    cell_size = as_count(cell_size, "cell_size", minimum=1)
    threads = as_threads(num_threads)
    if device == "cuda" and getattr(images, "is_cuda", False):
        # A tensor in, a tensor out: the annotation describes arrays.
        result: Any = _hog_of_tensor(images, cell_size, progress, out)
        return result  # type: ignore[no-any-return]
    frames = _as_frames(np.asarray(images))
    shape = _features_shape(frames, cell_size)
    features = np.empty(shape, np.float32) if out is None else as_output(out, shape)
    if device == "cuda":
        from cliquesim.features._hog_cuda import hog_of_array

        hog_of_array(frames, features, cell_size, progress)
        return features if out is None else out
    for start, stop in _chunks(frames, features):
        chunk = np.ascontiguousarray(frames[start:stop])
        report = _part(progress, start / len(frames), stop / len(frames))
        _core.hog(chunk, features[start:stop], cell_size, threads, report)
        release(frames[:stop])  # a fault may bring back what lies before
        release(features[:stop])
    return features if out is None else out


def _hog_of_tensor(
    images: Any, cell_size: int, progress: Callable[[float], object] | None, out: object
) -> Any:
    from cliquesim.features._hog_cuda import hog_of_tensor

    if out is not None:
        raise InputError("out is for arrays; a tensor's features are a new tensor")
    frames = _as_frames(images.detach())
    features = hog_of_tensor(frames, _features_shape(frames, cell_size), cell_size)
    if progress is not None:
        progress(1.0)
    return features


def _features_shape(frames: Any, cell_size: int) -> tuple[int, ...]:
    n, height, width, _ = frames.shape
    return (n, *hog_shape(height, width, cell_size), HOG_CHANNELS)


def _as_frames(images: Any) -> Any:
    """(N, H, W, C) view of an array or a tensor."""
    if str(images.dtype).removeprefix("torch.") != "uint8":
        raise InputError(f"images must be uint8 (0 to 255), got dtype {images.dtype}")
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] == 3:
        return images
    raise InputError(
        "images must have shape (N, H, W, 3), RGB, or (N, H, W), grey; got shape "
        f"{tuple(images.shape)} (one frame is images[np.newaxis])"
    )


def _chunks(frames: NDArray[np.uint8], features: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """All frames at once, or blocks where they have to be copied or come from or go to a file."""
    step = max(1, len(frames))
    if len(frames) and (not frames.flags.c_contiguous or is_mapped(frames) or is_mapped(features)):
        step = max(1, _CHUNK_BYTES // max(1, frames[0].nbytes))
    for start in range(0, len(frames), step):
        yield start, min(start + step, len(frames))


def _part(
    progress: Callable[[float], object] | None, begin: float, end: float
) -> Callable[[float], object] | None:
    if progress is None:
        return None
    return lambda fraction: progress(begin + (end - begin) * fraction)
