"""Search and embedding of files: what `cliquesim search` and `cliquesim embed` do."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import save_array, write_atomically
from cliquesim.errors import InputError
from cliquesim.model import SimilarityModel
from cliquesim.neighbors import Neighbors
from cliquesim.pool import Pool
from cliquesim.run_folder import open_run

PathLike = str | os.PathLike[str]


def embed_to_file(
    run: PathLike,
    frames: Sequence[PathLike],
    out: PathLike,
    *,
    num_threads: int | None = None,
    device: str = "cpu",
) -> tuple[int, int, Path]:
    """Embed image files, or folders of frames, into a .npy file.

    A CSV file beside it lists path, sequence and frame of every row, and the frames that could not
    be read. Returns the numbers of rows and dimensions, and that file.
    """
    from cliquesim.corpus import Corpus
    from cliquesim.corpus.sources import open_pictures

    target = Path(out)
    if target.suffix != ".npy":
        raise InputError(f"--out must end in .npy, got {target}")
    model = SimilarityModel.load(run, num_threads=num_threads, device=device)
    size, scale = _frame_size(model), model.config.box_scale
    folders = [path for path in frames if Path(path).is_dir()]
    if folders and len(folders) == len(frames):
        corpus = Corpus.from_folder(
            folders, size, box_scale=scale, max_rejected=model.config.max_rejected
        )
    elif folders:
        raise InputError(f"{folders[0]} is a folder: give image files or folders, not both")
    else:
        corpus = open_pictures(frames, size, scale)
    embedding = model.transform(corpus)
    save_array(target, embedding)
    listing = target.with_suffix(".csv")
    with write_atomically(listing) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "path", "sequence", "frame", "error"])
        names = corpus.sequence_names
        for row, path in enumerate(corpus.paths):
            writer.writerow([row, path, names[corpus.sequence[row]], corpus.frame[row], ""])
        for path, reason in corpus.rejected:
            writer.writerow(["", path, "", "", reason])
    return embedding.shape[0], embedding.shape[1], listing


def search_files(
    run: PathLike,
    queries: Sequence[PathLike],
    k: int = 20,
    *,
    grid: PathLike | None = None,
    box: tuple[float, float, float, float] | None = None,
    per_sequence: int = 0,
    num_threads: int | None = None,
) -> dict[str, Any]:
    """The k nearest frames of a run's corpus for query image files, as plain values.

    `per_sequence` bounds the neighbours of a sequence (0: no bound), or of a piece of one where the
    fit cut the few that there were; `grid` is a picture to write.
    A query that is a frame of the corpus is taken as it was cropped there; others are cropped to
    `box` (xmin, ymin, xmax, ymax in pixels) or taken whole, with a warning where most frames of
    the corpus had boxes.
    """
    model = SimilarityModel.load(run, num_threads=num_threads)
    images, extent = _query_frames(Path(run), model, queries, box)
    k = min(k, len(model.paths_))
    wanted = len(model.paths_) if per_sequence else k
    found = model.search(images, wanted, extent)
    if per_sequence:
        sequence = Pool.of(model.corpus_, model.config).sequence_of_frames
        found = _limit_per_sequence(found, sequence, k, per_sequence)
    if grid is not None:
        _write_grid(model, images, found, Path(grid))
    return {
        "run": str(run),
        "k": k,
        "queries": [
            {
                "query": str(path),
                "neighbors": [
                    {
                        "path": model.paths_[index],
                        "row": int(index),
                        "similarity": round(float(similarity), 6),
                    }
                    for index, similarity in zip(indices, values, strict=True)
                    if index >= 0
                ],
            }
            for path, indices, values in zip(
                queries, found.indices, found.similarities, strict=True
            )
        ],
    }


def _frame_size(model: SimilarityModel) -> tuple[int, int]:
    return model.config.frame_size, model.config.frame_size


def _limit_per_sequence(
    found: Neighbors, sequence: NDArray[np.int64], k: int, limit: int
) -> Neighbors:
    indices = np.full((len(found.indices), k), -1, np.int64)
    values = np.full((len(found.indices), k), -np.inf, np.float32)
    for row, candidates in enumerate(found.indices):
        seen: dict[int, int] = {}
        kept: list[int] = []
        for position, index in enumerate(candidates):
            one = int(sequence[index])
            if index < 0 or len(kept) == k:
                break
            if seen.get(one, 0) < limit:
                seen[one] = seen.get(one, 0) + 1
                kept.append(position)
        indices[row, : len(kept)] = candidates[kept]
        values[row, : len(kept)] = found.similarities[row][kept]
    return Neighbors(indices, values, found.bottom_indices, found.bottom_similarities)


def _query_frames(
    run: Path,
    model: SimilarityModel,
    queries: Sequence[PathLike],
    box: tuple[float, float, float, float] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    from cliquesim.corpus.sources import open_pictures

    source = open_run(run)[1]["input"].get("source")
    boxed = float((np.asarray(model.corpus_.extent) < 1).any(axis=1).mean()) > 0.5
    rows = {path: row for row, path in enumerate(model.paths_)}
    frames, extent = [], []
    for query in map(Path, queries):
        row = rows.get(_corpus_path(query, source))
        if row is not None and box is None:
            frames.append(model.corpus_.frames[row])
            extent.append(model.corpus_.extent[row])
        else:
            if boxed and box is None:
                warnings.warn(
                    f"the run's frames were cropped to boxes, but {query} is taken whole; "
                    "a box (--box) crops it",
                    stacklevel=3,
                )
            one = open_pictures([query], _frame_size(model), model.config.box_scale, box)
            frames.append(one.frames[0])
            extent.append(one.extent[0])
    return np.stack(frames), np.stack(extent)


def _corpus_path(query: Path, source: str | Sequence[str] | None) -> str:
    """A file's path in the corpus of the folders that a run was made from, or "" for none."""
    from cliquesim.corpus.folder import own_name

    folders = [Path(one) for one in ([source] if isinstance(source, str) else source or [])]
    for folder in folders:
        if query.resolve().is_relative_to(folder.resolve()):
            inside = query.resolve().relative_to(folder.resolve()).as_posix()
            return f"{own_name(folder)}/{inside}" if len(folders) > 1 else inside
    return ""


def _write_grid(
    model: SimilarityModel, queries: NDArray[np.uint8], found: Neighbors, target: Path
) -> None:
    from cliquesim.report.grid import neighbor_grid

    frames = model.corpus_.frames
    images = [[frames[i] for i in row if i >= 0] for row in found.indices]
    picture = neighbor_grid(
        list(queries), images, [[f"{v:.2f}" for v in row] for row in found.similarities]
    )
    with write_atomically(target) as temporary:
        picture.save(temporary)
