"""What a step sees: cliques of selected batches, and frames neither alike nor unlike."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from toy_training import SMALL

from cliquesim.errors import InputError
from cliquesim.training import TrainingConfig, train
from cliquesim.training import config as training_config
from cliquesim.training.sampling import CliqueSampler

pytestmark = pytest.mark.usefixtures("one_thread")


def test_steps_follow_the_cliques(toy, monkeypatch):
    frames, cliques, _ = toy
    assert TrainingConfig().with_steps(5).n_steps == 1200
    assert TrainingConfig(batch_size=100).with_steps(20_000).n_steps == 2000
    assert TrainingConfig(steps=7).with_steps(20_000).n_steps == 7
    with pytest.raises(InputError, match="not known before"):
        _ = TrainingConfig().n_steps
    monkeypatch.setattr(training_config, "_LEAST_STEPS", 2)
    result = train(frames, cliques, config=TrainingConfig(**SMALL))
    assert len(result.loss) == result.model.config.steps == 10 * 24 / 16


def test_sampler_draws_from_the_selected_batches():
    rng = np.random.default_rng(0)
    membership = sp.csr_array((rng.random((12, 40)) < 0.2) | np.eye(12, 40, dtype=bool))
    X = np.zeros((3, 12), bool)
    X[0, :5], X[1, 5:9], X[2, 9:] = True, True, True
    config = TrainingConfig(batch_size=24, images_per_clique=4)
    sampler = CliqueSampler(membership, X, None, config)
    seen = []
    for step in range(6):
        draw = sampler.draw(step)
        assert draw.rows.shape == draw.labels.shape == (24,)
        assert membership.toarray()[draw.cliques[draw.labels], draw.rows].all()
        seen.append(next(b for b in range(3) if X[b, draw.cliques].all()))
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]
    again = sampler.draw(5)
    np.testing.assert_array_equal(again.rows, draw.rows)


def test_sparse_batches_are_the_dense_ones():
    membership = sp.csr_array(np.kron(np.eye(6), np.ones(3)))
    X = np.random.default_rng(0).random((5, 6)) < 0.5
    X[:, :2] = True
    config = TrainingConfig(**SMALL)
    dense = CliqueSampler(membership, X, None, config)
    sparse = CliqueSampler(membership, sp.csr_array(X), None, config)
    for step in range(10):
        one, other = dense.draw(step), sparse.draw(step)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.cliques, other.cliques)
    with pytest.raises(InputError, match="two cliques in row 1"):
        CliqueSampler(
            membership, sp.csr_array(np.eye(6) + (np.arange(6) == 0)[:, None]), None, config
        )


def test_random_batches_stay_within_a_category():
    membership = sp.csr_array(np.kron(np.eye(8), np.ones(3)))
    category = np.repeat([7, 9], 12)
    config = TrainingConfig(batch_size=12, images_per_clique=3)
    sampler = CliqueSampler(membership, None, category, config)
    drawn = [set(category[sampler.draw(step).rows]) for step in range(20)]
    assert all(len(d) == 1 for d in drawn)
    assert set.union(*drawn) == {7, 9}


def test_overlapping_cliques_are_neither_positive_nor_negative():
    membership = sp.csr_array(np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]))
    config = TrainingConfig(batch_size=9, images_per_clique=3)
    sampler = CliqueSampler(membership, np.ones((1, 3), bool), None, config)
    draw = sampler.draw(0)
    overlaps = sampler.overlaps(draw)
    dense = membership.toarray()[draw.cliques]
    for i in range(9):
        for j in range(9):
            a, b = draw.labels[i], draw.labels[j]
            shared = dense[a, draw.rows[j]] or dense[b, draw.rows[i]]
            assert overlaps[i, j] == (a != b and bool(shared))
