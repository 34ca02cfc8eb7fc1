"""What makes the student better: one setting changed at a time, over seeds, with intervals.

    python bench/student.py --seeds 0 1 2 --output bench/results/student_athletes.json
    python bench/student.py --factors softmax colours --set training.steps=400

Per seed one fit is the reference: the default, but lighter (LIGHT), as there are many. Each factor
is that fit with a few settings changed, and shares the stages that they leave alone. Anchors are
split by their sequences, every second sequence of a category: the first half is to choose by, the
second half confirms. The gap is a factor's AUC minus that of the reference (or of --against), a
mean over seeds per anchor and then over anchors, with a paired 95 % bootstrap interval over the
anchors. Every process has one thread; with --run the runs are kept, and the same command goes on
where it stopped.
Prints a table, and JSON to --output.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cliquesim as cs
from _measure import add_manifest, provenance, table
from cliquesim import pipeline
from cliquesim.config import make_config, parse_setting
from cliquesim.encoder import Encoder
from cliquesim.evaluation.protocol import Protocol
from cliquesim.evaluation.retrieval import bootstrap_interval

REFERENCE = "reference"
LIGHT = {
    "training.image_size": 64,
    "training.channels": (16, 32, 64, 128),
    "training.steps": 600,
    "training.augmentation.background": None,
    "max_rounds": 1,
}
_STILL = {f"training.augmentation.{name}": 0.0 for name in ("translation", "log_scale", "rotation")}
_COLOUR = {
    f"training.augmentation.{name}": 0.2 for name in ("brightness", "contrast", "saturation")
}
_THREE = {"max_rounds": 3, "agreement": 1.0}
_SOFTMAX: dict[str, Any] = {"training.loss": "softmax"}
_TWENTY = {"cliques_per_batch": 20, "training.images_per_clique": 6}  # r as in Sect. 3.1
_RANDOM = {"batch_method": "random"}
_NOT_DEALT: dict[str, Any] = {"cliques_per_selection": None}
FACTORS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    # input and augmentation
    "whole crop (focus=false)": {"focus": False},
    "colours in place of gradients": {"training.front_end": "rgb"},
    "surroundings replaced": {"training.augmentation.background": 0.7},
    "whole crop, surroundings kept": {"focus": False, "training.augmentation.background": 0.0},
    "nothing erased": {"training.augmentation.erasing": 0.0},
    "not moved, scaled or turned": _STILL,
    "moved, scaled and turned twice as far": {
        "training.augmentation.translation": 0.1,
        "training.augmentation.log_scale": 0.12,
        "training.augmentation.rotation": 12.0,
    },
    "colours changed": _COLOUR,
    "no mirrored pool": {"mirror": False},
    # network and optimisation
    "96 pixels": {"training.image_size": 96},
    "twice the channels": {"training.channels": (32, 64, 128, 256)},
    "embedding of 512": {"training.embedding_dim": 512},
    "without the last map's components": {"training.map_components": 0},
    "twice the steps": {"training.steps": 1200},
    "weights not averaged": {"training.averaging": "none"},
    "weights of the last quarter averaged": {"training.averaging": "swa"},
    "AdaGrad": {"training.optimizer": "adagrad", "training.learning_rate": 0.01},
    # loss
    "softmax over the batch": _SOFTMAX,
    "softmax over the batch, random batches": {**_SOFTMAX, **_RANDOM},
    "softmax over the batch, cosines times 5": {**_SOFTMAX, "training.cosine_scale": 5.0},
    "softmax over the batch, cosines times 5, random batches": {
        **_SOFTMAX,
        "training.cosine_scale": 5.0,
        **_RANDOM,
    },
    "softmax over the batch, products and bias": {**_SOFTMAX, "training.cosine_scale": None},
    "softmax over the batch, products and bias, random batches": {
        **_SOFTMAX,
        "training.cosine_scale": None,
        **_RANDOM,
    },
    "softmax over the batch, 20 cliques of 6": {**_TWENTY, **_SOFTMAX},
    "softmax over the batch, 20 cliques of 6, random batches": {**_TWENTY, **_SOFTMAX, **_RANDOM},
    "softmax over the batch, lambda1 = 1": {**_SOFTMAX, "lambda1": 1.0},
    "softmax over the batch, lambda1 = lambda2 = 1": {  # as the paper preset
        **_SOFTMAX,
        "lambda1": 1.0,
        "lambda2": 1.0,
    },
    "softmax over the batch, lambda1 = 4": {**_SOFTMAX, "lambda1": 4.0},
    "softmax over all": {**_SOFTMAX, "training.head": "global"},
    "softmax, label smoothing 0.1": {**_SOFTMAX, "training.label_smoothing": 0.1},
    "temperature 0.07": {"training.temperature": 0.07},
    "temperature 0.15": {"training.temperature": 0.15},
    "no boost of the same sequence": {"training.same_sequence_boost": 0.0},
    # teacher, cliques, batches
    "teacher of one scale": {"scales": (64,), "scale_margins": (1.0,)},
    "teacher with the full covariance": {"estimator": "full"},
    "teacher not pooled": {"teacher_pool_radius": 0},
    "quantile 0.9": {"clique_quantile": 0.9},
    "quantile 0.975": {"clique_quantile": 0.975},
    "cliques of at least 2": {"clique_min_size": 2},
    "cliques of at least 5": {"clique_min_size": 5},
    "2 frames of a sequence in a clique": {"clique_per_sequence": 2},
    "cliques not merged": {"clique_merging": False},
    "random batches": _RANDOM,
    "cliques not dealt": _NOT_DEALT,
    "cliques not dealt, random batches": {**_NOT_DEALT, **_RANDOM},
    "Eq. (1) without similarity": {"batch_similarity": False},
    "Eq. (1) with lambda1 = 0": {"lambda1": 0.0},
    "Eq. (1) with lambda1 = 1": {"lambda1": 1.0},
    "Eq. (1) with lambda2 = 0": {"lambda2": 0.0},
    "16 cliques of 8 in a batch": {"cliques_per_batch": 16, "training.images_per_clique": 8},
    "64 cliques of 2 in a batch": {"cliques_per_batch": 64, "training.images_per_clique": 2},
    # rounds
    "two rounds": {"max_rounds": 2, "agreement": 1.0},
    "two rounds, the last network alone": {"max_rounds": 2, "agreement": 1.0, "students": "last"},
    "three rounds": _THREE,
    "four rounds": {"max_rounds": 4, "agreement": 1.0},
    "three rounds, without the last map's components": {**_THREE, "training.map_components": 0},
    "three rounds, HOG of weight 1": {**_THREE, "hog_weight": 1.0},
    "three rounds, frames not averaged with their nearest": {**_THREE, "teacher_expansion": 0},
    "three rounds, frames averaged with 10 nearest": {**_THREE, "teacher_expansion": 10},
    "three rounds, random batches": {**_THREE, **_RANDOM},
    "three rounds, softmax": {**_THREE, **_SOFTMAX},
    "three rounds, softmax, lambda1 = 1": {**_THREE, **_SOFTMAX, "lambda1": 1.0},
    "three rounds, softmax, lambda1 = 4": {**_THREE, **_SOFTMAX, "lambda1": 4.0},
    "three rounds, softmax, random batches": {**_THREE, **_SOFTMAX, **_RANDOM},
}
RADII = (0, 1)
METHODS = ("learned", "fused")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, help="default: the folder frames of the labels'")
    add_manifest(parser)
    parser.add_argument("--labels", type=Path, default=Path("../shared/athletes"))
    parser.add_argument("--factors", nargs="+", help="names or parts of names; default: all")
    parser.add_argument("--against", default=REFERENCE, help="the factor that gaps are from")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--run", type=Path, help="keep the runs here")
    parser.add_argument("--output", type=Path, help="write the JSON here")
    options = parser.parse_args()
    options.frames = options.frames or options.labels / "frames"
    if not (options.manifest or options.frames).exists():
        print(f"skipped: there is no corpus in {options.frames}")
        return 0
    factors = choose(options.factors)
    if options.against not in factors:
        raise SystemExit(f"--against must be one of: {', '.join(factors)}")
    with tempfile.TemporaryDirectory() as temporary:
        place = options.run or Path(temporary)
        corpus = load(options, place / "corpus")
        found = measure_all(options, place, corpus, factors)
    rows = [combine(name, factors[name], found, options.seeds, options.against) for name in factors]
    print(show(rows))
    report = {
        **provenance(("torch", "numpy", "scipy")),
        "reference": reference(options.set),
        "against": options.against,
        "seeds": options.seeds,
        "rows": rows,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def choose(names: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """The reference and the factors of these names, or whose names contain one of the words."""
    chosen = {REFERENCE}
    for word in names or [""]:
        found = {word} if word in FACTORS else {name for name in FACTORS if word in name}
        if not found:
            raise SystemExit(f"no factor's name contains {word!r}: {', '.join(FACTORS)}")
        chosen |= found
    return {name: changes for name, changes in FACTORS.items() if name in chosen}


def reference(settings: Sequence[str]) -> dict[str, Any]:
    """What the reference changes in the default."""
    return {**LIGHT, **dict(map(parse_setting, settings))}


def load(options: argparse.Namespace, folder: Path) -> Path:
    """The folder of the corpus, read once for all."""
    if not folder.exists():
        config = make_config(changes=reference(options.set))
        shape: dict[str, Any] = {"size": (config.frame_size,) * 2, "box_scale": config.box_scale}
        if options.manifest:
            corpus = cs.Corpus.from_manifest(options.manifest, options.root or ".", **shape)
        else:
            corpus = cs.Corpus.from_folder(options.frames, **shape)
        corpus.save(folder)
    return folder


def measure_all(
    options: argparse.Namespace, place: Path, corpus: Path, factors: dict[str, dict[str, Any]]
) -> dict[tuple[str, int], dict[str, Any]]:
    """Every factor with every seed; the references first, as the others share their stages."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as workers:
        for group in ([REFERENCE], [name for name in factors if name != REFERENCE]):
            jobs = {
                workers.submit(
                    measure, place, corpus, options.labels, options.set, name, factors[name], seed
                ): (name, seed)
                for name in group
                for seed in options.seeds
            }
            for job in as_completed(jobs):
                found[jobs[job]] = one = job.result()
                means = " ".join(f"{np.nanmean(one[m][1]):.4f}" for m in METHODS)
                print(f"{jobs[job]}: pooled {means} ({one['seconds']:.0f} s)", file=sys.stderr)
    return found


def measure(
    place: Path,
    folder: Path,
    labels: Path,
    settings: Sequence[str],
    name: str,
    changes: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """AUC per method, radius and anchor, and which half an anchor belongs to."""
    warnings.simplefilter("ignore", cs.CliqueWarning)
    warnings.simplefilter("ignore", cs.BatchWarning)
    corpus = cs.Corpus.load(folder)
    config = make_config(changes={**reference(settings), **changes, "seed": seed})
    runs = place / f"seed-{seed}"
    start = time.monotonic()
    fitted = pipeline.fit(
        corpus,
        runs / "".join(c if c.isalnum() or c == "." else "-" for c in name),
        config,
        update=True,
        base=None if name == REFERENCE else runs / REFERENCE,
        num_threads=1,
    )
    seconds = time.monotonic() - start
    assert fitted.model is not None
    encoder = Encoder.load(fitted.model.folder, num_threads=1)
    extent = corpus.extent if config.focus else None
    similar: dict[str, list[NDArray[np.float32]]] = {method: [] for method in METHODS}
    for mirrored in (False, True):
        learned = encoder.learned(corpus.frames, mirrored, extent)
        whitened = encoder.hog_lda.transform(corpus.frames, mirrored, extent)
        similar["learned"].append(learned)
        similar["fused"].append(encoder.combine(learned, whitened))
    protocol = Protocol.of(corpus, labels)
    found: dict[str, Any] = {
        method: [per_anchor(protocol, *sides, p) for p in RADII]
        for method, sides in similar.items()
    }
    summary = {name: fitted.summary[name] for name in ("rounds", "cliques", "coverage")}
    return {"seconds": seconds, "confirms": confirming(protocol), "summary": summary, **found}


def per_anchor(
    protocol: Protocol, plain: NDArray[np.float32], mirrored: NDArray[np.float32], radius: int
) -> NDArray[np.float64]:
    """AUC of every anchor, in the order of the categories."""
    return np.concatenate(
        [
            one.retrieve(plain[one.rows], mirrored[one.rows], radius).per_anchor
            for one in protocol.categories
        ]
    )


def confirming(protocol: Protocol) -> NDArray[np.bool_]:
    """Whether an anchor is out of every second sequence of its category."""
    halves = []
    for one in protocol.categories:
        _, rank = np.unique(one.sequence, return_inverse=True)
        halves.append(rank[one.labels.anchors] % 2 == 1)
    return np.concatenate(halves)


def combine(
    name: str,
    changes: dict[str, Any],
    found: dict[tuple[str, int], dict[str, Any]],
    seeds: Sequence[int],
    against: str,
) -> dict[str, Any]:
    """A factor's AUC and gap for each method and radius, of all anchors and of each half."""
    own = [found[name, seed] for seed in seeds]
    others = [found[against, seed] for seed in seeds]
    row: dict[str, Any] = {
        "name": name,
        "settings": changes,
        "seconds": float(np.mean([one["seconds"] for one in own])),
        "of_seeds": [one["summary"] for one in own],
    }
    second = own[0]["confirms"]
    for half, some in (
        ("all", np.ones_like(second)),
        ("chosen by", ~second),
        ("confirms", second),
    ):
        for method in METHODS:
            for place, p in enumerate(RADII):
                mine = np.array([one[method][place][some] for one in own])
                gap = mine.mean(0) - np.mean([one[method][place][some] for one in others], 0)
                low, high = bootstrap_interval(gap)
                row[f"{half}: {method}, p = {p}"] = {
                    "auc": float(np.nanmean(mine)),
                    "of_seeds": np.nanmean(mine, axis=1).tolist(),
                    "gap": float(np.nanmean(gap)),
                    "interval": [low, high],
                }
    return row


def show(rows: Sequence[dict[str, Any]]) -> str:
    """Pooled similarities: AUC, and the gap with its interval, in both halves."""
    columns = [f"{half}: {m}, p = 1" for m in METHODS for half in ("chosen by", "confirms")]
    lines = []
    for row in rows:
        cells = [row["name"]]
        for column in columns:
            one = row[column]
            low, high = one["interval"]
            cells += [f"{one['auc']:.3f}", f"{one['gap']:+.3f} ({low:+.3f} {high:+.3f})"]
        lines.append([*cells, f"{row['seconds']:.0f}"])
    header = [cell for column in columns for cell in (column.removesuffix(", p = 1"), "gap")]
    return table(("factor", *header, "s"), lines, left=1)


if __name__ == "__main__":
    raise SystemExit(main())
