"""What the benchmarks on a GPU share: seconds of enqueued work, the speeds that bound it, the head
of a report."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from _measure import provenance
from cliquesim._device import cuda_status

T = TypeVar("T")


def require_gpu() -> bool:
    """Whether there is one; says why not."""
    available, reason = cuda_status()
    if not available:
        print(f"no GPU to measure on: {reason}", file=sys.stderr)
    return available


def cuda_provenance(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The head of a report, with the GPU's name."""
    head = provenance(("numpy", "torch", *packages))
    head["machine"]["gpu"] = torch.cuda.get_device_name()
    return head


def once(body: Callable[[], T]) -> tuple[T, float]:
    """The result, and the seconds until the device has finished."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    result = body()
    torch.cuda.synchronize()
    return result, time.perf_counter() - begin


def repeated(body: Callable[[], object], repeats: int) -> dict[str, float]:
    """Seconds after one call that is not counted."""
    once(body)
    times = [once(body)[1] for _ in range(repeats)]
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def speeds(dtypes: Sequence[str] = ("float32",)) -> dict[str, float]:
    """Operations a second of torch's product by `float32`, `tf32`, `float16` or `bfloat16`, and
    bytes a second of its copies (read and written), at best."""
    long = torch.empty(1 << 28, device="cuda")
    other = torch.empty_like(long)
    copy = repeated(lambda: other.copy_(long), 5)["min"]
    found = {f"{dtype}_flops": _product_flops(dtype) for dtype in dtypes}
    return {"copy_bytes": 8 * len(long) / copy, **found}


def _product_flops(dtype: str, size: int = 8192) -> float:
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    a = torch.rand((size, size), device="cuda").to(kind)
    out = torch.empty_like(a)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        return 2 * size**3 / repeated(lambda: torch.matmul(a, a, out=out), 5)["min"]
    finally:
        torch.set_float32_matmul_precision(before)
