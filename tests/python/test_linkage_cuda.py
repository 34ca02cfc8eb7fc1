"""The squares that `device="cuda"` links, made by torch on the CPU, against the CPU's distances."""

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
from scipy import sparse
from scipy.spatial.distance import pdist, squareform

import cliquesim as cs
from cliquesim import _core, _linkage_cuda
from cliquesim._linkage_cuda import (
    fill_from_distances,
    fill_from_vectors,
    like_input,
    new_square,
    observations,
)
from cliquesim.errors import InputError, RunError
from cliquesim.linkage import METRICS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_linkage_cuda, "_AT_ONCE", 1000)


def new(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return new_square(n, dtype, CPU).fill_(torch.nan)


def from_distances(y: Any, n: int, negate: bool = False) -> NDArray[Any]:
    square = new(n, torch.float32 if y.dtype == np.float32 else torch.float64)
    fill_from_distances(square, y, negate)
    return square.numpy()


def fill(y: NDArray[Any], metric: str) -> None:
    n = observations(y, metric == "precomputed" or y.ndim == 1)
    fill_from_vectors(new(n), torch.from_numpy(y), metric)


@pytest.mark.parametrize("n", [1, 2, 3, 33, 150])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_condensed_and_square_distances(n: int, dtype: Any) -> None:
    y = np.random.default_rng(n).normal(size=n * (n - 1) // 2).astype(dtype)
    square = squareform(y) if n > 1 else np.zeros((1, 1), dtype)
    np.testing.assert_array_equal(from_distances(y, n), square)
    np.testing.assert_array_equal(from_distances(y, n, negate=True), -square)
    upper = np.triu(square, 1) + np.tril(np.full((n, n), np.nan, dtype))  # below: not read
    np.testing.assert_array_equal(from_distances(upper, n), square)
    np.testing.assert_array_equal(from_distances(torch.from_numpy(upper), n), square)
    y.flags.writeable = False
    np.testing.assert_array_equal(from_distances(y, n), square)


def test_a_square_in_its_own_memory() -> None:
    square = squareform(np.arange(1.0, 46.0))
    memory = torch.from_numpy(np.triu(square))
    fill_from_distances(memory, memory, True)
    np.testing.assert_array_equal(memory.numpy(), -square)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_distances_of_vectors(metric: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    X = (rng.normal(size=(120, 7)) + 30 * (metric in ("euclidean", "sqeuclidean"))).astype(dtype)
    X[60:70] = X[10:20]
    X[70:75] = X[10:15] + 1e-3 * rng.normal(size=(5, 7)).astype(dtype)
    square = new(120, torch.from_numpy(X).dtype)
    fill_from_vectors(square, torch.from_numpy(X), metric)
    found = square.numpy()
    exact = X.astype(np.float64)
    expected = -exact @ exact.T if metric == "dot" else squareform(pdist(exact, metric))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(found, found.T)
    if metric != "dot":
        assert (found[np.arange(60, 70), np.arange(10, 20)] == 0).all()
    if metric == "euclidean":  # relative, among near duplicates too
        near = found[np.arange(70, 75), np.arange(10, 15)]
        np.testing.assert_allclose(
            near,
            expected[np.arange(70, 75), np.arange(10, 15)],
            rtol=0.05 if dtype == np.float32 else 1e-6,
        )


@pytest.mark.parametrize("metric", METRICS)
def test_the_linkage_of_the_square_is_that_of_the_vectors(metric: str) -> None:
    X = np.random.default_rng(5).normal(size=(200, 6))
    square = new(200)
    fill_from_vectors(square, torch.from_numpy(X), metric)
    found = cs.linkage(np.ascontiguousarray(square.numpy()), metric="precomputed")
    expected = cs.linkage(X, metric=metric)
    if metric == "dot":
        found[:, 2] -= found[0, 2]
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_bad_distance_is_named_as_on_the_cpu(value: float) -> None:
    n = 90
    y = np.ones(n * (n - 1) // 2)
    y[1234] = value
    square = np.triu(squareform(y, checks=False), 1)
    for one in (y, square):
        with pytest.raises(InputError) as expected:
            cs.linkage(one, metric="precomputed")
        with pytest.raises(InputError) as found:
            from_distances(one, n)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    ("y", "metric"),
    [
        (np.ones((3, 4)), "precomputed"),
        (np.ones((2, 2, 2)), "precomputed"),
        (np.ones((2, 2, 2)), "euclidean"),
        (np.ones((0, 0)), "precomputed"),
        (np.ones((0, 3)), "euclidean"),
        (np.ones((3, 0)), "euclidean"),
        (np.ones(4), "euclidean"),
        (np.array([[1.0, 2.0], [np.nan, 0.0]]), "euclidean"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), "cosine"),
        (np.array([[1.0, 2.0], [0.0, 0.0]]), "cosine"),
        (np.array([[1.0, 2.0], [3.0, 3.0]]), "correlation"),
        (np.array([[1e30], [-1e30]], np.float32), "euclidean"),
    ],
)
def test_bad_input_is_refused_in_the_words_of_the_cpu(y: NDArray[Any], metric: str) -> None:
    with pytest.raises(InputError) as expected:
        cs.linkage(y, metric=metric)
    with pytest.raises(InputError) as found:
        fill(y, metric)
    assert str(found.value) == str(expected.value)


def test_the_result_of_an_array_is_an_array() -> None:
    Z = np.zeros((2, 4))
    assert like_input(Z, np.zeros(3)) is Z
    assert like_input(Z, torch.zeros(3)) is Z


class StandIn:
    """Module _cuda in this machine's memory, linked by the CPU."""

    @staticmethod
    def linkage_workspace(n: int, dtype: str) -> int:
        return 64 * n

    @staticmethod
    def linkage(
        distances: int, n: int, stride: int, dtype: str, workspace: int, *others: Any
    ) -> NDArray[np.float64]:
        kind = np.dtype(dtype)
        memory = (ctypes.c_char * (((n - 1) * stride + n) * kind.itemsize)).from_address(distances)
        square = np.zeros((n, stride), kind)
        square.reshape(-1)[: (n - 1) * stride + n] = np.frombuffer(memory, kind)
        square = np.ascontiguousarray(square[:, :n])
        np.testing.assert_array_equal(square, square.T)
        return _core.linkage_distances(square, n, False, False, 1 << 30, 1, None)[0]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["cliquesim.linkage"]
    monkeypatch.setattr(module, "check_device", lambda device, *rest: device)
    monkeypatch.setitem(sys.modules, "cliquesim._cuda", StandIn)  # type: ignore[arg-type]
    monkeypatch.setattr(cs, "_cuda", StandIn, raising=False)
    monkeypatch.setattr(_linkage_cuda, "device_of", lambda source: CPU)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))


@pytest.mark.usefixtures("stand_in")
def test_every_way_in_leads_to_the_result_of_the_cpu() -> None:
    X = np.random.default_rng(8).normal(size=(60, 4))
    y = pdist(X)
    seen: list[float] = []
    np.testing.assert_array_equal(cs.linkage(y, device="cuda", progress=seen.append), cs.linkage(y))
    assert seen[-1] == 1.0
    square = squareform(y).astype(np.float32)
    for similarity in (False, True):
        found, info = cs.linkage(
            square, metric="precomputed", similarity=similarity, device="cuda", return_info=True
        )
        expected, told = cs.linkage(
            square, metric="precomputed", similarity=similarity, return_info=True
        )
        np.testing.assert_array_equal(found, expected)
        assert info.pop("memory") == 60 * 64 * 4 + 64 * 60
        assert info.pop("storage") == "square"
        assert info == {key: told[key] for key in info}
    in_place = torch.from_numpy(square.copy())
    found = cs.linkage(in_place, metric="precomputed", overwrite=True, device="cuda")
    np.testing.assert_array_equal(found, cs.linkage(square, metric="precomputed"))
    found, info = cs.linkage(X, metric="dot", device="cuda", return_info=True)
    expected, told = cs.linkage(X, metric="dot", return_info=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert info["largest_similarity"] == pytest.approx(told["largest_similarity"])
    assert cs.linkage(X[:1], device="cuda").shape == (0, 4)
    with pytest.raises(InputError, match="memory_limit: device='cuda' needs"):
        cs.linkage(y, device="cuda", memory_limit=1000)


@pytest.mark.usefixtures("stand_in")
def test_what_a_gpu_does_not_take() -> None:
    X = np.ones((5, 2))
    with pytest.raises(InputError, match="storage='triangle' is for device='cpu'"):
        cs.linkage(X, storage="triangle", device="cuda")
    with pytest.raises(InputError, match="a graph is linked on the CPU only"):
        cs.linkage(sparse.eye_array(4), metric="precomputed", device="cuda")
    with pytest.raises(InputError, match="are for precomputed y"):
        cs.linkage(X, similarity=True, device="cuda")
    with pytest.raises(InputError, match="real numbers"):
        cs.linkage(torch.ones((3, 3), dtype=torch.complex64), device="cuda")


@pytest.mark.usefixtures("stand_in")
def test_too_little_device_memory_says_how_much_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(_linkage_cuda, "new_square", refuse)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1234, 5678))
    with pytest.raises(RunError, match="take 36864 bytes of device memory, and 1234 are free"):
        cs.linkage(np.ones((64, 2)), device="cuda")
