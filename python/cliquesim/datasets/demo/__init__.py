"""The project's own small corpus: rendered athletes with exact joints and labels.

It has the on-disk layout of the released Olympic Sports annotations, plus frames and joints, so
that one loader reads both. Needs the extra `demo` (OpenCV 5, pybullet for its motion clips,
scikit-image for background pictures, h5py); nothing is downloaded.
"""

from __future__ import annotations

from cliquesim.datasets.demo.body import JOINT_NAMES
from cliquesim.datasets.demo.motion import CATEGORIES
from cliquesim.datasets.demo.render import Demo, render

__all__ = ["CATEGORIES", "JOINT_NAMES", "Demo", "render"]
