"""Optimisers and the learning rate against formulas: AdaGrad (Sect. 3.1), Eq. (8)'s momentum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cliquesim.training import TrainingConfig
from cliquesim.training.optimizers import build_optimizer, learning_rate

pytestmark = pytest.mark.usefixtures("one_thread")


def _one_parameter(config, gradients):
    module = torch.nn.Linear(3, 2)
    start = module.weight.detach().numpy().astype(np.float64)
    optimizer = build_optimizer(config, [module])
    for gradient in gradients:
        module.weight.grad = torch.from_numpy(gradient).float()
        module.bias.grad = torch.zeros(2)
        optimizer.step()
    return start, module.weight.detach().numpy()


def test_adagrad_equals_the_formula():
    gradients = np.random.default_rng(0).normal(size=(5, 2, 3))
    config = TrainingConfig.paper()
    weight, result = _one_parameter(config, gradients)
    assert (config.learning_rate, config.epsilon, config.batch_size) == (0.001, 1e-4, 128)
    total = np.zeros((2, 3))
    for g in gradients:
        total += g * g
        weight = weight - 0.001 * g / (np.sqrt(total) + 1e-4)
    np.testing.assert_allclose(result, weight, atol=1e-6)


def test_momentum_equals_equation_8():
    gradients = np.random.default_rng(0).normal(size=(5, 2, 3))
    config = TrainingConfig(optimizer="sgd", learning_rate=0.1, momentum=0.8, weight_decay=0.01)
    weight, result = _one_parameter(config, gradients)
    velocity = np.zeros((2, 3))
    for g in gradients:
        velocity = 0.8 * velocity - 0.1 * (g + 0.01 * weight)
        weight = weight + velocity
    np.testing.assert_allclose(result, weight, atol=1e-6)


def test_one_cycle_rises_and_falls():
    config = TrainingConfig(steps=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[0] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] < 0.01
