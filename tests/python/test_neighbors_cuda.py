"""`cs.neighbors(device="cuda")` without a GPU: torch's CPU tensors, and the kernels in NumPy."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from neighbor_reference import assert_correct, assert_same, reference, sequences
from neighbors_stand_in import Event, install, small_tiles
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _matrix_cuda
from cliquesim.errors import InputError, RunError
from cliquesim.neighbors import _lists_cuda, _tiles_cuda

EVERY_WAY: list[dict[str, Any]] = [
    {},
    {"groups": True},
    {"groups": True, "group_window": 3},
    {"queries": 37},
    {"queries": 37, "groups": True},
    {"mirrored": True, "groups": True},
    {"mirrored": True, "queries": 37},
    {"metric": "correlation"},
    {"metric": "correlation", "mirrored": True, "queries": 20},
]


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def whole_numbers(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Their products are exact in float32, and many are equal."""
    return rng.integers(-3, 4, (n, 5)).astype(np.float32)


def made(way: dict[str, Any], n: int, seed: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    X, arguments = whole_numbers(rng, n), dict(way)
    if "groups" in way:
        arguments["groups"] = rng.integers(0, 6, n)
    if "queries" in way:
        arguments["queries"] = whole_numbers(rng, way["queries"])
        if "groups" in way:
            arguments["query_groups"] = rng.integers(0, 6, way["queries"])
    if "mirrored" in way:
        arguments["mirrored"] = whole_numbers(rng, n)
    return X, arguments


@pytest.mark.parametrize("way", EVERY_WAY, ids=str)
@pytest.mark.parametrize(("edge", "step"), [(4096, 64), (64, 64), (30, 7)])
def test_neighbors_are_those_of_the_cpu(
    way: dict[str, Any], edge: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, edge, step)
    X, arguments = made(way, 150, edge)
    for k, n_bottom in ((12, 5), (0, 200), (3, 0)):
        expected = cs.neighbors(X, k=k, n_bottom=n_bottom, **arguments)
        found = cs.neighbors(X, k=k, n_bottom=n_bottom, device="cuda", **arguments)
        if "metric" in way:  # rounded differently
            np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
            np.testing.assert_allclose(
                found.bottom_similarities, expected.bottom_similarities, atol=1e-6
            )
            continue
        assert_same(found, expected)
        if "mirrored" in way:
            np.testing.assert_array_equal(found.flips, expected.flips)
            np.testing.assert_array_equal(found.bottom_flips, expected.bottom_flips)
        else:
            assert found.flips is None
            assert found.bottom_flips is None


@pytest.mark.parametrize("radius", [1, 4, 1000])
@pytest.mark.parametrize("edge", [4096, 48])
@pytest.mark.parametrize("window", [None, 2])
def test_pooled_neighbors_and_queries(
    radius: int, edge: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, edge, 8)
    rng = np.random.default_rng(radius)
    n, m = 190, 70
    X = rng.standard_normal((n, 8)).astype(np.float32)
    arguments: dict[str, Any] = {
        "k": 9,
        "n_bottom": 4,
        "groups": sequences(rng, n, 40),
        "pool_radius": radius,
    }
    if window is None:
        arguments["sequences"] = np.arange(n) // 30
    else:
        arguments["group_window"] = window
    found = cs.neighbors(X, device="cuda", **arguments)
    assert_correct(found, reference(X, **arguments), 1e-5)
    mirrored = rng.standard_normal(X.shape).astype(np.float32)
    expected = cs.neighbors(X, mirrored=mirrored, **arguments)
    found = cs.neighbors(X, mirrored=mirrored, device="cuda", **arguments)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-5)
    np.testing.assert_allclose(found.bottom_similarities, expected.bottom_similarities, atol=1e-5)
    assert (found.flips == expected.flips).mean() > 0.99
    if window is None:
        arguments |= {
            "queries": rng.standard_normal((m, 8)).astype(np.float32),
            "query_groups": sequences(rng, m, 25),
        }
        found = cs.neighbors(X, device="cuda", **arguments)
        assert_correct(found, reference(X, **arguments), 1e-5)


@pytest.mark.parametrize("way", [*EVERY_WAY, {"pool": True}], ids=str)
@pytest.mark.parametrize("edge", [1024, 32])
def test_quantiles_are_those_of_the_cpu(
    way: dict[str, Any], edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, edge, 8)
    pooled = "pool" in way
    X, arguments = made({} if pooled else way, 110, edge)
    if pooled:
        labels = sequences(np.random.default_rng(0), 110, 20)
        arguments = {"groups": labels, "pool_radius": 2}
    levels, seen = [0, 0.1, 0.5, 0.77, 1], []
    expected = cs.similarity_quantiles(X, levels, **arguments)
    found = cs.similarity_quantiles(X, levels, device="cuda", progress=seen.append, **arguments)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_tensor_gives_tensors_and_keeps_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["cliquesim.neighbors.exact"], "on_cuda", lambda values: True)
    X = whole_numbers(np.random.default_rng(4), 40)
    tensor = torch.from_numpy(X.copy())
    found = cs.neighbors(tensor, k=3, n_bottom=2, metric="correlation", device="cuda")
    expected = cs.neighbors(X, k=3, n_bottom=2, metric="correlation")
    assert isinstance(found.indices, torch.Tensor)
    np.testing.assert_allclose(found.similarities.numpy(), expected.similarities, atol=1e-6)
    np.testing.assert_array_equal(tensor.numpy(), X)
    assert isinstance(cs.similarity_quantiles(tensor, [0.5], device="cuda"), torch.Tensor)


def test_no_rows_and_no_columns() -> None:
    X = np.ones((3, 2), np.float32)
    found = cs.neighbors(X[:0], k=2, n_bottom=1, device="cuda")
    assert found.indices.shape == (0, 2)
    found = cs.neighbors(X[:0], k=2, queries=X, device="cuda")
    np.testing.assert_array_equal(found.indices, np.full((3, 2), -1))
    np.testing.assert_array_equal(found.similarities, np.full((3, 2), -np.inf))
    found = cs.neighbors(X, k=2, n_bottom=2, queries=X[:0], device="cuda")
    assert found.bottom_indices.shape == (0, 2)
    found = cs.neighbors(X[:1], k=1, n_bottom=1, device="cuda")
    assert found.bottom_similarities.tolist() == [[np.inf]]
    assert cs.similarity_quantiles(X, [], device="cuda").shape == (3, 0)
    assert np.isnan(cs.similarity_quantiles(X[:0], [0.5], queries=X, device="cuda")).all()


def test_read_only_and_other_types_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_matrix_cuda, "_AT_ONCE", 64)
    X = whole_numbers(np.random.default_rng(5), 60)
    expected = cs.neighbors(X, k=4)
    for other in (X.astype(np.int64), np.asfortranarray(X), X.astype(np.float64), X.tolist()):
        assert_same(cs.neighbors(other, k=4, device="cuda"), expected)
    X.flags.writeable = False
    assert_same(cs.neighbors(X, k=4, device="cuda"), expected)


@pytest.mark.parametrize(
    ("X", "arguments"),
    [
        (np.full((3, 2), np.nan), {}),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), {}),
        (np.array([[1.0, 2.0], [3e38, 3e38]]), {}),
        (np.ones((3, 2, 2)), {}),
        (np.ones((3, 0)), {}),
        (np.ones((3, 2)), {"queries": np.ones((2, 3))}),
        (np.ones((3, 2)), {"queries": np.array([[1.0, np.nan]])}),
        (np.ones((3, 2)), {"mirrored": np.ones((2, 2))}),
        (np.ones((3, 2)), {"groups": [1, 2, 1], "pool_radius": 1}),
        (np.ones((3, 2)), {"groups": [1, 1, 1], "sequences": [1, 2, 1], "pool_radius": 1}),
    ],
)
def test_bad_input_is_refused_in_the_words_of_the_cpu(
    X: NDArray[Any], arguments: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as expected:
        cs.neighbors(X, **arguments)
    with pytest.raises(InputError) as found:
        cs.neighbors(X, device="cuda", **arguments)
    assert str(found.value) == str(expected.value)


def test_what_a_gpu_does_not_take() -> None:
    X = np.ones((5, 2))
    with pytest.raises(InputError, match="precision='int16' is for device='cpu'"):
        cs.neighbors(X, precision="int16", device="cuda")
    with pytest.raises(InputError, match="real numbers"):
        cs.neighbors(torch.ones((3, 3), dtype=torch.complex64), device="cuda")


def test_tiles_fit_what_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    X = whole_numbers(np.random.default_rng(6), 900)
    roomy = cs.neighbors(X, k=4, device="cuda")
    assert roomy.info["tiles"] == 1
    limit = roomy.info["memory_bytes"] - 1
    found = cs.neighbors(X, k=4, device="cuda", memory_limit=limit)
    assert found.info["tiles"] > 1
    assert found.info["memory_bytes"] <= limit
    assert_same(found, roomy)
    with pytest.raises(InputError, match=r"memory_limit is 1000 bytes, but this search needs \d+"):
        cs.neighbors(X, k=4, device="cuda", memory_limit=1000)
    monkeypatch.setattr(_tiles_cuda, "free_memory", lambda device: 10_000)
    monkeypatch.setattr("cliquesim._device.free_memory", lambda device: 10_000)
    with pytest.raises(RunError, match=r"neighbors: lists .* \d+ bytes .* 10000 are free"):
        cs.neighbors(X, k=4, device="cuda")
    with pytest.raises(RunError, match=r"similarity_quantiles: .* \d+ bytes .* 10000 are free"):
        cs.similarity_quantiles(X, [0.5], device="cuda")


@pytest.mark.parametrize("name", ["End", "SimilarityTiles"])
def test_too_little_device_memory_says_how_much_was_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(getattr(_lists_cuda, name), "__init__", refuse)
    monkeypatch.setattr("cliquesim._device.free_memory", lambda device: 1234)
    with pytest.raises(RunError, match=r"lists and a tile take \d+ bytes .* 1234 are free"):
        cs.neighbors(np.ones((64, 2)), device="cuda")


def test_progress_never_runs_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 20, 4)
    seen: list[float] = []
    cs.neighbors(np.ones((200, 2)), k=1, device="cuda", progress=seen.append)
    assert len(seen) == 55
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert Event.pending == 0
