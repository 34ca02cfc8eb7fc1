"""The skinned bodies that ship with the package, and how a motion drives them."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.transform import Rotation

from cliquesim.datasets.demo.motion import SEGMENT_NAMES, Motion

Array = NDArray[Any]

#: The corpus's joints are heads of these bones; left and right are exchanged by `SWAP`.
JOINT_NAMES = (
    "head",
    "neck01",
    "upperarm01.R",
    "lowerarm01.R",
    "wrist.R",
    "upperarm01.L",
    "lowerarm01.L",
    "wrist.L",
    "upperleg01.R",
    "lowerleg01.R",
    "foot.R",
    "upperleg01.L",
    "lowerleg01.L",
    "foot.L",
)
SWAP = np.array([0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10])

#: Motion axes (x forward, y up, z right) to mesh axes (-y forward, z up, -x right).
TO_MESH = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
#: Height of the hips above the ankles in the motion's own skeleton, in metres.
MOTION_LEG = 0.83

#: A bone follows the segment of the first prefix that fits; `side` takes the bone's .L or .R.
_SEGMENT_OF_PREFIX = (
    (("upperleg",), "hip", True),
    (("lowerleg",), "knee", True),
    (("foot", "toe"), "ankle", True),
    (("upperarm",), "shoulder", True),
    (("lowerarm", "wrist", "finger", "metacarpal"), "elbow", True),
    (("clavicle", "shoulder", "spine01", "spine02", "spine03"), "chest", False),
    (("neck", "head", "eye"), "neck", False),
)
#: Limbs rest aslant in the mesh and straight down in the motion: bone and the bone at its far end.
_LIMBS = {
    "hip": ("upperleg01", "lowerleg01"),
    "knee": ("lowerleg01", "foot"),
    "shoulder": ("upperarm01", "lowerarm01"),
    "elbow": ("lowerarm01", "wrist"),
}
_HALF_WAY = "spine04"


def segment_of(bone: str) -> str:
    """The motion segment that a bone follows."""
    for prefixes, segment, sided in _SEGMENT_OF_PREFIX:
        if bone.startswith(prefixes):
            return segment + bone[-2:] if sided else segment
    return "root"


def _rotation_between(a: Array, b: Array) -> Array:
    """The shortest rotation that takes direction a to direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    angle = np.arctan2(sine, float(a @ b))
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * angle).as_matrix()


class Bodies:
    """Eight bodies of one topology. Read-only after construction, so threads may share it."""

    def __init__(self) -> None:
        with files("cliquesim.datasets.demo").joinpath("data/bodies.npz").open("rb") as stream:
            data = np.load(stream, allow_pickle=False)
            arrays = {name: data[name] for name in data.files}
        self.vertices: Array = arrays["V"]
        self.heads: Array = arrays["H"].astype(np.float64)
        self.faces: Array = arrays["faces"].astype(np.int32)
        self.parents: Array = arrays["parents"]
        self.bones = [str(bone) for bone in arrays["bones"]]
        count, width = arrays["vbi"].shape
        rows = np.repeat(np.arange(count), width)
        self.weights = sparse.csr_matrix(
            (arrays["vbw"].ravel(), (rows, arrays["vbi"].ravel())),
            shape=(count, len(self.bones)),
            dtype=np.float32,
        )
        self.normals = np.stack([self._rest_normals(rest) for rest in self.vertices])
        self._segments = np.array([SEGMENT_NAMES.index(segment_of(bone)) for bone in self.bones])
        self._joints = np.array([self.bones.index(name) for name in JOINT_NAMES])

    def __len__(self) -> int:
        return len(self.vertices)

    def _rest_normals(self, rest: Array) -> Array:
        corners = rest[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(rest)
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], across)
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))

    def _straighten(self, body: int, bone: str) -> Array:
        """Rest rotation that lets a limb's bones hang straight down, as the motion expects."""
        segment = segment_of(bone)
        limb = _LIMBS.get(segment[:-2])
        if limb is None:
            return np.eye(3)
        heads = [self.heads[body, self.bones.index(name + segment[-2:])] for name in limb]
        return _rotation_between(heads[1] - heads[0], np.array([0.0, 0.0, -1.0]))

    def pose(self, body: int, motion: Motion) -> tuple[Array, Array, Array]:
        """Skin one body along a motion.

        Returns vertices (T, V, 3) and normals (T, V, 3), float32, and joints (T, 14, 3). Normals
        are turned by the blended transforms, which is ten times cheaper than new ones from faces.
        """
        heads = self.heads[body]
        world = TO_MESH @ motion.rotations @ TO_MESH.T
        rotations = world[:, self._segments] @ np.stack(
            [self._straighten(body, bone) for bone in self.bones]
        )
        root, chest = (world[:, SEGMENT_NAMES.index(name)] for name in ("root", "chest"))
        half = Rotation.from_matrix(np.swapaxes(root, 1, 2) @ chest).as_rotvec() / 2
        rotations[:, self.bones.index(_HALF_WAY)] = root @ Rotation.from_rotvec(half).as_matrix()

        leg = heads[self.bones.index("upperleg01.L"), 2] - heads[self.bones.index("foot.L"), 2]
        placed = np.empty((*rotations.shape[:2], 3))
        placed[:, 0] = motion.root @ TO_MESH.T * (leg / MOTION_LEG)
        for bone in range(1, len(self.bones)):
            parent = self.parents[bone]
            placed[:, bone] = placed[:, parent] + rotations[:, parent] @ (
                heads[bone] - heads[parent]
            )
        shift = placed - np.einsum("tbij,bj->tbi", rotations, heads)

        frames, bones = rotations.shape[:2]
        transforms = np.concatenate([rotations, shift[..., None]], axis=3).astype(np.float32)
        flat = transforms.transpose(1, 0, 2, 3).reshape(bones, frames * 12)
        blended = (self.weights @ flat).reshape(-1, frames, 3, 4)
        vertices = np.einsum("vtij,vj->tvi", blended[..., :3], self.vertices[body])
        vertices += blended[..., 3].transpose(1, 0, 2)
        normals = np.einsum("vtij,vj->tvi", blended[..., :3], self.normals[body])
        return vertices, normals, placed[:, self._joints]


@lru_cache(maxsize=1)
def load_bodies() -> Bodies:
    """The bodies, read once."""
    return Bodies()
