"""What the benchmarks share: calls measured in processes of their own, facts about the machine,
the speeds that bound it, and plain tables.

A benchmark whose calls are to be measured keeps them in a script that ends in `serve_child(handle)`
and asks it with `run_child(script, request, timeout)`.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

T = TypeVar("T")
K = TypeVar("K")
Request = dict[str, Any]
# Title, label of the y axis, and lines of (x, y) by name.
Panel = tuple[str, str, dict[str, list[tuple[float, float]]]]

_STATUS = Path("/proc/self/status")


def serve_child(handle: Callable[[Request], Request]) -> None:
    """Answer the request that `run_child` put on the command line."""
    print(json.dumps(handle(json.loads(sys.argv[1]))))


def run_child(script: Path, request: Request, timeout: float) -> Request:
    """The answer of a fresh process, or {"error": why there is none}."""
    command = [sys.executable, str(script), json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:g} s"}
    if done.returncode == -signal.SIGKILL:
        return {"error": "was killed; was there enough memory?"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with status {done.returncode}"}
    answer: Request = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(body: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """Run `body` once: seconds, CPU seconds, and resident bytes before it and at its peak."""
    gc.collect()
    if sys.platform == "linux":
        # What is free but still resident would hide as much of the call's own memory.
        ctypes.CDLL(None).malloc_trim(0)
    how = _reset_peak()
    before = _resident("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    result = body()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {
        "seconds": wall,
        "cpu_seconds": cpu,
        "before_bytes": before,
        "peak_bytes": _resident("VmHWM"),
        "memory_by": how,
    }


def _reset_peak() -> str:
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return "VmHWM, reset before the call"
    except OSError:
        return "peak of the whole process, which cannot be reset here"


def _resident(field: str) -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def provenance(packages: Sequence[str]) -> dict[str, Any]:
    """The head of a report: the command, the machine, the SIMD level and the versions."""
    import cliquesim  # not in the children that measure others
    from cliquesim import _core

    return {
        "command": "python " + " ".join(sys.argv),
        "machine": machine_facts(),
        "simd": _core.simd_level,
        "versions": versions(packages) | {"cliquesim": cliquesim.__version__},
    }


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """The options of a corpus that is boxes in videos."""
    parser.add_argument("--manifest", type=Path, help="boxes in videos, in place of --frames")
    parser.add_argument("--root", type=Path, help="the folder of the manifest's videos")


def fit_source(options: argparse.Namespace) -> list[str | Path]:
    """What `cliquesim fit` is told of the corpus: the manifest, or else the frames."""
    if options.manifest:
        return ["--manifest", options.manifest, "--root", options.root or "."]
    return [options.frames]


def stage_costs(run: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of every finished stage of a run folder, by its name."""
    records = [json.loads(path.read_text()) for path in run.rglob("stage.json")]
    return {
        one["stage"]: {name: one[name] for name in ("seconds", "peak_memory_mib")}
        for one in sorted(records, key=lambda one: one["stage"])
    }


def machine_facts() -> dict[str, Any]:
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "processors": processors(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def processors() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that are free or can be freed; all there are where the system does not say."""
    text = _field(Path("/proc/meminfo"), "MemAvailable")
    if text:
        return int(text.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _field(file: Path, name: str) -> str:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def speeds(threads: Iterable[int], quick: bool = False) -> dict[str, Any]:
    """What bounds any program here: see `bandwidth` and `gemm_peak`, by number of threads."""
    size = 2**24 if quick else min(2**30, free_memory() // 4)
    side = 256 if quick else 2048
    counts = sorted(threads)
    return {
        "bytes_per_second": {str(t): bandwidth(t, size) for t in counts},
        "flops": {
            dtype: {str(t): gemm_peak(dtype, t, side) for t in counts}
            for dtype in ("float32", "float64")
        },
        "bandwidth_array_bytes": size,
        "gemm_side": side,
        "blas_threads": "as asked for"
        if blas_is_limited()
        else "as many as BLAS likes: threadpoolctl is not installed",
    }


def bandwidth(threads: int, size: int, tries: int = 7) -> float:
    """Bytes a second that np.max reads from an array of `size` bytes, a slice a thread, at best.

    The interpreter's lock is free meanwhile. np.sum would be bound by its additions. What fits the
    caches can be read faster.
    """
    array = np.ones(size // 4, np.float32)
    parts = np.array_split(array, threads)
    with ThreadPool(threads) as pool:
        return array.nbytes / _best(lambda: pool.map(np.max, parts, 1), tries)


def gemm_peak(dtype: DTypeLike, threads: int, size: int, tries: int = 5) -> float:
    """Operations a second (2 of them per multiply-add) of NumPy's square matrix product."""
    a = np.ones((size, size), dtype)
    out = np.empty_like(a)
    if not blas_is_limited():
        return 2 * size**3 / _best(lambda: np.matmul(a, a, out=out), tries)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        return 2 * size**3 / _best(lambda: np.matmul(a, a, out=out), tries)


def blas_is_limited() -> bool:
    """Without threadpoolctl BLAS takes as many threads as it likes, whatever is asked for."""
    try:
        import threadpoolctl  # noqa: F401
    except ImportError:
        return False
    return True


def _best(body: Callable[[], object], tries: int) -> float:
    body()  # first touch, and threads that start
    fastest = np.inf
    for _ in range(tries):
        start = time.perf_counter()
        body()
        fastest = min(fastest, time.perf_counter() - start)
    return float(fastest)


def at_least(least: int) -> Callable[[str], int]:
    """A type of argparse: whole numbers."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return convert


def take_turns(runs: dict[K, list[Request]], repeats: int, call: Callable[[K], Request]) -> None:
    """Append answers, one of each in turn, so that a slow minute of the machine meets them all.

    Whoever gave no seconds, skipped or failed, is not called again.
    """
    for _ in range(repeats):
        for one, answers in runs.items():
            if not answers or "seconds" in answers[-1]:
                answers.append(call(one))


def condense(answers: list[Request]) -> dict[str, Any]:
    """Of the answers of one: median time and largest memory, or a status other than "ok"."""
    for word, key in (("skipped", "skipped"), ("failed", "error")):
        if key in answers[-1]:
            return {"status": f"{word}: {answers[-1][key]}", "runs": answers}
    seconds = [answer["seconds"] for answer in answers]
    beside = max(answer["peak_bytes"] - answer["before_bytes"] for answer in answers)
    return {
        "status": "ok",
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "beside_bytes": beside,
        "with_input_bytes": beside + answers[-1]["held_bytes"],
        "runs": answers,
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The e of values ~ sizes^e, least squares of the logarithms; None for a single size."""
    if len(set(sizes)) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Aligned columns, the first `left` of them to the left and the rest to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(placed).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def draw(panels: Sequence[Panel], x_label: str, file: Path, bold: str) -> None:
    """Logarithmic panels, two in a row, a line per name; names with `bold` in them stand out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(
        rows, 2, figsize=(11, 4 * rows), squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(name for _, _, lines in panels for name in lines))
    for axis, (title, y_label, lines) in zip(axes.flat, panels, strict=False):
        for name, line in lines.items():
            stands_out = bold in name
            axis.loglog(
                *zip(*line, strict=True),
                color=f"C{names.index(name) % 10}",
                marker="o" if stands_out else "s",
                markersize=5,
                linestyle="-" if stands_out else "--",
                linewidth=2.2 if stands_out else 1.4,
                label=name,
            )
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
        axis.xaxis.set_major_locator(
            FixedLocator(sorted({n for v in lines.values() for n, _ in v}))
        )
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        for one in (axis.xaxis, axis.yaxis):
            one.set_minor_locator(NullLocator())
        axis.grid(alpha=0.25)
        if lines:
            axis.legend(fontsize="small", framealpha=0.6)
    figure.savefig(file, dpi=150)
    plt.close(figure)
