"""Pose measures: percentage of correct parts (Sect. 3.3) and of correct key points (Sect. 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._validation import as_real
from cliquesim.errors import InputError

# A part joins two points; a point is the middle of the named joints.
Part = tuple[tuple[str, ...], tuple[str, ...]]

PARTS: dict[str, tuple[Part, ...]] = {
    "torso": ((("neck",), ("r_hip", "l_hip")),),
    "upper legs": ((("r_hip",), ("r_knee",)), (("l_hip",), ("l_knee",))),
    "lower legs": ((("r_knee",), ("r_ankle",)), (("l_knee",), ("l_ankle",))),
    "upper arms": ((("r_shoulder",), ("r_elbow",)), (("l_shoulder",), ("l_elbow",))),
    "lower arms": ((("r_elbow",), ("r_wrist",)), (("l_elbow",), ("l_wrist",))),
    "head": ((("head",), ("neck",)),),
}
"""The ten parts of Table 3, over the joints' names."""


def pcp(
    predicted: ArrayLike,
    truth: ArrayLike,
    joint_names: Sequence[str],
    threshold: float = 0.5,
    parts: Mapping[str, Sequence[Part]] = PARTS,
) -> dict[str, float]:
    """Percentage of correct parts, strict: both ends within `threshold` of the part's length.

    Parameters
    ----------
    predicted, truth : (n, n_joints, 2)
        Joint positions in pixels. Parts with a NaN in the truth are not counted; a NaN in the
        prediction is a miss.
    joint_names : n_joints strings
    threshold : float
        Share of the true part's length.
    parts : mapping
        Groups of parts; by default the ten of Table 3.

    Returns
    -------
    dict
        Per group and for "total" (mean over all parts that count) a share in [0, 1]; NaN for a
        group that has none.

    Raises
    ------
    InputError
        Shapes that do not fit, or a part whose joint is not among `joint_names`.

    Examples
    --------
    >>> truth = [[[0, 0], [0, 10]]]
    >>> part = {"arm": [(("a",), ("b",))]}
    >>> pcp([[[0, 4], [0, 10]]], truth, ["a", "b"], parts=part)["arm"]
    1.0
    >>> pcp([[[0, 6], [0, 10]]], truth, ["a", "b"], parts=part)["arm"]
    0.0
    """
    guess, true = _poses(predicted, truth, len(joint_names))
    threshold = as_real(threshold, "threshold", minimum=0.0)
    index = {name: i for i, name in enumerate(joint_names)}

    def point(poses: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.float64]:
        try:
            middle: NDArray[np.float64] = poses[:, [index[name] for name in names]].mean(axis=1)
        except KeyError as error:
            raise InputError(f"joint_names has no {error.args[0]!r}") from None
        return middle

    groups: dict[str, list[NDArray[np.bool_]]] = {}
    for name, group in parts.items():
        for start, end in group:
            true_start, true_end = point(true, start), point(true, end)
            allowed = threshold * np.linalg.norm(true_end - true_start, axis=1)
            miss = np.fmax(
                _distance(point(guess, start), true_start), _distance(point(guess, end), true_end)
            )
            groups.setdefault(name, []).append((miss <= allowed)[np.isfinite(allowed)])
    return _shares(groups)


def pckh(
    predicted: ArrayLike,
    truth: ArrayLike,
    head_sizes: ArrayLike,
    joint_names: Sequence[str],
    threshold: float = 0.5,
) -> dict[str, float]:
    """Percentage of correct key points: within `threshold` of the person's head size.

    Parameters
    ----------
    predicted, truth : (n, n_joints, 2)
        Joint positions in pixels; NaN as in `pcp`.
    head_sizes : (n,)
        Length of the head segment (in MPII 0.6 of the head box's diagonal), in pixels.
    joint_names : n_joints strings
    threshold : float
        Share of the head size.

    Returns
    -------
    dict
        Per joint and for "total" (mean over all joints that count) a share in [0, 1].

    Examples
    --------
    >>> pckh([[[0, 4], [9, 0]]], [[[0, 0], [0, 0]]], [10], ["knee", "hip"])
    {'knee': 1.0, 'hip': 0.0, 'total': 0.5}
    """
    guess, true = _poses(predicted, truth, len(joint_names))
    sizes = np.asarray(head_sizes, dtype=np.float64)
    if sizes.shape != (len(true),) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(f"head_sizes must be {len(true)} positive numbers")
    threshold = as_real(threshold, "threshold", minimum=0.0)
    correct = _distance(guess, true) <= threshold * sizes[:, None]
    counted = np.asarray(np.isfinite(true).all(axis=2))
    return _shares({name: [correct[counted[:, i], i]] for i, name in enumerate(joint_names)})


def _poses(
    predicted: ArrayLike, truth: ArrayLike, n_joints: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    guess, true = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if true.ndim != 3 or true.shape[1:] != (n_joints, 2) or len(true) == 0:
        raise InputError(f"truth must have shape (n, {n_joints}, 2), got {true.shape}")
    if guess.shape != true.shape:
        raise InputError(f"predicted must have shape {true.shape}, got {guess.shape}")
    return guess, true


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean; inf where a coordinate of either is NaN."""
    distances = np.linalg.norm(a - b, axis=-1)
    return np.where(np.isnan(distances), np.inf, distances)


def _shares(groups: Mapping[str, Sequence[NDArray[np.bool_]]]) -> dict[str, float]:
    pooled = {name: np.concatenate(list(group)) for name, group in groups.items()}
    pooled["total"] = np.concatenate(list(pooled.values()))
    return {name: float(hits.mean()) if len(hits) else np.nan for name, hits in pooled.items()}
