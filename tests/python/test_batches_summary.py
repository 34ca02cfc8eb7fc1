"""What a BatchSelection says about itself: numbers, lines for people, and the picture of CCCP."""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from batch_instances import instance

import cliquesim as cs


@pytest.fixture(scope="module")
def chosen():
    C, S = instance(40, 120, 0)
    return C, S, cs.select_batches(C, S, 6, 5)


def test_summary_is_what_was_selected(chosen):
    C, S, selection = chosen
    summary = selection.summary()
    X, rows = selection.X, [np.flatnonzero(x) for x in selection.X]
    pairs = [S[i, j] for row in rows for i, j in itertools.combinations(row, 2)]
    assert summary["similarity_mean"] == pytest.approx(np.mean(pairs))
    assert summary["similarity_max"] == max(pairs)
    shared = [len(np.intersect1d(a, b)) / 5 for a, b in itertools.combinations(rows, 2)]
    assert summary["overlap_mean"] == pytest.approx(np.mean(shared))
    held = C.any(axis=0).sum()
    assert summary["coverage"] == pytest.approx(((X.sum(axis=0) @ C) > 0).sum() / held)
    assert summary["samples_per_batch"] == pytest.approx(np.mean((X @ C > 0).sum(axis=1)))
    assert summary["cliques_used"] == X.any(axis=0).mean()
    assert summary["distinct_batches"] == selection.n_distinct_batches
    assert (summary["n_batches"], summary["cliques_per_batch"]) == (6, 5)
    assert sum(summary["terms"].values()) == pytest.approx(summary["objective"])
    assert summary["integrality"] == selection.integrality
    assert summary["lambdas"] == selection.lambdas
    assert summary["status"] == "SOLVED"
    assert json.loads(json.dumps(summary)) == summary


def test_summary_without_pairs():
    C, S = instance(8, 20, 1)
    assert cs.select_batches(C, S, 1, 6).summary()["overlap_mean"] is None
    single = cs.select_batches(C, S, 4, 1)
    assert single.summary()["similarity_mean"] is None
    assert "largest -" in single.describe()


@pytest.mark.parametrize("method", ["cccp", "greedy", "random"])
def test_describe(method):
    C, S = instance(40, 120, 0)
    selection = cs.select_batches(C, S, 10, 5, method=method)
    lines = str(selection).splitlines()
    assert str(selection) == selection.describe()
    assert lines[0].startswith("10 batches of 5 cliques: SOLVED")
    assert f"{selection.objective:.6g}" in lines[1]
    assert f"{selection.n_distinct_batches} distinct" in lines[3]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_history_is_drawn(mode):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    C, S = instance(40, 120, 0)
    with pytest.warns(cs.BatchWarning) if mode == "paper" else nullcontext():
        selection = cs.select_batches(C, S, 6, 5, mode=mode)
    axes = selection.plot_history()
    assert axes.get_xlabel() == "CCCP step"
    assert axes.get_ylabel() == "objective"
    relaxed, rounded = (line.get_ydata() for line in axes.lines[:2])
    assert np.array_equal(rounded, [step["rounded_objective"] for step in selection.history])
    last = selection.history[-1]
    assert relaxed[-1] == last["objective"] + last["lambda3"] * 6 * 40 / 4
    (top,) = axes.child_axes
    assert len(top.get_xticks()) == len({step["lambda3"] for step in selection.history})
    pyplot.close(axes.figure)


def test_history_is_drawn_where_told(chosen):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure, (_, axes) = pyplot.subplots(1, 2)
    assert chosen[2].plot_history(axes) is axes
    pyplot.close(figure)


def test_no_history_no_picture():
    C, S = instance(10, 30, 0)
    with pytest.raises(cs.errors.InputError, match="no history to plot"):
        cs.select_batches(C, S, 5, 3, method="greedy").plot_history()


def test_plotting_needs_its_extra(chosen, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(cs.errors.MissingExtraError, match=r"cliquesim\[report\]"):
        chosen[2].plot_history()
