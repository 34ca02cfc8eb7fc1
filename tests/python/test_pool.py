"""The pool that cliques are made of, above all what counts as a sequence where there are few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import SMALL, write_figures

import cliquesim as cs
from cliquesim import pipeline
from cliquesim.config import make_config
from cliquesim.pool import Pool, pieces
from cliquesim.report.run import report_run
from cliquesim.search import search_files
from cliquesim.stages import load_cliques

LEAST = 8


def test_enough_sequences_stay_as_they_are() -> None:
    sequence = np.repeat(np.arange(16), 100)
    category = np.repeat([0, 1], 800)
    np.testing.assert_array_equal(pieces(sequence, category, LEAST), sequence)
    np.testing.assert_array_equal(pieces(sequence, category, 0), sequence)
    assert len(np.unique(pieces(sequence, category, 9))) > 16


@pytest.mark.parametrize(
    ("frames", "expected"), [(15, 1), (31, 1), (32, 2), (160, 10), (795, 31), (100_000, 32)]
)
def test_one_sequence_is_cut_into_equal_stretches_of_time(frames: int, expected: int) -> None:
    found = pieces(np.zeros(frames, np.int64), np.zeros(frames, np.int64), LEAST)
    assert (np.diff(found) >= 0).all()
    lengths = np.bincount(found)
    assert len(lengths) == expected
    assert np.ptp(lengths) <= 1
    assert lengths.min() >= 15


def test_only_categories_with_few_sequences_are_cut() -> None:
    sequence = np.concatenate([np.repeat(np.arange(8), 40), np.repeat([8, 9], [200, 20])])
    category = np.repeat([0, 1], [320, 220])
    found = pieces(sequence, category, LEAST)
    assert len(np.unique(found[category == 0])) == 8
    long, short = (np.unique(found[sequence == one]) for one in (8, 9))
    assert len(long) == 12
    assert len(short) == 1
    assert len(np.unique(found)) == 8 + 12 + 1  # numbers are not shared


def test_mirror_images_are_of_the_same_piece_and_windows_of_whole_sequences(
    tmp_path: Path,
) -> None:
    corpus = cs.Corpus.from_folder(write_figures(tmp_path, sequences=1, frames=40), size=(48, 48))
    pool = Pool.of(corpus, make_config(changes={"least_sequences": LEAST}))
    assert len(np.unique(pool.sequence)) == 2
    np.testing.assert_array_equal(pool.sequence[:40], pool.sequence[40:])
    np.testing.assert_array_equal(pool.run, np.repeat([0, 1], 40))


def test_one_folder_of_frames_can_be_learned_from(tmp_path: Path) -> None:
    frames = write_figures(tmp_path / "frames", sequences=1, frames=160) / "s00"
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    config = make_config(changes=SMALL)
    with pytest.warns(cs.CliqueWarning, match=r"the 1 sequence\(s\) count as 10"):
        fitted = pipeline.fit(corpus, tmp_path / "run", config, num_threads=1)
    assert fitted.summary["sequences"] == 1
    cliques = load_cliques(tmp_path / "run/round-1/cliques", 2 * len(corpus)).membership
    sequence = Pool.of(corpus, config).sequence
    for members in np.split(cliques.indices, cliques.indptr[1:-1]):
        assert len(np.unique(sequence[members])) == len(members)
    # Neighbours are looked for in other pieces, too.
    found = search_files(tmp_path / "run", [frames / "000.png"], k=8, per_sequence=1)
    rows = [hit["row"] for hit in found["queries"][0]["neighbors"]]
    assert rows[0] == 0
    assert len(np.unique(sequence[rows])) == len(rows) == 8
    page = report_run(tmp_path / "run").read_text(encoding="utf-8")
    assert "own piece of its sequence is left out" in page
    assert "tell sequences apart" not in page


@pytest.mark.filterwarnings("ignore::cliquesim.BatchWarning")
def test_a_category_with_too_few_sequences_does_not_stop_the_others(tmp_path: Path) -> None:
    frames = write_figures(tmp_path / "frames", categories=2, sequences=8)
    for extra in sorted((frames / "c1").iterdir())[2:]:
        for picture in extra.iterdir():
            picture.unlink()
        extra.rmdir()
    corpus = cs.Corpus.from_folder(frames, size=(48, 48))
    with pytest.warns(cs.CliqueWarning, match="1 of 2 categories have too few sequences for a"):
        pipeline.fit(corpus, tmp_path / "run", make_config(changes=SMALL), num_threads=1)
    cliques = load_cliques(tmp_path / "run/round-1/cliques", 2 * len(corpus))
    assert set(cliques.part) == {0}
    assert len(np.load(tmp_path / "run/embedding/embedding.npy")) == len(corpus) == 100
