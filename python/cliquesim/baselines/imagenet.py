"""AlexNet trained on ImageNet, with labels: its weights come from a file that the user has."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cliquesim.errors import InputError
from cliquesim.training.config import TrainingConfig
from cliquesim.training.model import EmbeddingModel, load_weights, read_tensors


class OneTowerAlexNet(nn.Module):
    """AlexNet as torchvision has it (Krizhevsky, 2014): no groups, no normalisation, 224 px.

    Names of the tensors are torchvision's, colours are shifted and scaled as its weights want
    them. Layer: `"fc7"`, after its ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_size = 224
        self.output_dim = 4096
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        fc6, fc7 = nn.Linear(256 * 6 * 6, 4096), nn.Linear(4096, 4096)
        # Dropout has no part in embedding, but its place in the numbering.
        self.classifier = nn.Sequential(
            nn.Identity(), fc6, nn.ReLU(), nn.Identity(), fc7, nn.ReLU()
        )
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]), persistent=False)

    def embed(
        self, images: Tensor, layer: str | None = None, extent: Tensor | None = None
    ) -> Tensor:
        """Features (N, 4096); images (N, 3, 224, 224) in [0, 1]."""
        if layer not in (None, "fc7"):
            raise InputError(f"layer must be 'fc7', got {layer!r}")
        mean, deviation = (getattr(self, name)[:, None, None] for name in ("mean", "deviation"))
        x: Tensor = self.classifier(self.features((images - mean) / deviation).flatten(1))
        return x


def load_imagenet(path: Path) -> EmbeddingModel:
    """AlexNet with the weights of a safetensors file, in one of two layouts.

    - Caffe's `bvlc_alexnet` (grouped convolutions, conv1 turned to RGB order), by this package's
      names: `conv1.weight` to `fc7.bias`.
    - torchvision's: `features.0.weight` to `classifier.4.bias`.

    The last layer, the classifier, is left aside.

    Raises
    ------
    InputError
        No such file, another format, or a tensor that is missing, unknown or of another shape.
    """
    if path.suffix in (".pth", ".pt"):
        raise InputError(
            f"{path}: pickles are not read. Convert it once: safetensors.torch.save_file("
            "torch.load(FILE, weights_only=True), NEW)"
        )
    _, tensors = read_tensors(path)
    config = TrainingConfig.paper(precision="auto")
    if any(name.startswith("features.") for name in tensors):
        net = OneTowerAlexNet()
        load_weights(net, path, complete=True, ignored=("classifier.6.",))
        # Embeds like a backbone, but is none that the settings of a training can name.
        return EmbeddingModel(net.eval(), config)  # type: ignore[arg-type]
    model = EmbeddingModel.random(config)
    load_weights(model.backbone, path, complete=True, ignored=("fc8.",))
    return model
