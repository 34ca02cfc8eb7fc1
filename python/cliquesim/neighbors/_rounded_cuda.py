"""Descriptors rounded to integers in float16, whose products are exact on tensor cores.

With |q| < 2^12 and |q_i| <= 2^11, float16 holds every q_i, a product of two has 22 bits, and by
Cauchy-Schwarz the sum of any of them, in whatever order and grouping, is an integer below 2^24,
which float32 holds. So q_a . q_b is exact wherever the accumulators have 24 bits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cliquesim.neighbors._tiles_cuda import Search, Side, half_products

MOST_DIMENSIONS = 1 << 20
_LONGEST, _LARGEST = 4095.0, 2048.0
# Rows of other lengths stay unrounded: their error is their length. Scaled products of the others
# neither overflow nor lose bits.
_LENGTHS = 2.0**-60, 2.0**62
_AT_ONCE = 1 << 22  # numbers that are rounded at a time
_ALIGNED = 8  # columns, as tensor cores like them
_REDUCED = "allow_fp16_reduced_precision_reduction"


def rounded_bytes(search: Search) -> int:
    rows = search.cols + (0 if search.symmetric else search.rows)
    columns = _padded(search.col_side.rows.shape[1])
    return rows * (2 * columns + 12)


def rounded(search: Search) -> Search:
    """The same search among rounded rows: lists are by the greatest scores that there may be."""
    result = copy.copy(search)
    result.col_side = _rounded_side(search.col_side)
    result.row_side = result.col_side if search.symmetric else _rounded_side(search.row_side)
    return result


def largest_error(search: Search) -> float:
    """Of a similarity of rounded rows, as a share of the two rows' lengths."""

    def share(side: Side) -> float:
        assert side.rounding is not None
        _, error, length = side.rounding.T
        return float((error / length.clamp(min=1e-38)).max()) if len(error) else 0.0

    return share(search.row_side) + share(search.col_side)


def exact_on(device: torch.device) -> bool:
    """Whether products there are what they must be, from rows whose sums come close to 2^24."""
    rows, columns = 64, 1024
    # 127^2 * 1024 < 2^24; every sum is odd, so that a lost bit shows.
    places = torch.arange(rows * columns, device=device).reshape(rows, columns)
    half = (127 - 2 * (places * places // 7 % 5)).half()
    half[: rows // 2] *= torch.where(places[: rows // 2] % 3 == 0, -1, 1)
    half[0], half[1], half[2] = 127, 127, -127
    half[:, -1] = 126
    found = torch.empty((rows, rows), dtype=torch.float32, device=device)
    with full_accumulators():
        half_products(half, half, found)
    return bool((found.double() == half.double() @ half.double().T).all())


@contextmanager
def full_accumulators() -> Iterator[None]:
    """float16 products are summed in float32, whatever the caller allows."""
    settings: Any = torch.backends.cuda.matmul
    names = [name for name in (_REDUCED, "allow_fp16_accumulation") if hasattr(settings, name)]
    before = {name: getattr(settings, name) for name in names}
    if hasattr(settings, _REDUCED + "_split_k"):  # both are set as one, from torch 2.10 on
        before[_REDUCED] = before[_REDUCED], getattr(settings, _REDUCED + "_split_k")
    for name in names:
        setattr(settings, name, False)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


def round_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, D) float32: integers (n, D padded) float16; scale, error and length of each, (n, 3)."""
    n, columns = rows.shape
    half = torch.zeros((n, _padded(columns)), dtype=torch.float16, device=rows.device)
    facts = torch.empty((n, 3), dtype=torch.float32, device=rows.device)
    step = max(1, _AT_ONCE // columns)
    for begin in range(0, n, step):
        part = slice(begin, min(begin + step, n))
        _round_part(rows[part].double(), half[part, :columns], facts[part])
    return half, facts


def _round_part(x: torch.Tensor, half: torch.Tensor, facts: torch.Tensor) -> None:
    columns = x.shape[1]
    length, largest = x.norm(dim=1), x.abs().amax(dim=1)
    usable = (length >= _LENGTHS[0]) & (length <= _LENGTHS[1])
    # Rounding lengthens a row by at most sqrt(D) / 2.
    longest = _LONGEST - columns**0.5 / 2
    factor = torch.minimum(longest / length, _LARGEST / largest)
    factor = torch.where(usable, factor, 0.0)
    scale = torch.where(usable, 1 / factor, 0.0).float()
    half.copy_((x * factor[:, None]).round_())
    back = half.double().mul_(scale.double()[:, None])
    length = torch.maximum(length, back.norm(dim=1))
    error = back.sub_(x).norm(dim=1) + _float32_share(columns) * length
    above = 1 + 2.0**-20  # more than conversion to float32 and the sums of margins take away
    facts[:, 0] = scale
    for place, value in ((1, error), (2, length)):
        facts[:, place] = value.mul_(above).clamp_(min=torch.finfo(torch.float32).tiny)


def _float32_share(columns: int) -> float:
    """Of two rows' lengths, half of what all float32 sums are off by: of a margin, of a scaled
    product, and of a candidate's decision in 32 lanes."""
    return (columns / 32 + 64) * 2.0**-24


def _rounded_side(side: Side) -> Side:
    result = copy.copy(side)
    result.rows, result.rounding = round_rows(side.rows)
    return result


def _padded(columns: int) -> int:
    return -(-columns // _ALIGNED) * _ALIGNED
