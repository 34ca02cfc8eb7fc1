"""`cs.neighbors(device="cuda", precision="float16")` without a GPU, and the bounds it rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from neighbor_reference import assert_correct, assert_same, reference
from neighbors_stand_in import install, small_tiles
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim.errors import InputError, RunError
from cliquesim.neighbors import _float16_cuda, _rounded_cuda, _tiles_cuda


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def few_candidates(monkeypatch: pytest.MonkeyPatch, factor: int, more: int) -> None:
    monkeypatch.setattr(_float16_cuda, "_ROOM_FACTOR", factor)
    monkeypatch.setattr(_float16_cuda, "_ROOM_MORE", more)


def float16(X: Any, **arguments: Any) -> cs.Neighbors:
    return cs.neighbors(X, device="cuda", precision="float16", **arguments)


def rows_of(kind: str, n: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, dimensions))
    if kind == "peaky":  # one component holds nearly all
        X *= 1e-3
        X[np.arange(n), rng.integers(0, dimensions, n)] = rng.choice([-1, 1], n)
    elif kind == "norms":
        X *= 10.0 ** rng.uniform(-3, 3, (n, 1))
    elif kind == "extreme norms":
        X *= 10.0 ** rng.choice([-44, -25, -18, -12, 0, 9, 15, 17], (n, 1))
    elif kind == "zeros":
        X[rng.random(n) < 0.4] = 0
    elif kind == "duplicates":
        X = X[rng.integers(0, n // 8, n)]
    elif kind == "near ties":  # closer than rounding can tell apart
        X = X[:1] + 2e-4 * X
    elif kind == "one column":
        X[:, 1:] = 0
    return X.astype(np.float32)


KINDS = [
    "gaussian",
    "peaky",
    "norms",
    "extreme norms",
    "zeros",
    "duplicates",
    "near ties",
    "one column",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [1, 7, 96, 2000])
def test_rounded_products_are_exact_and_as_far_off_as_they_say(kind: str, dimensions: int) -> None:
    X = rows_of(kind, 90, dimensions)
    half, facts = _rounded_cuda.round_rows(torch.from_numpy(X))
    assert half.shape[1] % 8 == 0
    q = half.numpy().astype(np.int64)
    assert (q == half.numpy()).all()
    assert np.abs(q).max() <= 2048
    assert (q**2).sum(axis=1).max() <= 4095**2
    scale, error, length = facts.numpy().T
    exact = X.astype(np.float64)
    back = q[:, :dimensions] * scale.astype(np.float64)[:, None]
    assert (np.linalg.norm(exact - back, axis=1) <= error).all()
    assert (np.linalg.norm(exact, axis=1) <= length).all()
    assert (np.linalg.norm(back, axis=1) <= length).all()
    with np.errstate(over="ignore"):
        scaled = (q @ q.T).astype(np.float32) * scale[:, None] * scale
        margin = error[:, None] * length + length[:, None] * error + np.finfo(np.float32).tiny
        upper, lower = scaled + margin, scaled - margin
        decided = np.float32(X[:, None, :] * X[None, :, :]).sum(axis=2, dtype=np.float32)
    assert not np.isnan(upper).any()
    for values in (exact @ exact.T, decided):
        assert (lower <= values).all()
        assert (values <= upper).all()


@pytest.mark.parametrize("parts", [1, 4, 32])
def test_float32_sums_of_integers_are_exact_in_any_order(parts: int) -> None:
    rng = np.random.default_rng(parts)
    X = np.concatenate([rows_of(kind, 40, 1984) for kind in KINDS])
    X[0], X[1] = 1, -1  # their sums come closest to 2^24
    q = _rounded_cuda.round_rows(torch.from_numpy(X))[0].numpy()
    a, b = rng.integers(0, len(q), (2, 300))
    a[:3], b[:3] = (0, 0, 1), (0, 1, 1)
    order = rng.permutation(q.shape[1])
    products = q[a][:, order].astype(np.float32) * q[b][:, order].astype(np.float32)
    sums = [np.cumsum(part, axis=1)[:, -1] for part in np.array_split(products, parts, axis=1)]
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    assert total.dtype == np.float32
    exact = (q[a].astype(np.int64) * q[b].astype(np.int64)).sum(axis=1)
    assert np.abs(exact).max() > 2**23.8
    np.testing.assert_array_equal(total, exact)


@pytest.mark.parametrize("edge", [4096, 64])
@pytest.mark.parametrize(("factor", "more"), [(4, 64), (2, 0), (1, 1)])
@pytest.mark.parametrize(
    "way",
    [{}, {"groups": True}, {"groups": True, "group_window": 3}, {"queries": 90}],
    ids=str,
)
def test_ties_of_whole_numbers_are_those_of_the_cpu(
    way: dict[str, Any], edge: int, factor: int, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, edge, 8)
    few_candidates(monkeypatch, factor, more)
    rng = np.random.default_rng(edge)
    X = rng.integers(-9, 10, (170, 40)).astype(np.float32)
    X[3] = X[90]
    arguments = dict(way)
    if "groups" in way:
        arguments["groups"] = rng.integers(0, 6, len(X))
    if "queries" in way:
        arguments["queries"] = rng.integers(-9, 10, (90, 40)).astype(np.float32)
        arguments["groups"] = rng.integers(0, 6, len(X))
        arguments["query_groups"] = rng.integers(0, 6, 90)
    for k, n_bottom in ((12, 5), (0, 20), (3, 0), (200, 1)):
        expected = cs.neighbors(X, k=k, n_bottom=n_bottom, **arguments)
        assert_same(float16(X, k=k, n_bottom=n_bottom, **arguments), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["dot", "correlation"])
@pytest.mark.parametrize(("factor", "more"), [(4, 64), (2, 4), (1, 1)])
def test_hostile_rows(
    kind: str, metric: str, factor: int, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tiles(monkeypatch, 100, 8)
    few_candidates(monkeypatch, factor, more)
    X = rows_of(kind, 240, 64, seed=1)
    arguments: dict[str, Any] = {"k": 8, "n_bottom": 3, "metric": metric}
    found = float16(X, **arguments)
    lengths = np.linalg.norm(X.astype(np.float64), axis=1)
    if metric == "correlation":
        assert_correct(found, reference(X, **arguments), 1e-6)
        return
    # A rank's similarity is off by a share of its row's and the neighbour's length.
    S, _, expected = reference(X, **arguments)
    for indices, values, right in (
        (found.indices, found.similarities, expected.similarities),
        (found.bottom_indices, found.bottom_similarities, expected.bottom_similarities),
    ):
        size = lengths[:, None] * lengths[indices]
        rows = np.arange(len(X))[:, None]
        assert (np.abs(values - S[rows, indices]) <= 1e-6 * size + 1e-36).all()
        allowed = 2e-6 * lengths[:, None] * lengths.max() + 1e-36
        assert (
            np.abs(values - right) <= np.minimum(allowed, 1e-6 * size + 2e-6 * size.max())
        ).all()


def test_certain_rows_need_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 512, 8)
    n, k = 1500, 5
    X = rows_of("gaussian", n, 256, seed=2)
    seen: list[float] = []
    found = float16(X, k=k, n_bottom=k, progress=seen.append)
    assert_correct(found, reference(X, k=k, n_bottom=k), 1e-4)
    info = found.info
    assert info["products"] == "float16"
    assert info["float32_rows"] == 0
    assert info["float32_tiles"] == 0
    assert info["tiles"] == 6
    assert 2 * n * k <= info["recomputed"] <= 2 * n * 32
    assert 1e-3 < info["error_bound"] < 5e-3
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_integers_alone_would_not_do() -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal(64) + 1e-2 * rng.standard_normal((200, 64))
    X = X.astype(np.float32)
    right = cs.neighbors(X, k=10)
    q, facts = _rounded_cuda.round_rows(torch.from_numpy(X))
    rounded = (q.float() * facts[:, :1]).numpy()
    assert (cs.neighbors(rounded, k=10).indices != right.indices).mean() > 0.1
    found = float16(X, k=10)
    assert found.info["products"] == "float16"
    assert (found.indices == right.indices).mean() > 0.99


def test_uncertain_rows_are_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    small_tiles(monkeypatch, 64, 8)
    few_candidates(monkeypatch, 3, 0)
    n = 400
    X = rows_of("gaussian", n, 128, seed=3)
    X[:60] = X[0]  # each has 59 equals, and room for 12 candidates
    for arguments in ({}, {"groups": np.arange(n) % 50}, {"queries": X[:200]}):
        found = float16(X, k=4, n_bottom=2, **arguments)
        assert found.info["products"] == "float16"
        assert 60 <= found.info["float32_rows"] < 200
        assert found.info["float32_tiles"] > 0
        np.testing.assert_array_equal(
            found.indices[:60], cs.neighbors(X, k=4, **arguments).indices[:60]
        )
        assert_correct(found, reference(X, k=4, n_bottom=2, **arguments), 1e-4)


def test_where_most_rows_are_uncertain_float32_does_it_all() -> None:
    X = np.ones((400, 8), np.float32)
    seen: list[float] = []
    for metric in ("dot", "correlation"):
        found = float16(X, k=3, n_bottom=2, metric=metric, progress=seen.append)
        assert found.info["products"] == "float32"
        assert_same(found, cs.neighbors(X, k=3, n_bottom=2, metric=metric))
    assert seen[-1] == 1.0


def test_auto_takes_it_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DIMENSIONS", 16), ("ROWS", 100), ("COLS_PER_PLACE", 50)):
        monkeypatch.setattr(_float16_cuda, f"_AUTO_{name}", value)
    X = rows_of("gaussian", 200, 32)

    def products(X: Any, **arguments: Any) -> str:
        return str(cs.neighbors(X, k=2, device="cuda", **arguments).info["products"])

    assert products(X) == "float16"
    assert products(X, n_bottom=2) == "float16"
    assert products(X, precision="float32") == "float32"
    assert products(X, n_bottom=3) == "float32"
    assert products(X[:, :15]) == "float32"
    assert products(X, queries=X[:99]) == "float32"
    assert products(X, mirrored=X) == "float32"
    assert products(X, groups=np.arange(200), pool_radius=1) == "float32"
    roomy = cs.neighbors(X, k=2, device="cuda").info["memory_bytes"]
    assert products(X, memory_limit=roomy // 3) == "float32"
    with pytest.raises(InputError, match="memory_limit is"):
        float16(X, k=2, memory_limit=roomy // 10)
    monkeypatch.setattr(_float16_cuda, "multiplies_half", lambda: False)
    assert products(X) == "float32"


def test_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows_of("gaussian", 30, 8)
    with pytest.raises(InputError, match="precision='float16' is for device='cuda'"):
        cs.neighbors(X, precision="float16")
    with pytest.raises(InputError, match="precision='float16' does not pool"):
        float16(X, groups=np.zeros(30, int), pool_radius=1)
    with pytest.raises(InputError, match="precision='float16' takes no mirrored rows"):
        float16(X, mirrored=X)
    monkeypatch.setattr(_float16_cuda, "multiplies_half", lambda: False)
    with pytest.raises(InputError, match=r"precision='float16' needs torch 2\.8 or newer"):
        float16(X)


def test_a_device_that_rounds_sums_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounding(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        products = a.double() @ b.double().T
        out.copy_((products / 2).trunc() * 2)  # 23 bits in place of 24

    assert _rounded_cuda.exact_on(torch.device("cpu"))
    monkeypatch.setattr(_rounded_cuda, "half_products", rounding)
    assert not _rounded_cuda.exact_on(torch.device("cpu"))
    with pytest.raises(RunError, match="not exact on this device"):
        float16(np.ones((30, 8)))


def test_no_rows_and_no_columns() -> None:
    X = np.ones((3, 2), np.float32)
    assert float16(X[:0], k=2).indices.shape == (0, 2)
    assert (float16(X[:0], k=2, queries=X).indices == -1).all()
    assert float16(X, k=2, queries=X[:0]).indices.shape == (0, 2)
    assert float16(X[:1], k=1).indices.tolist() == [[-1]]
    assert float16(X, k=0).indices.shape == (3, 0)


def test_torch_takes_the_arguments_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    a = torch.ones((3, 8), dtype=torch.float16, device="meta")
    out = torch.empty((3, 3), dtype=torch.float32, device="meta")
    if not _tiles_cuda.multiplies_half():
        pytest.skip("needs torch 2.8 or newer")
    _tiles_cuda.half_products(a, a, out)


@pytest.mark.parametrize("split_k", [True, False])
def test_sums_are_in_float32_whatever_the_caller_allows(split_k: bool) -> None:
    settings = torch.backends.cuda.matmul
    name = "allow_fp16_reduced_precision_reduction"
    if not split_k and not hasattr(settings, name + "_split_k"):
        pytest.skip("needs torch 2.10 or newer")
    try:
        setattr(settings, name, True if split_k else (False, False))
        with _rounded_cuda.full_accumulators():
            assert not settings.allow_fp16_reduced_precision_reduction
        assert settings.allow_fp16_reduced_precision_reduction == split_k
        assert getattr(settings, name + "_split_k", True) == split_k
    finally:
        settings.allow_fp16_reduced_precision_reduction = True
