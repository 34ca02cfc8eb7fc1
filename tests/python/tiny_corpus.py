"""A tiny corpus for whole runs: stick figures that swing their limbs, drawn with Pillow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# Settings under which a whole fit of such a corpus takes a few seconds.
SMALL = {
    "frame_size": 48,
    "scales": (48,),
    "scale_margins": (1.0,),
    "shrinkage": 1.0,
    "n_neighbors": 12,
    "clique_quantile": 0.8,
    "n_batches": 6,
    "cliques_per_batch": 4,
    "max_rounds": 1,
    "training.image_size": 32,
    "training.channels": (4, 8),
    "training.embedding_dim": 16,
    "training.steps": 12,
    "training.batch_size": 16,
    "training.images_per_clique": 4,
    "training.checkpoint_every": 4,
}


def draw_figure(
    phase: float, colour: tuple[int, int, int], seed: int, size: int = 64
) -> Image.Image:
    """A figure whose limbs stand at `phase` (0 to 1), before a background of its own."""
    generator = np.random.default_rng(seed)
    background = generator.integers(90, 160, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(background).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    angle = math.sin(2 * math.pi * phase)
    x, hip, shoulder = size / 2, size * 0.55, size * 0.3
    draw.line([(x, hip), (x, shoulder)], fill=colour, width=5)
    draw.ellipse([x - 5, shoulder - 11, x + 5, shoulder - 1], fill=colour)
    for side in (-1, 1):
        for start, length in ((hip, 0.38), (shoulder + 3, 0.28)):
            turn = side * angle * 0.9 + (0.15 if start == hip else -0.1) * side
            end = (x + math.sin(turn) * length * size, start + math.cos(turn) * length * size)
            draw.line([(x, start), end], fill=colour, width=4)
    return picture


def write_figures(
    folder: Path, categories: int = 1, sequences: int = 8, frames: int = 10, seed: int = 0
) -> Path:
    """Frames in folder/CATEGORY/SEQUENCE/*.png (without CATEGORY if there is one only)."""
    generator = np.random.default_rng(seed)
    for category in range(categories):
        for sequence in range(sequences):
            place = folder / (f"c{category}/" if categories > 1 else "") / f"s{sequence:02d}"
            place.mkdir(parents=True)
            start, speed = generator.random(), generator.uniform(0.05, 0.1) * (1 + category)
            colour = tuple(int(v) for v in generator.integers(0, 80, 3))
            background = int(generator.integers(1 << 30))
            for frame in range(frames):
                picture = draw_figure(start + speed * frame, colour, background)
                picture.save(place / f"{frame:03d}.png")
    return folder


def write_labels(folder: Path, categories: int, sequences: int, frames: int) -> Path:
    """Three anchors a category with labels at random, in the released layout."""
    import h5py

    generator = np.random.default_rng(3)
    (folder / "labels_hdf5").mkdir(parents=True)
    (folder / "image_paths").mkdir()
    n = sequences * frames
    for category in range(categories):
        with h5py.File(folder / f"labels_hdf5/labels_c{category}.hdf5", "w") as file:
            anchors = np.array([1, 12, 30], np.int32)
            file["anchors"] = anchors
            for kind in ("pos", "neg"):
                for name in (f"{kind}_ids", f"{kind}_flipvals"):
                    rows = file.create_dataset(name, (3,), dtype=h5py.vlen_dtype(np.int32))
                    for row in range(3):
                        high = n if name.endswith("ids") else 2
                        rows[row] = generator.integers(0, high, 6, dtype=np.int32)
        lines = [f"./s{s:02d}/{f:03d}.png\n" for s in range(sequences) for f in range(frames)]
        (folder / f"image_paths/imagePaths_c{category}.txt").write_text("".join(lines))
    return folder
