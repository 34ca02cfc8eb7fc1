"""The steps of CCCP as a picture."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from cliquesim.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cliquesim.batches.result import BatchSelection

_RELAXED, _ROUNDED, _INTEGRALITY, _INK = "#2f6fd0", "#d1811f", "#1f9d78", "#5a6270"


def plot_history(selection: BatchSelection, ax: Axes | None) -> Axes:
    """See `BatchSelection.plot_history`."""
    if not selection.history:
        raise InputError(
            "there is no history to plot: method 'cccp' alone has steps, and here it made none "
            f"(regime: {selection.info.get('regime', 'unknown')})"
        )
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise MissingExtraError("matplotlib", "report", "plot_history()") from error
        ax = pyplot.subplots(figsize=(7.0, 4.0), layout="constrained")[1]
    history = selection.history
    steps = np.arange(1, len(history) + 1)
    # lambda3 ||X - 0.5||^2 is lambda3 B K / 4 at every binary X: without that constant the levels
    # of lambda3 compare, and what is left of the term is the price of entries between 0 and 1.
    quarter = selection.X.size / 4
    relaxed = [step["objective"] + step["lambda3"] * quarter for step in history]
    lines = ax.plot(
        steps, relaxed, "o-", color=_RELAXED, markersize=3.5, label="relaxed, Eq. (3) - (4)"
    )
    lines += ax.plot(
        steps,
        [step["rounded_objective"] for step in history],
        "s-",
        color=_ROUNDED,
        markersize=3,
        label="rounded, Eq. (1)",
    )
    lines.append(
        ax.axhline(
            selection.objective, color=_INK, linestyle=":", linewidth=1.2, label="selected batches"
        )
    )
    right = ax.twinx()
    lines += right.plot(
        steps,
        [step["integrality"] for step in history],
        "--",
        color=_INTEGRALITY,
        label="integrality",
    )
    right.set_ylim(0.0, 1.03)
    right.set_ylabel("integrality of the relaxed X", color=_INTEGRALITY)
    right.tick_params(axis="y", colors=_INTEGRALITY)
    _mark_levels(selection, ax)
    ax.set_xlim(0.5, len(history) + 0.5)
    ax.set_xlabel("CCCP step")
    ax.set_ylabel("objective")
    ax.locator_params(axis="x", integer=True)
    ax.legend(
        lines,
        [str(line.get_label()) for line in lines],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return ax


def _mark_levels(selection: BatchSelection, ax: Axes) -> None:
    """A band for every other lambda3, with its values along the top."""
    centres, labels, begin = [], [], 0
    levels = groupby(selection.history, key=lambda step: float(step["lambda3"]))
    for number, (lambda3, steps) in enumerate(levels):
        end = begin + len(list(steps))
        if number % 2:
            ax.axvspan(begin + 0.5, end + 0.5, color=_INK, alpha=0.09, linewidth=0)
        centres.append((begin + 1 + end) / 2)
        labels.append(f"{lambda3:.2g}")
        begin = end
    top = ax.secondary_xaxis("top")
    top.set_xticks(centres, labels, fontsize=8)
    top.set_xlabel(r"$\lambda_3$")
