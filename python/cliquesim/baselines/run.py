"""Table 1's counterpart for one run: every baseline once, kept in the run's folder."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliquesim._files import load_json, save_json, write_atomically
from cliquesim.baselines.catalogue import BASELINES, Baseline, choose
from cliquesim.baselines.workplace import FOLDER, Scores, Workplace, load_scores
from cliquesim.errors import InputError, RunError
from cliquesim.evaluation.protocol import Protocol, Score
from cliquesim.evaluation.retrieval import N_POINTS, bootstrap_interval
from cliquesim.model import SimilarityModel
from cliquesim.run_folder import RunFolder, StageObserver, open_run, read_stage

REFERENCE = "learned"
_OWN = ("name", "title", "auc", "auc_pooled", "pool_radius")
_GAPS = ("difference", "low", "high", "difference_pooled", "low_pooled", "high_pooled")


def evaluate_baselines(
    run: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    names: Sequence[str] = ("table",),
    *,
    imagenet: str | os.PathLike[str] | None = None,
    num_threads: int | None = None,
    observer: StageObserver | None = None,
) -> dict[str, Any]:
    """Compute baselines on a run's frames by the protocol of `evaluate_run`; kept ones are reused.

    Networks train with the run's settings on other positives, in as many steps as its rounds have
    together; ablations are fits with one setting changed, which share the run's stages as far as
    they are equal. The results are in ``RUN/baselines/NAME/result`` (``result.json``,
    ``per_anchor.npy`` (radii, anchors), ``tpr.npy`` (radii, 101)), the table in
    ``RUN/baselines/table.json`` and ``.csv``, and where matplotlib is installed the mean ROC curves
    (Fig. 1a) in ``RUN/baselines/roc.svg``. `cliquesim report` has them all on its page.

    Parameters
    ----------
    run : finished run folder.
    labels : folder in the layout of the released annotations.
    names : of baselines or groups, see `BASELINES` and `GROUPS`.
    imagenet : weights of AlexNet, safetensors; without them it is left out of a group.
    num_threads : None for all processors.
    observer : is told of stages and progress.

    Returns
    -------
    dict with `rows` (per baseline: name, title, group, auc, auc_pooled, pool_radius, per_category,
    seconds of training and scoring (stages shared with the run count), and `difference`,
    `difference_pooled`: the learned similarity's AUC minus its own, both single or both pooled,
    over anchors, with a 95 % bootstrap interval; None where there is none), `skipped` (name,
    reason), `anchors`, `pool_radius`, `reference` and `model`, the key of the run's last stage.

    Raises
    ------
    InputError
        No finished run, no labels or an unknown name; or, of a baseline that was named itself and
        not by its group, what it lacks.
    MissingExtraError
        As that, for a package.
    """
    chosen, singly = choose(names)
    folder, manifest = open_run(run)
    model = SimilarityModel.load(folder, num_threads=num_threads)
    protocol = Protocol.of(model.corpus_, labels)
    with RunFolder(
        folder, manifest["input"], manifest["settings"], update=True, observer=observer
    ) as opened:
        place = Workplace(
            opened, model, protocol, num_threads, None if imagenet is None else Path(imagenet)
        )
        ready, skipped = _available(chosen, singly, place)
        reference, _ = _measure(BASELINES[REFERENCE], place)
        rows, curves = [], {}
        for baseline in ready:
            try:
                scores, seconds = _measure(baseline, place)
            except (InputError, RunError) as error:
                if baseline.name in singly:
                    raise
                skipped.append({"name": baseline.name, "reason": str(error)})
                continue
            rows.append(_row(baseline, scores, seconds, reference))
            if 0 in scores:
                curves[baseline.title] = scores[0]
        result: dict[str, Any] = {
            "model": place.finished().key,
            "reference": REFERENCE,
            "anchors": protocol.n_anchors,
            "pool_radius": model.config.pool_radius,
            "labels": str(labels),
            "rows": rows,
            "skipped": skipped,
        }
        save_json(folder / FOLDER / "table.json", result)
        _save_csv(folder / FOLDER / "table.csv", rows)
        _save_curves(folder / FOLDER / "roc.svg", curves)
    return result


def _available(
    chosen: list[Baseline], singly: set[str], place: Workplace
) -> tuple[list[Baseline], list[dict[str, str]]]:
    """What can be computed, and what cannot, with the reason; before anything is computed."""
    ready, skipped = [], []
    for baseline in chosen:
        reason = baseline.missing(place)
        if reason is None:
            ready.append(baseline)
        elif baseline.name in singly:
            raise reason
        else:
            skipped.append({"name": baseline.name, "reason": str(reason)})
    return ready, skipped


def _measure(baseline: Baseline, place: Workplace) -> tuple[Scores, float]:
    prepared = baseline.prepare(place)
    scores, seconds = place.scored(baseline.name, prepared)
    if baseline.pictured:
        place.keep_features(baseline.name, prepared)
    return scores, prepared.seconds + seconds


def _row(baseline: Baseline, scores: Scores, seconds: float, reference: Scores) -> dict[str, Any]:
    single, pooled = scores.get(0), next((one for p, one in scores.items() if p), None)
    ours, ours_pooled = reference[0], next((one for p, one in reference.items() if p), None)
    return {
        "name": baseline.name,
        "title": baseline.title,
        "group": baseline.group,
        "auc": single.auc if single else None,
        "auc_pooled": pooled.auc if pooled else None,
        "pool_radius": next((p for p in scores if p), None),
        "per_category": {str(p): one.per_category for p, one in scores.items()},
        "seconds": round(seconds, 1),
        "difference": difference(ours.per_anchor, single.per_anchor) if single else None,
        "difference_pooled": difference(ours_pooled.per_anchor, pooled.per_anchor)
        if pooled and ours_pooled
        else None,
    }


def difference(reference: Any, other: Any) -> dict[str, float]:
    """Mean over anchors of reference - other, and its 95 % bootstrap interval (paired)."""
    gap = np.asarray(reference) - np.asarray(other)
    low, high = bootstrap_interval(gap)
    return {"mean": float(np.nanmean(gap)), "low": low, "high": high}


def _save_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with write_atomically(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((*_OWN, *_GAPS))
        for row in rows:
            values = [row[name] for name in _OWN]
            for name in ("difference", "difference_pooled"):
                gap = row[name] or dict.fromkeys(("mean", "low", "high"))
                values += [gap["mean"], gap["low"], gap["high"]]
            writer.writerow(["" if value is None else value for value in values])


def _save_curves(path: Path, scores: dict[str, Score]) -> None:
    if not scores or importlib.util.find_spec("matplotlib") is None:
        return
    from cliquesim.report.figures import roc_curves

    figure = roc_curves(_curves(scores), {title: one.auc for title, one in scores.items()})
    with write_atomically(path) as temporary:
        figure.savefig(temporary)


def _curves(scores: dict[str, Score]) -> dict[str, dict[str, list[float]]]:
    """Mean ROC curves as the report's figures take them."""
    fpr = np.linspace(0, 1, N_POINTS).tolist()
    return {title: {"fpr": fpr, "tpr": one.tpr.tolist()} for title, one in scores.items()}


def load_table(run: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the last `evaluate_baselines` of a run as it is gave, with its `curves`; else None."""
    folder = Path(run)
    model = read_stage(folder / "model", "model")
    if model is None or not (folder / FOLDER / "table.json").is_file():
        return None
    table: dict[str, Any] = load_json(folder / FOLDER / "table.json")
    if table.get("model") != model.key:
        return None
    scores = {row["title"]: load_scores(folder, row["name"]) for row in table["rows"]}
    return table | {"curves": _curves({t: one[0] for t, one in scores.items() if 0 in one})}
