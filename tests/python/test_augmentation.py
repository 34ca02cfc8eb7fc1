"""Augmentation: what each change does to the pixels, and the same in C++ as in torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cliquesim import _core
from cliquesim.training import AugmentationConfig, augment, augmentation, sample_augmentation
from cliquesim.training.augmentation import augment_frames
from cliquesim.training.pixels import as_floats

pytestmark = pytest.mark.usefixtures("one_thread")


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
