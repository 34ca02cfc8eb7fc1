"""Corpora: the released Olympic Sports annotations, and the project's own rendered athletes."""

from __future__ import annotations

from cliquesim.datasets import olympic_sports

__all__ = ["olympic_sports"]
