"""The C++ kernels, at the best SIMD level that this processor runs.

The same sources are built once per level as ``cliquesim._core.<level>``. ``CLIQUESIM_SIMD``
forces a level (``baseline``, ``avx2``, ``avx512``).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

_ORDER = ("baseline", "avx2", "avx512")


def built_levels() -> list[str]:
    """SIMD levels of this installation, slowest first."""
    return [name for name in _ORDER if importlib.util.find_spec(f"{__name__}.{name}") is not None]


def runnable_levels() -> list[str]:
    """Built levels that this processor can run, slowest first."""
    levels = built_levels()
    if not levels:
        raise ImportError("cliquesim's C++ extension is not built; install it with pip")
    if len(levels) == 1:
        return levels
    best = load_level(levels[0]).best_simd_level()
    return [name for name in levels if _ORDER.index(name) <= _ORDER.index(best)]


def load_level(level: str) -> ModuleType:
    """The module of one level, whatever ``CLIQUESIM_SIMD`` says; for tests and benchmarks."""
    return importlib.import_module(f"{__name__}.{level}")


def _choose() -> str:
    forced = os.environ.get("CLIQUESIM_SIMD")
    levels = runnable_levels()
    if not forced:
        return levels[-1]
    if forced not in levels:
        raise ImportError(
            f"CLIQUESIM_SIMD={forced!r} cannot be used: this build and processor have {levels}"
        )
    return forced


simd_level: str = _choose()
_module = load_level(simd_level)
globals().update({name: value for name, value in vars(_module).items() if name[:2] != "__"})
