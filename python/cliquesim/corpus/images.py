"""From a picture and a box to one frame of the corpus: decode, crop, resize (Sect. 3.1)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    )
)

_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSING = (5, 6, 7, 8)  # orientations that exchange width and height
_DRAFT_MARGIN = 2.0  # a JPEG is decoded at least this many times larger than needed
_LARGEST_CROP = 8.0  # times the picture; beyond it a box can only be a mistake


class Box(NamedTuple):
    """Pixels of the upright picture, 0-based, half-open: `picture[ymin:ymax, xmin:xmax]`."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class CropRule(NamedTuple):
    """How a frame is cut out; `size` is (height, width)."""

    size: tuple[int, int]
    box_scale: float
    fit: str

    def region(self, width: int, height: int, box: Box | None) -> Box:
        """The part of a width x height picture that becomes the frame; it may reach outside.

        It has the aspect of `size`. Around a box: the smallest such region, about the box's
        centre, that holds the box, times `box_scale` (for square frames box_scale x the longer
        side). Without a box: the largest centred region inside the picture (fit="crop") or the
        smallest that holds the picture (fit="pad").
        """
        out_height, out_width = self.size
        if box is None:
            choose = min if self.fit == "crop" else max
            unit = choose(width / out_width, height / out_height)
            x, y = width / 2, height / 2
        else:
            unit = self.box_scale * max(
                (box.xmax - box.xmin) / out_width, (box.ymax - box.ymin) / out_height
            )
            x, y = (box.xmin + box.xmax) / 2, (box.ymin + box.ymax) / 2
        half_width, half_height = unit * out_width / 2, unit * out_height / 2
        return Box(x - half_width, y - half_height, x + half_width, y + half_height)

    def extent(self, box: Box | None) -> tuple[float, float]:
        """Shares of the frame's width and height that the box takes; 1 without a box."""
        if box is None:
            return 1.0, 1.0
        width, height = box.xmax - box.xmin, box.ymax - box.ymin
        unit = self.box_scale * max(width / self.size[1], height / self.size[0])
        return min(1.0, width / (unit * self.size[1])), min(1.0, height / (unit * self.size[0]))


class Picture(NamedTuple):
    """A decoded RGB picture; `scale` < 1 and the `full` size tell of a reduced decoding."""

    pixels: Image.Image
    full: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, array: NDArray[np.uint8]) -> Picture:
        """A picture from an (H, W, 3) array."""
        image = Image.fromarray(array)
        return cls(image, image.size, 1.0)


def open_picture(path: Path, boxes: list[Box | None], rule: CropRule) -> Picture:
    """Decode an image file, upright, at a size that suffices for the frames of all `boxes`.

    Raises whatever the decoder raises on a damaged file.
    """
    with Image.open(path) as image:
        full = _upright_size(image)
        regions = [rule.region(*full, box) for box in boxes]
        # Picture pixels per frame pixel.
        needed = min((region.xmax - region.xmin) / rule.size[1] for region in regions)
        if image.format == "JPEG" and needed > 2 * _DRAFT_MARGIN:
            shrink = needed / _DRAFT_MARGIN
            image.draft(None, (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        image.load()
        pixels = to_rgb(ImageOps.exif_transpose(image))
    # The decoder shrinks by a power of two and rounds the size up.
    return Picture(pixels, full, 1 / round(full[0] / pixels.width))


def crop(picture: Picture, box: Box | None, rule: CropRule) -> NDArray[np.uint8]:
    """Cut one frame out of a picture with one antialiased resampling.

    Beyond the border the picture's edge pixels are repeated. ValueError for a box that lies
    outside the picture or is far larger than it.
    """
    width, height = picture.full
    if box is not None:
        _check_inside(box, width, height)
    region = rule.region(width, height, box)
    if max(region.xmax - region.xmin, region.ymax - region.ymin) > _LARGEST_CROP * max(
        width, height
    ):
        raise ValueError(f"box {_show(box)} is far larger than the {width} x {height} picture")
    left, top, right, bottom = (coordinate * picture.scale for coordinate in region)
    pixels = picture.pixels
    out_height, out_width = rule.size
    if left < 0 or top < 0 or right > pixels.width or bottom > pixels.height:
        # Only what the filter reaches: bicubic, two source pixels per frame pixel when shrinking.
        reach = 2 + math.ceil(2 * max(1.0, (right - left) / out_width))
        x0, y0 = math.floor(left) - reach, math.floor(top) - reach
        x1, y1 = math.ceil(right) + reach, math.ceil(bottom) + reach
        pixels = _replicate_edges(pixels, x0, y0, x1, y1)
        left, top, right, bottom = left - x0, top - y0, right - x0, bottom - y0
    frame = pixels.resize(
        (out_width, out_height), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
    )
    return np.asarray(frame)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB: 16-bit grey is scaled, transparency is laid over white."""
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("floating-point pictures have no defined range")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(_ORIENTATION) in _TRANSPOSING
    return (image.height, image.width) if turned else (image.width, image.height)


def _check_inside(box: Box, width: int, height: int) -> None:
    if box.xmax <= 0 or box.ymax <= 0 or box.xmin >= width or box.ymin >= height:
        raise ValueError(f"box {_show(box)} lies outside the {width} x {height} picture")


def _show(box: Box | None) -> str:
    return "" if box is None else "({:g}, {:g}, {:g}, {:g})".format(*box)


def _replicate_edges(picture: Image.Image, x0: int, y0: int, x1: int, y1: int) -> Image.Image:
    """picture[y0:y1, x0:x1], where indices outside stand for the nearest edge pixel."""
    inner = np.asarray(
        picture.crop((max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height)))
    )
    margins = (
        (max(-y0, 0), max(y1 - picture.height, 0)),
        (max(-x0, 0), max(x1 - picture.width, 0)),
        (0, 0),
    )
    return Image.fromarray(np.pad(inner, margins, mode="edge"))
