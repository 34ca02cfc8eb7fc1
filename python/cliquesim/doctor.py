"""What this installation has: versions, extras, SIMD level, threads, CUDA and why not."""

from __future__ import annotations

import importlib.util
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import cliquesim
from cliquesim import _core
from cliquesim._device import cuda_status
from cliquesim.batches.cone_solvers import mosek_status

_REQUIRED = ("numpy", "scipy", "pillow", "torch", "typer", "pydantic", "safetensors")
_EXTRAS = {
    "video": ("av",),
    "parquet": ("pyarrow",),
    "labels": ("h5py",),
    "report": ("matplotlib", "jinja2"),
    "demo": ("cv2", "pybullet_data", "skimage", "h5py"),
    "baselines": ("sklearn",),
    "reference": ("clarabel", "cyipopt"),
    "mosek": ("mosek",),
}


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def diagnose() -> dict[str, dict[str, str]]:
    """Facts by section; every value is a string for people."""
    available, reason = cuda_status()
    levels = _core.runnable_levels()
    extras = {}
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        extras[extra] = (
            f"no: {', '.join(missing)} missing (pip install 'cliquesim[{extra}]')"
            if missing
            else "yes"
        )
    if extras["mosek"] == "yes":
        extras["mosek"] = mosek_status()
    return {
        "cliquesim": {
            "version": cliquesim.__version__,
            "python": f"{sys.version.split()[0]} on {platform.machine()} {platform.system()}",
        },
        "processor": {
            "SIMD level": f"{_core.simd_level} (of {', '.join(levels)}; CLIQUESIM_SIMD forces one)",
            "built levels": ", ".join(_core.built_levels()),
            "neighbours": "int16 products with AVX512-VNNI, decided in float32"
            if _core.has_vnni()
            else "float32 products",
            "threads": str(_core.available_processors()),
        },
        "CUDA": {"usable": "yes" if available else "no", "why": reason},
        "packages": {name: _version_of(name) for name in _REQUIRED},
        "extras": extras,
    }
