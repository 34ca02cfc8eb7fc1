"""Networks: layers, the gradient front end, and what lies outside a frame's extent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_training import SMALL

from cliquesim import _core
from cliquesim.errors import InputError
from cliquesim.training import (
    AlexNet,
    AugmentationConfig,
    CompactNet,
    GradientFrontEnd,
    TrainingConfig,
    backbones,
    embed,
    sample_augmentation,
    train,
)
from cliquesim.training.backbones import fade_surroundings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("window", [1, 5, 17, 99])
def test_gradients_are_made_in_cpp_as_in_torch(window, level, monkeypatch):
    monkeypatch.setattr(backbones, "_core", _core.load_level(level))
    front = GradientFrontEnd(window=window)
    for shape in ((3, 3, 33, 41), (2, 3, 1, 4), (1, 3, 2, 1), (0, 3, 9, 9)):
        images = torch.rand(shape)
        extent = torch.rand(shape[0], 2) * 0.6 + 0.5  # some of them the whole frame
        for share in (None, extent.clamp_max(1.0)):
            torch.set_num_threads(2)
            found = backbones.seen_by_network(front, images, share)
            torch.set_num_threads(1)
            assert found.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(found, backbones.seen_by_network(front, images, share))
            with torch.enable_grad():
                asked = images.clone().requires_grad_()
                expected = backbones.seen_by_network(front, asked, share)
            assert expected.requires_grad
            torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=3e-5)


def test_gradient_front_end_equals_a_plain_one():
    image = np.random.default_rng(0).random((9, 11, 3))
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    best = np.argmax(dx**2 + dy**2, axis=2)[..., None]
    dx, dy = (np.take_along_axis(d, best, 2)[..., 0] for d in (dx, dy))
    magnitude, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    expected = np.empty((3, 9, 11))
    for i in range(9):
        for j in range(11):
            window = (slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3))
            rms = math.sqrt((magnitude[window] ** 2).mean() + 0.02**2)
            m, a = magnitude[i, j] / rms, angle[i, j]
            expected[:, i, j] = m, m * math.cos(2 * a), m * math.sin(2 * a)
    front = GradientFrontEnd(window=5)
    out = front(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].numpy()
    np.testing.assert_allclose(out, expected, atol=2e-5)
    negative = front(1 - torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].numpy()
    np.testing.assert_allclose(negative, expected, atol=2e-4)


@pytest.mark.parametrize("lrn", ["before_pool", "after_pool"])
def test_alexnet_has_the_papers_layers(lrn):
    net = AlexNet(lrn=lrn).eval()
    assert sum(p.numel() for n, p in net.named_parameters() if "fc" not in n) == 2_334_080
    with torch.inference_mode():
        fc6, fc7 = (net.embed(torch.rand(1, 3, 227, 227), layer) for layer in ("fc6", "fc7"))
    assert fc6.shape == fc7.shape == (1, 4096)
    with pytest.raises(InputError, match="'fc6', 'fc7'"):
        net.embed(torch.rand(1, 3, 227, 227), "fc8")


def test_compact_net_layers():
    net = CompactNet(64).eval()
    with torch.inference_mode():
        assert net.embed(torch.rand(2, 3, 64, 64)).shape == (2, 256)
        assert net.embed(torch.rand(2, 3, 64, 64), "conv").shape == (2, 128 * 16)


def test_surroundings_fade_before_the_network_sees_them():
    extent = torch.tensor([[0.5, 1.0], [1.0, 0.25], [1.0, 1.0]])
    found = fade_surroundings(torch.ones(3, 2, 40, 40), extent, softness=0.2)
    centre = ((torch.arange(40) + 0.5) / 20 - 1).abs()
    line = ((0.5 - centre) / 0.2 + 1).clamp(0, 1)
    assert torch.allclose(found[0], line.expand(2, 40, 40))  # along x; nothing outside along y
    line = ((0.25 - centre) / 0.2 + 1).clamp(0, 1)
    assert torch.allclose(found[1], line[:, None].expand(2, 40, 40))
    assert (found[2] == 1).all()


@pytest.mark.parametrize("network", [CompactNet(64), CompactNet(64, front_end="rgb")])
def test_a_network_is_blind_outside_the_extent(network):
    images = torch.rand(2, 3, 64, 64)
    other = torch.rand(2, 3, 64, 64)
    other[:, :, 3:61, 13:51] = images[:, :, 3:61, 13:51]
    extent = torch.tensor([[0.2, 0.5]]).expand(2, 2)
    # Light and contrast are evened out over 8 pixels, the gradient needs one, the edge is 3.2 wide.
    with torch.inference_mode():
        network.eval()
        seen, same = (network.embed(one, extent=extent) for one in (images, other))
        whole, changed = (network.embed(one) for one in (images, other))
    assert torch.allclose(seen, same, atol=1e-5)
    assert not torch.allclose(whole, changed, atol=1e-3)


def test_surroundings_begin_at_the_extent():
    config = AugmentationConfig(background=1.0, background_radius=(0.8, 1.2))
    extent = torch.rand(50, 2) * 0.9 + 0.1
    plain, narrow = (
        sample_augmentation(50, config, torch.Generator().manual_seed(0), None, one)
        for one in (None, extent)
    )
    assert torch.allclose(narrow.ellipse, plain.ellipse * extent)
    assert torch.equal(narrow.affine, plain.affine)
    assert torch.equal(narrow.other, plain.other)


def test_surroundings_can_be_replaced_only_where_there_is_no_box():
    def replaced(config, extent):
        drawn = sample_augmentation(2000, config, torch.Generator().manual_seed(0), None, extent)
        return drawn.ellipse.isfinite().all(1)

    extent = torch.ones(2000, 2)
    extent[:1000, 0] = 0.9
    found = replaced(AugmentationConfig(background=None), extent)
    assert not found[:1000].any()
    assert 0.65 < float(found[1000:].float().mean()) < 0.75
    assert torch.equal(replaced(AugmentationConfig(background=None), None)[1000:], found[1000:])
    asked = replaced(AugmentationConfig(background=0.7), extent)
    assert 0.65 < float(asked[:1000].float().mean()) < 0.75
    assert not replaced(AugmentationConfig(background=0.0), None).any()


def test_extent_changes_what_is_learned_and_embedded(toy):
    frames, cliques = toy[0], toy[1]
    narrow = np.tile(np.float32([0.5, 1]), (len(frames), 1))
    config = TrainingConfig(**SMALL)
    ways = [train(frames, cliques, config=config, extent=e).model for e in (None, narrow)]
    assert not np.allclose(embed(ways[0], frames), embed(ways[1], frames))
    assert not np.allclose(embed(ways[1], frames), embed(ways[1], frames, extent=narrow))
    ones = train(frames, cliques, config=config, extent=np.ones_like(narrow)).model
    np.testing.assert_array_equal(embed(ways[0], frames), embed(ones, frames))
    with pytest.raises(InputError, match="extent must have shape"):
        embed(ways[0], frames, extent=narrow[1:])
