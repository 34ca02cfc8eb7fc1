"""HOG-LDA of frames of which the subject takes a part only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cliquesim.errors import InputError
from cliquesim.features.descriptors import HogLda, within


def noisy_frames(n: int, seed: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("margin", [1.0, 1.2])
@pytest.mark.parametrize("cells", [(4, 4), (7, 4)])
def test_weight_of_a_cell(cells: tuple[int, int], margin: float) -> None:
    """1 where all pixels within one cell of the centre are inside, 0 where the centre is not."""
    extent = np.random.default_rng(0).uniform(0.3, 0.99, (30, 2)).astype(np.float32)
    found = within(extent, cells, margin)
    assert found.shape == (30, *cells, 1)
    for row, (x, y) in enumerate(extent):
        for i in range(cells[0]):
            for j in range(cells[1]):
                weight = 1.0
                for k, count, share in ((i, cells[0], y), (j, cells[1], x)):
                    # Pixels of 100 a cell, of a crop with one more cell at each side.
                    centre = 100 * (k + 1.5)
                    half = 100 * (count + 2) / 2
                    inside = half * margin * share - abs(centre - half)
                    weight *= min(max(inside / 100, 0), 1)
                assert found[row, i, j, 0] == pytest.approx(weight, abs=1e-5)
    assert (within(np.ones((1, 2), np.float32), cells, margin) == 1).all()


def test_what_lies_outside_changes_nothing(tmp_path: Path) -> None:
    frames = noisy_frames(60, 1, 80)
    extent = np.tile(np.float32([1 / 5, 1]), (60, 1))  # columns 32 to 48
    sequence = np.repeat(np.arange(6), 10)
    hog_lda = HogLda((80,), (1.0,), shrinkage=1.0)
    fitted = hog_lda.fit_transform(frames, sequence, tmp_path, True, None, extent)
    again = hog_lda.transform(frames, False, extent)
    np.testing.assert_allclose(again, fitted[:60], atol=1e-4)
    np.testing.assert_allclose(hog_lda.transform(frames, True, extent), fitted[60:], atol=1e-4)
    changed = noisy_frames(60, 2, 80)
    # A cell of 8 is divided by the energy of the cells beside it, which collect pixels, and their
    # differences, up to 5 further.
    changed[:, :, 18:62] = frames[:, :, 18:62]
    np.testing.assert_allclose(hog_lda.transform(changed, False, extent), again, atol=1e-5)
    moved = hog_lda.transform(changed, False) - hog_lda.transform(frames, False)
    assert np.abs(moved).max() > 0.01


def test_whole_frames_are_as_without_extent(tmp_path: Path) -> None:
    frames, sequence = noisy_frames(30, 4), np.repeat(np.arange(3), 10)
    results = []
    for number, extent in enumerate((None, np.ones((30, 2)))):
        hog_lda = HogLda((48,), (1.1,), shrinkage=1.0)
        place = tmp_path / str(number)
        place.mkdir()
        fitted = hog_lda.fit_transform(frames, sequence, place, False, None, extent)
        results += [np.array(fitted), hog_lda.transform(frames, False, extent)]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])


def test_bad_extent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="extent must have shape"):
        HogLda().fit_transform(noisy_frames(4, 0), np.arange(4), tmp_path, extent=np.ones((3, 2)))
