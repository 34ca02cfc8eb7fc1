"""Exact nearest and farthest rows, Sect. 2.1, and quantiles of all similarities, Fig. 4(b)."""

from __future__ import annotations

from cliquesim.neighbors.exact import Neighbors, neighbors, similarity_quantiles

__all__ = ["Neighbors", "neighbors", "similarity_quantiles"]
