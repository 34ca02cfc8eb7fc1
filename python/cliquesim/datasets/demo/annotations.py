"""What is written beside the frames: image lists, boxes, labels, joints, facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.datasets.demo.body import JOINT_NAMES, SWAP
from cliquesim.datasets.demo.labels import Labels, make_labels
from cliquesim.datasets.demo.motion import CATEGORIES

Array = NDArray[Any]


@dataclass(frozen=True)
class RenderedSequence:
    """What is known of a rendered sequence besides its pictures."""

    joints: Array  # (T, 14, 2) pixels
    boxes: Array  # (T, 4) xmin ymin xmax ymax, 1-based pixels
    times: Array  # (T,) seconds in the clip
    facts: dict[str, Any]


def _write_labels(path: Path, labels: Labels) -> None:
    """One HDF5 file in the released layout."""
    import h5py

    ragged = {
        "pos_ids": labels.positives,
        "neg_ids": labels.negatives,
        "pos_flipvals": labels.positive_flips,
        "neg_flipvals": labels.negative_flips,
    }
    with h5py.File(path, "w") as file:
        file["anchors"] = labels.anchors
        for name, rows in ragged.items():
            data = file.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(np.int32))
            for row, values in enumerate(rows):
                data[row] = values


def _write_category(
    root: Path, category: str, sequences: dict[str, RenderedSequence], seed: int
) -> dict[str, Array]:
    """Image list, boxes and labels of a category; returns its arrays for joints.npz."""
    lines = []
    (root / "bboxes" / category).mkdir()
    for name, sequence in sequences.items():
        lines += [f"./{name}/I{t:05d}.jpg\n" for t in range(len(sequence.times))]
        rows = np.column_stack([np.arange(1, len(sequence.times) + 1), sequence.boxes])
        path = root / "bboxes" / category / f"{name}.bb"
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows.tolist()))
    (root / "image_paths" / f"imagePaths_{category}.txt").write_text("".join(lines))
    rows_of = list(sequences.values())
    counts = [len(sequence.times) for sequence in rows_of]
    number = np.repeat(np.arange(len(rows_of), dtype=np.int32), counts)
    joints = np.concatenate([sequence.joints for sequence in rows_of])
    rng = np.random.default_rng([seed, CATEGORIES.index(category)])
    labels = make_labels(joints.astype(np.float64), number, rng)
    _write_labels(root / "labels_hdf5" / f"labels_{category}.hdf5", labels)
    return {
        f"{category}/joints": joints,
        f"{category}/seq": number,
        f"{category}/frame": np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        f"{category}/time": np.concatenate([sequence.times for sequence in rows_of]),
        f"{category}/bbox": np.concatenate([sequence.boxes for sequence in rows_of]),
    }


def write_annotations(
    root: Path, rendered: dict[str, dict[str, RenderedSequence]], seed: int
) -> None:
    """Write everything but the frames; `rendered` is by category, then by sequence name."""
    for folder in ("image_paths", "labels_hdf5", "bboxes"):
        (root / folder).mkdir()
    arrays: dict[str, Any] = {"joint_names": np.array(JOINT_NAMES), "swap": SWAP}
    for category, sequences in rendered.items():
        arrays |= _write_category(root, category, sequences, seed)
    np.savez_compressed(root / "joints.npz", **arrays)
    facts = {c: {n: s.facts for n, s in rows.items()} for c, rows in rendered.items()}
    (root / "sequences.json").write_text(json.dumps(facts, indent=1) + "\n")
