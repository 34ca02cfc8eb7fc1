"""What one sequence looks like: who, where, from which side, how fast, through which camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from cliquesim.datasets.demo.motion import CATEGORIES, GAITS, SEGMENT_NAMES, Clip

Array = NDArray[Any]

_SIDE_YAW = 90.0  # degrees; the camera looks at the athlete's flank
_DISTANCE = (5.0, 9.0)  # metres from the camera to the athlete
_GAIT_FRAME_SECONDS = 0.075


@dataclass(frozen=True)
class Scene:
    """Everything about a sequence that is drawn once; paths have one row per frame."""

    times: Array  # seconds in the clip
    offsets: Array  # (T, segments, 3) rotation vectors on top of the clip
    body: int
    mirrored: bool
    yaw: Array  # degrees
    pitch: float  # degrees
    roll: float  # degrees
    distance: float
    box_shift: Array  # (T, 2) of the box size
    box_margin: Array  # (T,) box size over the athlete's extent
    light: Array  # unit vector towards the light, world axes
    ambient: float
    shadow: float  # 0 = none
    speed: float


def smooth_noise(rng: np.random.Generator, frames: int, columns: int, scale: float) -> Array:
    """A slow random path (frames, columns) with standard deviation `scale`."""
    pad = 12
    path = gaussian_filter1d(rng.normal(size=(frames + 2 * pad, columns)), 4.0, axis=0)[pad:-pad]
    return path * (scale / 0.265)  # 0.265: what the filter leaves of white noise


def sequence_generator(seed: int, category: str, sequence: int) -> np.random.Generator:
    """One stream per sequence, whatever else is rendered with it and in which order."""
    return np.random.default_rng([seed, CATEGORIES.index(category), sequence])


def _clip_times(rng: np.random.Generator, clip: Clip, frames: int) -> tuple[Array, float]:
    """Times at which the clip is filmed, and the mean speed."""
    speed = float(rng.uniform(0.7, 1.4))
    change = 1.0 + np.clip(smooth_noise(rng, frames, 1, 0.15)[:, 0], -0.4, 0.4)
    if clip.name in GAITS:
        steps = _GAIT_FRAME_SECONDS * speed * change
        start = rng.uniform(0.0, clip.duration)
    else:  # a fast athlete gets through more of the clip in the same number of frames
        covered = clip.duration * min(0.98, 0.68 + 0.25 * speed)
        steps = change / change[1:].sum() * covered if frames > 1 else change
        start = rng.uniform(0.0, clip.duration - covered)
    return start + np.cumsum(steps) - steps[0], speed


def plan_scene(
    rng: np.random.Generator, clip: Clip, frames: int, n_bodies: int, mirrored: bool
) -> Scene:
    """Draw a sequence's scene."""
    times, speed = _clip_times(rng, clip, frames)
    segments = len(SEGMENT_NAMES)
    constant = rng.normal(scale=np.radians(3.5), size=(1, segments, 3))
    wobble = smooth_noise(rng, frames, segments * 3, np.radians(2.0))
    offsets = constant + wobble.reshape(frames, segments, 3)
    offsets[:, 0] *= 0.5  # a tilted root leans the whole athlete
    if rng.random() < 0.75:
        yaw = _SIDE_YAW + float(np.clip(rng.normal(scale=12.0), -24.0, 24.0))
    else:
        yaw = float(rng.uniform(0.0, 360.0))
    drift = np.linspace(-0.5, 0.5, frames) * rng.normal(scale=6.0)
    azimuth, height = rng.uniform(0.0, 2 * np.pi), np.radians(rng.uniform(35.0, 65.0))
    light = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    return Scene(
        times=times,
        offsets=offsets,
        body=int(rng.integers(n_bodies)),
        mirrored=mirrored,
        yaw=(-1.0 if mirrored else 1.0) * (yaw + drift),
        pitch=float(rng.uniform(-2.0, 18.0)),
        roll=float(rng.normal(scale=1.5)),
        distance=float(rng.uniform(*_DISTANCE)),
        box_shift=smooth_noise(rng, frames, 2, 0.02),
        box_margin=rng.uniform(1.12, 1.28) * (1.0 + smooth_noise(rng, frames, 1, 0.025)[:, 0]),
        light=light,
        ambient=float(rng.uniform(0.45, 0.65)),
        shadow=float(rng.uniform(0.3, 0.6)) if rng.random() < 0.7 else 0.0,
        speed=speed,
    )


@dataclass(frozen=True)
class View:
    """A camera that goes along with the athlete, and the square box it is cut out with.

    World points become camera points by `rotation` @ (p - `target`) - (0, 0, `distance`); the image
    plane is x / -z, y / -z, of which frame t shows the square at `center` with side `size`.
    """

    rotation: Array  # (T, 3, 3)
    target: Array  # (T, 3)
    distance: float
    center: Array  # (T, 2)
    size: Array  # (T,)

    def to_camera(self, points: Array) -> Array:
        """World points (T, n, 3) in camera axes."""
        turned: Array = np.einsum("tij,tnj->tni", self.rotation, points - self.target[:, None])
        turned[..., 2] -= self.distance
        return turned

    def to_pixels(self, camera_points: Array, pixels: int) -> Array:
        """Camera points (T, n, 3) as pixel coordinates (T, n, 2); the top left corner is 0, 0."""
        plane = _plane(camera_points)
        unit = (plane - self.center[:, None]) / self.size[:, None, None]
        return np.asarray((unit * np.array([1.0, -1.0]) + 0.5) * pixels)


def _plane(camera_points: Array) -> Array:
    return np.asarray(camera_points[..., :2] / -camera_points[..., 2:])


def _rotation(yaw: Array, pitch: float, roll: float) -> Array:
    """World to camera (x right, y up, z towards the viewer); yaw 0 faces the athlete."""
    y, p, r = np.radians(yaw), np.radians(pitch), np.radians(roll)
    right = np.stack([np.cos(y), np.sin(y), np.zeros_like(y)], axis=1)
    back = np.stack(
        [np.sin(y) * np.cos(p), -np.cos(y) * np.cos(p), np.full_like(y, np.sin(p))], axis=1
    )
    up = np.cross(back, right)
    axes = np.stack([right, up, back], axis=1)
    turn = np.array([[np.cos(r), -np.sin(r), 0.0], [np.sin(r), np.cos(r), 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turn @ axes)


def film(scene: Scene, vertices: Array) -> tuple[View, Array]:
    """Choose the view of every frame; also returns the vertices in camera axes (T, V, 3).

    The box follows the athlete smoothly but always holds the whole body.
    """
    low, high = vertices.min(axis=1), vertices.max(axis=1)
    target = gaussian_filter1d((low + high).astype(np.float64) / 2, 2.0, axis=0, mode="nearest")
    rotation = _rotation(scene.yaw, scene.pitch, scene.roll)
    frames = len(target)
    whole = View(rotation, target, scene.distance, np.zeros((frames, 2)), np.ones(frames))
    camera = whole.to_camera(vertices)
    plane = _plane(camera)
    low, high = plane.min(axis=1), plane.max(axis=1)
    extent = (high - low).max(axis=1)
    size = gaussian_filter1d(extent, 2.5, mode="nearest") * scene.box_margin
    size = np.maximum(size, extent * 1.06)
    center = gaussian_filter1d((low + high) / 2, 1.0, axis=0, mode="nearest")
    center += scene.box_shift * size[:, None]
    reach = (size / 2.04)[:, None]  # half the box less a rim of two per cent
    center = np.clip(center, high - reach, low + reach)
    return View(rotation, target, scene.distance, center, size), camera
