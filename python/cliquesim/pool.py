"""The pool of rows that cliques are made of: frames, and their mirror images behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus


@dataclass(frozen=True)
class Pool:
    """Row i is `frame[i]`, mirrored where `flip[i]`.

    `sequence` keeps a frame and the mirror images of its sequence apart from each other (they never
    join a clique beyond the cap); `run` numbers the stretches within which time goes on, so that a
    window of Eq. (9) never steps from the frames to their mirror images. `category` splits the pool
    into the parts within which cliques are made.
    """

    frame: NDArray[np.int64]
    flip: NDArray[np.bool_]
    sequence: NDArray[np.int64]
    run: NDArray[np.int64]
    category: NDArray[np.int64]

    @classmethod
    def of(cls, corpus: Corpus, mirror: bool, within_category: bool) -> Pool:
        """The pool of a corpus, whose rows are in the order of sequences and time."""
        n, sides = len(corpus), 2 if mirror else 1
        sequence = np.asarray(corpus.sequence, np.int64)
        category = (
            np.asarray(corpus.category, np.int64) if within_category else np.zeros(n, np.int64)
        )
        return cls(
            np.tile(np.arange(n), sides),
            np.repeat(np.arange(sides) == 1, n),
            np.tile(sequence, sides),
            np.concatenate([sequence + side * (sequence.max() + 1) for side in range(sides)]),
            np.tile(category, sides),
        )

    def __len__(self) -> int:
        return len(self.frame)

    def parts(self) -> list[NDArray[np.int64]]:
        """Rows of each category, in order."""
        return [np.flatnonzero(self.category == one) for one in np.unique(self.category)]
