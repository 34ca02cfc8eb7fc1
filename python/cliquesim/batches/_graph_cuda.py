"""A CUDA graph of work that is done again and again, and the stream on which it is made."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")

# Beyond, some builds of torch solve triangular systems by MAGMA, which reads pageable memory. The
# GPU is slower than the launches there anyway.
_LARGEST = 512


class Replayed(Protocol):
    def replay(self) -> None: ...


@dataclass
class Graphs:
    """Of this process."""

    wanted: bool = True  # until one cannot be made
    made: int = 0


graphs = Graphs()
_local = threading.local()


def can_capture(device: torch.device, n_cliques: int) -> bool:
    """Whether the linear algebra of matrices of that size can be in a graph."""
    if device.type != "cuda" or not graphs.wanted or n_cliques > _LARGEST:
        return False
    return "magma" not in str(torch.backends.cuda.preferred_linalg_library()).lower()


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on this thread's stream, in order with the caller's.

    One for all: cuBLAS keeps a workspace for each stream, and memory of one is not another's.
    """
    if device.type != "cuda":
        yield
        return
    streams = _local.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream, callers = streams[device], torch.cuda.current_stream(device)
    stream.wait_stream(callers)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        callers.wait_stream(stream)


def capture(body: Callable[[], T], device: torch.device, need: int) -> tuple[Replayed, T] | None:
    """A graph of `body`, and the results which each replay puts in the same places.

    On the current stream, where `body` has run before; it is not run by this call. `need` is about
    what it takes in bytes. None if there can be no graph; then and from now on there is none.
    """
    if torch.cuda.mem_get_info(device)[0] < need:
        torch.cuda.empty_cache()  # impossible as long as the capture lasts
    try:
        made = _capture(body, device)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        graphs.wanted = False
        warnings.warn(
            f"batches go on without a CUDA graph, which could not be made: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    graphs.made += 1
    return made


def _capture(body: Callable[[], T], device: torch.device) -> tuple[Replayed, T]:
    # Not by `torch.cuda.graph`, which waits for the GPU and gives all cached memory back.
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        # Other threads may allocate, and wait for their work.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        results = body()
    except BaseException:
        with contextlib.suppress(RuntimeError):
            _end(graph, pool, device)
        raise
    _end(graph, pool, device)
    return graph, results


def _end(graph: torch.cuda.CUDAGraph, pool: tuple[int, int], device: torch.device) -> None:
    try:
        graph.capture_end()
    except RuntimeError:
        # torch leaves its allocator in the capture then. The name is not a public one.
        with contextlib.suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(device.index, pool)
        raise
