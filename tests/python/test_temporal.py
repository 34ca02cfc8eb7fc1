"""Temporal pooling, Eq. (9), against one pair and one offset at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _core
from cliquesim.errors import InputError, RunError

LEVELS = _core.runnable_levels()


def standardized(X: NDArray[Any]) -> NDArray[np.float64]:
    centred = X.astype(np.float64) - X.astype(np.float64).mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, where=length > 0, out=np.zeros_like(centred))


def reference(
    X: NDArray[Any],
    Y: NDArray[Any],
    rows: NDArray[Any],
    cols: NDArray[Any],
    sequence: NDArray[Any],
    radius: int,
    metric: str = "dot",
) -> NDArray[np.float64]:
    if metric == "correlation":
        X, Y = standardized(X), standardized(Y)
    out = np.empty((len(rows), len(cols)))

    def inside(frame: int, n: int) -> bool:
        return 0 <= frame + n < len(X) and sequence[frame + n] == sequence[frame]

    for i, k in enumerate(rows):
        for j, m in enumerate(cols):
            offsets = [n for n in range(-radius, radius + 1) if inside(k, n) and inside(m, n)]
            out[i, j] = np.mean([X[k + n].astype(np.float64) @ Y[m + n] for n in offsets])
    return out


def sequences(rng: np.random.Generator, n: int, longest: int) -> NDArray[np.int64]:
    """Contiguous runs of random lengths under shuffled labels."""
    lengths: list[int] = []
    while sum(lengths) < n:
        lengths.append(int(rng.integers(1, longest + 1)))
    return np.repeat(rng.permutation(len(lengths)), lengths)[:n].astype(np.int64)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize(("radius", "longest"), [(0, 9), (1, 1), (1, 30), (3, 12), (50, 25)])
def test_against_the_definition(
    level: str, metric: str, radius: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "pooled_similarity", _core.load_level(level).pooled_similarity)
    rng = np.random.default_rng([radius, longest])
    n = 900
    X = rng.standard_normal((n, 6)).astype(np.float32)
    Y = rng.standard_normal((n, 6)).astype(np.float32)
    sequence = sequences(rng, n, longest)
    rows = rng.integers(0, n, 23)  # scattered and repeated
    cols = np.concatenate([[0, n - 1], rng.integers(0, n, 37), np.arange(n - 20, n)])
    for other in (X, Y):
        found = cs.pooled_similarity(X, rows, cols, sequence, radius, metric, 2, col_features=other)
        assert found.dtype == np.float32
        expected = reference(X, other, rows, cols, sequence, radius, metric)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_all_pairs_and_any_subset_have_the_same_bits(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "pooled_similarity", _core.load_level(level).pooled_similarity)
    rng = np.random.default_rng(0)
    n = 1300
    X = rng.standard_normal((n, 40)).astype(np.float32)
    sequence = sequences(rng, n, 100)
    everything = cs.pooled_similarity(X, np.arange(n), np.arange(n), sequence, 2, num_threads=1)
    np.testing.assert_array_equal(everything, everything.T)
    again = cs.pooled_similarity(X, np.arange(n), np.arange(n), sequence, 2, num_threads=3)
    np.testing.assert_array_equal(everything, again)
    rows, cols = rng.integers(0, n, 60), rng.integers(0, n, 700)
    np.testing.assert_array_equal(
        cs.pooled_similarity(X, rows, cols, sequence, 2), everything[np.ix_(rows, cols)]
    )
    np.testing.assert_array_equal(
        cs.pooled_similarity(X, np.arange(n)[::-1], cols, sequence, 2), everything[::-1, cols]
    )


def test_agrees_with_pooled_neighbours() -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((600, 15)).astype(np.float32)
    sequence = sequences(rng, 600, 35)
    found = cs.neighbors(X, k=10, groups=sequence, pool_radius=3)
    frames = np.arange(600)
    pooled = cs.pooled_similarity(X, frames, frames, sequence, 3)
    np.testing.assert_allclose(
        np.take_along_axis(pooled, found.indices, axis=1), found.similarities, atol=1e-5
    )


def test_constant_rows_correlate_with_nothing() -> None:
    X = np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0]])
    found = cs.pooled_similarity(X, [0, 1], [0, 1], [0, 1], 0, "correlation")
    np.testing.assert_allclose(found, [[0, 0], [0, 1]], atol=1e-6)


def test_other_layouts_and_types_of_input() -> None:
    X = np.random.default_rng(2).standard_normal((300, 20))
    sequence = np.arange(300) // 10
    expected = cs.pooled_similarity(X.astype(np.float32), [1, 2], [3, 299], sequence)
    for other in (
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        X.astype(np.float32).tolist(),
    ):
        found = cs.pooled_similarity(
            other, (1, 2), np.array([3, 299], np.uint16), sequence.astype(np.int32)
        )
        np.testing.assert_array_equal(found, expected)


def test_no_rows_or_no_columns() -> None:
    X = np.ones((4, 2))
    assert cs.pooled_similarity(X, [], [1, 2], [0, 0, 1, 1]).shape == (0, 2)
    assert cs.pooled_similarity(X, [1], [], [0, 0, 1, 1]).shape == (1, 0)


def test_progress_reaches_one() -> None:
    seen: list[float] = []
    cs.pooled_similarity(np.ones((4, 2)), [0], [1], [0, 0, 1, 1], progress=seen.append)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.array([[0.0], [np.nan], [1.0]])}, "features has NaN in row 1"),
        ({"features": np.zeros((3, 0))}, "features must have at least one column"),
        ({"features": np.full((3, 1), 1e25)}, "features has too large values in row 0"),
        ({"rows": [0, 3]}, r"rows must be in \[0, 3\), got 3 at place 1"),
        ({"cols": [-1]}, r"cols must be in \[0, 3\), got -1 at place 0"),
        ({"rows": [0.5]}, "rows must be integers"),
        ({"rows": [True]}, "rows must be integers"),
        ({"rows": 1}, "rows must have 1 dimension"),
        ({"sequence": [0, 0]}, r"sequence must have shape \(3,\)"),
        ({"sequence": [7, 2, 7]}, "sequence: the rows of sequence 7 must be contiguous"),
        ({"radius": -1}, "radius must be at least 0"),
        ({"metric": "l2"}, "metric must be one of"),
        ({"col_features": np.zeros((3, 2))}, "col_features must have the shape of features"),
        ({"device": "gpu"}, "device must be one of"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "features": np.zeros((3, 1)),
        "rows": [0],
        "cols": [1],
        "sequence": [0, 0, 0],
    }
    with pytest.raises(InputError, match=message):
        cs.pooled_similarity(**{**arguments, **changes})


def test_unusable_cuda_is_refused() -> None:
    from cliquesim._device import cuda_status

    if cuda_status()[0]:
        pytest.skip("CUDA can be used here; tests/gpu covers it")
    with pytest.raises(RunError, match="temporal pooling cannot run with device='cuda': "):
        cs.pooled_similarity(np.zeros((3, 1)), [0], [1], [0, 0, 0], device="cuda")


@pytest.mark.parametrize("products", [1, 5000, 1 << 28])
def test_cuda_tiling_with_the_kernel_replaced(
    products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What surrounds the CUDA kernel, on the CPU: windows, chunks of rows, order."""
    import torch

    from cliquesim import _temporal_cuda

    def launch(P: Any, rows: list[Any], cols: list[Any], out: Any) -> None:
        P, out = P.numpy(), out.numpy()
        for i, (row, before, after) in enumerate(zip(*(c.tolist() for c in rows), strict=True)):
            for j, (col, b, a) in enumerate(zip(*(c.tolist() for c in cols), strict=True)):
                window = range(-min(before, b), min(after, a) + 1)
                out[i, j] = sum(P[row + n, col + n] for n in window) / len(window)

    monkeypatch.setattr(_temporal_cuda, "pool_products", launch)
    monkeypatch.setattr(_temporal_cuda, "_PRODUCTS", products)
    rng = np.random.default_rng(8)
    X = rng.standard_normal((300, 9)).astype(np.float32)
    sequence = sequences(rng, 300, 40)
    rows, cols = rng.integers(0, 300, 21), rng.integers(0, 300, 30)
    for correlation in (False, True):
        sides = [
            _temporal_cuda._Side(torch.from_numpy(X), frames, sequence, 3, correlation, "rows")
            for frames in (rows, cols)
        ]
        metric = "correlation" if correlation else "dot"
        np.testing.assert_allclose(
            _temporal_cuda._pool(*sides).numpy(),
            cs.pooled_similarity(X, rows, cols, sequence, 3, metric),
            atol=1e-5,
        )
