"""What the learned similarity is compared with: Table 1's baselines, and the run's ablations.

Everything here is for measuring, by the same protocol, with the run's own settings, frames and
number of training steps; nothing of it is used by a fit.
"""

from __future__ import annotations

from cliquesim.baselines.catalogue import BASELINES, GROUPS, Baseline, choose
from cliquesim.baselines.exemplar_svm import ExemplarSvm
from cliquesim.baselines.run import evaluate_baselines, load_table
from cliquesim.baselines.workplace import load_features, load_scores

__all__ = [
    "BASELINES",
    "GROUPS",
    "Baseline",
    "ExemplarSvm",
    "choose",
    "evaluate_baselines",
    "load_features",
    "load_scores",
    "load_table",
]
