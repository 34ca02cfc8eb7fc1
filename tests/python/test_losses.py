"""The losses of a step against plain references, in value and in gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cliquesim.training import (
    global_softmax_loss,
    restricted_softmax_loss,
    supervised_contrastive_loss,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def _draw(seed, m=24, r=5, n_cliques=11, dim=7):
    rng = np.random.default_rng(seed)
    cliques = rng.choice(n_cliques, r, replace=False)
    return (
        rng.normal(size=(m, dim)),
        rng.normal(size=(n_cliques, dim)),
        rng.normal(size=n_cliques),
        cliques,
        np.arange(m) % r,
    )


def _reference_softmax(features, weight, bias, target, allowed, smoothing, scale=None):
    if scale is not None:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    logits = (scale or 1) * (features @ weight.T) + bias
    logits[:, ~allowed] = -np.inf
    shift = logits.max(1, keepdims=True)
    log_p = logits - shift - np.log(np.exp(logits - shift).sum(1, keepdims=True))
    own = log_p[np.arange(len(target)), target]
    return np.mean(-(1 - smoothing) * own - smoothing * log_p[:, allowed].mean(1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("scale", [None, 8.0])
def test_softmax_losses_equal_the_plain_ones(seed, smoothing, scale):
    values = _draw(seed)
    tensors = [torch.from_numpy(v) for v in values]
    features, weight, bias, cliques, labels = values
    in_batch = np.isin(np.arange(len(weight)), cliques)
    everything = np.ones(len(weight), bool)
    for loss, allowed in ((restricted_softmax_loss, in_batch), (global_softmax_loss, everything)):
        target = cliques[labels]
        expected = _reference_softmax(features, weight, bias, target, allowed, smoothing, scale)
        assert float(loss(*tensors, smoothing, scale)) == pytest.approx(expected, abs=1e-9)
        unbiased = _reference_softmax(features, weight, 0 * bias, target, allowed, smoothing, scale)
        without = [None if v is tensors[2] else v for v in tensors]
        assert float(loss(*without, smoothing, scale)) == pytest.approx(unbiased, abs=1e-9)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_restricted_softmax_moves_only_its_cliques(scale):
    features, weight, bias, cliques, labels = [torch.from_numpy(v) for v in _draw(1)]
    weight.requires_grad_()
    loss = restricted_softmax_loss(features, weight, bias, cliques, labels, cosine_scale=scale)
    loss.backward()
    moved = np.flatnonzero(weight.grad.abs().sum(1).numpy())
    assert sorted(moved) == sorted(cliques.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_contrastive_loss_equals_the_double_loop(seed):
    rng = np.random.default_rng(seed)
    X, labels = rng.normal(size=(20, 6)), rng.integers(0, 6, 20)
    same = rng.random((20, 20)) < 0.2
    ignored = rng.random((20, 20)) < 0.1
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    total, n = 0.0, 0
    for i in range(20):
        positives = [j for j in range(20) if j != i and labels[j] == labels[i]]
        if not positives:
            continue
        terms = {}
        for j in range(20):
            if j == i or (ignored[i, j] and labels[j] != labels[i]):
                continue
            extra = 1.0 if same[i, j] and labels[j] != labels[i] else 0.0
            terms[j] = unit[i] @ unit[j] / 0.3 + extra
        norm = math.log(sum(math.exp(t) for t in terms.values()))
        total -= np.mean([terms[j] - norm for j in positives])
        n += 1
    loss = supervised_contrastive_loss(
        torch.from_numpy(X),
        torch.from_numpy(labels),
        0.3,
        same_sequence=torch.from_numpy(same),
        boost=1.0,
        ignored=torch.from_numpy(ignored),
    )
    assert float(loss) == pytest.approx(total / n, rel=1e-5)


def test_contrastive_loss_has_a_finite_gradient_without_positives():
    X = torch.randn(4, 3, requires_grad=True)
    loss = supervised_contrastive_loss(X, torch.arange(4))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(X.grad).all()
