"""Neighbours and similarity quantiles on a CUDA device against the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from neighbor_reference import assert_correct, assert_same, reference, sequences
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]


def small_tiles(monkeypatch: pytest.MonkeyPatch, edge: int) -> None:
    from cliquesim.neighbors import _exact_cuda as module

    monkeypatch.setattr(module, "_EDGE", edge)
    monkeypatch.setattr(module, "_WHOLE_ROWS", edge)


def whole_numbers(n: int, seed: int, dimensions: int = 6) -> NDArray[np.float32]:
    """Their products are exact in float32, and many are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, (n, dimensions)).astype(np.float32)


def ways(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(n)
    groups, queries = rng.integers(0, n // 30, n), whole_numbers(500, 9)
    return [
        {},
        {"groups": groups},
        {"groups": groups, "group_window": 40},
        {"queries": queries},
        {"queries": queries, "groups": groups, "query_groups": groups[:500]},
        {"mirrored": whole_numbers(n, 8), "groups": groups},
        {"mirrored": whole_numbers(n, 8), "queries": queries},
    ]


@pytest.mark.parametrize("way", range(7))
@pytest.mark.parametrize("edge", [4096, 640])
def test_ties_are_decided_as_on_the_cpu(
    way: int, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, edge)
    n = 3000
    X, arguments = whole_numbers(n, 1), ways(n)[way]
    for k, n_bottom in ((50, 50), (1, 0), (0, 300), (700, 65), (4000, 1)):
        expected = cs.neighbors(X, k=k, n_bottom=n_bottom, **arguments)
        found = cs.neighbors(X, k=k, n_bottom=n_bottom, device="cuda", **arguments)
        assert_same(found, expected)
        if "mirrored" in arguments:
            np.testing.assert_array_equal(found.flips, expected.flips)
            np.testing.assert_array_equal(found.bottom_flips, expected.bottom_flips)


def test_all_rows_are_equal_and_every_tile_is_better_than_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_tiles(monkeypatch, 512)
    for X in (np.ones((3000, 64)), np.arange(1.0, 3001)[:, None]):
        for k in (1, 50, 400):
            expected = cs.neighbors(X, k=k, n_bottom=k)
            assert_same(cs.neighbors(X, k=k, n_bottom=k, device="cuda"), expected)


@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize("radius", [0, 3, 60])
@pytest.mark.parametrize("n", [1, 70, 2500])
def test_against_numpy(metric: str, radius: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 704)
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, 96)).astype(np.float32)
    arguments: dict[str, Any] = {"k": 30, "n_bottom": 20, "metric": metric}
    if radius:
        arguments |= {"pool_radius": radius, "groups": sequences(rng, n, 90)}
    found = cs.neighbors(X, device="cuda", **arguments)
    assert_correct(found, reference(X, **arguments), 1e-4 if metric == "dot" else 1e-6)


@pytest.mark.parametrize("radius", [0, 2])
def test_quantiles(radius: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 320)
    n = 2500
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 48)).astype(np.float32)
    groups = sequences(rng, n, 70)
    levels = [0, 0.001, 0.25, 0.5, 0.97, 1]
    for arguments in (
        {},
        {"mirrored": X[:, ::-1]},
        {"queries": X[:99], "query_groups": groups[:99]},
    ):
        options: dict[str, Any] = {**arguments, "groups": groups, "pool_radius": radius}
        expected = cs.similarity_quantiles(X, levels, **options)
        found = cs.similarity_quantiles(X, levels, device="cuda", **options)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    whole = whole_numbers(n, 4)
    np.testing.assert_array_equal(
        cs.similarity_quantiles(whole, levels, device="cuda"),
        cs.similarity_quantiles(whole, levels),
    )


def test_tensors_stay_where_they_are_on_any_stream() -> None:
    import torch

    X = np.random.default_rng(5).standard_normal((6000, 64)).astype(np.float32)
    there = torch.from_numpy(X).cuda()
    first = cs.neighbors(X, k=10, n_bottom=10, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = cs.neighbors(there, k=10, n_bottom=10, device="cuda")
        quantiles = cs.similarity_quantiles(there, [0.5], device="cuda")
    stream.synchronize()
    assert second.indices.is_cuda
    assert quantiles.is_cuda
    np.testing.assert_array_equal(second.indices.cpu().numpy(), first.indices)
    np.testing.assert_array_equal(second.bottom_indices.cpu().numpy(), first.bottom_indices)
    assert torch.equal(there.cpu(), torch.from_numpy(X))


def test_products_are_not_rounded_to_tf32() -> None:
    import torch

    X = np.random.default_rng(6).standard_normal((3000, 256)).astype(np.float32)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = cs.neighbors(X, k=20, device="cuda")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    expected = cs.neighbors(X, k=20)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-4)


def needs_float16() -> None:
    from cliquesim.neighbors._tiles_cuda import multiplies_half

    if not multiplies_half():
        pytest.skip("needs torch 2.8 or newer")


def test_products_of_integers_are_exact() -> None:
    import torch

    from cliquesim.neighbors import _rounded_cuda

    needs_float16()
    assert _rounded_cuda.exact_on(torch.device("cuda", torch.cuda.current_device()))
    rng = np.random.default_rng(12)
    for dimensions in (8, 1984, 20_000):
        X = rng.standard_normal((2000, dimensions))
        X[:500] = np.abs(X[:500])  # no cancelling: sums come close to 2^24
        X[500] = 1
        half, _ = _rounded_cuda.round_rows(torch.from_numpy(X.astype(np.float32)).cuda())
        for rows in (half, half[:3], half[:640]):
            out = torch.empty((len(rows), len(half)), dtype=torch.float32, device="cuda")
            with _rounded_cuda.full_accumulators():
                _rounded_cuda.half_products(rows, half, out)
            assert torch.equal(out.double(), rows.double() @ half.double().T)


@pytest.mark.parametrize("way", range(5))
@pytest.mark.parametrize("edge", [4096, 640])
@pytest.mark.parametrize("factor", [4, 1])
def test_float16_first_decides_ties_as_on_the_cpu(
    way: int, edge: int, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_float16()
    small_tiles(monkeypatch, edge)
    from cliquesim.neighbors import _float16_cuda as module

    monkeypatch.setattr(module, "_ROOM_FACTOR", factor)
    n = 3000
    arguments = ways(n)[way]
    X = whole_numbers(n, 1, 64)
    if "queries" in arguments:
        arguments["queries"] = whole_numbers(500, 9, 64)
    for k, n_bottom in ((50, 50), (1, 0), (0, 300), (700, 65), (4000, 1)):
        expected = cs.neighbors(X, k=k, n_bottom=n_bottom, **arguments)
        found = cs.neighbors(
            X, k=k, n_bottom=n_bottom, device="cuda", precision="float16", **arguments
        )
        assert_same(found, expected)


@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize("kind", ["gaussian", "peaky", "zeros", "duplicates", "near ties"])
def test_float16_first_against_numpy(
    metric: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_float16()
    small_tiles(monkeypatch, 704)
    rng = np.random.default_rng(13)
    n, dimensions = 3000, 300
    X = rng.standard_normal((n, dimensions)).astype(np.float32)
    if kind == "peaky":
        X *= 1e-3
        X[np.arange(n), rng.integers(0, dimensions, n)] = 1
    elif kind == "zeros":
        X[::5] = 0
    elif kind == "duplicates":
        X[:900] = X[rng.integers(0, 3, 900)]
    elif kind == "near ties":
        X = X[:1] + np.float32(1e-2) * X
    arguments: dict[str, Any] = {"k": 30, "n_bottom": 20, "metric": metric}
    found = cs.neighbors(X, device="cuda", precision="float16", **arguments)
    assert_correct(found, reference(X, **arguments), 1e-3 if metric == "dot" else 2e-6)
    if kind == "gaussian":
        assert found.info["products"] == "float16"
        assert found.info["float32_rows"] == 0
    if kind == "duplicates":
        assert found.info["float32_rows"] >= 900


def test_more_than_32_bits_of_keys() -> None:
    n, k = 50_000, 45_000
    import torch

    if torch.cuda.mem_get_info()[0] < 24 * n * k:
        pytest.skip("needs 54 GB of device memory")
    X = np.arange(n, dtype=np.float32)[:, None]
    found = cs.neighbors(torch.from_numpy(X).cuda(), k=k, device="cuda")
    last = found.indices[-1].cpu().numpy()
    np.testing.assert_array_equal(last, np.arange(n - 2, n - 2 - k, -1))


def test_memory_limit_progress_and_errors() -> None:
    X = whole_numbers(4000, 7)
    seen: list[float] = []
    roomy = cs.neighbors(X, k=5, device="cuda", progress=seen.append)
    assert seen[-1] == 1.0
    limit = roomy.info["memory_bytes"] // 8
    found = cs.neighbors(X, k=5, device="cuda", memory_limit=limit)
    assert found.info["memory_bytes"] <= limit
    assert_same(found, roomy)
    with pytest.raises(InputError, match="memory_limit is 1000 bytes"):
        cs.neighbors(X, device="cuda", memory_limit=1000)
    X[17, 2] = np.nan
    with pytest.raises(InputError, match="X has NaN in row 17"):
        cs.neighbors(X, device="cuda")
    with pytest.raises(RunError, match="bytes of device memory"):
        cs.neighbors(np.ones((2_000_000, 1)), k=1_000_000, device="cuda")
