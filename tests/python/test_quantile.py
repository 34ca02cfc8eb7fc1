"""How strict cliques are, chosen without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from tiny_corpus import SMALL, write_figures

import cliquesim as cs
from cliquesim import pipeline
from cliquesim._files import load_json
from cliquesim.cliques.quantile import QUANTILES, TOLERANCE, explained_share, halves, strictest
from cliquesim.config import Config, make_config
from cliquesim.errors import InputError
from cliquesim.fusion import standardize
from cliquesim.parts import choose_quantile
from cliquesim.pool import Pool


@pytest.mark.parametrize("block", [3, 2048])
def test_the_share_equals_a_plain_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cliquesim.cliques.quantile._BLOCK", block)
    generator = np.random.default_rng(0)
    X = standardize(generator.standard_normal((9, 12)) + generator.standard_normal(12))
    cliques = [[0, 1, 2], [2, 3], [4, 5, 6, 7], [7, 0]]  # row 8 is in none
    C = sparse.csr_array(
        (np.ones(11), np.concatenate(cliques), np.cumsum([0, *map(len, cliques)])), shape=(4, 9)
    )
    shares = []
    for row in range(9):
        of_cliques = []
        for clique in cliques:
            if row in clique:
                mean = np.mean([X[other] for other in clique if other != row], axis=0)
                correlation = np.corrcoef(mean, X[row])[0, 1]
                of_cliques.append(np.sign(correlation) * correlation**2)
        shares.append(np.mean(of_cliques) if of_cliques else 0.0)
    assert explained_share(C, X) == pytest.approx(np.mean(shares), abs=1e-6)


def test_of_the_quantiles_near_the_top_the_strictest_is_taken() -> None:
    assert strictest([0.8, 0.9, 0.95, 0.98], [1.0, 0.99, 0.98, 0.9]) == 0.95
    assert strictest([0.8, 0.9, 0.95], [0.5, 1.0, (1 - TOLERANCE) - 1e-9]) == 0.9
    assert strictest([0.8, 0.9], [0.0, 0.2]) == 0.9


def test_the_halves_are_all_columns_once() -> None:
    first, second = halves(11, seed=3)
    assert (len(first), len(second)) == (5, 6)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(11))


def postures(count: int, noise: float = 1.0) -> tuple[NDArray[np.float32], Pool]:
    """Twenty sequences of 60 frames that go through `count` postures of equal share."""
    generator = np.random.default_rng(0)
    what, where = generator.standard_normal((count, 96)), generator.integers(count, size=20)
    sequence = np.repeat(np.arange(20), 60)
    seen = (where[sequence] + np.tile(np.arange(60) * count // 60, 20)) % count
    X = standardize(what[seen] + noise * generator.standard_normal((1200, 96)))
    rows = np.arange(1200)
    return X, Pool(rows, np.zeros(1200, bool), sequence, sequence, np.zeros(1200, np.int64))


SETTINGS = Config(mirror=False, teacher_pool_radius=0)


def test_fewer_postures_are_cut_less_strictly() -> None:
    found = {}
    for count in (5, 20, 60):
        X, pool = postures(count)
        found[count] = choose_quantile(X, pool, SETTINGS, 1, _ignore)
        assert found[count]["tried"] == list(QUANTILES)
        # Pairs of the same posture are 1 / count of all: stricter loses them, looser joins others.
        assert found[count]["quantile"] <= 1 - 1 / count + 0.05
    chosen = [found[count]["quantile"] for count in (5, 20, 60)]
    assert chosen == sorted(chosen)
    assert chosen[0] < 0.9 < 0.95 <= chosen[-1]
    assert found[5]["explained"][-1] < 0.7 * max(found[5]["explained"])


def test_noise_alone_explains_nothing() -> None:
    generator = np.random.default_rng(1)
    X, pool = postures(5)
    noise = standardize(generator.standard_normal(X.shape))
    shares = choose_quantile(noise, pool, SETTINGS, 1, _ignore)["explained"]
    assert (
        np.abs(shares).max()
        < 0.01
        < max(choose_quantile(X, pool, SETTINGS, 1, _ignore)["explained"])
    )
    opposite = np.zeros((12, 8), np.float32)
    rows = np.arange(12)
    alone = Pool(rows, np.zeros(12, bool), rows, rows, np.zeros(12, np.int64))
    with pytest.raises(InputError, match="clique_quantile=auto: no cliques"):
        choose_quantile(opposite, alone, SETTINGS, 1, _ignore)


def _ignore(_: float) -> None:
    pass


@pytest.mark.filterwarnings("ignore::cliquesim.BatchWarning", "ignore::cliquesim.CliqueWarning")
def test_a_run_chooses_once_and_keeps_the_choice(tmp_path: Path) -> None:
    corpus = cs.Corpus.from_folder(write_figures(tmp_path / "frames"), size=(48, 48))
    changes: dict[str, Any] = {**SMALL, "max_rounds": 2, "agreement": 1.0}
    fits = {
        quantile: make_config(changes={**changes, "clique_quantile": quantile})
        for quantile in ("auto", 0.8)
    }
    planned = pipeline.plan(corpus, tmp_path / "auto", fits["auto"])
    assert [one["name"] for one in planned["stages"]].index("quantile") == 2
    pipeline.fit(corpus, tmp_path / "auto", fits["auto"], num_threads=1)
    chosen = load_json(tmp_path / "auto/quantile/stage.json")["summary"]
    assert chosen["quantile"] == strictest(chosen["tried"], chosen["explained"])
    # The same run as with the number, and the choice is not made again.
    number = make_config(changes={**changes, "clique_quantile": chosen["quantile"]})
    pipeline.fit(corpus, tmp_path / "number", number, num_threads=1)
    np.testing.assert_array_equal(
        np.load(tmp_path / "auto/embedding/embedding.npy"),
        np.load(tmp_path / "number/embedding/embedding.npy"),
    )
    assert not (tmp_path / "number/quantile").exists()
    before = (tmp_path / "auto/quantile/stage.json").stat().st_mtime_ns
    pipeline.fit(corpus, tmp_path / "auto", fits["auto"], num_threads=1)
    assert (tmp_path / "auto/quantile/stage.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="clique_quantile"):
        make_config(changes={"clique_quantile": "strict"})
