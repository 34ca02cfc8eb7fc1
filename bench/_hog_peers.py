"""Other libraries' HOG, each as a call that describes frames of 8-pixel cells with one thread.

A peer takes uint8 frames (N, H, W, 3) or (N, H, W), and gives the seconds of describing them all
and, where it is UoCTTI HOG, the features. What a peer needs beforehand (its own image type, floats,
planes) is made before the clock starts.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL = 8
Frames = NDArray[np.uint8]
Features = NDArray[np.float32] | None
Peer = Callable[[Frames], tuple[float, Features]]
# Share of a case's frames that is enough for the slow ones.
SHARES = {"scikit-image": 0.03, "vlfeat": 0.25}


class MissingError(Exception):
    """Why a peer cannot be called here."""


def timed(body: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    body()
    return time.perf_counter() - begin


def build_dlib(folder: Path) -> Path:
    """dlib_hog.cpp compiled for this very processor."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise MissingError("no C++ compiler")
    source, program = Path(__file__).with_name("dlib_hog.cpp"), folder / "dlib_hog"
    flags = ["-std=c++17", "-O3", "-march=native", "-w"]
    done = subprocess.run(
        [compiler, *flags, str(source), "-o", str(program)], capture_output=True, text=True
    )
    if done.returncode:
        raise MissingError("dlib's headers (Debian libdlib-dev) are not installed")
    return program


def call_dlib(program: Path, folder: Path, frames: Frames) -> tuple[float, Features]:
    n, height, width = frames.shape[:3]
    channels = frames.shape[3] if frames.ndim == 4 else 1
    source, target = folder / "frames.bin", folder / "features.bin"
    frames.tofile(source)
    sizes = map(str, (n, height, width, channels))
    done = subprocess.run(
        [str(program), str(source), str(target), *sizes, "2"],  # the first one touches memory
        capture_output=True,
        text=True,
        check=True,
    )
    features = np.fromfile(target, np.float32)
    return float(done.stdout.split()[-1]), features.reshape(n, -1, 31)


def make_dlib(folder: Path) -> Peer:
    program = build_dlib(folder)
    return lambda frames: call_dlib(program, folder, frames)


def make_opencv(_: Path) -> Peer:
    try:
        import cv2
    except ImportError:
        raise MissingError("opencv-python-headless is not installed") from None
    if not hasattr(cv2, "HOGDescriptor"):
        raise MissingError(
            f"OpenCV {cv2.__version__} has no HOGDescriptor; pip install --target FOLDER "
            "'opencv-python-headless<5' and put FOLDER first on PYTHONPATH"
        )
    cv2.setNumThreads(1)

    def call(frames: Frames) -> tuple[float, Features]:
        side = (frames.shape[2] // CELL * CELL, frames.shape[1] // CELL * CELL)
        block, cell = (2 * CELL, 2 * CELL), (CELL, CELL)
        descriptor = cv2.HOGDescriptor(side, block, cell, cell, 9)
        return timed(lambda: [descriptor.compute(frame) for frame in frames]), None

    return call


def load_vlfeat() -> ctypes.CDLL:
    name = ctypes.util.find_library("vl")
    if name is None:
        raise MissingError("VLFeat (Debian libvlfeat-dev) is not installed")
    library = ctypes.CDLL(name)
    library.vl_hog_new.restype = ctypes.c_void_p
    library.vl_hog_new.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    sizes = [ctypes.c_size_t] * 4
    library.vl_hog_put_image.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *sizes]
    library.vl_hog_extract.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.vl_hog_delete.argtypes = [ctypes.c_void_p]
    return library


def make_vlfeat(_: Path) -> Peer:
    library = load_vlfeat()

    def call(frames: Frames) -> tuple[float, Features]:
        n, height, width = frames.shape[:3]
        planes = frames.reshape(n, height, width, -1).transpose(0, 3, 1, 2)
        planes = np.ascontiguousarray(planes, dtype=np.float32)
        cells = (height + CELL // 2) // CELL, (width + CELL // 2) // CELL
        features = np.zeros((n, 31, *cells), np.float32)
        handle = library.vl_hog_new(1, 9, 0)
        sizes = (width, height, planes.shape[1], CELL)

        def body() -> None:
            for image, out in zip(planes, features, strict=True):
                library.vl_hog_put_image(handle, image.ctypes.data, *sizes)
                library.vl_hog_extract(handle, out.ctypes.data)

        seconds = timed(body)
        library.vl_hog_delete(handle)
        return seconds, features.transpose(0, 2, 3, 1)

    return call


def make_skimage(_: Path) -> Peer:
    try:
        from skimage.feature import hog
    except ImportError:
        raise MissingError("scikit-image is not installed") from None

    def call(frames: Frames) -> tuple[float, Features]:
        def body() -> None:
            for frame in frames:
                hog(
                    frame,
                    pixels_per_cell=(CELL, CELL),
                    cells_per_block=(2, 2),
                    channel_axis=-1 if frame.ndim == 3 else None,
                )

        return timed(body), None

    return call


PEERS: dict[str, Callable[[Path], Peer]] = {
    "dlib": make_dlib,
    "opencv": make_opencv,
    "vlfeat": make_vlfeat,
    "scikit-image": make_skimage,
}
