"""Pictures to put behind the athletes: photographs of scikit-image's wheel and painted scenes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.errors import MissingExtraError

Array = NDArray[Any]

#: Free of people and of restrictions (CC0 or public domain), and inside the wheel: no download.
PHOTOGRAPHS = (
    "rocket.jpg",
    "motorcycle_left.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
)
_HEIGHT, _WIDTH = 420, 900  # pixels of a background; a frame sees about 230 of them across


def _noise(rng: np.random.Generator, coarse: int) -> Array:
    """Fractal noise in about -1..1 over a whole background."""
    import cv2

    total = np.zeros((_HEIGHT, _WIDTH), dtype=np.float32)
    for octave in range(4):
        cells = coarse * 2**octave
        grid = rng.normal(size=(cells + 2, 2 * cells + 2)).astype(np.float32)
        total += cv2.resize(grid, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total / 2.0


def _color(rng: np.random.Generator, low: int = 40, high: int = 220) -> Array:
    return rng.integers(low, high, size=3).astype(np.float32)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _photograph(name: str) -> Array:
    import cv2

    try:
        import skimage
    except ImportError as error:
        raise MissingExtraError("scikit-image", "demo", "rendering the demo corpus") from error
    path = Path(skimage.__file__).parent / "data" / name
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"{path}: scikit-image's wheel should hold this picture")
    scale = max(_HEIGHT / picture.shape[0], _WIDTH / 1.6 / picture.shape[1])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR))


def _ground(rng: np.random.Generator, picture: Array, horizon: int, color: Array) -> None:
    """Textured ground from the horizon down, in place."""
    texture = _noise(rng, int(rng.integers(6, 24)))[horizon:, :, None]
    picture[horizon:] = color + texture * rng.uniform(6, 16)


def _lanes(rng: np.random.Generator, picture: Array, horizon: int) -> None:
    """The lines of a running track, which meet far outside the picture."""
    import cv2

    vanish = np.array([rng.uniform(-2.0, 3.0) * _WIDTH, horizon - rng.uniform(20, 80)])
    count = int(rng.integers(4, 8))
    tone = float(rng.uniform(190, 235))
    for y in np.linspace(horizon + 25, _HEIGHT + 200, count):
        start = np.array([_WIDTH if vanish[0] < _WIDTH / 2 else 0.0, y])
        end = start + (vanish - start) * (_WIDTH / abs(vanish[0] - start[0] + 1e-6))
        points = [(int(x), int(y)) for x, y in (start, end)]
        cv2.line(picture, points[0], points[1], (tone, tone, tone), 3, cv2.LINE_AA)


def _boards(rng: np.random.Generator, picture: Array, horizon: int) -> None:
    """Advertising boards that stand on the horizon: coloured, with bars for letters."""
    import cv2

    height, x = int(rng.integers(34, 60)), 0
    while x < _WIDTH:
        width = int(rng.integers(90, 220))
        back, front = (tuple(map(float, _color(rng, 20, 235))) for _ in range(2))
        cv2.rectangle(picture, (x, horizon - height), (x + width - 2, horizon), back, -1)
        for bar in range(x + 14, x + width - 18, int(rng.integers(11, 17))):
            top = horizon - height + 9 + int(rng.integers(0, height // 3))
            cv2.rectangle(picture, (bar, top), (bar + 6, horizon - 9), front, -1)
        x += width


def _stadium(rng: np.random.Generator) -> Array:
    """A crowd, boards, and a track or a lawn."""
    horizon = int(rng.integers(150, 215))
    cells = (_WIDTH // 5, horizon // 5)
    import cv2

    crowd = rng.normal(loc=_color(rng, 80, 150), scale=38, size=(cells[1], cells[0], 3))
    picture = np.zeros((_HEIGHT, _WIDTH, 3), dtype=np.float32)
    picture[:horizon] = cv2.resize(
        crowd.astype(np.float32), (_WIDTH, horizon), interpolation=cv2.INTER_LINEAR
    )
    grass = rng.random() < 0.5
    base = (55, 120, 70) if grass else (70, 80, 165)
    _ground(rng, picture, horizon, np.array(base, np.float32) * rng.uniform(0.8, 1.3))
    _lanes(rng, picture, horizon)
    if rng.random() < 0.7:
        _boards(rng, picture, horizon)
    return picture


def _hall(rng: np.random.Generator) -> Array:
    """A wall with windows, and a floor."""
    import cv2

    horizon = int(rng.integers(200, 270))
    picture = np.empty((_HEIGHT, _WIDTH, 3), dtype=np.float32)
    picture[:] = _color(rng, 90, 220) + _noise(rng, 3)[..., None] * 8
    pane = tuple(map(float, _color(rng, 30, 240)))
    step, height = int(rng.integers(60, 140)), int(rng.integers(40, 110))
    for x in range(int(rng.integers(0, step)), _WIDTH, step):
        corner = (x + int(step * 0.65), 30 + height)
        cv2.rectangle(picture, (x, 30), corner, pane, -1)
        cv2.rectangle(picture, (x, 30), corner, tuple(c * 0.6 for c in pane), 2)
    _ground(rng, picture, horizon, _color(rng, 60, 190))
    picture[horizon : horizon + 4] *= 0.6
    return picture


def _open_air(rng: np.random.Generator) -> Array:
    """Sky, hills or trees, and a field."""
    horizon = int(rng.integers(170, 250))
    sky = np.array([225, 200, 165], np.float32) * rng.uniform(0.75, 1.1)
    fade = np.linspace(0.75, 1.1, horizon, dtype=np.float32)[:, None, None]
    picture = np.empty((_HEIGHT, _WIDTH, 3), dtype=np.float32)
    picture[:horizon] = sky * fade + np.maximum(_noise(rng, 3), 0)[:horizon, :, None] * 25
    ridge = _noise(rng, 5)[200] * rng.uniform(10, 35) + rng.uniform(20, 50)
    rows = np.arange(_HEIGHT)[:, None]
    hills = (rows > horizon - np.maximum(ridge, 4)) & (rows < horizon)
    picture[hills] = _color(rng, 30, 110)
    picture[:horizon] += _noise(rng, 30)[:horizon, :, None] * hills[:horizon, :, None] * 14
    green, sand = np.array([60, 125, 85], np.float32), np.array([120, 165, 185], np.float32)
    _ground(rng, picture, horizon, (green if rng.random() < 0.6 else sand) * rng.uniform(0.7, 1.2))
    return picture


def draw_background(rng: np.random.Generator) -> tuple[str, Array]:
    """Name and picture (H, W, 3) uint8 BGR of one sequence's surroundings."""
    import cv2

    painted = {"stadium": _stadium, "hall": _hall, "open air": _open_air}
    if rng.random() < 0.6:
        name = str(rng.choice(list(painted)))
        picture = np.clip(painted[name](rng), 0, 255).astype(np.uint8)
    else:
        name = str(rng.choice(PHOTOGRAPHS))
        picture = _photograph(name)
        if rng.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
    # Out of focus behind the athlete, and without the resampling's hard edges.
    return name, np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1.0, 3.2))))
