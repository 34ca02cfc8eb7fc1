"""HOG against a float64 reference of voc-release's rules and against VLFeat."""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cliquesim as cs
from cliquesim import _core
from cliquesim._device import cuda_status
from cliquesim.errors import InputError, RunError

levels = pytest.mark.parametrize(
    "core", [_core.load_level(name) for name in _core.runnable_levels()], ids=lambda m: m.__name__
)


def reference_hog(image: NDArray[np.uint8], cell: int = 8) -> NDArray[np.float64]:
    """One frame (H, W, channels), float64, written from the published rules; no speed intended."""
    height, width, channels = image.shape
    rows, cols = int(height / cell + 0.5), int(width / cell + 0.5)
    angles = np.deg2rad(20.0 * np.arange(9))
    # Constants rounded as in voc-release, so that sin(80) == sin(100) and ties are ties.
    unit = np.round(np.stack([np.cos(angles), np.sin(angles)]), 12)
    pixels = image.astype(np.float64)
    cells = np.zeros((rows, cols, 18))
    for y in range(1, rows * cell - 1):
        for x in range(1, cols * cell - 1):
            v, u = min(y, height - 2), min(x, width - 2)
            dx = pixels[v, u + 1] - pixels[v, u - 1]
            dy = pixels[v + 1, u] - pixels[v - 1, u]
            c = int(np.argmax(dx**2 + dy**2)) if channels > 1 else 0
            dots = unit[0] * dx[c] + unit[1] * dy[c]
            best = int(np.argmax(np.abs(dots)))
            orientation = best if dots[best] > 0 else best + 9
            magnitude = np.hypot(dx[c], dy[c])
            yp, xp = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
            i, j = int(np.floor(yp)), int(np.floor(xp))
            for a, wy in ((i, i + 1 - yp), (i + 1, yp - i)):
                for b, wx in ((j, j + 1 - xp), (j + 1, xp - j)):
                    if 0 <= a < rows and 0 <= b < cols:
                        cells[a, b, orientation] += wy * wx * magnitude
    unsigned = cells[..., :9] + cells[..., 9:]
    energy = (unsigned**2).sum(axis=2)
    block = energy[:-1, :-1] + energy[:-1, 1:] + energy[1:, :-1] + energy[1:, 1:]
    inverse = 1 / np.sqrt(block + 1e-4)
    result = np.zeros((rows - 2, cols - 2, 31))
    corners = ((1, 1), (0, 1), (1, 0), (0, 0))  # lower right, upper right, lower left, upper left
    for n, (a, b) in enumerate(corners):
        norm = inverse[a : a + rows - 2, b : b + cols - 2, np.newaxis]
        signed = np.minimum(cells[1:-1, 1:-1] * norm, 0.2)
        result[..., :18] += 0.5 * signed
        result[..., 18:27] += 0.5 * np.minimum(unsigned[1:-1, 1:-1] * norm, 0.2)
        result[..., 27 + n] = 0.2357 * signed.sum(axis=2)
    return result


def smooth_frames(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Frames with edges, flat regions and noise, so that all branches are taken."""
    rng = np.random.default_rng(seed)
    n, height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    frames = np.empty(shape)
    for f in range(n):
        for c in range(channels):
            fy, fx, phase = rng.normal(0, 0.3, 3)
            frames[f, :, :, c] = 127 + 120 * np.sin(fy * y + fx * x + 6 * phase)
        frames[f, : height // 3] = rng.integers(0, 256)
        frames[f, height // 2 :] += rng.normal(0, 30, (height - height // 2, width, channels))
    return np.clip(frames, 0, 255).astype(np.uint8)


def run(core: ModuleType, frames: NDArray[np.uint8], cell: int, threads: int = 1) -> NDArray:
    side = [(2 * s + cell) // (2 * cell) - 2 for s in frames.shape[1:3]]
    features = np.full((len(frames), *side, 31), np.nan, np.float32)
    core.hog(frames, features, cell, threads, None)
    return features


@levels
@pytest.mark.parametrize(
    ("height", "width", "channels", "cell"),
    [
        (32, 40, 3, 8),
        (35, 29, 3, 8),
        (36, 20, 1, 8),
        (28, 44, 1, 8),
        (21, 24, 3, 4),
        (17, 16, 3, 5),
        (3, 4, 3, 1),
        (24, 21, 1, 7),
        (67, 33, 3, 8),
        (20, 131, 3, 8),
        (21, 97, 3, 8),
        (14, 65, 3, 3),
        (41, 128, 1, 16),
        (5, 192, 3, 2),
    ],
)
def test_matches_the_reference(
    core: ModuleType, height: int, width: int, channels: int, cell: int
) -> None:
    noise = np.random.default_rng(height).integers(0, 256, (1, height, width, channels), np.uint8)
    frames = np.concatenate([smooth_frames(width, (2, height, width, channels)), noise])
    expected = np.stack([reference_hog(frame, cell) for frame in frames])
    np.testing.assert_allclose(run(core, frames, cell), expected, rtol=0, atol=1e-6)


@levels
def test_orientation_of_every_gradient_is_exact(core: ModuleType) -> None:
    # One frame per (dx, dy): a single interior gradient of a 1-pixel-cell frame, in a cell of its
    # own, shows its bin. The expected bin is the nearest multiple of 20 degrees, first of ties.
    dx, dy = (a.ravel() for a in np.meshgrid(np.arange(-255, 256), np.arange(-255, 256)))
    keep = (dx != 0) | (dy != 0)
    dx, dy = dx[keep], dy[keep]
    frames = np.zeros((len(dx), 3, 3, 1), np.uint8)
    frames[:, 1, 2, 0], frames[:, 1, 0, 0] = np.maximum(dx, 0), np.maximum(-dx, 0)
    frames[:, 2, 1, 0], frames[:, 0, 1, 0] = np.maximum(dy, 0), np.maximum(-dy, 0)
    signed = run(core, frames, 1)[:, 0, 0, :18]
    angle = np.rad2deg(np.arctan2(dy.astype(np.longdouble), dx)) / 20
    expected = np.ceil(angle - 0.5).astype(int) % 18
    expected[(dx == 0) & (dy < 0)] = 13
    np.testing.assert_array_equal((signed > 0).sum(axis=1), 1)
    np.testing.assert_array_equal(signed.argmax(axis=1), expected)


@levels
def test_strongest_channel_of_close_squares(core: ModuleType) -> None:
    # Squared magnitudes beyond 16 bits that differ by as little as they can.
    pairs = np.array([[255, 254], [254, 255], [253, 255], [255, 255], [181, 181], [182, 180]])
    frames = np.zeros((len(pairs) ** 2, 3, 3, 3), np.uint8)
    for frame, (i, j) in zip(frames, np.ndindex(len(pairs), len(pairs)), strict=True):
        for channel, (dx, dy) in enumerate((pairs[i], pairs[j], pairs[i - 1])):
            frame[1, 2, channel], frame[2, 1, channel] = dx, dy
    expected = np.stack([reference_hog(frame, 1) for frame in frames])
    np.testing.assert_allclose(run(core, frames, 1), expected, rtol=0, atol=1e-6)


def test_levels_agree() -> None:
    for shape in ((3, 128, 128, 3), (5, 45, 70, 1)):
        frames = smooth_frames(8, shape)
        results = [run(_core.load_level(name), frames, 8) for name in _core.runnable_levels()]
        for other in results[1:]:
            np.testing.assert_allclose(other, results[0], rtol=1e-6, atol=1e-6 * results[0].max())


@levels
def test_first_channel_wins_ties(core: ModuleType) -> None:
    ramp = np.arange(0, 96, 4, dtype=np.uint8)
    frame = np.zeros((24, 24, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = ramp, ramp[:, None], ramp[::-1, None]
    np.testing.assert_array_equal(run(core, frame[None], 8)[0, 0, 0, :18].nonzero()[0], [0])
    backwards = np.ascontiguousarray(frame[None, ..., ::-1])
    np.testing.assert_array_equal(run(core, backwards, 8)[0, 0, 0, :18].nonzero()[0], [13])


@levels
def test_threads_do_not_change_a_bit(core: ModuleType) -> None:
    frames = smooth_frames(5, (23, 50, 41, 3))
    single = run(core, frames, 8, 1)
    for threads in (2, 5):
        np.testing.assert_array_equal(run(core, frames, 8, threads), single)


def load_vlfeat() -> ctypes.CDLL:
    name = ctypes.util.find_library("vl")
    if name is None:
        pytest.skip("VLFeat (Debian libvlfeat-dev) is not installed")
    library = ctypes.CDLL(name)
    library.vl_hog_new.restype = ctypes.c_void_p
    library.vl_hog_new.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    sizes = [ctypes.c_size_t] * 4
    library.vl_hog_put_image.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *sizes]
    library.vl_hog_extract.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.vl_hog_delete.argtypes = [ctypes.c_void_p]
    return library


@levels
@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_vlfeat(core: ModuleType, channels: int) -> None:
    # Interior channels 0 to 26: VLFeat treats the border and the texture channels differently.
    library = load_vlfeat()
    frames = smooth_frames(11, (3, 64, 96, channels))
    ours = run(core, frames, 8)
    for frame, mine in zip(frames, ours, strict=True):
        planar = np.ascontiguousarray(frame.transpose(2, 0, 1), dtype=np.float32)
        features = np.zeros((31, 8, 12), np.float32)
        handle = library.vl_hog_new(1, 9, 0)
        library.vl_hog_put_image(handle, planar.ctypes.data, 96, 64, channels, 8)
        library.vl_hog_extract(handle, features.ctypes.data)
        library.vl_hog_delete(handle)
        theirs = features.transpose(1, 2, 0)[1:-1, 1:-1, :27]
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(mine[inner][..., :27], theirs[inner], atol=1e-6)


@pytest.fixture(scope="module")
def dlib_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, compiler = Path(__file__).parents[2] / "bench/dlib_hog.cpp", shutil.which("g++")
    if compiler is None or not source.is_file():
        pytest.skip("needs g++ and the repository")
    program = tmp_path_factory.mktemp("dlib") / "dlib_hog"
    command = [compiler, "-std=c++17", "-O1", "-w", str(source), "-o", str(program)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("dlib (Debian libdlib-dev) is not installed")
    return program


@levels
def test_agrees_with_dlib(core: ModuleType, dlib_program: Path, tmp_path: Path) -> None:
    # All 31 channels, of grey frames: where two channels tie, dlib takes another one.
    frames = smooth_frames(12, (4, 64, 96, 1))
    frames.tofile(tmp_path / "frames")
    words = [tmp_path / "frames", tmp_path / "features", *frames.shape, 1]
    subprocess.run([dlib_program, *map(str, words)], check=True, capture_output=True)
    theirs = np.fromfile(tmp_path / "features", np.float32).reshape(4, 6, 10, 31)
    np.testing.assert_allclose(run(core, frames, 8), theirs, rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 14), st.integers(0, 14))
def test_any_size(seed: int, cell: int, extra_rows: int, extra_cols: int) -> None:
    least = max(3, (5 * cell + 1) // 2)
    shape = (1, least + extra_rows, least + extra_cols, 3)
    frames = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    got = cs.hog(frames, cell_size=cell, num_threads=1)
    np.testing.assert_allclose(got[0], reference_hog(frames[0], cell), atol=1e-6)


def test_layouts_of_the_input_do_not_matter(tmp_path: Path) -> None:
    frames = smooth_frames(2, (6, 40, 48, 3))
    expected = cs.hog(frames)
    wide = np.zeros((6, 40, 96, 3), np.uint8)
    wide[:, :, ::2] = frames
    np.testing.assert_array_equal(cs.hog(wide[:, :, ::2]), expected)
    np.testing.assert_array_equal(cs.hog(np.asfortranarray(frames)), expected)
    np.testing.assert_array_equal(cs.hog(frames[::-1])[::-1], expected)
    frozen = frames.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(cs.hog(frozen), expected)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=expected.shape
    )
    assert cs.hog(mapped, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_copies_of_strided_input_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = smooth_frames(3, (7, 24, 24, 3))
    monkeypatch.setattr(sys.modules["cliquesim.features.hog"], "_CHUNK_BYTES", 4000)
    seen: list[float] = []
    np.testing.assert_array_equal(
        cs.hog(frames[:, ::-1], progress=seen.append), cs.hog(frames[:, ::-1].copy())
    )
    assert len(seen) >= 4
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_mapped_files_do_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024

    monkeypatch.setattr(sys.modules["cliquesim.features.hog"], "_CHUNK_BYTES", 1 << 20)
    frames = smooth_frames(4, (4, 64, 64, 3)).repeat(700, axis=0)  # 34 MB
    np.save(tmp_path / "frames.npy", frames)
    expected = cs.hog(frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=expected.shape
    )
    before, peaks = resident(), []
    cs.hog(mapped, out=out, progress=lambda _: peaks.append(resident()))
    assert max(peaks) - before < 8 << 20
    np.testing.assert_array_equal(out, expected)
    changed = np.load(tmp_path / "frames.npy", mmap_mode="c")
    changed[:] = 255 - changed
    np.testing.assert_array_equal(cs.hog(changed), cs.hog(255 - frames))
    np.testing.assert_array_equal(changed, 255 - frames)
    np.testing.assert_array_equal(cs.hog(mapped[::-1, ::-1]), cs.hog(frames[::-1, ::-1]))


def test_one_frame_with_many_threads() -> None:
    frame = smooth_frames(6, (1, 33, 61, 3))
    np.testing.assert_array_equal(cs.hog(frame, num_threads=7), cs.hog(frame, num_threads=1))


def test_flat_and_empty_input() -> None:
    assert not cs.hog(np.full((2, 32, 32, 3), 77, np.uint8)).any()
    assert cs.hog(np.empty((0, 96, 64, 3), np.uint8)).shape == (0, 10, 6, 31)
    assert cs.hog(np.empty((0, 96, 64), np.uint8)[:, ::2]).shape == (0, 4, 6, 31)


def test_grey_equals_rgb_of_equal_channels() -> None:
    frames = smooth_frames(9, (2, 40, 40, 1))
    np.testing.assert_array_equal(cs.hog(frames[..., 0]), cs.hog(frames.repeat(3, axis=3)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 19, 64, 3), (1, 64, 19), (2, 3, 3)])
def test_too_small_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least 3 x 3 cells, that is 20 x 20 pixels"):
        cs.hog(np.zeros(shape, np.uint8))
    assert cs.hog(np.zeros((1, 20, 20), np.uint8)).shape == (1, 1, 1, 31)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.bool_, np.int8])
def test_other_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(InputError, match="images must be uint8"):
        cs.hog(np.zeros((1, 32, 32, 3), dtype))


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32, 4), (1, 32, 32, 1), (1, 1, 32, 32, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must have shape \(N, H, W, 3\)"):
        cs.hog(np.zeros(shape, np.uint8))


def test_other_arguments_are_refused() -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="cell_size must be at least 1"):
        cs.hog(frames, cell_size=0)
    with pytest.raises(InputError, match="num_threads must be at least 1"):
        cs.hog(frames, num_threads=0)
    with pytest.raises(InputError, match="device must be one of"):
        cs.hog(frames, device="tpu")
    if not cuda_status()[0]:
        with pytest.raises(RunError, match="hog cannot run with device='cuda'"):
            cs.hog(frames, device="cuda")
    with pytest.raises(InputError, match="out must be float32 with shape"):
        cs.hog(frames, out=np.zeros((1, 2, 2, 32), np.float32))
