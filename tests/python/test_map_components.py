"""The principal components of a network's last map as features beside its trained layer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from toy_training import SMALL

from cliquesim.errors import InputError
from cliquesim.fusion import standardize
from cliquesim.training import EmbeddingModel, TrainingConfig, embed, train
from cliquesim.training.map_components import principal_components

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (8, 8), (1, 5)])
@pytest.mark.parametrize("count", [3, 100])
def test_principal_components_are_those_of_the_singular_values(shape, count):
    rows = np.random.default_rng(0).normal(2, 1, shape).astype(np.float32)
    mean, components = principal_components(rows, count)
    rank = min(shape[0] - 1, shape[1])
    assert components.shape == (min(count, rank), shape[1])
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-6)
    expected = np.linalg.svd(rows - rows.mean(0))[2][: len(components)]
    turned = np.sign((components * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(components * turned, expected, atol=1e-3)


def test_equal_rows_have_no_components():
    assert principal_components(np.ones((4, 6), np.float32), 3)[1].shape == (0, 6)


def test_a_trained_embedding_is_the_trained_layer_and_the_maps_components(toy, tmp_path):
    frames, cliques, _ = toy
    config = TrainingConfig(**SMALL, steps=4, map_components=5, precision="float32")
    model = train(frames, cliques, config=config).model
    plain = standardize(embed(model, frames, layer="fc"))
    conv = embed(model, frames, layer="conv")
    left, right = np.split(embed(model, frames), [16], axis=1)
    np.testing.assert_allclose(left, plain * (2 / 3) ** 0.5, atol=1e-5)
    # As there is no pool, the components are those of these frames.
    centred = conv - conv.mean(0)
    expected = centred @ np.linalg.svd(centred)[2][:5].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(right @ right.T, expected @ expected.T / 3, atol=1e-4)

    model.save(tmp_path / "model.safetensors")
    loaded = EmbeddingModel.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(embed(loaded, frames), embed(model, frames))
    again = train(frames, cliques, config=config, initial=loaded).model
    assert embed(again, frames).shape == (24, 21)
    alone = dataclasses.replace(config, map_components=0)
    np.testing.assert_array_equal(
        embed(train(frames, cliques, config=alone).model, frames),
        embed(model, frames, layer="fc"),
    )
    with pytest.raises(InputError, match="map_components"):
        dataclasses.replace(config, map_components=-1)


def test_components_see_both_sides_of_the_pool(toy):
    frames, _, _ = toy
    config = TrainingConfig(**SMALL, steps=2, map_components=5)
    pool = np.stack([np.tile(np.arange(24), 2), np.repeat([0, 1], 24)], axis=1)
    cliques = sp.csr_array(np.kron(np.eye(6), np.ones(8)))
    model = train(frames, cliques, pool=pool, config=config).model
    sides = [embed(model, frames, flip=side, layer="conv") for side in (False, True)]
    mean = model.backbone.get_buffer("map_mean").numpy()
    np.testing.assert_allclose(mean, np.concatenate(sides).mean(0), atol=1e-5)
