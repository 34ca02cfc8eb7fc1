"""The pool of rows that cliques are made of: frames, and their mirror images behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cliquesim.config import Config
    from cliquesim.corpus import Corpus

_SHORTEST_PIECE, _PIECES_EACH = 16, 4


def pieces(
    sequence: NDArray[np.int64], category: NDArray[np.int64], least_sequences: int
) -> NDArray[np.int64]:
    """Number of each frame's sequence, or of its piece of one: (N,).

    Cliques take their frames from different sequences, so that a single video, or a folder of
    frames, would have none. The sequences of a category with fewer than `least_sequences` are
    therefore cut in time into pieces of equal length: about four times `least_sequences` in all,
    of at least 16 frames each.
    """
    piece = np.zeros(len(sequence), np.int64)
    for one in np.unique(category):
        rows = np.flatnonzero(category == one)
        names, counts = np.unique(sequence[rows], return_counts=True)
        if len(names) >= least_sequences:
            continue
        length = max(_SHORTEST_PIECE, -(-len(rows) // (_PIECES_EACH * least_sequences)))
        for name, count in zip(names, counts, strict=True):
            of_sequence = rows[sequence[rows] == name]
            piece[of_sequence] = np.arange(count) * max(1, count // length) // count
    return np.unique(np.stack([sequence, piece]), axis=1, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Pool:
    """Row i is `frame[i]`, mirrored where `flip[i]`.

    `sequence` keeps a frame and the mirror images of its sequence apart from each other (they never
    join a clique beyond the cap); where a category has few sequences they are pieces of its
    sequences, see `pieces`. `run` numbers the stretches within which time goes on, so that a
    window of Eq. (9) never steps from the frames to their mirror images. `category` splits the pool
    into the parts within which cliques are made.
    """

    frame: NDArray[np.int64]
    flip: NDArray[np.bool_]
    sequence: NDArray[np.int64]
    run: NDArray[np.int64]
    category: NDArray[np.int64]

    @classmethod
    def of(cls, corpus: Corpus, config: Config) -> Pool:
        """The pool of a corpus, whose rows are in the order of sequences and time."""
        n, sides = len(corpus), 2 if config.mirror else 1
        sequence = np.asarray(corpus.sequence, np.int64)
        category = np.zeros(n, np.int64)
        if config.within_category:
            category[:] = corpus.category
        return cls(
            np.tile(np.arange(n), sides),
            np.repeat(np.arange(sides) == 1, n),
            np.tile(pieces(sequence, category, config.least_sequences), sides),
            np.concatenate([sequence + side * (sequence.max() + 1) for side in range(sides)]),
            np.tile(category, sides),
        )

    @property
    def sequence_of_frames(self) -> NDArray[np.int64]:
        """`sequence` of the frames themselves, (N,): what counts as a frame's sequence."""
        return self.sequence[~self.flip]

    def __len__(self) -> int:
        return len(self.frame)

    def parts(self) -> list[NDArray[np.int64]]:
        """Rows of each category, in order."""
        return [np.flatnonzero(self.category == one) for one in np.unique(self.category)]
