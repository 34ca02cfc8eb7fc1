"""Complete linkage on a CUDA device against the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import cliquesim as cs
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError
from cliquesim.linkage import METRICS

AVAILABLE, REASON = cuda_status()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=REASON)]


def clustered(n: int, dim: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, n // 20), dim)) * 4
    return centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, dim))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 100, 1000, 5000])
def test_equals_the_cpu_without_ties(n: int, dtype: Any) -> None:
    pairs = n * (n - 1) // 2
    rng = np.random.default_rng(n)
    for y in (pdist(clustered(n, 5, n)).astype(dtype), rng.permutation(pairs).astype(dtype)):
        if len(np.unique(y)) < len(y):
            continue
        np.testing.assert_array_equal(cs.linkage(y, device="cuda"), cs.linkage(y))


@pytest.mark.parametrize("kind", ["levels", "never", "grid", "duplicates"])
def test_ties_are_decided_as_on_the_cpu(kind: str) -> None:
    """Up to 1,024 observations the CPU works on a square, too: the same choices."""
    rng = np.random.default_rng(1)
    for n in (2, 50, 600, 1024):
        y = rng.integers(6, size=n * (n - 1) // 2).astype(np.float64)
        if kind == "never":
            y[y == 5] = np.inf
        elif kind == "grid":
            y = pdist(rng.integers(10, size=(n, 2)).astype(np.float64))
        elif kind == "duplicates":
            y[:] = 1
        np.testing.assert_array_equal(cs.linkage(y, device="cuda"), cs.linkage(y))


def test_growing_and_shrinking_gaps() -> None:
    """Poor rounds: the chain."""
    for sign in (1, -1):
        points = (np.arange(4000.0)[::sign] ** 2)[:, None]
        y = pdist(points)
        np.testing.assert_array_equal(
            cs.linkage(y, device="cuda")[:, 2], hierarchy.linkage(y, "complete")[:, 2]
        )
        few = pdist(points[:1000])
        np.testing.assert_array_equal(cs.linkage(few, device="cuda"), cs.linkage(few))


def test_the_chain_on_several_blocks() -> None:
    """Rows so long that several blocks of threads look through one together."""
    n = 12_500
    points = np.cumsum(np.arange(n) + np.random.default_rng(7).uniform(0, 0.1, n))[::-1]
    square = np.subtract.outer(points, points)
    np.abs(square, out=square)
    found = cs.linkage(square, metric="precomputed", device="cuda")
    expected = cs.linkage(square, metric="precomputed", overwrite=True)
    np.testing.assert_array_equal(found, expected)


def square_of(X: NDArray[Any], metric: str) -> NDArray[Any]:
    """The distances as they are made on the device: their last digits are torch's."""
    import torch

    from cliquesim._linkage_cuda import fill_from_vectors, new_square

    vectors = torch.from_numpy(X).cuda()
    square = new_square(len(X), vectors.dtype, vectors.device)
    fill_from_vectors(square, vectors, metric)
    return square.cpu().contiguous().numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_vectors(metric: str, dtype: Any) -> None:
    X = clustered(3000, 24, 2).astype(dtype)
    X[:40] = X[40:80]
    found, info = cs.linkage(X, metric=metric, device="cuda", return_info=True)
    square = square_of(X, metric)
    distances = -(X @ X.T) if metric == "dot" else squareform(pdist(X.astype(np.float64), metric))
    np.fill_diagonal(distances, 0)
    np.testing.assert_allclose(
        square, distances, rtol=1e-4, atol=1e-3 if dtype == np.float32 else 1e-10
    )
    expected = cs.linkage(square, metric="precomputed")[:, 2]
    if metric == "dot":
        assert info["largest_similarity"] == -expected[0]
        expected = expected - expected[0]
    else:
        assert (expected[:40] == 0).all()
    np.testing.assert_array_equal(found[:, 2], expected)
    assert hierarchy.is_valid_linkage(found)
    assert info["storage"] == "square"


def test_all_forms_of_input_give_the_same() -> None:
    import torch

    y = pdist(clustered(500, 4, 3)).astype(np.float32)
    expected = cs.linkage(y)
    square = squareform(y)
    for source in (y, square, torch.from_numpy(square)):
        found = cs.linkage(source, metric="precomputed", device="cuda")
        np.testing.assert_array_equal(found, expected)
    for tensor in (torch.from_numpy(y).cuda(), torch.from_numpy(square).cuda()):
        before = tensor.clone()
        found = cs.linkage(tensor, metric="precomputed", device="cuda")
        assert found.is_cuda
        assert torch.equal(tensor, before)
        np.testing.assert_array_equal(found.cpu().numpy(), expected)
    in_place = cs.linkage(
        torch.from_numpy(square).cuda(), metric="precomputed", device="cuda", overwrite=True
    )
    np.testing.assert_array_equal(in_place.cpu().numpy(), expected)
    similar, info = cs.linkage(
        -square, metric="precomputed", similarity=True, device="cuda", return_info=True
    )
    np.testing.assert_array_equal(similar, cs.linkage(-y, similarity=True))
    assert info["largest_similarity"] == -y.min()


def test_every_run_is_the_same_on_any_stream() -> None:
    import torch

    X = torch.from_numpy(clustered(4000, 16, 4).round(1).astype(np.float32)).cuda()
    first = cs.linkage(X, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = cs.linkage(X, device="cuda")
    stream.synchronize()
    assert torch.equal(first, second)


def test_more_than_32_bits_of_elements() -> None:
    import torch

    n = 47_000
    if torch.cuda.mem_get_info()[0] < 2 * 4 * n * n:
        pytest.skip("needs 18 GB of device memory")
    X = clustered(n, 16, 5).astype(np.float32)
    found = cs.linkage(X, device="cuda")
    square = square_of(X, "euclidean")
    torch.cuda.empty_cache()
    expected = cs.linkage(square, metric="precomputed", overwrite=True)
    np.testing.assert_array_equal(found[:, 2], expected[:, 2])


def test_progress_and_stopping() -> None:
    X = clustered(3000, 8, 6)
    seen: list[float] = []
    cs.linkage(X, device="cuda", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_what_is_refused() -> None:
    import torch

    y = np.ones(45)
    with pytest.raises(InputError, match="memory_limit: device='cuda' needs"):
        cs.linkage(y, device="cuda", memory_limit=100)
    with pytest.raises(InputError, match="storage='triangle'"):
        cs.linkage(np.ones((5, 2)), storage="triangle", device="cuda")
    with pytest.raises(InputError, match="a graph"):
        cs.linkage(sparse.eye_array(4), metric="precomputed", device="cuda")
    y[7] = np.nan
    with pytest.raises(InputError, match=r"NaN at position 7 \(the distance of observations 0"):
        cs.linkage(y, device="cuda")
    too_many = torch.zeros((1_000_000, 1), device="cuda")
    with pytest.raises(RunError, match="bytes of device memory"):
        cs.linkage(too_many, device="cuda")
