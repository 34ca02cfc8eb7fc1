"""Every baseline by its name, and the groups that are asked for together."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cliquesim.baselines import ablations, descriptors, exemplar_svm, networks
from cliquesim.baselines.workplace import Prepared, Workplace
from cliquesim.errors import InputError


@dataclass(frozen=True)
class Baseline:
    """One row of the table.

    Attributes
    ----------
    name, title : for the command line, and for people.
    group : "table" (Table 1's) or "ablations".
    prepare : trains it, within a run.
    missing : why it cannot be had, if it cannot; asked before anything is computed.
    pictured : whether the report's figures show it (those of Figs. 1, 2 and 4 that are no stage of
        the run itself); its features of the whole corpus are kept then.
    """

    name: str
    title: str
    group: str
    prepare: Callable[[Workplace], Prepared]
    missing: Callable[[Workplace], Exception | None] = lambda _: None
    pictured: bool = False


def _table() -> list[Baseline]:
    def hog_lda(estimator: str, one: bool) -> Callable[[Workplace], Prepared]:
        return descriptors.hog_lda(estimator, one)

    rows = [
        ("hog", "raw HOG, centred", descriptors.raw_hog),
        ("hog_lda_full", "HOG-LDA, full covariance", hog_lda("full", False)),
        ("hog_lda_full_one_scale", "HOG-LDA, full covariance, one scale", hog_lda("full", True)),
        ("hog_lda_stationary", "HOG-LDA, stationary covariance", hog_lda("stationary", False)),
        (
            "hog_lda_stationary_one_scale",
            "HOG-LDA, stationary covariance, one scale",
            hog_lda("stationary", True),
        ),
    ]
    found = [Baseline(name, title, "table", prepare) for name, title, prepare in rows]
    found += [
        Baseline(
            "exemplar_svm",
            "Exemplar-SVM",
            "table",
            exemplar_svm.exemplar_svm,
            exemplar_svm.missing,
        ),
        Baseline("exemplar_cnn", "Exemplar-CNN", "table", networks.exemplar_cnn),
        Baseline(
            "alexnet",
            "AlexNet, ImageNet (labels)",
            "table",
            networks.alexnet,
            networks.no_imagenet,
            pictured=True,
        ),
        Baseline("random_init", "random weights", "table", networks.random_init),
        Baseline(
            "one_sample",
            "1-sample CNN",
            "table",
            networks.one_sample("one_sample", printed=True),
            pictured=True,
        ),
        Baseline(
            "nn_cnn",
            "NN-CNN, 10 neighbours",
            "table",
            networks.nn_cnn("nn_cnn", printed=True),
            pictured=True,
        ),
        Baseline(
            "one_sample_as_ours",
            "1-sample CNN, our input and loss",
            "table",
            networks.one_sample("one_sample_as_ours", printed=False),
        ),
        Baseline(
            "nn_cnn_as_ours",
            "NN-CNN, our input and loss",
            "table",
            networks.nn_cnn("nn_cnn_as_ours", printed=False),
        ),
        Baseline("learned", "learned", "table", ablations.ours()),
        Baseline("fused", "learned + HOG-LDA", "table", ablations.ours("fused")),
    ]
    return found


def _ablations() -> list[Baseline]:
    changed: list[tuple[str, str, dict[str, Any]]] = [
        ("random_batches", "random batches", {"batch_method": "random"}),
        ("no_similarity", "Eq. (1) without similarity", {"batch_similarity": False}),
        ("no_batch_coverage", "Eq. (1) with lambda1 = 0", {"lambda1": 0.0}),
        ("no_total_coverage", "Eq. (1) with lambda2 = 0", {"lambda2": 0.0}),
        ("no_merging", "cliques not merged", {"clique_merging": False}),
        ("no_teacher_pooling", "teacher not pooled", {"teacher_pool_radius": 0}),
        (
            "no_teacher_expansion",
            "frames not averaged with their nearest for later cliques",
            {"teacher_expansion": 0},
        ),
        ("no_focus", "surroundings of the boxes seen", {"focus": False}),
    ]
    found = [
        Baseline(name, title, "ablations", ablations.variant(name, changes))
        for name, title, changes in changed
    ]
    found.append(
        Baseline(
            "neighbors_not_cliques",
            "10 neighbours in place of cliques",
            "ablations",
            networks.neighbors_in_place_of_cliques,
        )
    )
    found += [
        Baseline(
            f"rounds_{k}",
            f"{k} round{'s' if k > 1 else ''}",
            "ablations",
            ablations.variant("rounds", {"max_rounds": k, "agreement": 1.0}),
        )
        for k in range(1, 5)
    ]
    found += [
        Baseline(
            f"pool_{p}",
            f"learned, pooled with p = {p}" if p else "learned, not pooled",
            "ablations",
            ablations.ours(pool_radius=p),
        )
        for p in range(6)
    ]
    return found


BASELINES: dict[str, Baseline] = {one.name: one for one in [*_table(), *_ablations()]}
GROUPS: dict[str, tuple[str, ...]] = {
    "table": tuple(one.name for one in BASELINES.values() if one.group == "table"),
    "ablations": tuple(one.name for one in BASELINES.values() if one.group == "ablations"),
    "all": tuple(BASELINES),
}


def choose(names: Sequence[str]) -> tuple[list[Baseline], set[str]]:
    """Baselines by their names or groups' names, in the table's order, and those named singly.

    Raises
    ------
    InputError
        An unknown name, with the nearest known one.
    """
    wanted: set[str] = set()
    singly: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted.update(GROUPS[name])
        elif name in BASELINES:
            singly.add(name)
        else:
            raise InputError(_unknown(name))
    wanted |= singly
    return [one for one in BASELINES.values() if one.name in wanted], singly


def is_known(names: Iterable[str]) -> bool:
    """Whether all are names of baselines or groups."""
    return all(name in BASELINES or name in GROUPS for name in names)


def _unknown(name: str) -> str:
    known = [*GROUPS, *BASELINES]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"no baseline is called {name!r}; {hint}Known: {', '.join(known)}"
