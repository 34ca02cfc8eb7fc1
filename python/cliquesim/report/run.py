"""`cliquesim report`: gathers what a finished run holds and writes its page."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cliquesim
from cliquesim import _core
from cliquesim._files import load_array, load_json
from cliquesim.baselines import BASELINES, load_features, load_table
from cliquesim.errors import InputError
from cliquesim.model import SimilarityModel
from cliquesim.pool import Pool
from cliquesim.run_folder import read_stage
from cliquesim.stages import load_batches, load_cliques


def report_run(
    run: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    auc: dict[str, Any] | None = None,
) -> Path:
    """Write the report of a finished run and give its path.

    Parameters
    ----------
    run : run folder.
    labels : folder of labels, for the AUC table and the ROC curves; or
    auc : an evaluation that was made already (`evaluate_run` with ``curves=True``).
    out : file to write; default report.html in the run folder.

    Raises
    ------
    InputError
        No finished run, or labels that do not fit it.
    """
    from cliquesim.report.data import ReportData
    from cliquesim.report.page import write_report

    folder = Path(run)
    target = Path(out) if out is not None else folder / "report.html"
    if target.is_dir():
        raise InputError(f"{target} is a folder; --out names the page to write")
    model = SimilarityModel.load(folder)
    if labels is not None and auc is None:
        from cliquesim.evaluation.run import evaluate_run

        auc = evaluate_run(folder, labels, curves=True)
    corpus, summary = model.corpus_, model.summary_
    n, last = len(corpus), folder / f"round-{summary['rounds']}"
    pool = Pool.of(corpus, model.config)
    baselines = load_table(folder)
    membership = load_cliques(last / "cliques", len(pool)).membership
    data = ReportData(
        title=f"cliquesim: {folder.resolve().name}",
        frames=corpus.frames,
        sequence=corpus.sequence,
        piece=pool.sequence_of_frames,
        category=[corpus.category_names[c] for c in corpus.category]
        if corpus.has_categories
        else None,
        features={
            "hog_lda": load_array(folder / "descriptors/descriptors.npy", mmap=True)[:n],
            **(_pictured(folder) if baselines else {}),
            "learned": _learned(folder, model.embedding_),
            "fused": model.embedding_,
        },
        auc=auc,
        baselines=baselines,
        membership=membership,
        batches=load_batches(last / "batches", membership.shape[0]).toarray(),
        rejected=corpus.rejected,
        settings=model.config.model_dump(mode="json"),
        timings=_timings(folder),
        versions=_versions(),
    )
    write_report(target, data)
    return target


def _learned(folder: Path, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """The networks' part of the embedding, as unit rows."""
    stage = read_stage(folder / "embedding", "embedding")
    assert stage is not None  # SimilarityModel.load found it
    learned = np.asarray(embedding[:, : stage.summary["learned_dimensions"]])
    unit: NDArray[np.float32] = learned / np.linalg.norm(learned, axis=1, keepdims=True).clip(1e-12)
    return unit


def _pictured(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Features of the baselines that the figures show, where they were measured."""
    found = {
        one.name: load_features(folder, one.name) for one in BASELINES.values() if one.pictured
    }
    return {name: some for name, some in found.items() if some is not None}


def _timings(folder: Path) -> dict[str, float]:
    records = [
        load_json(path)
        for path in folder.rglob("stage.json")
        if "baselines" not in path.relative_to(folder).parts
    ]
    order = sorted(records, key=lambda r: (not r["stage"].startswith("desc"), r["stage"]))
    return {record["stage"]: float(record["seconds"]) for record in order}


def _versions() -> dict[str, str]:
    found = {"cliquesim": f"{cliquesim.__version__} ({_core.simd_level})"}
    for package in ("torch", "numpy", "scipy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
