"""Batch norm and ReLU in C++ against torch's: values, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from toy_training import SMALL

from cliquesim import _core
from cliquesim.training import CompactNet, TrainingConfig, _normalisation, train
from cliquesim.training._normalisation import NormalisedRelu

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(4, 43, 9, 7), (2, 1, 1, 1), (1, 8, 1, 2), (3, 32, 40, 24), (5, 256, 3, 3)]


def _norm(channels: int) -> NormalisedRelu:
    norm = NormalisedRelu(channels, momentum=0.3)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        norm.running_mean.normal_()
    return norm


def _by_torch(norm, x):
    return F.relu(torch.nn.BatchNorm2d.forward(norm, x))


def _run(norm, x, above, ours):
    """Output, gradients of maps, weight and bias, running statistics."""
    norm, x = copy.deepcopy(norm), x.clone().requires_grad_()
    y = norm(x) if ours else _by_torch(norm, x)
    y.backward(above)
    return [
        y.detach(),
        x.grad,
        norm.weight.grad,
        norm.bias.grad,
        norm.running_mean,
        norm.running_var,
        norm.num_batches_tracked,
    ]


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_torchs(shape, dtype, level, monkeypatch):
    monkeypatch.setattr(_normalisation, "_core", _core.load_level(level))
    torch.manual_seed(0)
    norm = _norm(shape[1])
    x = (torch.randn(shape) * 2 + 1).to(dtype)
    above = torch.randn(shape).to(dtype)
    if shape[2] > 1:
        x = x.contiguous(memory_format=torch.channels_last)
    found = _run(norm, x, above, ours=True)
    # What torch makes of float64, from the same numbers; ReLU's corner is no number's place.
    expected = _run(copy.deepcopy(norm).double(), x.double(), above.double(), ours=False)
    rounding = 1e-4 if dtype == torch.float32 else 2e-2
    for one, other, close in zip(
        found, expected, (rounding,) * 2 + (2e-3,) * 4 + (0,), strict=True
    ):
        torch.testing.assert_close(one.double(), other.double(), rtol=close, atol=close)
    torch.set_num_threads(2)
    again = _run(norm, x, above, ours=True)
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_channels_that_hardly_vary_far_from_zero_keep_their_variance():
    x = 1000 + 0.1 * torch.randn(64, 3, 20, 20)
    norm = NormalisedRelu(3, momentum=1.0)
    norm(x)
    torch.testing.assert_close(
        norm.running_var.double(), x.double().var((0, 2, 3)), rtol=1e-3, atol=0
    )


def test_what_is_not_a_number_stays_so():
    x = torch.randn(2, 3, 4, 4)
    x[0, 1, 2, 2] = torch.nan
    y = NormalisedRelu(3)(x)
    assert torch.isnan(y[:, 1]).all()
    assert torch.isfinite(y[:, [0, 2]]).all()


def test_other_cases_are_torchs():
    norm = _norm(3).eval()
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(norm(x), _by_torch(norm, x))
    without = NormalisedRelu(3, track_running_stats=False)
    assert torch.equal(without(x), _by_torch(without, x))
    double = NormalisedRelu(3).double()
    y = copy.deepcopy(double)(x.double())
    assert torch.equal(y, _by_torch(double, x.double()))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm.train()(x[:1, :, :1, :1])


def test_a_network_in_training_uses_it(toy, monkeypatch):
    calls = []
    plain = _normalisation._core.normalise_and_rectify
    monkeypatch.setattr(
        _normalisation._core,
        "normalise_and_rectify",
        lambda *arguments: (calls.append(arguments[0].shape), plain(*arguments)),
    )
    frames, cliques, _ = toy
    train(frames, cliques, config=TrainingConfig(**SMALL, steps=1))
    assert calls == [(16 * 16 * 16, 4), (16 * 8 * 8, 8)]
    calls.clear()
    with torch.no_grad():
        CompactNet(32, (4, 8)).eval()(torch.rand(2, 3, 32, 32))
    assert not calls
