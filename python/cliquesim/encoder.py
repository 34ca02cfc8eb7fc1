"""Frames to embedding vectors: the learned network, alone or beside whitened HOG."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliquesim._files import load_json, save_json
from cliquesim.features.descriptors import HogLda
from cliquesim.fusion import standardize

if TYPE_CHECKING:
    from cliquesim.training import EmbeddingModel


class Encoder:
    """Embeds frames so that the dot product of two embeddings is their similarity.

    Parameters
    ----------
    hog_lda, network : the two descriptors of a frame.
    weights : of the learned and of the HOG-LDA similarity, summing to 1; the embedding has unit
        length then, and the similarity is at most 1. A weight of 0 leaves the part out.
    focus : whether it looks at the subject's extent alone; else extents are ignored.
    """

    def __init__(
        self,
        hog_lda: HogLda,
        network: EmbeddingModel,
        weights: tuple[float, float],
        focus: bool = True,
    ) -> None:
        self.hog_lda = hog_lda
        self.network = network
        self.weights = weights
        self.focus = focus

    def learned(
        self,
        frames: NDArray[np.uint8],
        mirrored: bool = False,
        num_threads: int | None = None,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """(n, E) unit vectors whose dot product is the Pearson correlation of the features."""
        from cliquesim.training import embed

        extent = extent if self.focus else None
        return standardize(
            embed(self.network, frames, extent=extent, flip=mirrored, num_threads=num_threads)
        )

    def combine(
        self, learned: NDArray[np.float32], whitened: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """The embedding from its two parts."""
        if whitened is None or self.weights[1] == 0:
            return learned
        return np.concatenate(
            [
                learned * np.float32(np.sqrt(self.weights[0])),
                whitened * np.float32(np.sqrt(self.weights[1])),
            ],
            axis=1,
        )

    def transform(
        self,
        frames: NDArray[np.uint8],
        mirrored: bool = False,
        num_threads: int | None = None,
        extent: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """(n, E) float32 embeddings of frames uint8 (n, H, W, 3), or of their mirror images.

        `extent` (n, 2) says which share of each frame the subject takes; None: all of it.
        """
        if len(frames) == 0:
            return np.empty((0, 0), np.float32)
        extent = extent if self.focus else None
        whitened = self.hog_lda.transform(frames, mirrored, extent) if self.weights[1] else None
        return self.combine(self.learned(frames, mirrored, num_threads, extent), whitened)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write network.safetensors, hog_lda/ and encoder.json into `folder`."""
        folder = Path(folder)
        self.network.save(folder / "network.safetensors")
        self.hog_lda.save(folder / "hog_lda")
        save_json(folder / "encoder.json", {"weights": list(self.weights), "focus": self.focus})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Encoder:
        """Read what `save` wrote; InputError names a missing or damaged file."""
        from cliquesim.training import EmbeddingModel

        folder = Path(folder)
        stored = load_json(folder / "encoder.json")
        learned, whitened = stored["weights"]
        return cls(
            HogLda.load(folder / "hog_lda"),
            EmbeddingModel.load(folder / "network.safetensors"),
            (float(learned), float(whitened)),
            bool(stored["focus"]),
        )
