"""Descriptors of frames: HOG and its whitening (Sect. 2.1)."""

from __future__ import annotations

from cliquesim.features.hog import hog
from cliquesim.features.whitening import Whitening

__all__ = ["Whitening", "hog"]
