"""A trained network with the settings that made it, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cliquesim._files import PathLike, write_atomically
from cliquesim.errors import InputError
from cliquesim.training.backbones import Backbone, CompactNet, build_backbone
from cliquesim.training.config import TrainingConfig

_FORMAT = "cliquesim-model-1"


class EmbeddingModel:
    """A network that embeds frames.

    Attributes
    ----------
    backbone
        The torch module; `backbone.embed(images, layer)` takes float (N, 3, S, S) in [0, 1].
    config
        The settings that it was trained with.

    Examples
    --------
    >>> import numpy as np
    >>> from cliquesim.training import EmbeddingModel, TrainingConfig, embed
    >>> model = EmbeddingModel.random(TrainingConfig(image_size=32, channels=(4, 8)))
    >>> embed(model, np.zeros((5, 96, 96, 3), np.uint8)).shape
    (5, 256)
    """

    def __init__(self, backbone: Backbone, config: TrainingConfig) -> None:
        self.backbone = backbone
        self.config = config

    @classmethod
    def random(cls, config: TrainingConfig) -> EmbeddingModel:
        """Random weights from the settings' seed; or the file they name."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            backbone = build_backbone(config)
        if config.initial_weights is not None:
            load_weights(backbone, config.initial_weights)
        return cls(backbone.eval(), config)

    def save(self, path: PathLike) -> None:
        """Write weights and settings to one safetensors file."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.backbone.state_dict().items()}
        # One entry: safetensors writes several in random order; equal models are equal files.
        metadata = {_FORMAT: json.dumps(self.config.to_dict(), sort_keys=True)}
        with write_atomically(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: PathLike) -> EmbeddingModel:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is missing, damaged, or no model of this format.
        """
        metadata, tensors = read_tensors(path)
        if _FORMAT not in metadata:
            raise InputError(f"{path}: not a cliquesim model of this version")
        config = TrainingConfig.from_dict(json.loads(metadata[_FORMAT]))
        backbone = build_backbone(config)
        _load_state(backbone, tensors, path)
        return cls(backbone.eval(), config)


def read_tensors(path: PathLike) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file; InputError names a bad one."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
        return metadata, load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def load_weights(
    backbone: nn.Module, path: PathLike, *, complete: bool = False, ignored: tuple[str, ...] = ()
) -> None:
    """Start a network from a safetensors file, for example converted ImageNet weights.

    Names are this package's (`conv1.weight`, ...). Layers that the file lacks keep their random
    weights, but at least one must be there and none may be unknown or of another shape. With
    `complete` none may be missing; tensors whose names begin with one of `ignored` are left aside.
    """
    _, tensors = read_tensors(path)
    tensors = {name: value for name, value in tensors.items() if not name.startswith(ignored)}
    known = backbone.state_dict()
    for name, value in tensors.items():
        if name not in known:
            raise InputError(f"{path}: the network has no tensor {name!r}")
        if value.shape != known[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(value.shape)}, "
                f"expected {tuple(known[name].shape)}"
            )
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    missing = [name for name in known if name not in tensors]
    if complete and missing:
        raise InputError(
            f"{path}: lacks the tensor {missing[0]!r} of shape {tuple(known[missing[0]].shape)}"
        )
    backbone.load_state_dict(tensors, strict=False)


def _load_state(backbone: Backbone, tensors: dict[str, Tensor], path: PathLike) -> None:
    if isinstance(backbone, CompactNet) and {"map_mean", "map_components"} <= tensors.keys():
        backbone.set_components(tensors["map_mean"], tensors["map_components"])
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: weights do not fit the settings beside them") from error
