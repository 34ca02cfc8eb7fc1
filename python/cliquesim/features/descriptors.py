"""HOG-LDA of a frame at one or several scales, as one vector whose dot product is the similarity.

Sect. 2.1: s_ij = phi_i . phi_j with phi the whitened HOG, here without its mean and of length 1, so
that s_ij is a correlation. Several scales are concatenated, each weighted by the inverse spread of
its similarities, so that every scale counts the same; their weighted sum is again one dot product.
Cells outside the subject's box, where it is known, have the mean of those inside: they say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cliquesim._files import load_json, save_json, write_atomically
from cliquesim._threads import over_blocks
from cliquesim._validation import as_extent
from cliquesim.errors import InputError
from cliquesim.features.hog import hog
from cliquesim.features.whitening import Whitening
from cliquesim.fusion import similarity_spread, standardize

_BLOCK = 512  # frames that are resized and described at a time
_THREAD_FRAMES = 32  # and those that a thread resizes


def rescale(
    frames: NDArray[np.uint8], side: int, margin: float = 1.0, num_threads: int | None = 1
) -> NDArray[np.uint8]:
    """The central 1/margin of every frame (N, H, W, 3), antialiased to (N, side, side, 3)."""
    n, height, width = frames.shape[:3]
    if (height, width) == (side, side) and margin == 1.0:
        return np.asarray(frames)
    dx, dy = width * (1 - 1 / margin) / 2, height * (1 - 1 / margin) / 2
    box = (dx, dy, width - dx, height - dy)
    result = np.empty((n, side, side, 3), np.uint8)

    def some(rows: slice) -> None:
        for i in range(rows.start, rows.stop):
            image = Image.fromarray(np.ascontiguousarray(frames[i]))
            result[i] = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))

    over_blocks(n, _THREAD_FRAMES, some, num_threads)
    return result


def within(
    extent: NDArray[np.float32], cells: tuple[int, int], margin: float
) -> NDArray[np.float32]:
    """How far each cell of HOG lies within the subject: float32 (N, h, w, 1), from 0 to 1.

    A cell collects pixels up to one cell from its centre: its weight is 1 where these are all
    within, and falls to 0 where its centre leaves the subject.

    Parameters
    ----------
    extent : (N, 2) shares of the frame's width and height that the subject takes; an axis with a
        share of 1 has no outside.
    cells : rows and columns (h, w) that HOG gives; it leaves out the outermost ones of the crop.
    margin : the frame's side over the crop's side.
    """
    weights = []
    for share, count in ((extent[:, 1], cells[0]), (extent[:, 0], cells[1])):
        # Cell centres and the subject's edge, in cells from the frame's centre.
        centre = np.abs(np.arange(count) - (count - 1) / 2)
        edge = share[:, None] * ((count + 2) * margin / 2)
        weight = np.where(share[:, None] < 1, np.clip(edge - centre, 0.0, 1.0), 1.0)
        weights.append(weight.astype(np.float32))
    both: NDArray[np.float32] = weights[0][:, :, None] * weights[1][:, None, :]
    return both[..., None]


def _faded(
    raw: NDArray[np.float32], mean: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """From the mean (weight 0) to the features themselves (weight 1)."""
    return mean + weight * (raw - mean)


def _fade_all(raw: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """Put the mean of what lies within the subjects, cell by cell, where they are not."""
    total = np.zeros(raw.shape[1:])
    for rows in _blocks(len(raw)):
        total += np.einsum("nijc,nij->ijc", raw[rows], weight[rows, :, :, 0], dtype=np.float64)
    mean = (total / np.maximum(weight.sum(axis=0, dtype=np.float64), 1e-12)).astype(np.float32)
    for rows in _blocks(len(raw)):
        raw[rows] = _faded(raw[rows], mean, weight[rows])


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + 8 * _BLOCK) for start in range(0, n, 8 * _BLOCK)]


@dataclass
class Scale:
    """One scale: the side at which HOG sees the frame, the crop's margin, whitening and weight."""

    side: int
    margin: float
    whitening: Whitening
    weight: float = 1.0


class HogLda:
    """Whitened multi-scale HOG.

    Parameters
    ----------
    sides, margins : per scale, the side in pixels and the frame's side over the crop's side.
    cell_size : HOG cell in pixels.
    estimator, shrinkage : of `Whitening`.
    num_threads : None for all processors.
    device : "cpu" or "cuda", where HOG and whitening are computed.
    """

    def __init__(
        self,
        sides: Sequence[int] = (64, 96),
        margins: Sequence[float] = (1.1, 1.0),
        cell_size: int = 8,
        estimator: str = "stationary",
        shrinkage: float | str = "auto",
        num_threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.cell_size = cell_size
        self.num_threads = num_threads
        self.device = device
        self.scales = [
            Scale(
                side,
                margin,
                Whitening(estimator, shrinkage, num_threads=num_threads, device=device),
            )
            for side, margin in zip(sides, margins, strict=True)
        ]

    def raw(
        self, frames: NDArray[np.uint8], scale: int = 0, mirrored: bool = False
    ) -> NDArray[np.float32]:
        """HOG (N, h, w, 31) of one scale, of the frames or of their mirror images."""
        return self._describe(self._rescaled(frames, scale), mirrored)

    def _rescaled(self, frames: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
        one = self.scales[scale]
        return rescale(frames, one.side, one.margin, self.num_threads)

    def _describe(self, images: NDArray[np.uint8], mirrored: bool) -> NDArray[np.float32]:
        if mirrored:
            images = np.ascontiguousarray(images[:, :, ::-1])
        return hog(
            images, cell_size=self.cell_size, num_threads=self.num_threads, device=self.device
        )

    def fit_transform(
        self,
        frames: NDArray[np.uint8],
        sequence: NDArray[np.int64],
        scratch: Path,
        mirror: bool = True,
        progress: Callable[[float], None] | None = None,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Learn the whitening from the frames (and mirror images) and give their descriptors.

        `sequence` (N,) numbers each frame's sequence, `extent` (N, 2) says where the subject is.
        The result is a memory map in `scratch`, ``descriptors.npy``: (N, D), or (2N, D) with the
        mirror images behind the frames.
        """
        n, sides = len(frames), 2 if mirror else 1
        share = as_extent(extent, n)
        groups = np.tile(sequence, sides)
        report = progress or (lambda _: None)
        raw_paths = []
        width = 0
        for index, scale in enumerate(self.scales):
            shape = self.raw(np.asarray(frames[:1]), index).shape[1:]
            path = scratch / f"hog-{index}.npy"
            raw = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.float32, shape=(sides * n, *shape)
            )
            for start in range(0, n, _BLOCK):
                block = self._rescaled(np.asarray(frames[start : start + _BLOCK]), index)
                for side in range(sides):
                    first = side * n + start
                    raw[first : first + len(block)] = self._describe(block, bool(side))
                report((index + start / n * 0.4) / len(self.scales))
            if (share < 1).any():
                _fade_all(raw, within(np.tile(share, (sides, 1)), shape[:2], scale.margin))
            scale.whitening.fit(raw, groups=groups)
            report((index + 0.8) / len(self.scales))
            raw_paths.append(path)
            width += int(np.prod(shape))
            del raw

        result = np.lib.format.open_memmap(
            scratch / "descriptors.npy", mode="w+", dtype=np.float32, shape=(sides * n, width)
        )
        column, spreads, columns = 0, [], []
        for index, (scale, path) in enumerate(zip(self.scales, raw_paths, strict=True)):
            raw = np.load(path, mmap_mode="r")
            columns.append(slice(column, column + int(np.prod(raw.shape[1:]))))
            for rows in _blocks(sides * n):
                whitened = scale.whitening.transform(raw[rows])
                result[rows, columns[-1]] = standardize(whitened, num_threads=self.num_threads)
            spreads.append(similarity_spread(result[:, columns[-1]], groups))
            report((index + 1) / len(self.scales))
            column = columns[-1].stop
            del raw
            path.unlink()
        shares = (1 / np.array(spreads)) / np.sum(1 / np.array(spreads))
        for scale, share in zip(self.scales, shares, strict=True):
            scale.weight = float(share)
        for rows in _blocks(sides * n):
            for scale, chosen in zip(self.scales, columns, strict=True):
                result[rows, chosen] *= np.float32(np.sqrt(scale.weight))
        result.flush()
        return result

    def by_scale(
        self, frames: NDArray[np.uint8], mirrored: bool = False, extent: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Per scale the HOG (N, h, w, 31) of further frames, and whitened as unit rows (N, D).

        The latter without what lies outside `extent`.
        """
        share = as_extent(extent, len(frames))
        for index, scale in enumerate(self.scales):
            raw = seen = self.raw(frames, index, mirrored)
            if (share < 1).any():
                mean = scale.whitening.mean_.reshape(raw.shape[1:]).astype(np.float32)
                seen = _faded(raw, mean, within(share, raw.shape[1:3], scale.margin))
            yield raw, standardize(scale.whitening.transform(seen), num_threads=self.num_threads)

    def join(self, whitened: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One unit row per frame from those of every scale, by the scales' weights."""
        parts = [
            part * np.float32(np.sqrt(scale.weight))
            for part, scale in zip(whitened, self.scales, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def transform(
        self, frames: NDArray[np.uint8], mirrored: bool = False, extent: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Descriptors (N, D) of further frames, unit rows; `extent` (N, 2) of the subjects."""
        share = as_extent(extent, len(frames))
        blocks = [
            self.join([part for _, part in self.by_scale(frames[some], mirrored, share[some])])
            for some in (slice(start, start + _BLOCK) for start in range(0, len(frames), _BLOCK))
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)

    def summary(self) -> list[dict[str, Any]]:
        """Per scale: side, crop margin, the shrinkage in mean eigenvalues and the weight."""
        return [
            {
                "side": scale.side,
                "margin": scale.margin,
                "relative_shrinkage": float(scale.whitening.relative_shrinkage_),
                "weight": float(scale.weight),
            }
            for scale in self.scales
        ]

    def save(self, folder: Path) -> None:
        """Write hog_lda.json and per scale whitening-<i>.safetensors into `folder`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        scales = []
        for index, scale in enumerate(self.scales):
            state = scale.whitening.state_dict()
            state.pop("covariance", None)  # large, and not needed to transform
            arrays = {
                k: np.ascontiguousarray(v) for k, v in state.items() if isinstance(v, np.ndarray)
            }
            with write_atomically(folder / f"whitening-{index}.safetensors") as temporary:
                save_file(arrays, temporary)
            plain = {k: v for k, v in state.items() if k not in arrays}
            scales.append(
                {
                    "side": scale.side,
                    "margin": scale.margin,
                    "weight": scale.weight,
                    "whitening": plain,
                }
            )
        save_json(folder / "hog_lda.json", {"cell_size": self.cell_size, "scales": scales})

    @classmethod
    def load(cls, folder: Path, num_threads: int | None = None, device: str = "cpu") -> HogLda:
        """Read what `save` wrote; InputError names a missing or damaged file."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        stored = load_json(folder / "hog_lda.json")
        self = cls((), (), int(stored["cell_size"]), num_threads=num_threads, device=device)
        for index, scale in enumerate(stored["scales"]):
            path = folder / f"whitening-{index}.safetensors"
            try:
                arrays = load_file(path)
            except (OSError, SafetensorError) as error:
                raise InputError(f"{path}: not a readable safetensors file ({error})") from error
            whitening = Whitening.from_state({**scale["whitening"], **arrays})
            whitening.set_params(num_threads=num_threads, device=device)
            self.scales.append(
                Scale(int(scale["side"]), float(scale["margin"]), whitening, scale["weight"])
            )
        return self
