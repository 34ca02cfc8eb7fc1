"""The main job on the embedded demo: render athletes, learn, evaluate, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cliquesim.config import make_config
from cliquesim.errors import InputError
from cliquesim.run_folder import StageObserver

_QUICK = {
    "training.steps": 30,
    "training.checkpoint_every": 30,
    "n_batches": 5,
    "cliques_per_batch": 4,
    "max_rounds": 1,
}
_QUICK_CORPUS = {"n_categories": 2, "sequences_per_category": 8, "frames_per_sequence": 8}


def run_demo(
    out: Path,
    *,
    quick: bool = False,
    num_threads: int | None = None,
    observer: StageObserver,
) -> tuple[dict[str, Any], Path]:
    """Everything in the folder `out`: corpus/, run/, report.html. Goes on where it stopped.

    Returns the evaluation, as `cliquesim evaluate --json` prints it, and the report's path.
    """
    from cliquesim.corpus import Corpus
    from cliquesim.datasets import demo
    from cliquesim.evaluation.run import evaluate_run
    from cliquesim.pipeline import check_run_folder, fit
    from cliquesim.report.run import report_run

    scene, run = out / "corpus", out / "run"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder")
    if run.exists():
        check_run_folder(run)
    if not (scene / "labels_hdf5").is_dir():
        observer.start("render")
        start = time.monotonic()
        demo.render(
            scene,
            **(_QUICK_CORPUS if quick else {}),
            num_workers=num_threads,
            progress=lambda fraction: observer.progress("render", fraction),
        )
        observer.finish("render", time.monotonic() - start, False, {})
    config = make_config("demo", changes=_QUICK if quick else {})
    observer.start("corpus")
    start = time.monotonic()
    corpus = Corpus.from_folder(
        scene / "frames",
        size=(config.frame_size, config.frame_size),
        box_scale=config.box_scale,
        cache=run / "corpus",
        progress=lambda fraction: observer.progress("corpus", fraction),
    )
    observer.finish("corpus", time.monotonic() - start, False, {"frames": len(corpus)})
    fit(
        corpus,
        run,
        config,
        source=str(scene / "frames"),
        num_threads=num_threads,
        observer=observer,
    )
    result = evaluate_run(run, scene, num_threads=num_threads, curves=True)
    report = report_run(run, out=out / "report.html", auc=result)
    del result["curves"]
    return result, report
