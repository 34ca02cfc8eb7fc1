"""The sections of the page, each a function from `ReportData` to what the template shows.

A section that its data does not allow is a sentence that says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.report import figures
from cliquesim.report.data import (
    ReportData,
    clique_statistics,
    comparable,
    display_name,
    draw_queries,
    nearest,
    repeating_sequence,
    similarities_to,
    spectrum,
)
from cliquesim.report.embed import data_uri, inline_svg
from cliquesim.report.grid import average, strip, to_image

Array = NDArray[Any]
Section = dict[str, Any]

QUERIES, NEIGHBORS, AVERAGED = 6, 8, 50
SPECTRUM_ROWS = 1000
REJECTED_ROWS = 200
_TILE = 96


def _missing(sentence: str) -> Section:
    return {"missing": sentence}


def _query_name(data: ReportData, query: int) -> str:
    parts = [f"frame {query:,}"]
    if data.category is not None:
        parts.insert(0, str(data.category[query]))
    return ", ".join(parts)


def retrieval(data: ReportData) -> Section:
    """AUC table and ROC curves."""
    if not data.auc:
        return _missing(
            "No labels were given, so nothing is scored here: "
            "cliquesim report RUN --labels FOLDER adds this section."
        )
    mean: Mapping[str, float] = data.auc["mean_auc"]
    per_category: Mapping[str, Mapping[str, float]] = data.auc.get("per_category", {})
    methods = list(mean)
    colors = figures.method_colors(methods)
    best = {
        category: max(scores[m] for m in methods if m in scores)
        for category, scores in {**per_category, "": mean}.items()
    }
    curves = data.auc.get("curves")
    return {
        "anchors": data.auc.get("anchors"),
        "bars": [
            {
                "name": display_name(m),
                "auc": mean[m],
                "width": max(0.0, (mean[m] - 0.5) * 200),
                "color": colors[m],
                "best": mean[m] == best[""],
            }
            for m in methods
        ],
        "methods": [display_name(m) for m in methods],
        "rows": [
            (category, [(scores.get(m), scores.get(m) == best[category]) for m in methods])
            for category, scores in per_category.items()
        ],
        "mean": [(mean[m], mean[m] == best[""]) for m in methods],
        "curves": inline_svg(figures.roc_curves(curves, mean), "roc", "Mean ROC curves")
        if curves
        else None,
    }


def baselines(data: ReportData) -> Section:
    """Table 1's counterpart: every baseline's AUC and how far the learned similarity is above."""
    if not data.baselines:
        return _missing(
            "No baselines were measured: cliquesim evaluate RUN --labels FOLDER --baselines adds "
            "this section."
        )
    reference = data.baselines["reference"]
    curves = data.baselines.get("curves")
    auc = {row["title"]: row["auc"] for row in data.baselines["rows"] if row["auc"] is not None}
    return {
        "anchors": data.baselines["anchors"],
        "pool_radius": data.baselines["pool_radius"],
        "rows": [
            {
                "title": row["title"],
                "ours": row["name"] == reference,
                "cells": [
                    (row[f"auc{suffix}"], None if row["name"] == reference else row[gap])
                    for suffix, gap in (("", "difference"), ("_pooled", "difference_pooled"))
                ],
            }
            for row in data.baselines["rows"]
        ],
        "skipped": data.baselines["skipped"],
        "curves": inline_svg(figures.roc_curves(curves, auc), "baselines", "Mean ROC curves")
        if curves
        else None,
    }


def _needs_features(data: ReportData, frames: bool) -> str | None:
    """Why pictures of neighbours cannot be made, or None."""
    if not data.features:
        return "The run holds no descriptors to compare frames with."
    if frames and data.frames is None:
        return "The frames are not at hand, so there is nothing to show."
    if (data.n_frames or 0) < 2:
        return "A single frame has no neighbours."
    return None


def _unit(data: ReportData) -> str:
    """What is left out around a query."""
    parts = [0 if one is None else len(np.unique(one)) for one in (data.piece, data.sequence)]
    return "piece of its sequence" if parts[0] > parts[1] else "sequence"


def neighbors(data: ReportData, similarity: Mapping[str, Array], queries: Array) -> Section:
    """Fig. 5: queries and their nearest neighbours, one row per method."""
    reason = _needs_features(data, frames=True)
    if reason:
        return _missing(reason)
    assert data.frames is not None
    several = data.apart is not None and len(np.unique(data.apart)) > 1
    items = []
    for row, query in enumerate(queries):
        rows = []
        for method, values in similarity.items():
            found = nearest(values[row], int(query), NEIGHBORS, data.apart, per_sequence=1)
            if not several:
                found = nearest(values[row], int(query), NEIGHBORS, None)
            rows.append(
                {
                    "name": display_name(method),
                    "image": data_uri(strip([data.frames[i] for i in found], _TILE)),
                    "columns": len(found),
                    "range": f"{values[row, found[0]]:.2f} to {values[row, found[-1]]:.2f}",
                }
            )
        items.append(
            {
                "name": _query_name(data, int(query)),
                "image": data_uri(to_image(data.frames[query], _TILE)),
                "rows": rows,
            }
        )
    return {"queries": items, "several": several, "unit": _unit(data)}


def averages(data: ReportData, similarity: Mapping[str, Array], queries: Array) -> Section:
    """Fig. 2: the average of the nearest neighbours, one row per method."""
    reason = _needs_features(data, frames=True)
    if reason:
        return _missing(reason)
    assert data.frames is not None
    # Among few frames the 50 nearest would be most of the corpus, so at most a tenth are taken.
    count = max(2, min(AVERAGED, (data.n_frames or 0) // 10))
    rows = [
        {
            "name": display_name(method),
            "images": [
                data_uri(to_image(average(data.frames[np.sort(found)]), _TILE))
                for found in (
                    nearest(values[row], int(query), count, data.apart)
                    for row, query in enumerate(queries)
                )
            ],
        }
        for method, values in similarity.items()
    ]
    shown = [data_uri(to_image(data.frames[query], _TILE)) for query in queries]
    return {"count": count, "queries": shown, "rows": rows, "unit": _unit(data)}


def matrices(data: ReportData) -> Section:
    """Fig. 1: the similarity matrix of one sequence by every method."""
    reason = _needs_features(data, frames=False)
    if reason:
        return _missing(reason)
    if data.sequence is None:
        return _missing("The frames have no sequences, so there is no matrix of one to show.")
    rows = repeating_sequence(data)
    if len(rows) < 3:
        return _missing("No sequence has three frames or more.")
    panels = []
    for number, (method, features) in enumerate(data.features.items()):
        unit = comparable(features[rows], data.metric)
        figure = figures.similarity_matrix(unit @ unit.T)
        name = display_name(method)
        panels.append(
            {"name": name, "svg": inline_svg(figure, f"matrix{number}", f"{name}: similarities")}
        )
    film = None
    if data.frames is not None:
        shown = np.linspace(0, len(rows) - 1, min(10, len(rows))).astype(int)
        film = data_uri(strip([data.frames[rows[i]] for i in shown], _TILE))
    return {"panels": panels, "frames": len(rows), "first": int(rows[0]), "film": film}


def distribution(data: ReportData, similarity: Mapping[str, Array], queries: Array) -> Section:
    """Fig. 4: eigenvalue spectrum, and the sorted similarities of one exemplar."""
    reason = _needs_features(data, frames=False)
    if reason:
        return _missing(reason)
    n = data.n_frames or 0
    rows = np.arange(n)
    if n > SPECTRUM_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(n, SPECTRUM_ROWS, replace=False))
    cumulative = {
        method: spectrum(features, data.metric, rows) for method, features in data.features.items()
    }
    needed = [
        (display_name(method), int(np.searchsorted(values, 0.9)) + 1)
        for method, values in cumulative.items()
    ]
    of_exemplar = {
        method: np.delete(values[0], queries[0]) for method, values in similarity.items()
    }
    return {
        "spectrum": inline_svg(
            figures.eigenvalue_spectrum(cumulative), "spectrum", "Cumulative eigenvalue spectrum"
        ),
        "sorted": inline_svg(
            figures.sorted_similarities(of_exemplar), "sorted", "Sorted similarities of a frame"
        ),
        "needed": needed,
        "rows": len(rows),
        "sampled": n > SPECTRUM_ROWS,
        "exemplar": _query_name(data, int(queries[0])),
    }


def cliques(data: ReportData) -> Section:
    """Clique and batch statistics, and Fig. 3: the cliques of a batch by their averages."""
    if data.membership is None:
        return _missing("The run holds no cliques.")
    from scipy import sparse

    C = sparse.csr_matrix(data.membership)
    if not C.shape[0]:
        return _missing("No clique was found.")
    statistics = clique_statistics(data)
    section: Section = {
        "statistics": statistics,
        "count": C.shape[0],
        "median": float(np.median(statistics.sizes)),
        "sizes": inline_svg(figures.clique_sizes(statistics.sizes), "sizes", "Clique sizes"),
        "tiles": [],
        "first": 1,
    }
    if data.frames is None:
        return section
    if data.batches is not None and len(data.batches):
        sizes = [int(np.asarray(batch, dtype=bool).sum()) for batch in data.batches]
        first = int(np.argmax(np.array(sizes) > 0))
        chosen = np.flatnonzero(data.batches[first])
        section["first"] = first + 1
    else:
        chosen = np.argsort(-statistics.sizes, kind="stable")[:20]
        section["first"] = None
    for clique in chosen[:40]:
        members = np.sort(C.indices[C.indptr[clique] : C.indptr[clique + 1]])
        if not len(members):
            continue
        pictures = data.frames[members % len(data.frames)]
        mirrored = members >= len(data.frames)
        pictures[mirrored] = pictures[mirrored][:, :, ::-1]
        shown = pictures[np.linspace(0, len(members) - 1, min(4, len(members))).astype(int)]
        section["tiles"].append(
            {
                "average": data_uri(to_image(average(pictures), _TILE)),
                "members": data_uri(strip(list(shown), _TILE // 2, gap=0)),
                "shown": len(shown),
                "size": len(members),
            }
        )
    return section


def rejected(data: ReportData) -> Section:
    """The frames of the input that could not be used, with the reason."""
    rows = [(str(path), reason) for path, reason in data.rejected]
    return {"rows": rows[:REJECTED_ROWS], "count": len(rows), "more": len(rows) - REJECTED_ROWS}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted names and values."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return rows


def run(data: ReportData) -> Section:
    """Timings, settings and versions."""
    longest = max(data.timings.values(), default=0.0)
    return {
        "timings": [
            (stage, seconds, 100 * seconds / longest if longest > 0 else 0.0)
            for stage, seconds in data.timings.items()
        ],
        "total": sum(data.timings.values()),
        "settings": flatten(data.settings),
        "versions": flatten(data.versions),
    }


def summary(data: ReportData) -> list[str]:
    """The first line of the page: how much there is of what."""
    facts: list[tuple[int | None, str]] = [
        (data.n_frames, "frames"),
        (None if data.sequence is None else len(np.unique(data.sequence)), "sequences"),
        (None if data.category is None else len(set(data.category)), "categories"),
        (None if data.membership is None else data.membership.shape[0], "cliques"),
        (None if data.batches is None else len(data.batches), "batches"),
    ]
    return [f"{count:,} {what}" for count, what in facts if count is not None]


def build(
    data: ReportData, progress: Callable[[float], object] | None = None
) -> dict[str, Section]:
    """All sections by name, in the order in which they are worked out."""
    queries = draw_queries(data, QUERIES)
    similarity = (
        {}
        if _needs_features(data, frames=False)
        else {
            method: similarities_to(features, queries, data.metric)
            for method, features in data.features.items()
        }
    )
    steps: dict[str, Callable[[], Section]] = {
        "retrieval": lambda: retrieval(data),
        "baselines": lambda: baselines(data),
        "neighbors": lambda: neighbors(data, similarity, queries),
        "averages": lambda: averages(data, similarity, queries),
        "matrices": lambda: matrices(data),
        "distribution": lambda: distribution(data, similarity, queries),
        "cliques": lambda: cliques(data),
        "rejected": lambda: rejected(data),
        "run": lambda: run(data),
    }
    sections = {}
    for number, (name, step) in enumerate(steps.items(), start=1):
        sections[name] = step()
        if progress is not None:
            progress(number / len(steps))
    return sections
