"""The numbers of one training step: which frames, their labels, and what is drawn for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cliquesim.training.augmentation import AugmentationSample, sample_augmentation
from cliquesim.training.config import TrainingConfig
from cliquesim.training.sampling import CliqueSampler, Draw, step_seed


@dataclass(frozen=True)
class StepInputs:
    """Of M frames out of r cliques; drawn on the CPU.

    Attributes
    ----------
    frames
        int64 (M,): rows of the corpus.
    labels, cliques
        int64 (M,) positions within `cliques`, and (r,).
    extent
        float32 (M, 2): shares of width and height that the subject takes.
    sample
        What augmentation drew.
    same_sequence, ignored
        bool (M, M): pairs of the same sequence, and pairs that count neither way; None where the
        loss asks for neither.
    """

    frames: NDArray[np.int64]
    labels: Tensor
    cliques: Tensor
    extent: Tensor
    sample: AugmentationSample
    same_sequence: Tensor | None
    ignored: Tensor | None

    def to(self, device: torch.device) -> StepInputs:
        """The same, what the network and its loss take on another device."""

        def moved(pairs: Tensor | None) -> Tensor | None:
            return None if pairs is None else pairs.to(device)

        return replace(
            self,
            labels=self.labels.to(device),
            cliques=self.cliques.to(device),
            extent=self.extent.to(device),
            same_sequence=moved(self.same_sequence),
            ignored=moved(self.ignored),
        )


class StepSource:
    """Draws the inputs of every step, from the seed and the step alone.

    `frame`, `flip` and `sequence` are of each pool row, `extent` of each frame; see `train`. A step
    is one draw by each of `world` processes, in the order of their `rank`.
    """

    def __init__(
        self,
        sampler: CliqueSampler,
        frame: NDArray[np.int64],
        flip: NDArray[np.bool_],
        sequence: NDArray[np.int64] | None,
        extent: NDArray[np.float32],
        config: TrainingConfig,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sampler, self.config = sampler, config
        self.rank, self.world = rank, world
        self.frame, self.flip, self.sequence, self.extent = frame, flip, sequence, extent
        self._generator = torch.Generator()

    @property
    def relates(self) -> tuple[bool, bool]:
        """Whether there are `same_sequence` and `ignored`: the contrastive loss asks for them."""
        contrastive = self.config.loss == "contrastive"
        return contrastive and self.sequence is not None, contrastive

    def draw(self, step: int) -> StepInputs:
        """The inputs of step `step` (0-based)."""
        number = step * self.world + self.rank
        draw = self.sampler.draw(number)
        frames = self.frame[draw.rows]
        extent = torch.from_numpy(self.extent[frames])
        flip = torch.from_numpy(self.flip[draw.rows])
        self._generator.manual_seed(step_seed(self.config.seed, number))
        sample = sample_augmentation(
            len(frames), self.config.augmentation, self._generator, flip, extent
        )
        labels, cliques = torch.from_numpy(draw.labels), torch.from_numpy(draw.cliques)
        return StepInputs(frames, labels, cliques, extent, sample, *self._relations(draw))

    def torch_seed(self, step: int) -> int:
        """Of torch's own numbers in a step, such as dropout."""
        return step_seed(self.config.seed, step * self.world + self.rank, torch_stream=True)

    def _relations(self, draw: Draw) -> tuple[Tensor | None, Tensor | None]:
        if self.config.loss != "contrastive":
            return None, None
        ignored = torch.from_numpy(self.sampler.overlaps(draw))
        if self.sequence is None:
            return None, ignored
        of_row = self.sequence[draw.rows]
        return torch.from_numpy(of_row[:, None] == of_row[None, :]), ignored
