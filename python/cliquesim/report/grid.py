"""Pictures of search results: queries and their neighbours, as in Fig. 5. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cliquesim.errors import InputError

Picture = NDArray[Any] | Image.Image

_BACKGROUND, _INK, _ACCENT = (255, 255, 255), (85, 85, 85), (47, 111, 208)
_GAP, _QUERY_GAP, _CAPTION = 4, 14, 18


def to_image(picture: Picture, tile: int) -> Image.Image:
    """A uint8 array (H, W) or (H, W, 3), or a Pillow image, fitted into a square of `tile` px."""
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            raise InputError(
                f"a picture must be uint8 (H, W) or (H, W, 3), got {array.dtype} {array.shape}"
            )
        picture = Image.fromarray(array)
    picture = picture.convert("RGB")
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    square = Image.new("RGB", (tile, tile), _BACKGROUND)
    resized = picture.resize(size, Image.Resampling.LANCZOS)
    square.paste(resized, ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return square


def neighbor_grid(
    query_images: Sequence[Picture],
    neighbor_images: Sequence[Sequence[Picture]],
    labels: Sequence[Sequence[str]] | None = None,
    query_labels: Sequence[str] | None = None,
    tile: int = 96,
) -> Image.Image:
    """One row per query: the query in a frame, then its neighbours, most similar first.

    Parameters
    ----------
    query_images : sequence of Q pictures
        uint8 arrays (H, W, 3) or (H, W), or Pillow images; fitted into squares.
    neighbor_images : sequence of Q sequences of pictures
        Rows may differ in length.
    labels : sequence of Q sequences of str, optional
        Caption of each neighbour, for example its similarity.
    query_labels : sequence of Q str, optional
    tile : int
        Side of a picture in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    InputError
        Nothing to draw, rows that do not match, or arrays that are no pictures.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.zeros((4, 32, 32, 3), np.uint8)
    >>> neighbor_grid(frames[:1], [frames[1:]], [["0.9", "0.8", "0.7"]]).size
    (414, 122)
    """
    if not len(query_images):
        raise InputError("neighbor_grid needs at least one query")
    for name, rows in (
        ("neighbor_images", neighbor_images),
        ("labels", labels),
        ("query_labels", query_labels),
    ):
        if rows is not None and len(rows) != len(query_images):
            raise InputError(f"{name} must have {len(query_images)} rows, got {len(rows)}")
    captioned = labels is not None or query_labels is not None
    pitch = tile + _GAP
    height = pitch + (_CAPTION if captioned else 0)
    columns = max(len(row) for row in neighbor_images)
    size = (_GAP + pitch + _QUERY_GAP - _GAP + columns * pitch, _GAP + height * len(query_images))
    canvas = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(10, min(13, tile // 8)))

    def put(picture: Picture, x: int, y: int, caption: str) -> None:
        canvas.paste(to_image(picture, tile), (x, y))
        if caption:
            draw.text((x + tile // 2, y + tile + 2), caption, fill=_INK, font=font, anchor="ma")

    for row, (query, neighbors) in enumerate(zip(query_images, neighbor_images, strict=True)):
        y = _GAP + row * height
        put(query, _GAP, y, query_labels[row] if query_labels is not None else "")
        draw.rectangle([_GAP - 2, y - 2, _GAP + tile + 1, y + tile + 1], outline=_ACCENT, width=3)
        captions = labels[row] if labels is not None else [""] * len(neighbors)
        for column, (neighbor, caption) in enumerate(zip(neighbors, captions, strict=True)):
            put(neighbor, _QUERY_GAP + pitch + column * pitch, y, caption)
    return canvas


def strip(pictures: Sequence[Picture], tile: int = 96, gap: int = 2) -> Image.Image:
    """Pictures side by side, without captions."""
    width = len(pictures) * (tile + gap) - gap
    canvas = Image.new("RGB", (max(1, width), tile), _BACKGROUND)
    for column, picture in enumerate(pictures):
        canvas.paste(to_image(picture, tile), (column * (tile + gap), 0))
    return canvas


def average(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """The plain mean of frames (n, H, W, 3), as in Fig. 2 and Fig. 3."""
    mean = np.zeros(frames.shape[1:], dtype=np.float64)
    for frame in frames:
        mean += frame
    return np.rint(mean / max(1, len(frames))).astype(np.uint8)
