"""Training: losses against plain references, augmentation, optimisers, resuming, a small run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from cliquesim import _core  # noqa: E402
from cliquesim.errors import InputError, RunError  # noqa: E402
from cliquesim.fusion import standardize  # noqa: E402
from cliquesim.training import (  # noqa: E402  # noqa: E402
    AlexNet,
    AugmentationConfig,
    CompactNet,
    EmbeddingModel,
    GradientFrontEnd,
    TrainingConfig,
    augment,
    augmentation,
    backbones,
    embed,
    global_softmax_loss,
    restricted_softmax_loss,
    sample_augmentation,
    supervised_contrastive_loss,
    train,
)
from cliquesim.training import config as training_config  # noqa: E402
from cliquesim.training.augmentation import augment_frames  # noqa: E402
from cliquesim.training.backbones import fade_surroundings  # noqa: E402
from cliquesim.training.map_components import principal_components  # noqa: E402
from cliquesim.training.optimizers import build_optimizer, learning_rate  # noqa: E402
from cliquesim.training.pixels import as_floats  # noqa: E402
from cliquesim.training.sampling import CliqueSampler  # noqa: E402

SMALL = {
    "image_size": 32,
    "channels": (4, 8),
    "embedding_dim": 16,
    "batch_size": 16,
    "images_per_clique": 4,
    "cliques_per_batch": 4,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny networks gain nothing from a second thread, and bits depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def toy():
    """24 frames: 6 cliques of 4, each a bar at its own angle on a noisy background."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:40, :40] - 19.5
    frames = []
    for clique in range(6):
        for _ in range(4):
            angle = np.pi * clique / 6 + rng.normal(0, 0.05)
            bar = np.abs(x * np.sin(angle) - y * np.cos(angle)) < 3
            color, back = rng.integers(0, 256, (2, 3))
            frames.append(np.where(bar[..., None], color, back) + rng.normal(0, 8, (40, 40, 3)))
    pixels = np.clip(frames, 0, 255).astype(np.uint8)
    return pixels, sp.csr_array(np.kron(np.eye(6), np.ones(4))), np.arange(24) % 4


# --- losses ---


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


# --- augmentation ---


def _images(n=6, side=24, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_no_strength_changes_nothing():
    images, config = _images(), AugmentationConfig.none()
    sample = sample_augmentation(6, config, torch.Generator().manual_seed(0))
    assert torch.equal(augment(images, sample, config), images)


def test_flip_alone_mirrors_exactly():
    images, config = _images(), AugmentationConfig.none()
    flip = torch.tensor([True, False] * 3)
    sample = sample_augmentation(6, config, torch.Generator().manual_seed(0), flip)
    changed = augment(images, sample, config)
    assert torch.equal(changed[0], images[0].flip(2))
    assert torch.equal(changed[1], images[1])


def test_flip_comes_before_the_geometry():
    config = AugmentationConfig(erasing=0, background=0, translation=0.2, rotation=20, shear=5)
    images, flip = _images(), torch.ones(6, dtype=torch.bool)
    plain = sample_augmentation(6, config, torch.Generator().manual_seed(4))
    flipped = sample_augmentation(6, config, torch.Generator().manual_seed(4), flip)
    expected = augment(images.flip(3), plain, config)
    assert torch.allclose(augment(images, flipped, config), expected, atol=1e-5)


def test_translation_moves_by_its_share_of_the_side():
    config = AugmentationConfig(translation=0.25, log_scale=0, rotation=0, erasing=0, background=0)
    sample = sample_augmentation(6, config, torch.Generator().manual_seed(0))
    assert sample.affine[:, :, 2].abs().max() <= 0.5
    sample.affine[:, :, 2] = torch.tensor([0.5, 0.0])  # coordinates in [-1, 1]: a quarter
    images = _images()
    assert torch.allclose(augment(images, sample, config)[..., :18], images[..., 6:], atol=1e-5)


def test_surroundings_come_from_another_frame_and_the_middle_stays():
    config = AugmentationConfig(
        translation=0, log_scale=0, rotation=0, erasing=0, background=1.0, background_softness=0.01
    )
    images = torch.stack([torch.full((3, 24, 24), i / 10) for i in range(6)])
    sample = sample_augmentation(6, config, torch.Generator().manual_seed(0))
    changed = augment(images, sample, config)
    assert (sample.other != torch.arange(6)).all()
    assert torch.allclose(changed[:, :, 12, 12], images[:, :, 12, 12])
    assert torch.allclose(changed[:, :, 0, 0], images[sample.other][:, :, 0, 0])


def test_erasing_hits_its_share_of_the_frames():
    config = AugmentationConfig(translation=0, log_scale=0, rotation=0, erasing=0.3, background=0)
    images = _images(400)
    sample = sample_augmentation(400, config, torch.Generator().manual_seed(0))
    changed = (augment(images, sample, config) != images).any(1).flatten(1)
    assert 0.2 < changed.any(1).float().mean() < 0.4
    area = changed.float().mean(1)[changed.any(1)]
    assert area.min() > 0.005
    assert area.max() < 0.25


def test_same_seed_same_changes_other_seed_others():
    config = AugmentationConfig.paper()
    images = _images()
    a, b, c = (
        augment(images, sample_augmentation(6, config, torch.Generator().manual_seed(s)), config)
        for s in (5, 5, 6)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


AUGMENTATIONS = {
    "default": AugmentationConfig(),
    "paper": AugmentationConfig.paper(),
    "none": AugmentationConfig.none(),
    "all": dataclasses.replace(
        AugmentationConfig.paper(), shear=10.0, erasing=1.0, background=1.0, translation=0.4
    ),
}


@pytest.mark.parametrize("level", _core.runnable_levels())
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_frames_are_augmented_in_cpp_as_in_torch(name, level, monkeypatch):
    monkeypatch.setattr(augmentation, "_core", _core.load_level(level))
    config = AUGMENTATIONS[name]
    frames = torch.randint(0, 256, (7, 3, 37, 29), dtype=torch.uint8)
    for seed in range(5):
        flip = torch.arange(7) % 2 == seed % 3
        drawn = sample_augmentation(
            7, config, torch.Generator().manual_seed(seed), flip, torch.rand(7, 2) + 0.01
        )
        expected = augment(as_floats(frames), drawn, config)
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for given in (frames, frames.contiguous(memory_format=torch.channels_last)):
                found.append(augment_frames(given, drawn, config))
        torch.set_num_threads(1)
        assert all(torch.equal(one, found[0]) for one in found)
        torch.testing.assert_close(found[0], expected, rtol=0, atol=3e-5)


def test_frames_of_one_pixel_and_none_at_all():
    config = AUGMENTATIONS["all"]
    for shape in ((1, 3, 1, 1), (3, 3, 1, 5), (0, 3, 8, 8)):
        drawn = sample_augmentation(shape[0], config, torch.Generator().manual_seed(0))
        frames = torch.full(shape, 51, dtype=torch.uint8)
        found = augment_frames(frames, drawn, config)
        assert found.shape == shape
        if shape[0]:
            torch.testing.assert_close(found, augment(as_floats(frames), drawn, config))


# --- networks ---


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


# --- optimisers ---


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


# --- what a step sees ---


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


# --- training ---


def _weights(result):
    return {k: v.clone() for k, v in result.model.backbone.state_dict().items()}


def _assert_same(a, b):
    np.testing.assert_array_equal(a.loss, b.loss)
    for (name, x), y in zip(_weights(a).items(), _weights(b).values(), strict=True):
        assert torch.equal(x, y), name


def test_only_a_softmax_of_cosines_differs_from_trainings_before_it():
    counts = {
        (loss, scale): TrainingConfig(loss=loss, cosine_scale=scale).what_counts()
        for loss in ("contrastive", "softmax")
        for scale in (8.0, None)
    }
    assert counts["contrastive", 8.0] == counts["contrastive", None]
    assert counts["softmax", 8.0] == TrainingConfig(loss="softmax").to_dict()
    assert set(counts["softmax", 8.0]) - set(counts["softmax", None]) == {"cosine_scale"}
    assert "cosine_scale" not in counts["contrastive", 8.0]


def test_the_scale_of_cosines_reaches_the_softmax_alone(toy):
    frames, cliques, _ = toy
    losses = {
        (loss, scale): train(
            frames, cliques, config=TrainingConfig(**SMALL, steps=3, loss=loss, cosine_scale=scale)
        ).loss
        for loss in ("contrastive", "softmax")
        for scale in (8.0, 4.0, None)
    }
    np.testing.assert_array_equal(losses["contrastive", 8.0], losses["contrastive", None])
    assert len({tuple(losses["softmax", scale]) for scale in (8.0, 4.0, None)}) == 3
    with pytest.raises(InputError, match="cosine_scale"):
        TrainingConfig(cosine_scale=0.0)


@pytest.mark.parametrize("loss", ["contrastive", "softmax"])
def test_a_seed_repeats(toy, loss):
    frames, cliques, sequence = toy
    config = TrainingConfig(**SMALL, steps=6, loss=loss)
    before = torch.get_rng_state()
    a = train(frames, cliques, config=config, sequence=sequence)
    torch.rand(3)
    b = train(frames, cliques, config=config, sequence=sequence)
    _assert_same(a, b)
    torch.set_rng_state(before)
    c = train(frames, cliques, config=TrainingConfig(**SMALL, steps=6, loss=loss, seed=1))
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state changed"
    assert not np.array_equal(a.loss, c.loss)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "loss": "softmax",
            "head": "global",
            "cosine_scale": None,
            "optimizer": "adagrad",
            "averaging": "none",
        },
        {"loss": "softmax", "optimizer": "sgd", "averaging": "swa"},
    ],
    ids=["default", "adagrad", "sgd"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(toy, tmp_path, settings):
    frames, cliques, sequence = toy
    config = TrainingConfig(**SMALL, steps=12, checkpoint_every=4, **settings)
    arguments = {"config": config, "sequence": sequence}
    whole = train(frames, cliques, **arguments)
    file = tmp_path / "checkpoint.safetensors"

    def stop(step, total, loss):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(frames, cliques, checkpoint=file, progress=stop, **arguments)
    resumed = train(frames, cliques, checkpoint=file, **arguments)
    assert resumed.resumed_from == 4
    _assert_same(whole, resumed)
    done = train(frames, cliques, checkpoint=file, **arguments)
    assert done.resumed_from == 12
    _assert_same(whole, done)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_of_another_training_is_refused(toy, tmp_path):
    frames, cliques, _ = toy
    file = tmp_path / "checkpoint.safetensors"
    train(frames, cliques, config=TrainingConfig(**SMALL, steps=2), checkpoint=file)
    with pytest.raises(InputError, match="other settings or data"):
        train(frames, cliques, config=TrainingConfig(**SMALL, steps=3), checkpoint=file)
    with pytest.raises(InputError, match="other settings or data"):
        train(255 - frames, cliques, config=TrainingConfig(**SMALL, steps=2), checkpoint=file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: not a readable"):
        train(frames, cliques, config=TrainingConfig(**SMALL, steps=2), checkpoint=file)


_INTERRUPTED = """
import os, signal, sys
import numpy as np, scipy.sparse as sp
from cliquesim.training import TrainingConfig, train
rng = np.random.default_rng(0)
frames = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
config = TrainingConfig(image_size=32, channels=(4, 8), batch_size=16, images_per_clique=4,
                        cliques_per_batch=4, steps=50, checkpoint_every=20)
def press(step, total, loss):
    if step == 7:
        os.kill(os.getpid(), signal.SIGINT)
try:
    train(frames, sp.csr_array(np.kron(np.eye(4), np.ones(3))), config=config,
          checkpoint=sys.argv[1], progress=press, num_threads=1)
except KeyboardInterrupt as stop:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print(stop)
"""


def test_ctrl_c_saves_the_step_that_was_done(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "training stopped; 8 steps are saved"
    assert file.is_file()


def _auc(features, cliques):
    unit = standardize(features)
    similarity = unit @ unit.T
    label = np.argmax(cliques.toarray(), axis=0)
    same = label[:, None] == label[None, :]
    pairs = np.triu_indices(len(label), 1)
    positive, negative = similarity[pairs][same[pairs]], similarity[pairs][~same[pairs]]
    return float((positive[:, None] > negative[None, :]).mean())


@pytest.mark.parametrize("loss", ["contrastive", "softmax"])
def test_training_lifts_retrieval(toy, loss):
    frames, cliques, sequence = toy
    config = TrainingConfig(**SMALL, steps=80, loss=loss, front_end="rgb", learning_rate=5e-3)
    untrained = _auc(embed(EmbeddingModel.random(config), frames), cliques)
    X = np.ones((1, 6), bool)
    result = train(frames, cliques, X, config=config, sequence=sequence)
    trained = _auc(embed(result.model, frames, layer="fc"), cliques)
    assert result.loss[-10:].mean() < result.loss[:10].mean()
    assert untrained < 0.75
    assert trained > max(0.85, untrained + 0.15)


def test_a_mirrored_pool_row_trains_on_the_mirror_image(toy):
    frames, cliques, _ = toy
    config = TrainingConfig(**SMALL, steps=3, augmentation=AugmentationConfig.none())
    mirrored = np.ascontiguousarray(frames[:, :, ::-1])
    pool = np.column_stack((np.arange(24), np.ones(24, int)))
    a = train(frames, cliques, pool=pool, config=config)
    b = train(mirrored, cliques, config=config)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-4)
    plain = embed(b.model, mirrored)
    np.testing.assert_allclose(embed(b.model, frames, flip=True), plain, atol=1e-4)


def test_a_later_round_starts_from_the_former_model(toy):
    frames, cliques, _ = toy
    first = train(frames, cliques, config=TrainingConfig(**SMALL, steps=40)).model
    config = TrainingConfig(**SMALL, steps=2, learning_rate=0.0)
    anew = train(frames, cliques, config=config).loss[0]
    assert train(frames, cliques, config=config, initial=first).loss[0] < anew


# --- the last map's components ---


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


# --- model, embedding, settings ---


def test_a_model_survives_its_file(toy, tmp_path):
    frames = toy[0]
    model = EmbeddingModel.random(TrainingConfig(**SMALL, seed=5))
    model.save(tmp_path / "model.safetensors")
    loaded = EmbeddingModel.load(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    np.testing.assert_array_equal(embed(loaded, frames), embed(model, frames))
    with pytest.raises(InputError, match="no such file"):
        EmbeddingModel.load(tmp_path / "none.safetensors")
    from safetensors.torch import save_file

    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a cliquesim model"):
        EmbeddingModel.load(tmp_path / "other.safetensors")
    wrong = TrainingConfig(**SMALL, initial_weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match=r"fc\.weight has shape \(2, 2\)"):
        EmbeddingModel.random(wrong)


def test_embedding_does_not_depend_on_the_batch(toy):
    frames = toy[0]
    model = EmbeddingModel.random(TrainingConfig(**SMALL))
    whole = embed(model, frames)
    assert whole.dtype == np.float32
    read_only = frames.copy()
    read_only.flags.writeable = False
    np.testing.assert_allclose(embed(model, read_only, batch_size=5), whole, atol=1e-5)


def test_settings_go_to_json_and_back():
    for config in (TrainingConfig(), TrainingConfig.paper(), TrainingConfig.light(seed=4)):
        assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InputError, match="no setting 'stepz'"):
        TrainingConfig.from_dict({"stepz": 3})


def test_settings_import_without_torch():
    code = "import sys, cliquesim.training.config; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "triplet"}, "loss must be one of"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"images_per_clique": 100}, "images_per_clique must leave room"),
        ({"learning_rate": float("nan")}, "learning_rate must be in"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**change)


def test_bad_input_is_named(toy):
    frames, cliques, sequence = toy
    config = TrainingConfig(**SMALL, steps=2)
    with pytest.raises(InputError, match="frames must be uint8"):
        train(frames.astype(np.float32), cliques, config=config)
    with pytest.raises(InputError, match="column for each of 23 pool rows"):
        train(frames[:23], cliques, config=config)
    with pytest.raises(InputError, match=r"batches must have shape \(B, 6\)"):
        train(frames, cliques, np.ones((2, 5), bool), config=config)
    with pytest.raises(InputError, match="fewer than two cliques in row 1"):
        train(frames, cliques, np.eye(6)[[0, 1]] + [[1], [0]], config=config)
    with pytest.raises(InputError, match="pool names frame 24 of 24 in row 3"):
        train(frames, cliques, pool=np.array([[0, 0]] * 3 + [[24, 0]] * 21), config=config)
    with pytest.raises(InputError, match="at least two cliques"):
        train(frames, cliques[:1], config=config)
    with pytest.raises(InputError, match="sequence must have shape"):
        train(frames, cliques, config=config, sequence=sequence[:5])
    with pytest.raises(RunError, match="lower learning_rate"):
        train(
            frames,
            cliques,
            config=TrainingConfig(
                **SMALL, steps=200, loss="softmax", optimizer="sgd", learning_rate=1e30
            ),
        )
