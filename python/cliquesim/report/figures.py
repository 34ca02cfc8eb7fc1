"""The plots of the report, one function per figure of the paper; each returns a matplotlib Figure.

They draw with a transparent background and take arrays only, so they serve in a notebook as well:
``roc_curves(result["curves"]).savefig("roc.pdf")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cliquesim.errors import MissingExtraError
from cliquesim.report.data import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

INK = "#5a6270"  # axes and text: legible on white and on black
#: Colours of the methods in their order; the last method, the result, gets the first colour.
_RESULT, _OTHERS = "#2f6fd0", ("#9097a3", "#d1811f", "#7a5ab8", "#1f9d78", "#c2477f", "#8c7a2e")


def method_colors(methods: Sequence[str]) -> dict[str, str]:
    """A colour per method; a pooled similarity shares the colour of the plain one."""
    bases = list(dict.fromkeys(method.removesuffix("_pooled") for method in methods))
    result = "learned" if "learned" in bases else bases[-1] if bases else ""
    others = iter(_OTHERS * (1 + len(bases) // len(_OTHERS)))
    color = {base: _RESULT if base == result else next(others) for base in bases}
    return {method: color[method.removesuffix("_pooled")] for method in methods}


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure in the report's style, `width` and `height` in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "plotting") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=INK, labelsize=9, width=0.8, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=INK, alpha=0.18, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(
    axes: Axes,
    place: Literal["lower right", "upper right", "center left"],
    anchor: tuple[float, float] | None = None,
) -> None:
    axes.legend(
        loc=place,
        bbox_to_anchor=anchor,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.8,
    )


def _style(method: str) -> dict[str, Any]:
    return {"linewidth": 1.9, "linestyle": (0, (4, 2)) if method.endswith("_pooled") else "-"}


def roc_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]], auc: Mapping[str, float] | None = None
) -> Figure:
    """Mean ROC curves per method (Fig. 1a), with their AUC in the legend.

    The legend of many curves stands beside them, and a colour that comes again is dotted.
    """
    many = len(curves) > len(_OTHERS) + 1
    figure, axes = _axes(8.6 if many else 5.0, 4.2)
    colors = method_colors(list(curves))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    drawn: set[tuple[str, bool]] = set()
    for method, curve in curves.items():
        label = display_name(method)
        if auc is not None and method in auc:
            label = f"{label}\u2002{auc[method]:.3f}"
        style = _style(method)
        key = (colors[method], method.endswith("_pooled"))
        if key in drawn:
            style["linestyle"] = (0, (1, 1))
        drawn.add(key)
        axes.plot(curve["fpr"], curve["tpr"], color=colors[method], label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    if many:
        _legend(axes, "center left", (1.02, 0.5))
    else:
        _legend(axes, "lower right")
    return figure


def similarity_matrix(similarity: Array) -> Figure:
    """Similarity of a sequence's frames to each other (Fig. 1b-d).

    The grey values run from the 2nd to the 98th percentile of the off-diagonal similarities.
    """
    S = np.asarray(similarity)
    figure, axes = _axes(2.9, 2.7)
    off_diagonal = S[~np.eye(len(S), dtype=bool)]
    low, high = np.percentile(off_diagonal, [2, 98]) if len(off_diagonal) else (0.0, 1.0)
    axes.grid(False)
    axes.imshow(S, cmap="magma", vmin=float(low), vmax=float(high), interpolation="nearest")
    axes.set_xlabel("frame")
    axes.set_ylabel("frame")
    axes.locator_params(integer=True, nbins=5)
    return figure


def eigenvalue_spectrum(cumulative: Mapping[str, Array], share: float = 0.9) -> Figure:
    """Normalised cumulative sum of the eigenvalues against their number (Fig. 4a)."""
    figure, axes = _axes(5.0, 3.4)
    colors = method_colors(list(cumulative))
    for method, values in cumulative.items():
        counts = np.arange(1, len(values) + 1)
        axes.plot(
            counts, values, color=colors[method], label=display_name(method), **_style(method)
        )
    axes.axhline(share, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("number of eigenvectors")
    axes.set_ylabel("share of the eigenvalues' sum")
    _legend(axes, "lower right")
    return figure


def sorted_similarities(similarities: Mapping[str, Array]) -> Figure:
    """All similarities of one exemplar, sorted (Fig. 4b): only the ends can be trusted.

    More than 2,000 values are thinned evenly; both ends stay.
    """
    figure, axes = _axes(5.0, 3.4)
    colors = method_colors(list(similarities))
    for method, values in similarities.items():
        ordered = np.sort(np.asarray(values, dtype=np.float64))[::-1]
        kept = np.unique(np.linspace(0, len(ordered) - 1, 2000).astype(np.int64))
        axes.plot(
            kept / max(1, len(ordered) - 1) * 100,
            ordered[kept],
            color=colors[method],
            label=display_name(method),
            **_style(method),
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("frames, most similar first (%)")
    axes.set_ylabel("similarity")
    _legend(axes, "upper right")
    return figure


def clique_sizes(sizes: Array) -> Figure:
    """How many cliques have how many members."""
    figure, axes = _axes(5.0, 2.6)
    sizes = np.asarray(sizes)
    top = int(sizes.max(initial=1))
    step = max(1, -(-top // 40))
    edges = np.arange(0.5, top + step + 0.5, step)
    axes.hist(sizes, bins=edges.tolist(), color=_RESULT, rwidth=0.86)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("frames in a clique")
    axes.set_ylabel("cliques")
    axes.locator_params(axis="both", integer=True)
    return figure
