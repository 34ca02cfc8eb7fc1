"""Training of the network on batches of cliques (Sect. 2.4), and its embedding.

The settings import without torch; everything else loads torch on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cliquesim.training.config import AugmentationConfig, TrainingConfig

if TYPE_CHECKING:
    from cliquesim.training.augmentation import augment, sample_augmentation
    from cliquesim.training.backbones import AlexNet, CompactNet, GradientFrontEnd, build_backbone
    from cliquesim.training.embedding import embed
    from cliquesim.training.losses import (
        CliqueHead,
        global_softmax_loss,
        restricted_softmax_loss,
        supervised_contrastive_loss,
    )
    from cliquesim.training.model import EmbeddingModel
    from cliquesim.training.trainer import TrainingResult, train

_HOME = {
    "augment": "augmentation",
    "sample_augmentation": "augmentation",
    "AlexNet": "backbones",
    "CompactNet": "backbones",
    "GradientFrontEnd": "backbones",
    "build_backbone": "backbones",
    "embed": "embedding",
    "CliqueHead": "losses",
    "global_softmax_loss": "losses",
    "restricted_softmax_loss": "losses",
    "supervised_contrastive_loss": "losses",
    "EmbeddingModel": "model",
    "TrainingResult": "trainer",
    "train": "trainer",
}

__all__ = [
    "AlexNet",
    "AugmentationConfig",
    "CliqueHead",
    "CompactNet",
    "EmbeddingModel",
    "GradientFrontEnd",
    "TrainingConfig",
    "TrainingResult",
    "augment",
    "build_backbone",
    "embed",
    "global_softmax_loss",
    "restricted_softmax_loss",
    "sample_augmentation",
    "supervised_contrastive_loss",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
