"""Random changes of a batch of frames: one affine, one colour and one masking pass.

The random numbers are drawn on the CPU, few per frame, so that a seed repeats on every device;
the pixels are worked on wherever they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cliquesim import _core
from cliquesim.training.config import AugmentationConfig
from cliquesim.training.pixels import as_floats

_BACKGROUND = 0.7  # of `AugmentationConfig.background` where it says None and there is no box


@dataclass(frozen=True)
class AugmentationSample:
    """What was drawn for n frames. `affine` takes the result's coordinates to the frame's."""

    affine: Tensor  # (n, 2, 3), coordinates in [-1, 1]
    gain: Tensor  # (n, 3), per colour channel
    brightness: Tensor  # (n,)
    contrast: Tensor  # (n,)
    saturation: Tensor  # (n,)
    erase: Tensor  # (n, 4): left, right, top, bottom in [-1, 1]; empty where nothing is erased
    other: Tensor  # (n,) whose pixels replace the surroundings
    ellipse: Tensor  # (n, 2) half axes; infinite where the surroundings stay

    def to(self, device: torch.device) -> AugmentationSample:
        """The same numbers on another device."""
        return AugmentationSample(*(value.to(device) for value in self.__dict__.values()))


def sample_augmentation(
    n: int,
    config: AugmentationConfig,
    generator: torch.Generator,
    flip: Tensor | None = None,
    extent: Tensor | None = None,
) -> AugmentationSample:
    """Draw the changes of `n` frames; always the same count of numbers, whatever is switched on.

    Parameters
    ----------
    n
        Frames.
    config
        Strengths.
    generator
        A CPU generator; the sample depends on nothing else.
    flip
        (n,) bool: frames to mirror left to right before everything else, not at random.
    extent
        (n, 2): shares of width and height that the subject takes; surroundings begin there. Below 1
        for frames that have a box.
    """

    # Few calls for all numbers, and NumPy for their arithmetic, which has less overhead; torch for
    # functions whose last bit differs between the two.
    first = torch.rand(16 * n, generator=generator, dtype=torch.float32)
    centred = 2.0 * first - 1.0
    parts = torch.split(centred, [2 * n, n, n, n, 6 * n, 5 * n])
    shift, zooms, angles, shears, colours, rectangles = parts
    zoom = torch.exp(config.log_scale * zooms).numpy()
    angle = math.radians(config.rotation) * angles
    shear = math.radians(config.shear) * shears.numpy()
    if config.shear:
        shear = torch.tan(math.radians(config.shear) * shears).numpy()
    cos, sin = torch.cos(angle).numpy() / zoom, torch.sin(angle).numpy() / zoom
    affine = np.empty((n, 2, 3), np.float32)
    affine[:, 0, 0], affine[:, 0, 1] = cos, cos * shear - sin
    affine[:, 1, 0], affine[:, 1, 1] = sin, sin * shear + cos
    affine[:, :, 2] = 2.0 * config.translation * shift.numpy().reshape(n, 2)
    if flip is not None:
        # The last thing on the way to the frame: x becomes -x.
        row = affine[:, 0]
        np.negative(row, out=row, where=flip.numpy()[:, None])
    numbers = colours.numpy()
    gain = 1.0 + config.color_gain * numbers[: 3 * n].reshape(n, 3)
    brightness = config.brightness * numbers[3 * n : 4 * n]
    contrast = 1.0 + config.contrast * numbers[4 * n : 5 * n]
    saturation = 1.0 + config.saturation * numbers[5 * n :]
    erase = _rectangles(first[11 * n :].view(n, 5), rectangles.view(n, 5), config)
    surroundings = _sample_surroundings(n, config, generator, extent)
    return AugmentationSample(
        *map(
            torch.from_numpy,
            (affine, gain, brightness, contrast, saturation, erase, *surroundings),
        )
    )


def _rectangles(draw: Tensor, centred: Tensor, config: AugmentationConfig) -> NDArray[np.float32]:
    """(n, 4) from (n, 5) numbers in [0, 1) and, the same, in [-1, 1)."""
    erase = np.tile(np.array([2, -2, 2, -2], np.float32), (len(draw), 1))  # left > right: empty
    if not config.erasing:
        return erase
    low, high = config.erasing_area
    area = low + (high - low) * draw[:, 0]
    ratio = torch.exp(centred[:, 1] * math.log(2.0))
    sides = [(area * ratio).sqrt().numpy(), (area / ratio).sqrt().numpy()]
    half = np.minimum(sides, np.float32(1.0))
    center = centred.numpy()[:, 2:4].T * (1.0 - half)
    erased = draw.numpy()[:, 4] < np.float32(config.erasing)
    erase[erased, ::2] = (center - half).T[erased]
    erase[erased, 1::2] = (center + half).T[erased]
    return erase


def _sample_surroundings(
    n: int, config: AugmentationConfig, generator: torch.Generator, extent: Tensor | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    # Another frame than itself: a step of 1 to n-1 around the batch.
    step = torch.randint(1, max(n, 2), (n,), generator=generator).numpy()
    other = (np.arange(n) + step) % n
    draw = torch.rand(3 * n, generator=generator, dtype=torch.float32).numpy()
    if not config.replaces:
        return other, np.full((n, 2), np.inf, np.float32)
    low, high = config.background_radius
    ellipse = np.asarray(low + (high - low) * draw[: 2 * n].reshape(n, 2), np.float32)
    background = _BACKGROUND if config.background is None else config.background
    replaced = draw[2 * n :] < np.float32(background)
    if extent is not None:
        share = extent.numpy()
        ellipse = ellipse * share
        if config.background is None:
            replaced &= ~(share < 1).any(axis=1)
    ellipse[~replaced] = np.inf
    return other, ellipse


def augment_frames(
    frames: Tensor, sample: AugmentationSample, config: AugmentationConfig
) -> Tensor:
    """`augment` of frames uint8 (n, 3, H, W), as floats in [0, 1]; on the CPU in C++.

    Several times faster than torch's single steps, equal up to rounding.
    """
    if frames.device.type != "cpu":
        return augment(as_floats(frames), sample, config)
    n, _, height, width = frames.shape
    none: NDArray[np.float32] = np.empty((0, 0), np.float32)
    moved = config.moves or bool((sample.affine[:, 0, 0] < 0).any())
    colour = torch.column_stack(
        (sample.gain, sample.brightness, sample.contrast, sample.saturation)
    )
    replaced = config.replaces and bool(sample.ellipse.isfinite().any())
    images = torch.empty((n, 3, height, width))
    _core.augment(
        np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy()),
        sample.affine.reshape(n, 6).numpy() if moved else none,
        colour.numpy() if config.recolors else none,
        sample.other[:, None].numpy() if replaced else np.empty((0, 0), np.int64),
        sample.ellipse.numpy() if replaced else none,
        config.background_softness,
        sample.erase.numpy() if config.erasing else none,
        images.numpy(),
        torch.get_num_threads(),
    )
    return images


def augment(images: Tensor, sample: AugmentationSample, config: AugmentationConfig) -> Tensor:
    """Apply what was drawn to frames (n, 3, H, W) in [0, 1].

    Pixels from outside the frame repeat its border. Steps whose strength is 0 are left out, so
    that no change at all costs (and changes) nothing.
    """
    sample = sample.to(images.device)
    height, width = images.shape[2:]
    y = ((torch.arange(height, device=images.device) + 0.5) * (2.0 / height) - 1.0)[None, :, None]
    x = ((torch.arange(width, device=images.device) + 0.5) * (2.0 / width) - 1.0)[None, None, :]
    if config.moves:
        images = F.grid_sample(
            images, _grid(sample.affine, x, y), padding_mode="border", align_corners=False
        )
    elif bool((sample.affine[:, 0, 0] < 0).any()):
        mirrored = (sample.affine[:, 0, 0] < 0)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    if config.recolors:
        images = _recolor(images, sample)
    if config.replaces:
        images = _replace_surroundings(images, sample, config.background_softness, x, y)
    if config.erasing:
        left, right, top, bottom = (edge[:, None, None] for edge in sample.erase.unbind(1))
        inside = ((x >= left) & (x <= right)) & ((y >= top) & (y <= bottom))
        mean = images.mean(dim=(2, 3), keepdim=True)
        images = torch.where(inside[:, None], mean, images)
    return images


def _grid(affine: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(n, H, W, 2): where each pixel comes from. Several times faster than F.affine_grid."""
    a = affine[:, :, :, None, None]
    return torch.stack([a[:, i, 0] * x + (a[:, i, 1] * y + a[:, i, 2]) for i in (0, 1)], dim=3)


def _replace_surroundings(
    images: Tensor, sample: AugmentationSample, softness: float, x: Tensor, y: Tensor
) -> Tensor:
    half_x, half_y = (axis[:, None, None] for axis in sample.ellipse.unbind(1))
    distance = ((x / half_x) ** 2 + (y / half_y) ** 2).sqrt()
    keep = ((1.0 - distance) / max(softness, 1e-6) + 0.5).clamp(0.0, 1.0)[:, None]
    return torch.lerp(images[sample.other], images, keep)


def _recolor(images: Tensor, sample: AugmentationSample) -> Tensor:
    def column(values: Tensor) -> Tensor:
        return values.reshape(len(values), -1, 1, 1)

    images = images * column(sample.gain)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * column(sample.contrast) + mean + column(sample.brightness)
    grey = images.mean(dim=1, keepdim=True)
    return ((images - grey) * column(sample.saturation) + grey).clamp(0.0, 1.0)
