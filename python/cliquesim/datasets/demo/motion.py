"""Motion clips of the pybullet wheel: reading, sampling at any time, forward rotations.

A clip is a JSON file in DeepMimic's format: 44 numbers a frame (duration, root position, then
quaternions and hinge angles). Axes: x forward, y up, z to the body's right; all limbs point
straight down at zero rotation. The clips are read where pybullet installed them and never copied.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cliquesim.errors import MissingExtraError

Array = NDArray[Any]

#: The clips in the order in which a corpus takes them up; a clip is a category.
CATEGORIES = (
    "run",
    "kick",
    "jump",
    "backflip",
    "cartwheel",
    "spinkick",
    "punch",
    "walk",
    "getup_facedown",
    "dance_a",
    "crawl",
    "roll",
    "spin",
    "getup_faceup",
    "dance_b",
)
#: Gaits are played for several cycles; every other clip at most once.
GAITS = frozenset({"run", "walk"})

#: Segment name, parent segment, and the columns of a frame that hold its rotation
#: (four numbers: quaternion w, x, y, z; one number: angle about the segment's z axis).
SEGMENTS: tuple[tuple[str, str | None, int, int], ...] = (
    ("root", None, 4, 4),
    ("chest", "root", 8, 4),
    ("neck", "chest", 12, 4),
    ("hip.R", "root", 16, 4),
    ("knee.R", "hip.R", 20, 1),
    ("ankle.R", "knee.R", 21, 4),
    ("shoulder.R", "chest", 25, 4),
    ("elbow.R", "shoulder.R", 29, 1),
    ("hip.L", "root", 30, 4),
    ("knee.L", "hip.L", 34, 1),
    ("ankle.L", "knee.L", 35, 4),
    ("shoulder.L", "chest", 39, 4),
    ("elbow.L", "shoulder.L", 43, 1),
)
SEGMENT_NAMES = tuple(name for name, _, _, _ in SEGMENTS)


@dataclass(frozen=True)
class Clip:
    """One motion clip: `frames` (F, 44) at `times` (F,) seconds."""

    name: str
    frames: Array
    times: Array

    @property
    def duration(self) -> float:
        return float(self.times[-1])


@dataclass(frozen=True)
class Motion:
    """A sampled performance: world rotation of every segment (T, 13, 3, 3) and root path (T, 3)."""

    rotations: Array
    root: Array


def motion_folder() -> Path:
    """Where pybullet keeps its clips."""
    try:
        import pybullet_data
    except ImportError as error:
        raise MissingExtraError("pybullet", "demo", "rendering the demo corpus") from error
    return Path(pybullet_data.getDataPath()) / "data" / "motions"


def load_clip(name: str) -> Clip:
    """Read one clip; successive quaternions get the same sign, so that they can be blended."""
    content = json.loads((motion_folder() / f"humanoid3d_{name}.txt").read_text())
    frames = np.asarray(content["Frames"], dtype=np.float64)
    for _, _, column, width in SEGMENTS:
        if width == 4:
            q = frames[:, column : column + 4]
            agrees = np.einsum("ij,ij->i", q[1:], q[:-1]) >= 0
            sign = np.concatenate([[1.0], np.cumprod(np.where(agrees, 1.0, -1.0))])
            frames[:, column : column + 4] = q * sign[:, None]
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    return Clip(name, frames, times)


def sample(clip: Clip, times: Array, offsets: Array) -> Motion:
    """The clip at `times` (T,), with small rotation vectors `offsets` (T, 13, 3) on top.

    A gait goes on past its end: the horizontal displacement of a cycle is added, and what its last
    frame lacks to its first is spread over the cycle, so that the seam does not jerk.
    """
    frames = clip.frames
    phase = times
    if clip.name in GAITS:
        cycles = np.floor(times / clip.duration)
        phase = times - cycles * clip.duration
        gap = frames[0] - frames[-1]
        gap[[1, 3]] = 0.0
        frames = frames + (clip.times / clip.duration)[:, None] * gap
    values = np.stack([np.interp(phase, clip.times, column) for column in frames.T], axis=1)
    if clip.name in GAITS:
        values[:, [1, 3]] += cycles[:, None] * (clip.frames[-1] - clip.frames[0])[[1, 3]]

    world: dict[str, Rotation] = {}
    for index, (name, parent, column, width) in enumerate(SEGMENTS):
        if width == 4:
            local = Rotation.from_quat(np.roll(values[:, column : column + 4], -1, axis=1))
        else:
            local = Rotation.from_rotvec(values[:, [column]] * np.array([0.0, 0.0, 1.0]))
        local = local * Rotation.from_rotvec(offsets[:, index])
        world[name] = local if parent is None else world[parent] * local
    rotations = np.stack([world[name].as_matrix() for name in SEGMENT_NAMES], axis=1)
    return Motion(rotations, values[:, 1:4])
