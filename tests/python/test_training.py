"""Training repeats, resumes, stops on demand and learns; models and settings survive files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_training import SMALL

from cliquesim.errors import InputError, RunError
from cliquesim.fusion import standardize
from cliquesim.training import (
    AugmentationConfig,
    EmbeddingModel,
    TrainingConfig,
    embed,
    train,
    trainer,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_freed_memory_is_kept_while_it_trains_and_no_longer(toy, monkeypatch):
    kept = []
    monkeypatch.setattr(trainer, "_core", SimpleNamespace(keep_freed_memory=kept.append))
    frames, cliques, _ = toy
    train(frames, cliques, config=TrainingConfig(**SMALL, steps=1))
    assert kept == [True, False]

    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(frames, cliques, config=TrainingConfig(**SMALL, steps=2), progress=fail)
    assert kept == [True, False] * 2


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
