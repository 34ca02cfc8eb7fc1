"""The corpus on disk: rendered in a temporary folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliquesim._validation import as_count
from cliquesim.datasets.demo.annotations import RenderedSequence, write_annotations
from cliquesim.datasets.demo.backgrounds import draw_background
from cliquesim.datasets.demo.body import SWAP, load_bodies
from cliquesim.datasets.demo.motion import CATEGORIES, Clip, load_clip, sample
from cliquesim.datasets.demo.picture import Photographer, draw_look
from cliquesim.datasets.demo.scene import film, plan_scene, sequence_generator
from cliquesim.errors import InputError, MissingExtraError

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Demo:
    """A rendered corpus.

    Attributes
    ----------
    root : Path
        The corpus; it holds `frames`, `image_paths`, `labels_hdf5`, `bboxes`, `joints.npz` and
        `sequences.json`.
    categories : tuple of str
    n_sequences, n_frames : int
    """

    root: Path
    categories: tuple[str, ...]
    n_sequences: int
    n_frames: int

    @property
    def frames(self) -> Path:
        """Folder with CATEGORY/SEQUENCE/I00000.jpg."""
        return self.root / "frames"


def _check_extras() -> None:
    """Fail before any work when a package of the extra is missing or too old."""
    purpose = "rendering the demo corpus"
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "demo", purpose) from error
    if not hasattr(cv2, "triangleRasterize"):
        raise MissingExtraError("opencv-python-headless>=5.0.0.93", "demo", purpose)
    for module, package in (
        ("pybullet_data", "pybullet"),
        ("skimage", "scikit-image"),
        ("h5py", "h5py"),
    ):
        try:
            __import__(module)
        except ImportError as error:
            raise MissingExtraError(package, "demo", purpose) from error


def _render_sequence(
    folder: Path, clip: Clip, index: int, frames: int, size: int, seed: int
) -> RenderedSequence:
    """Write the frames of one sequence into `folder`."""
    bodies = load_bodies()
    rng = sequence_generator(seed, clip.name, index)
    scene = plan_scene(rng, clip, frames, len(bodies), mirrored=index % 2 == 1)
    look = draw_look(rng, bodies, scene.body)
    surroundings, background = draw_background(rng)
    vertices, normals, joints = bodies.pose(scene.body, sample(clip, scene.times, scene.offsets))
    if scene.mirrored:
        for array in (vertices, normals, joints):
            array[..., 0] *= -1.0
        joints = joints[:, SWAP]
    view, camera = film(scene, vertices)
    photographer = Photographer(bodies, scene, look, view, size)
    outline = view.to_pixels(camera, size)
    middle = np.median(outline, axis=1)
    shifts = np.gradient(middle, axis=0) if frames > 1 else np.zeros_like(middle)
    ground = float(vertices[..., 2].min())
    folder.mkdir(parents=True)
    for t in range(frames):
        posed = (vertices[t], camera[t], normals[t])
        jpeg = photographer.take(t, posed, shifts[t], ground, background, rng)
        (folder / f"I{t:05d}.jpg").write_bytes(jpeg)
    low, high = np.floor(outline.min(axis=1)) + 1, np.ceil(outline.max(axis=1))
    return RenderedSequence(
        joints=view.to_pixels(view.to_camera(joints), size).astype(np.float32),
        boxes=np.clip(np.hstack([low, high]), 1, size).astype(np.int16),
        times=scene.times.astype(np.float32),
        facts={
            "body": scene.body,
            "background": surroundings,
            "mirrored": scene.mirrored,
            "occluder": look.occluder is not None,
            "blur": look.motion_blur > 0.0,
            "speed": round(scene.speed, 3),
            "yaw_deg": round(float(scene.yaw.mean()) % 360.0, 1),
            "frames": frames,
        },
    )


def _render_frames(
    folder: Path,
    sequences: dict[str, list[str]],
    settings: tuple[int, int, int],
    workers: int,
    progress: Callable[[float], object] | None,
) -> dict[str, dict[str, RenderedSequence]]:
    """Render every sequence, each in a thread of its own: NumPy and OpenCV release the GIL."""
    clips = {category: load_clip(category) for category in sequences}
    with ThreadPoolExecutor(workers) as pool:
        jobs = {
            (category, name): pool.submit(
                _render_sequence, folder / category / name, clips[category], number, *settings
            )
            for category, names in sequences.items()
            for number, name in enumerate(names)
        }
        try:
            for done, job in enumerate(as_completed(jobs.values()), start=1):
                job.result()
                if progress is not None:
                    progress(done / len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {
        category: {name: jobs[category, name].result() for name in names}
        for category, names in sequences.items()
    }


@contextlib.contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name only when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def render(
    out: PathLike,
    n_categories: int = 6,
    sequences_per_category: int = 12,
    frames_per_sequence: int = 20,
    size: int = 128,
    seed: int = 0,
    num_workers: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Demo:
    """Render a corpus of moving athletes with exact labels.

    Motion clips drive skinned bodies in front of varied backgrounds; a category is a motion, a
    sequence one performance of it by one athlete, filmed by one moving camera. The labels say which
    frames show the same posture; they are for evaluation only. A sequence depends on the seed, its
    category and its number alone, so a larger corpus contains a smaller one's frames.

    Parameters
    ----------
    out : path
        The folder to make; it must not exist, or be empty. It appears only when it is complete.
    n_categories : int
        Number of motions, 1 to 15, in the order of `CATEGORIES`.
    sequences_per_category, frames_per_sequence : int
        At least 1 each.
    size : int
        Width and height of a frame in pixels, at least 32.
    seed : int
        Same seed, same bytes.
    num_workers : int, optional
        Threads, each with a sequence of its own; default: all processors.
    progress : callable, optional
        Called after every sequence with the share of the frames that are rendered.

    Returns
    -------
    Demo
        Where the corpus is, and what it holds.

    Raises
    ------
    InputError
        An argument is out of range, or `out` holds something.
    MissingExtraError
        A package of the extra `demo` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from cliquesim.datasets import demo
    >>> corpus = demo.render(tempfile.mkdtemp() + "/demo", 1, 2, 3, size=48, seed=1)
    >>> sorted(path.name for path in (corpus.frames / "run").iterdir())
    ['run_00', 'run_01']
    """
    n_categories = as_count(n_categories, "n_categories", 1)
    if n_categories > len(CATEGORIES):
        raise InputError(f"n_categories must be at most {len(CATEGORIES)}, got {n_categories}")
    as_count(sequences_per_category, "sequences_per_category", 1)
    as_count(frames_per_sequence, "frames_per_sequence", 1)
    as_count(size, "size", 32)
    as_count(seed, "seed", 0)
    workers = as_count(num_workers, "num_workers", 1) if num_workers else os.cpu_count() or 1
    target = Path(out)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target}: exists and is not an empty folder; the demo needs a new one")
    _check_extras()
    sequences = {
        category: [f"{category}_{number:02d}" for number in range(sequences_per_category)]
        for category in CATEGORIES[:n_categories]
    }
    with _whole_folder(target) as root:
        settings = (frames_per_sequence, size, seed)
        rendered = _render_frames(root / "frames", sequences, settings, workers, progress)
        write_annotations(root, rendered, seed)
    n_sequences = n_categories * sequences_per_category
    return Demo(target, tuple(sequences), n_sequences, n_sequences * frames_per_sequence)
