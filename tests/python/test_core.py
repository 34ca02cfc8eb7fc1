"""The extension itself: SIMD levels, threads, exceptions, interruption, progress."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from cliquesim import _core


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_runnable_level_can_be_forced() -> None:
    for level in _core.runnable_levels():
        result = run_python(
            "from cliquesim import _core; print(_core.simd_level)", CLIQUESIM_SIMD=level
        )
        assert result.stdout.strip() == level, result.stderr


def test_unknown_level_is_a_clear_error() -> None:
    result = run_python("import cliquesim._core", CLIQUESIM_SIMD="mmx")
    assert result.returncode != 0
    assert "CLIQUESIM_SIMD='mmx' cannot be used" in result.stderr


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_parallel_for_visits_every_index_once(num_threads: int) -> None:
    assert _core._busy_loop(17, -1, num_threads, None) == 17 * 16 // 2


@pytest.mark.parametrize("num_threads", [1, 3])
def test_exception_in_a_worker_reaches_the_caller(num_threads: int) -> None:
    with pytest.raises(RuntimeError, match="failed in a worker"):
        _core._busy_loop(1000, 5, num_threads, None)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    _core._busy_loop(30, -1, 2, seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == 1.0


def test_exception_of_the_progress_callback_stops_the_kernel() -> None:
    def refuse(fraction: float) -> None:
        raise LookupError("stop here")

    with pytest.raises(LookupError, match="stop here"):
        _core._busy_loop(1000, -1, 2, refuse)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_ctrl_c_is_seen_within_a_second(num_threads: int) -> None:
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _core._busy_loop(2000 * num_threads, -1, num_threads, None)
    assert time.monotonic() - start < 1.2


def test_whether_freed_memory_is_kept_can_be_said_again_and_again() -> None:
    known = platform.libc_ver()[0] == "glibc"
    assert [_core.keep_freed_memory(keep) for keep in (True, True, False, False)] == [known] * 4
