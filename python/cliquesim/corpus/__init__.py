"""Frames from image folders, videos and manifests, cropped, resized and cached (Sect. 3.1)."""

from __future__ import annotations

from cliquesim.corpus.corpus import Corpus

__all__ = ["Corpus"]
