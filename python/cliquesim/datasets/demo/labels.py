"""Labels from exact joints: which frames show the same posture, in the layout of the released ones.

Distance of two frames: joints centred on the middle of the hips, divided by the root-mean-square
joint radius, then the mean distance over the joints; the smaller of the plain and the mirrored one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cliquesim.datasets.demo.body import JOINT_NAMES, SWAP

Array = NDArray[Any]

ANCHORS, POSITIVES, NEGATIVES, PER_SEQUENCE = 20, 10, 10, 3
#: An anchor's last positive is at most this far; two anchors are at least that far apart.
FARTHEST_POSITIVE, ANCHOR_SPACING = 0.45, 0.12


@dataclass(frozen=True)
class Labels:
    """Labels of one category, 0-based; the lists have one int32 array per anchor."""

    anchors: Array
    positives: list[Array]
    negatives: list[Array]
    positive_flips: list[Array]
    negative_flips: list[Array]


def normalize_joints(joints: Array) -> Array:
    """Joints (N, 14, 2) in pixels, centred on the hips and of unit root-mean-square radius."""
    hips = [JOINT_NAMES.index("upperleg01.R"), JOINT_NAMES.index("upperleg01.L")]
    centered = joints - joints[:, hips].mean(axis=1, keepdims=True)
    radius = np.sqrt((centered**2).sum(axis=2).mean(axis=1))
    return np.asarray(centered / radius[:, None, None])


def mirror_joints(normalized: Array) -> Array:
    """The joints of the mirror image: x negated, left and right exchanged."""
    return np.asarray(normalized[:, SWAP] * np.array([-1.0, 1.0]))


def pose_distances(joints: Array) -> tuple[Array, Array]:
    """Distances (N, N), and whether the mirrored comparison is the smaller one."""
    plain = normalize_joints(joints)
    mirrored = mirror_joints(plain)
    direct, flipped = (
        np.mean([cdist(plain[:, j], other[:, j]) for j in range(plain.shape[1])], axis=0)
        for other in (plain, mirrored)
    )
    return np.minimum(direct, flipped), flipped < direct


def _positives(order: Array, sequence: Array) -> Array:
    """The first frames of `order`, at most three of one sequence."""
    taken: dict[int, int] = {}
    chosen = []
    for frame in order:
        if taken.get(int(sequence[frame]), 0) < PER_SEQUENCE:
            taken[int(sequence[frame])] = taken.get(int(sequence[frame]), 0) + 1
            chosen.append(frame)
        if len(chosen) == POSITIVES:
            break
    return np.array(chosen, dtype=np.int32)


def make_labels(joints: Array, sequence: Array, rng: np.random.Generator) -> Labels:
    """Anchors of one category in random order, spread over its sequences and poses.

    Every anchor gets the nearest frames of other sequences as positives and, as negatives, random
    frames from the farther half of the other sequences.
    """
    distances, flips = pose_distances(joints)
    per_sequence = -(-ANCHORS // max(1, len(np.unique(sequence)))) + 1
    anchors: list[int] = []
    positives, negatives = [], []
    for frame in rng.permutation(len(joints)):
        if len(anchors) == ANCHORS:
            break
        if sum(sequence[a] == sequence[frame] for a in anchors) >= per_sequence:
            continue
        if anchors and distances[frame, anchors].min() < ANCHOR_SPACING:
            continue
        others = np.flatnonzero(sequence != sequence[frame])
        order = others[np.argsort(distances[frame, others], kind="stable")]
        near, far = _positives(order, sequence), order[(len(order) + 1) // 2 :]
        far = np.setdiff1d(far, near)
        if not len(near) or not len(far) or distances[frame, near[-1]] > FARTHEST_POSITIVE:
            continue
        anchors.append(int(frame))
        positives.append(near)
        negatives.append(
            rng.choice(far, size=min(NEGATIVES, len(far)), replace=False).astype(np.int32)
        )

    def flips_of(listed: list[Array]) -> list[Array]:
        rows = zip(anchors, listed, strict=True)
        return [flips[anchor, frames].astype(np.int32) for anchor, frames in rows]

    return Labels(
        np.array(anchors, dtype=np.int32),
        positives,
        negatives,
        flips_of(positives),
        flips_of(negatives),
    )
