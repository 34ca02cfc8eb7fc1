"""Frames of stick figures that swing their limbs, drawn by several processes."""

from __future__ import annotations

import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# As many sequences as a process draws in the time that it takes to start.
_LEAST_EACH = 100


def draw_sequences(
    frames: NDArray[np.uint8],
    length: int,
    motions: list[int],
    seed: int,
    workers: int | None = None,
) -> None:
    """Fill `frames` (N, side, side, 3), `length` a sequence; alike for any number of workers.

    `motions` has a number for each sequence; `workers` is chosen by their number if it is None.
    """
    n, side = frames.shape[:2]
    starts = range(0, n, length)
    counts = [min(length, n - start) for start in starts]
    seeds = [[seed, number] for number in range(len(counts))]
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), len(counts) // _LEAST_EACH)
    calls = (counts, [side] * len(counts), motions, seeds)
    if workers < 2:
        for start, one in zip(starts, map(draw_sequence, *calls), strict=True):
            frames[start : start + length] = one
        return
    # Not by fork: CUDA, once in use, does not survive it.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for start, one in zip(starts, pool.map(draw_sequence, *calls), strict=True):
            frames[start : start + length] = one


def draw_sequence(count: int, side: int, motion: int, seed: list[int]) -> NDArray[np.uint8]:
    """A figure of its own colour before a background of its own; `motion` sets how limbs swing."""
    generator = np.random.default_rng(seed)
    frames = np.empty((count, side, side, 3), np.uint8)
    coarse = Image.fromarray(generator.integers(60, 190, (6, 6, 3), np.uint8))
    background = coarse.resize((side, side), Image.Resampling.BICUBIC)
    colour = tuple(map(int, generator.integers(0, 256, 3)))
    phase, speed = generator.random(), generator.uniform(0.03, 0.06)
    hip, thick = np.array([side / 2, side * 0.55]), max(2, side // 16)
    for frame in range(count):
        picture = background.copy()
        pen = ImageDraw.Draw(picture)
        turn = 2 * math.pi * (phase + speed * frame)
        neck = hip - side * 0.24 * direction(0.25 * math.sin(turn * (1 + motion % 3)))
        pen.line([*hip, *neck], fill=colour, width=thick)
        x, y = neck
        pen.ellipse([x - thick, y - 2.5 * thick, x + thick, y], fill=colour)
        for limb, start in enumerate((hip, hip, neck, neck)):
            angle = (0.5 + 0.1 * (motion % 5)) * math.sin(turn + math.pi * (limb % 2))
            if start is neck:
                angle += 0.1 * motion * (-1) ** limb
            end = start + side * (0.3 if start is neck else 0.36) * direction(angle)
            pen.line([*start, *end], fill=colour, width=thick)
        frames[frame] = np.asarray(picture)
    return frames


def direction(angle: float) -> NDArray[np.float64]:
    """Downwards, turned by `angle`."""
    return np.array([math.sin(angle), math.cos(angle)])
