"""One frame: the shaded athlete over the background, then what a camera and a codec do to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.datasets.demo.body import Bodies
from cliquesim.datasets.demo.scene import Scene, View

Array = NDArray[Any]

_FIELD_OF_VIEW = np.radians(30.0)
_FAR = 100.0
_OVERSAMPLING = 2  # the rasteriser has no antialiasing: render larger, shrink by area

_SKIN_TONES = ((150, 180, 224), (120, 155, 205), (85, 120, 175), (60, 85, 130), (40, 55, 85))
_HAIR_TONES = ((20, 22, 28), (35, 50, 80), (70, 120, 170), (60, 60, 62), (30, 45, 115))
_CLOTHING = (
    (40, 40, 200),
    (190, 70, 30),
    (50, 150, 40),
    (30, 200, 225),
    (235, 235, 235),
    (40, 38, 36),
    (20, 120, 240),
    (160, 60, 150),
    (200, 170, 60),
    (110, 110, 115),
)


@dataclass(frozen=True)
class Look:
    """How the picture of a sequence is finished."""

    colors: Array  # (V, 3) BGR 0..1 per vertex
    pan: float  # background pixels per metre that the athlete travels
    zoom: float  # background pixels per frame pixel
    anchor: Array  # (2,) where in the background the sequence is, 0..1
    motion_blur: float  # length as a share of the athlete's shift between frames
    defocus: float  # standard deviation, in pixels
    shrink: float  # 1 = full resolution
    occluder: tuple[float, float, Array] | None  # position, width (shares of the frame), colour
    gamma: float
    gain: Array  # (3,) colour cast
    noise: float  # grey levels
    quality: int  # of the JPEG


def dress(rng: np.random.Generator, bodies: Bodies, body: int) -> Array:
    """Colours of skin, hair, shirt, trousers and shoes per vertex, (V, 3) BGR 0..1."""
    skin, hair = (
        np.array(tones[int(rng.integers(len(tones)))], np.float32) / 255
        for tones in (_SKIN_TONES, _HAIR_TONES)
    )
    picks = rng.choice(len(_CLOTHING), size=3, replace=False)
    shirt, trousers, shoes = (np.array(_CLOTHING[i], np.float32) / 255 for i in picks)
    if rng.random() < 0.15:
        trousers = shirt  # an overall
    long_sleeves, long_legs = rng.random() < 0.4, rng.random() < 0.55
    by_prefix = {
        "upperarm": shirt if rng.random() < 0.8 or long_sleeves else skin,
        "lowerarm": shirt if long_sleeves else skin,
        "shoulder": shirt,
        "clavicle": shirt,
        "spine": shirt,
        "root": trousers,
        "pelvis": trousers,
        "upperleg": trousers,
        "lowerleg": trousers if long_legs else skin,
        "foot": shoes,
        "toe": shoes,
    }
    tones = np.stack(
        [
            next((tone for prefix, tone in by_prefix.items() if bone.startswith(prefix)), skin)
            for bone in bodies.bones
        ]
    )
    sharpened = bodies.weights.power(6)  # hems, not gradients
    share = np.asarray(sharpened.sum(axis=1))
    colors = np.asarray(sharpened @ tones) / share
    rest, head = bodies.vertices[body], bodies.heads[body, bodies.bones.index("head")]
    eye = bodies.heads[body, bodies.bones.index("eye.L")]
    above, behind = rest[:, 2] - eye[2], rest[:, 1] - eye[1]
    of_head = np.asarray(bodies.weights[:, bodies.bones.index("head")].todense())[:, 0] > 0.5
    scalp = (above > 0.055) | ((above > -0.06) & (behind > 0.085 + 0.5 * np.maximum(-above, 0)))
    colors[of_head & scalp & (rest[:, 2] > head[2])] = hair
    if rng.random() < 0.3:
        stripes = np.sin(rest[:, 2] * rng.uniform(40, 70)) > 0.3
        is_shirt = np.abs(colors - shirt).max(axis=1) < 0.05
        colors[is_shirt & stripes] = np.array(_CLOTHING[int(rng.integers(10))], np.float32) / 255
    return np.ascontiguousarray(colors, dtype=np.float32)


def draw_look(rng: np.random.Generator, bodies: Bodies, body: int) -> Look:
    """Draw how a sequence's frames are finished."""
    occluder = None
    if rng.random() < 0.1:
        tone = rng.uniform(0, 255, size=3).astype(np.float32)
        occluder = (float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.015, 0.05)), tone)
    return Look(
        colors=dress(rng, bodies, body),
        pan=float(rng.uniform(70.0, 130.0)),
        zoom=float(rng.uniform(1.4, 2.2)),
        anchor=rng.uniform([0.2, 0.5], [0.8, 0.62]),
        motion_blur=float(rng.uniform(0.2, 0.5)) if rng.random() < 0.4 else 0.0,
        defocus=float(rng.uniform(0.3, 0.7)) if rng.random() < 0.5 else 0.0,
        shrink=float(rng.uniform(0.55, 0.8)) if rng.random() < 0.3 else 1.0,
        occluder=occluder,
        gamma=float(rng.uniform(0.85, 1.2)),
        gain=rng.uniform(0.92, 1.08, size=3).astype(np.float32),
        noise=float(rng.uniform(1.5, 5.0)),
        quality=int(rng.integers(85, 93)),
    )


class Photographer:
    """Takes the frames of one sequence."""

    def __init__(self, bodies: Bodies, scene: Scene, look: Look, view: View, pixels: int) -> None:
        import cv2

        self._bodies, self._scene, self._look, self._view = bodies, scene, look, view
        self._pixels = pixels
        self._settings = cv2.TriangleRasterizeSettings()
        self._settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        self._settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)

    def _athlete(self, t: int, camera: Array, normals: Array) -> tuple[Array, Array]:
        """Colour (S, S, 3) already multiplied by the mask (S, S), both 0..1."""
        import cv2

        scene, view, side = self._scene, self._view, self._pixels * _OVERSAMPLING
        length = np.linalg.norm(normals, axis=1)
        lambert = np.maximum(normals @ scene.light.astype(np.float32) / length, 0.0)
        sky = 0.12 * normals[:, 2] / length  # from above it is a little brighter than from below
        shade = scene.ambient + (1.05 - scene.ambient) * lambert + sky
        colors = np.clip(self._look.colors * shade[:, None], 0.0, 1.0)
        # The box is a similarity of the image plane, which is a shear of camera space.
        scale = 2.0 * np.tan(_FIELD_OF_VIEW / 2) / view.size[t]
        shifted = camera.astype(np.float32, copy=True)
        shifted[:, :2] += view.center[t].astype(np.float32) * camera[:, 2:]
        shifted[:, :2] *= np.float32(scale)
        color, depth = cv2.triangleRasterize(
            shifted[:, None],
            self._bodies.faces[:, None],
            colors[:, None],
            np.zeros((side, side, 3), np.float32),
            np.full((side, side), _FAR, np.float32),
            np.eye(4, dtype=np.float32),
            float(_FIELD_OF_VIEW),
            0.1,
            _FAR,
            self._settings,
        )
        mask = (depth < _FAR * 0.999).astype(np.float32)
        size = (self._pixels, self._pixels)
        color = cv2.resize(color * mask[..., None], size, interpolation=cv2.INTER_AREA)
        return color, cv2.resize(mask, size, interpolation=cv2.INTER_AREA)

    def _shadow(self, t: int, vertices: Array, ground: float) -> Array:
        """Share of the light that reaches each pixel of the background, (S, S)."""
        import cv2

        light, half = self._scene.light, self._pixels // 2
        points = vertices[::3].astype(np.float64)
        points -= light * ((points[:, 2:] - ground) / light[2])
        view = self._view
        camera = (points - view.target[t]) @ view.rotation[t].T
        plane = camera[:, :2] / -(camera[:, 2:] - view.distance)
        unit = (plane - view.center[t]) / view.size[t] * [1.0, -1.0] + 0.5
        cells = np.floor(unit * half).astype(np.int64)
        inside = ((cells >= 0) & (cells < half)).all(axis=1)
        dark = np.zeros((half, half), np.float32)
        dark[cells[inside, 1], cells[inside, 0]] = 1.0
        dark = cv2.GaussianBlur(cv2.dilate(dark, np.ones((2, 2), np.uint8)), (0, 0), 1.6)
        size = (self._pixels, self._pixels)
        return np.asarray(1.0 - self._scene.shadow * cv2.resize(dark, size))

    def _surroundings(self, t: int, background: Array) -> Array:
        """The part of the background picture that lies behind frame t, (S, S, 3) 0..255."""
        import cv2

        look, view = self._look, self._view
        travelled = view.rotation[0] @ (view.target[t] - view.target[0])
        rows, columns = background.shape[:2]
        zoom = look.zoom * view.size[t] / float(np.mean(view.size))
        shift = view.center[t] * view.distance + travelled[:2]
        x, y = look.anchor * [columns, rows] + shift * [look.pan, -look.pan]
        half = self._pixels / 2
        matrix = np.array([[zoom, 0.0, x - zoom * half], [0.0, zoom, y - zoom * half]])
        size = (self._pixels, self._pixels)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(
            background, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(crop.astype(np.float32))

    def _blur(self, layer: Array, shift: Array) -> Array:
        """Smear along the athlete's way since the last frame."""
        import cv2

        length = float(np.linalg.norm(shift))
        if length < 1.0:
            return layer
        reach = int(np.ceil(length / 2))
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        for step in np.linspace(-0.5, 0.5, 4 * reach + 1):
            column, row = np.rint(shift * step).astype(int) + reach
            kernel[row, column] += 1.0
        return np.asarray(cv2.filter2D(layer, -1, kernel / kernel.sum()))

    def take(
        self,
        t: int,
        posed: tuple[Array, Array, Array],
        shift: Array,
        ground: float,
        background: Array,
        rng: np.random.Generator,
    ) -> bytes:
        """JPEG of frame t; `posed`: vertices, camera vertices and normals of that frame."""
        import cv2

        look, scene, side = self._look, self._scene, self._pixels
        vertices, camera, normals = posed
        picture = self._surroundings(t, background)
        if scene.shadow > 0.0:
            picture *= self._shadow(t, vertices, ground)[..., None]
        color, mask = self._athlete(t, camera, normals)
        layer = np.concatenate([color * 255.0, mask[..., None]], axis=2)
        if look.motion_blur > 0.0:
            layer = self._blur(layer, np.clip(shift * look.motion_blur, -6.0, 6.0))
        picture = picture * (1.0 - layer[..., 3:]) + layer[..., :3]
        if look.occluder is not None:
            position, width, tone = look.occluder
            left = int((position - width / 2) * side)
            picture[:, left : left + max(1, round(width * side))] = tone
        if look.shrink < 1.0:
            small = round(side * look.shrink)
            picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
        if look.defocus > 0.0:
            picture = cv2.GaussianBlur(picture, (0, 0), look.defocus)
        picture = 255.0 * np.clip(picture * look.gain / 255.0, 0.0, 1.0) ** look.gamma
        picture += rng.normal(scale=look.noise, size=picture.shape).astype(np.float32)
        finished = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".jpg", finished, [cv2.IMWRITE_JPEG_QUALITY, look.quality])[1]
        return encoded.tobytes()
