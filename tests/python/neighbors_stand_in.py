"""Module `_cuda` of the neighbours in NumPy, and torch's CPU device in place of a GPU."""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _matrix_cuda
from cliquesim.neighbors import _exact_cuda, _rounded_cuda, _tiles_cuda

CPU = torch.device("cpu")


def array(address: int, shape: tuple[int, ...], dtype: Any, stride: int = 0) -> NDArray[Any]:
    """View of memory of this process; `stride` numbers from row to row."""
    item = np.dtype(dtype).itemsize
    steps = (item,) if len(shape) == 1 else ((stride or shape[1]) * item, item)
    length = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + item
    if 0 in shape:
        return np.zeros(shape, dtype)
    memory = (ctypes.c_char * length).from_address(address)
    return np.ndarray(shape, dtype, memory, strides=steps)


def ordered_scores(scores: NDArray[Any]) -> NDArray[np.uint64]:
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


def scores_of(keys: Any) -> Any:
    ordered = (np.asarray(keys) >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> 31, ordered & np.uint32(0x7FFFFFFF), ~ordered)
    return bits.astype(np.uint32).view(np.float32)


class StandIn:
    """Module _cuda in NumPy."""

    fresh_room = 256

    @staticmethod
    def pool(
        products: int, stride: int, rows: Any, cols: Any, out: int, out_stride: int, *_: Any
    ) -> None:
        (i, row_before, row_after), (j, col_before, col_after) = (
            (
                array(side[0], (side[3],), np.int64),
                array(side[1], (side[3],), np.int32),
                array(side[2], (side[3],), np.int32),
            )
            for side in (rows, cols)
        )
        size = (i + np.minimum(row_after, col_after.max())).max() + 1, stride
        values = array(products, size, np.float32).astype(np.float64)
        before = np.minimum.outer(row_before, col_before)
        after = np.minimum.outer(row_after, col_after)
        total = np.zeros(before.shape)
        for n in range(-before.max(), after.max() + 1):
            inside = (n >= -before) & (n <= after)
            a, b = np.nonzero(inside)
            total[a, b] += values[i[a] + n, j[b] + n]
        array(out, before.shape, np.float32, out_stride)[:] = total / (before + after + 1)

    @staticmethod
    def similarities(
        values: Any, rows: Any, cols: Any, symmetric: bool, window: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], NDArray[Any]]:
        """Of a tile: similarities, flips, which pairs are allowed, how far products may be off."""
        plain, mirrored, stride = values
        shape = rows[1], cols[1]
        S = array(plain, shape, np.float32, stride)
        flips = np.zeros(shape, bool)
        if mirrored:
            other = array(mirrored, shape, np.float32, stride)
            flips, S = other > S, np.maximum(S, other)
        margin = np.zeros(shape, np.float32)
        if rows[3]:
            (c, e, n), (d, f, m) = (
                array(s[3], (s[0] + s[1], 3), np.float32)[s[0] :].T for s in (rows, cols)
            )
            S = S * c[:, None] * d
            margin = e[:, None] * m + n[:, None] * f + np.finfo(np.float32).tiny
        i = rows[0] + np.arange(rows[1])
        if rows[4]:
            i = array(rows[4], (rows[0] + rows[1],), np.int64)[rows[0] :]
        j = cols[0] + np.arange(cols[1])
        excluded = np.equal.outer(i, j) & symmetric
        if rows[2] and cols[2]:
            labels = [
                array(s[2], (at.max() + 1,), np.int64)[at] for s, at in ((rows, i), (cols, j))
            ]
            same = np.equal.outer(*labels)
            if window >= 0:
                same &= np.abs(np.subtract.outer(i, j)) <= window
            excluded |= same
        return S, flips, ~excluded, margin

    @classmethod
    def add_tile(cls, *arguments: Any) -> None:
        values, rows, cols, symmetric, window, serves_cols, top, bottom, *_ = arguments
        S, flips, allowed, margin = cls.similarities(values, rows, cols, symmetric, window)
        for sign, end in ((1, top), (-1, bottom)):
            scores = sign * S + margin
            cls.add(scores, flips, allowed, rows[0], cols[0], end)
            if serves_cols:
                assert not values[1]
                assert not rows[4]
                cls.add(scores.T, flips.T, allowed.T, cols[0], rows[0], end)

    @staticmethod
    def add(scores: Any, flips: Any, allowed: Any, row: int, col: int, end: Any) -> None:
        keys_at, bounds_at, k, _, counts_at = end
        assert counts_at
        keys = array(keys_at, (row + len(scores), k), np.uint64)[row:]
        bounds = array(bounds_at, (row + len(scores),), np.float32)[row:]
        if k == 0:
            assert (bounds == np.inf).all()
            return
        ordered = ordered_scores(scores)
        codes = (2 * (col + np.arange(scores.shape[1])) + flips).astype(np.uint32)
        fresh = np.where(allowed, ordered << np.uint64(32) | (~codes).astype(np.uint64), 0)
        keys[:] = np.sort(np.concatenate([keys, fresh], axis=1), axis=1)[:, ::-1][:, :k]

    @staticmethod
    def write_neighbors(
        keys_at: int,
        k: int,
        sign: float,
        rows: int,
        cols: int,
        indices: int,
        similarities: int,
        flips: int,
        *_: Any,
    ) -> None:
        keys = np.zeros((rows, cols), np.uint64)
        keys[:, :k] = array(keys_at, (rows, k), np.uint64)
        scores = np.where(keys == 0, -np.inf, scores_of(keys))
        codes = ~keys.astype(np.uint32)
        array(indices, keys.shape, np.int64)[:] = np.where(
            keys == 0, -1, (codes >> 1).astype(np.int64)
        )
        array(similarities, keys.shape, np.float32)[:] = sign * scores
        if flips:
            array(flips, keys.shape, bool)[:] = (keys != 0) & (codes & 1 == 1)

    @staticmethod
    def decide_candidates(
        rows: int,
        cols: int,
        row_count: int,
        dimensions: int,
        candidates: int,
        room: int,
        best_at: int,
        bounds_at: int,
        k: int,
        sign: float,
        decided_at: int,
        *_: Any,
    ) -> None:
        X = array(rows, (row_count, dimensions), np.float32).astype(np.float64)
        listed = array(candidates, (row_count, room), np.uint64)
        best = array(best_at, (row_count, k), np.uint64)
        bounds = array(bounds_at, (row_count,), np.float32)
        decided = array(decided_at, (row_count,), np.int32)
        assert (best == 0).all()
        assert (bounds == -np.inf).all()
        for row, keys in enumerate(listed):
            done = 0
            while done < room and keys[done] and scores_of(keys[done]) >= bounds[row]:
                some = keys[done : done + 32]
                some = some[some != 0]
                low = some & np.uint64(0xFFFFFFFF)
                indices = (~low.astype(np.uint32) >> 1).astype(np.int64)
                Y = array(cols, (indices.max() + 1, dimensions), np.float32)[indices]
                scores = (sign * (Y @ X[row])).astype(np.float32)
                fresh = ordered_scores(scores) << np.uint64(32) | low
                best[row] = np.sort(np.concatenate([best[row], fresh]))[::-1][:k]
                if best[row, -1]:
                    bounds[row] = scores_of(best[row, -1])
                done += len(some)
            certain = keys[-1] == 0 or scores_of(keys[-1]) < bounds[row]
            decided[row] = done if certain else -done

    @classmethod
    def row_quantiles(cls, *arguments: Any) -> None:
        values, rows, cols, symmetric, window, levels_at, count, out, *_ = arguments
        S, _flips, allowed, _margin = cls.similarities(values, rows, cols, symmetric, window)
        levels = array(levels_at, (count,), np.float64)
        found = array(out, (rows[0] + rows[1], count), np.float32)[rows[0] :]
        for a in range(len(S)):
            row = S[a, allowed[a]].astype(np.float64)
            found[a] = np.quantile(row, levels) if len(row) else np.nan


class Event:
    pending = 0

    def record(self) -> None:
        Event.pending += 1
        assert Event.pending <= 9

    def synchronize(self) -> None:
        Event.pending -= 1


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU device stands in for a GPU."""
    module = sys.modules["cliquesim.neighbors.exact"]
    monkeypatch.setattr(module, "check_device", lambda device, **rest: device)
    monkeypatch.setitem(sys.modules, "cliquesim._cuda", StandIn)  # type: ignore[arg-type]
    monkeypatch.setattr(cs, "_cuda", StandIn, raising=False)
    monkeypatch.setattr(_matrix_cuda, "device_of", lambda source: CPU)
    monkeypatch.setattr(_tiles_cuda, "free_memory", lambda device: 1 << 40)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "pending", 0)
    for user in (_tiles_cuda, _rounded_cuda):
        monkeypatch.setattr(user, "half_products", half_products)


def half_products(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    assert a.dtype == b.dtype == torch.float16
    out.copy_(a.double() @ b.double().T)


def small_tiles(monkeypatch: pytest.MonkeyPatch, edge: int, step: int) -> None:
    monkeypatch.setattr(_tiles_cuda, "_STEP", step)
    monkeypatch.setattr(_exact_cuda, "_EDGE", edge)
    monkeypatch.setattr(_exact_cuda, "_WHOLE_ROWS", edge)
