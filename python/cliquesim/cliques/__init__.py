"""Compact cliques of mutually similar frames (Sect. 2.2)."""

from __future__ import annotations

from cliquesim.cliques.build import build_cliques
from cliquesim.cliques.result import Cliques, CliqueWarning

__all__ = ["CliqueWarning", "Cliques", "build_cliques"]
