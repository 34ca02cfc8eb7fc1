"""Frames to embedding vectors: the learned networks, alone or beside whitened HOG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._files import load_json, save_json
from cliquesim.features.descriptors import HogLda
from cliquesim.fusion import standardize, weighted

if TYPE_CHECKING:
    from cliquesim.training import EmbeddingModel


class Encoder:
    """Embeds frames so that the dot product of two embeddings is their similarity.

    Parameters
    ----------
    hog_lda, networks : the descriptors of a frame.
    weights : of the similarity of each network, then of HOG-LDA, summing to 1; the embedding has
        unit length then, and the similarity is at most 1. A weight of 0 leaves HOG-LDA out.
    focus : whether it looks at the subject's extent alone; else extents are ignored.
    """

    def __init__(
        self,
        hog_lda: HogLda,
        networks: Sequence[EmbeddingModel],
        weights: Sequence[float],
        focus: bool = True,
        num_threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        assert len(weights) == len(networks) + 1
        self.hog_lda = hog_lda
        self.networks = list(networks)
        self.weights = tuple(weights)
        self.focus = focus
        self.num_threads = num_threads
        self.device = device

    def learned(
        self,
        frames: NDArray[np.uint8],
        mirrored: bool = False,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """(n, E) unit vectors; their dot product is the networks' part of the similarity.

        That of one network is the Pearson correlation of its features.
        """
        from cliquesim.training import embed

        extent = extent if self.focus else None
        features = [
            standardize(
                embed(
                    network,
                    frames,
                    extent=extent,
                    flip=mirrored,
                    device=self.device,
                    num_threads=self.num_threads,
                )
            )
            for network in self.networks
        ]
        return weighted(features, self.weights[:-1])

    def combine(
        self, learned: NDArray[np.float32], whitened: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """The embedding from its two parts."""
        if whitened is None or self.weights[-1] == 0:
            return learned
        return weighted([learned, whitened], (sum(self.weights[:-1]), self.weights[-1]))

    def transform(
        self,
        frames: NDArray[np.uint8],
        mirrored: bool = False,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """(n, E) float32 embeddings of frames uint8 (n, H, W, 3), or of their mirror images.

        `extent` (n, 2) says which share of each frame the subject takes; None: all of it.
        """
        if len(frames) == 0:
            return np.empty((0, 0), np.float32)
        extent = extent if self.focus else None
        whitened = self.hog_lda.transform(frames, mirrored, extent) if self.weights[-1] else None
        return self.combine(self.learned(frames, mirrored, extent), whitened)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write network-1.safetensors and so on, hog_lda/ and encoder.json into `folder`."""
        folder = Path(folder)
        for number, network in enumerate(self.networks, 1):
            network.save(folder / f"network-{number}.safetensors")
        self.hog_lda.save(folder / "hog_lda")
        save_json(folder / "encoder.json", {"weights": self.weights, "focus": self.focus})

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], num_threads: int | None = None, device: str = "cpu"
    ) -> Encoder:
        """Read what `save` wrote; InputError names a missing or damaged file."""
        from cliquesim.training import EmbeddingModel

        folder = Path(folder)
        stored = load_json(folder / "encoder.json")
        weights = [float(one) for one in stored["weights"]]
        return cls(
            HogLda.load(folder / "hog_lda", num_threads, device),
            [
                EmbeddingModel.load(folder / f"network-{number}.safetensors")
                for number in range(1, len(weights))
            ],
            weights,
            bool(stored["focus"]),
            num_threads,
            device,
        )
