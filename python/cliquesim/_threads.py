"""Blocks of rows spread over threads, for work that lets go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cliquesim._validation import as_threads


def over_blocks(
    n: int, block: int, body: Callable[[slice], object], num_threads: int | None
) -> None:
    """Call `body` with every slice of `block` out of `n` rows; None for all processors."""
    slices = [slice(start, min(start + block, n)) for start in range(0, n, block)]
    threads = min(as_threads(num_threads) or len(os.sched_getaffinity(0)), len(slices))
    if threads < 2:
        for rows in slices:
            body(rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(body, slices):
            pass
