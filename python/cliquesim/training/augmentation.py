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

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(n, *shape, generator=generator) - 1.0

    shift = 2.0 * config.translation * uniform(2)
    zoom = torch.exp(config.log_scale * uniform(1))[:, 0]
    angle = math.radians(config.rotation) * uniform(1)[:, 0]
    shear = torch.tan(math.radians(config.shear) * uniform(1)[:, 0])
    gain = 1.0 + config.color_gain * uniform(3)
    brightness = config.brightness * uniform(1)[:, 0]
    contrast = 1.0 + config.contrast * uniform(1)[:, 0]
    saturation = 1.0 + config.saturation * uniform(1)[:, 0]

    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    affine = torch.stack(
        (
            torch.stack((cos, cos * shear - sin, shift[:, 0]), 1),
            torch.stack((sin, sin * shear + cos, shift[:, 1]), 1),
        ),
        1,
    )
    if flip is not None:
        # The last thing on the way to the frame: x becomes -x.
        affine[:, 0] = torch.where(flip[:, None], -affine[:, 0], affine[:, 0])
    return AugmentationSample(
        affine,
        gain,
        brightness,
        contrast,
        saturation,
        _sample_rectangles(n, config, generator),
        *_sample_surroundings(n, config, generator, extent),
    )


def _sample_rectangles(n: int, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    draw = torch.rand(n, 5, generator=generator)
    low, high = config.erasing_area
    area = low + (high - low) * draw[:, 0]
    ratio = torch.exp((2.0 * draw[:, 1] - 1.0) * math.log(2.0))
    half = torch.stack(((area * ratio).sqrt(), (area / ratio).sqrt()), 1).clamp_max(1.0)
    center = (2.0 * draw[:, 2:4] - 1.0) * (1.0 - half)
    erased = (draw[:, 4] < config.erasing)[:, None]
    # left > right: an empty rectangle.
    left_top = torch.where(erased, center - half, torch.full_like(center, 2.0))
    right_bottom = torch.where(erased, center + half, torch.full_like(center, -2.0))
    return torch.stack((left_top[:, 0], right_bottom[:, 0], left_top[:, 1], right_bottom[:, 1]), 1)


def _sample_surroundings(
    n: int, config: AugmentationConfig, generator: torch.Generator, extent: Tensor | None
) -> tuple[Tensor, Tensor]:
    # Another frame than itself: a step of 1 to n-1 around the batch.
    step = torch.randint(1, max(n, 2), (n,), generator=generator)
    other = (torch.arange(n) + step) % n
    low, high = config.background_radius
    ellipse = low + (high - low) * torch.rand(n, 2, generator=generator)
    if extent is not None:
        ellipse = ellipse * extent
    probability = torch.full((n,), _BACKGROUND if config.background is None else config.background)
    if extent is not None and config.background is None:
        probability[(extent < 1).any(1)] = 0.0
    replaced = torch.rand(n, generator=generator) < probability
    return other, torch.where(replaced[:, None], ellipse, torch.full_like(ellipse, math.inf))


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
