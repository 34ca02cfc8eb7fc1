"""Whitening against NumPy (cov, cholesky, solve), and the label-free choice of lambda."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from whitening_reference import assert_close, correlated, reference, reference_stationary

import cliquesim as cs
from cliquesim.datasets.olympic_sports import load_labels
from cliquesim.errors import InputError
from cliquesim.evaluation import match_frames, retrieval_auc
from cliquesim.features._moments import eigendecompose
from cliquesim.features._shrinkage import StretchSample, ledoit_wolf


@pytest.mark.parametrize("relative", [0.0, 0.1, 3.0])
def test_full_matches_numpy(relative: float) -> None:
    X = correlated(0, 900, 120)
    whitening = cs.Whitening(shrinkage=relative)
    phi = whitening.fit_transform(X)
    sigma = np.cov(X.astype(np.float64).T)
    assert phi.dtype == np.float32
    assert_close(whitening.mean_, X.astype(np.float64).mean(axis=0), 1e-6)
    assert_close(whitening.covariance_, sigma, 1e-6)
    assert whitening.shrinkage_ == pytest.approx(relative * np.trace(sigma) / 120, rel=1e-6)
    assert whitening.relative_shrinkage_ == relative
    assert whitening.shrinkage_path_ is None
    assert_close(phi, reference(X, relative))
    if relative == 0:
        assert_close(np.cov(phi.astype(np.float64).T), np.eye(120), 1e-5)


@pytest.mark.parametrize("n_components", [1, 7, 60, 0.5, 0.97, np.int64(7)])
@pytest.mark.parametrize("relative", [0.0, 0.7])
def test_projection_to_principal_directions(n_components: int | float, relative: float) -> None:
    X = correlated(15, 700, 60)
    whitening = cs.Whitening(shrinkage=relative, n_components=n_components)
    phi = whitening.fit_transform(X)
    centred = X - X.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(X.astype(np.float64).T))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.cumsum(values) / values.sum()
    k = n_components if n_components >= 1 else int((kept < n_components).sum()) + 1
    assert phi.shape == (700, k)
    assert whitening.n_components_ == k
    assert whitening.kept_variance_ == pytest.approx(kept[k - 1], abs=1e-6)
    expected = centred @ vectors[:, :k] / np.sqrt(values[:k] + relative * values.mean())
    assert_close(phi @ phi.T, expected @ expected.T)  # signs of directions are free
    if relative == 0:
        assert_close(np.cov(phi.astype(np.float64).T).reshape(k, k), np.eye(k), 1e-5)


def test_all_principal_directions_give_the_same_similarity() -> None:
    X = correlated(16, 300, 40)
    plain = cs.Whitening(shrinkage=0.5).fit(X)
    every = cs.Whitening(shrinkage=0.5, n_components=40).fit(X)
    assert plain.n_components_ == 40
    assert plain.kept_variance_ == 1.0
    assert every.kept_variance_ == pytest.approx(1.0)
    a, b = plain.transform(X), every.transform(X)
    assert_close(a @ a.T, b @ b.T)


def test_principal_directions_of_few_rows() -> None:
    X = correlated(17, 20, 50)
    phi = cs.Whitening(shrinkage=0.0, n_components=19).fit_transform(X)
    assert_close(np.cov(phi.astype(np.float64).T), np.eye(19), 1e-4)
    with pytest.raises(InputError, match="singular; shrinkage=0 must be larger, or n_components"):
        cs.Whitening(shrinkage=0.0, n_components=20).fit(X)
    with pytest.raises(InputError, match="n_components=51 is more than the 50 dimensions"):
        cs.Whitening(shrinkage=1.0, n_components=51).fit(X)


def test_eigendecomposition_can_be_interrupted() -> None:
    matrix = np.cov(np.random.default_rng(0).normal(size=(1500, 3000)))
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        eigendecompose(matrix)
    values, vectors = eigendecompose(matrix[:50, :50])
    assert_close(vectors * values @ vectors.T, matrix[:50, :50], 1e-12)
    with pytest.raises(np.linalg.LinAlgError):
        eigendecompose(matrix[:2])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_mapped_files_do_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024

    monkeypatch.setattr(sys.modules["cliquesim.features._moments"], "_CHUNK_BYTES", 1 << 20)
    X = correlated(18, 60_000, 100)  # 24 MB
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    before, peaks = resident(), []
    whitening = cs.Whitening(shrinkage=1.0)
    whitening.fit(mapped, progress=lambda _: peaks.append(resident()))
    whitening.transform(mapped, progress=lambda _: peaks.append(resident()))
    assert max(peaks) - before < 8 << 20


@pytest.mark.parametrize("common_mean", [False, True])
def test_stationary_matches_its_definition(common_mean: bool) -> None:
    shape = (3, 4, 5)
    X = correlated(3, 400, 60).reshape(-1, *shape)
    whitening = cs.Whitening("stationary", 0.5, common_mean=common_mean)
    phi = whitening.fit_transform(X)
    flat = X.reshape(400, 60).astype(np.float64)
    mean = flat.mean(axis=0)
    if common_mean:
        mean = np.tile(flat.reshape(400, 12, 5).mean(axis=(0, 1)), 12)
    sigma = reference_stationary((flat - mean).T @ (flat - mean) / 399, shape)
    values, vectors = np.linalg.eigh(sigma)
    sigma = (vectors * np.maximum(values, 0)) @ vectors.T  # negative eigenvalues set to 0
    assert_close(whitening.mean_, mean, 1e-6)
    assert_close(whitening.covariance_, sigma, 2e-6)
    upper = np.linalg.cholesky(sigma + 0.5 * np.trace(sigma) / 60 * np.eye(60)).T
    assert_close(phi, np.linalg.solve(upper.T, (flat - mean).T).T)


def test_stationary_estimate_that_is_not_psd_is_clipped() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3, 3, 2)) * rng.uniform(0.01, 5, (3, 3, 2))
    X[:, 0, 0] = X[:, 0, 1] = -X[:, 2, 2]
    raw = reference_stationary(np.cov(X.reshape(300, 18).T), (3, 3, 2))
    assert np.linalg.eigvalsh(raw)[0] < -1e-3
    fitted = cs.Whitening("stationary", 0.1).fit(X)
    assert np.linalg.eigvalsh(fitted.covariance_)[0] > -1e-6 * np.trace(fitted.covariance_)
    assert np.isfinite(fitted.transform(X)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_partial_fit_equals_fit(seed: int, sizes: list[int]) -> None:
    sizes[0] += 2
    X = correlated(seed, sum(sizes), 23, offset=100.0)
    parts = cs.Whitening(shrinkage=0.3)
    for chunk in np.split(X, np.cumsum(sizes)[:-1]):
        parts.partial_fit(chunk)
    whole = cs.Whitening(shrinkage=0.3).fit(X)
    assert parts.n_rows_ == len(X)
    assert_close(parts.covariance_, whole.covariance_, 1e-5)
    np.testing.assert_allclose(parts.transform(X), whole.transform(X), atol=1e-3)


def test_partial_fit_after_reading_attributes() -> None:
    X = correlated(4, 300, 10)
    whitening = cs.Whitening(shrinkage=1.0).partial_fit(X[:100])
    early = whitening.covariance_
    whitening.partial_fit(X[100:])
    assert not np.allclose(early, whitening.covariance_)
    assert_close(whitening.covariance_, np.cov(X.astype(np.float64).T), 1e-6)


def test_threads_do_not_change_a_bit() -> None:
    X = correlated(5, 1500, 140)
    outs = [cs.Whitening(shrinkage=0.2, num_threads=t).fit_transform(X) for t in (1, 2, 5)]
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


def test_layouts_and_dtypes_of_the_input(tmp_path: Path) -> None:
    X = correlated(6, 200, 60)
    expected = cs.Whitening(shrinkage=1.0).fit_transform(X)
    cube = X.reshape(200, 3, 4, 5)
    for other in (X.astype(np.float64), np.asfortranarray(X), np.repeat(X, 2, 1)[:, ::2], cube):
        np.testing.assert_array_equal(cs.Whitening(shrinkage=1.0).fit_transform(other), expected)
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(cs.Whitening(shrinkage=1.0).fit_transform(frozen), expected)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(cs.Whitening(shrinkage=1.0).fit_transform(mapped), expected)
    fitted = cs.Whitening(shrinkage=1.0).fit(cube)
    np.testing.assert_array_equal(fitted.transform(X), fitted.transform(cube))
    assert fitted.transform(X[:0]).shape == (0, 60)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    cs.Whitening(shrinkage=1.0).fit_transform(correlated(7, 300, 20), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_fewer_rows_than_dimensions() -> None:
    X = correlated(8, 20, 50)
    X.flags.writeable = False
    assert_close(cs.Whitening(shrinkage=0.5).fit_transform(X), reference(X, 0.5))
    assert cs.Whitening().fit(X).relative_shrinkage_ >= 3
    with pytest.raises(InputError, match="covariance of 20 rows in 50 dimensions is singular"):
        cs.Whitening(shrinkage=0.0).fit(X)


def test_constant_dimensions_are_harmless_and_constant_rows_are_not() -> None:
    X = correlated(9, 100, 12)
    X[:, 3] = 0.2
    phi = cs.Whitening(shrinkage=0.1).fit_transform(X)
    assert_close(phi, reference(X, 0.1))
    assert not phi[:, 3].any() or np.isfinite(phi).all()
    with pytest.raises(InputError, match="all 100 rows of X are equal"):
        cs.Whitening().fit(np.full((100, 12), 0.1, np.float32))


def test_bad_input() -> None:
    X = correlated(10, 30, 4)
    with pytest.raises(InputError, match="at least 2 rows, got 1"):
        cs.Whitening().fit(X[:1])
    with pytest.raises(InputError, match="not fitted"):
        cs.Whitening().fit(X[:0])
    with pytest.raises(InputError, match="not fitted"):
        cs.Whitening().transform(X)
    with pytest.raises(AttributeError, match="call fit first"):
        _ = cs.Whitening().mean_
    for value, kind in ((np.nan, "NaN"), (np.inf, "an infinite value")):
        broken = X.copy()
        broken[17, 2] = value
        with pytest.raises(InputError, match=f"X has {kind} in row 17"):
            cs.Whitening().fit(broken)
        with pytest.raises(InputError, match=f"X has {kind} in row 17"):
            cs.Whitening(shrinkage=1.0).fit(X).transform(broken)
    with pytest.raises(InputError, match="real numbers"):
        cs.Whitening().fit(X.astype(complex))
    with pytest.raises(InputError, match="must have shape"):
        cs.Whitening().fit(X[0])
    with pytest.raises(InputError, match="'stationary' needs descriptors of shape"):
        cs.Whitening("stationary").fit(X)
    with pytest.raises(InputError, match="fitted on"):
        cs.Whitening(shrinkage=1.0).fit(X).transform(X[:, :3])
    with pytest.raises(InputError, match="groups must have shape"):
        cs.Whitening().fit(X, groups=[1, 2])
    for parameters, message in (
        ({"estimator": "half"}, "estimator must be one of"),
        ({"shrinkage": -1.0}, "shrinkage must be in"),
        ({"shrinkage": "much"}, "'auto' or a number"),
        ({"common_mean": True}, "needs estimator='stationary'"),
        ({"num_threads": 0}, "num_threads must be at least 1"),
        ({"n_components": 0}, "n_components must be at least 1"),
        ({"n_components": 1.5}, "a whole number or a share between 0 and 1"),
        ({"n_components": "all"}, "n_components must be an integer"),
    ):
        with pytest.raises(InputError, match=message):
            cs.Whitening(**parameters).fit(X)


def test_nothing_is_left_after_a_failure() -> None:
    X = correlated(11, 30, 4)
    whitening = cs.Whitening(shrinkage=1.0).partial_fit(X)
    with pytest.raises(InputError):
        whitening.partial_fit(np.full((3, 4), np.nan))
    with pytest.raises(InputError, match="not fitted"):
        whitening.transform(X)


def test_parameters() -> None:
    whitening = cs.Whitening(estimator="stationary", shrinkage=2.0)
    assert cs.Whitening(**whitening.get_params()).get_params() == whitening.get_params()
    assert whitening.set_params(shrinkage="auto").shrinkage == "auto"
    assert repr(whitening).startswith("Whitening(estimator='stationary', shrinkage='auto'")
    with pytest.raises(InputError, match="no parameter 'lambda_'"):
        whitening.set_params(lambda_=1)


@pytest.mark.parametrize("shrinkage", ["auto", 0.7])
@pytest.mark.parametrize("n_components", [None, 5])
def test_state_survives_open_formats(
    shrinkage: str | float, n_components: int | None, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    X = correlated(12, 100, 12).reshape(100, 2, 2, 3)
    fitted = cs.Whitening("stationary", shrinkage, n_components=n_components).fit(X)
    state = fitted.state_dict()
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    scalars = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    save_file(arrays, tmp_path / "whitening.safetensors")
    text = json.dumps(scalars)
    restored = cs.Whitening.from_state(
        {**load_file(tmp_path / "whitening.safetensors"), **json.loads(text)}
    )
    np.testing.assert_array_equal(restored.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(restored.covariance_, fitted.covariance_)
    assert restored.shrinkage_ == fitted.shrinkage_
    assert restored.n_rows_ == 100
    assert restored.n_components_ == fitted.n_components_
    assert restored.kept_variance_ == fitted.kept_variance_
    assert (restored.shrinkage_path_ is None) == (fitted.shrinkage_path_ is None)
    with pytest.raises(InputError, match="cannot be fitted further"):
        restored.partial_fit(X)
    restored.fit(X)
    with pytest.raises(InputError, match="not the state of a Whitening"):
        cs.Whitening.from_state({k: v for k, v in state.items() if k != "projection"})
    with pytest.raises(InputError, match="has a projection of shape"):
        cs.Whitening.from_state({**state, "projection": np.eye(3)})


# lambda without labels


def motion(
    seed: int, sequences: int, length: int, distractors: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sequences that run through one closed path of postures, each on a background of its own.

    Backgrounds are strong, constant within a sequence and drawn from few directions: whitening
    should take them out. Noise dimensions carry nothing: a tiny lambda would blow them up.
    """
    rng = np.random.default_rng(seed)
    path, fields = rng.normal(size=(3, 40)), rng.normal(size=(4, 40))
    rows, groups = [], []
    for s in range(sequences):
        phase = rng.uniform(0, 6) + np.arange(length) * rng.uniform(0.15, 0.3)
        posture = np.stack([np.sin(phase), np.cos(phase), np.sin(2 * phase)], axis=1) @ path
        background = distractors * rng.normal(size=4) @ fields
        rows.append(posture + background + 0.3 * rng.normal(size=(length, 40)))
        groups += [s] * length
    return np.concatenate(rows).astype(np.float32), np.array(groups)


def test_time_direction_is_chosen_with_sequences() -> None:
    X, groups = motion(0, 30, 24, distractors=3.0)
    fitted = cs.Whitening().fit(X, groups)
    path = fitted.shrinkage_path_
    assert path is not None
    assert path.criterion == "time direction"
    assert path.chosen == fitted.relative_shrinkage_
    assert path.score.max() > 0.7
    # The background dominates without whitening (the largest lambda).
    assert fitted.relative_shrinkage_ < 30
    assert path.score[-1] < path.score.max() - 0.05


def test_time_direction_whitens_less_when_backgrounds_are_weak() -> None:
    chosen = {}
    for distractors in (0.0, 5.0):
        X, groups = motion(1, 30, 24, distractors)
        chosen[distractors] = cs.Whitening().fit(X, groups).relative_shrinkage_
    assert chosen[0.0] > chosen[5.0]


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_time_falls_back(seed: int) -> None:
    X, groups = motion(seed, 20, 20, distractors=1.0)
    order = np.random.default_rng(seed).permutation(len(X))
    path = cs.Whitening().fit(X[order], np.sort(groups)).shrinkage_path_
    assert path is not None
    assert path.criterion == "Ledoit-Wolf with floor"


def test_one_sequence_or_none_falls_back() -> None:
    X, groups = motion(2, 10, 20, distractors=1.0)
    for labels in (None, np.zeros_like(groups), np.arange(len(groups))):
        path = cs.Whitening().fit(X, labels).shrinkage_path_
        assert path is not None
        assert path.criterion == "Ledoit-Wolf with floor"
        assert path.chosen == max(3.0, path.relative_shrinkage[0])


def test_auto_is_repeatable_and_works_by_parts() -> None:
    X, groups = motion(3, 30, 24, distractors=3.0)
    whole = cs.Whitening().fit(X, groups)
    again = cs.Whitening(num_threads=1).fit(X, groups)
    assert whole.relative_shrinkage_ == again.relative_shrinkage_
    parts = cs.Whitening()
    for start in range(0, len(X), 240):
        parts.partial_fit(X[start : start + 240], groups[start : start + 240])
    path = parts.shrinkage_path_
    assert path is not None
    assert path.criterion == "time direction"
    late = cs.Whitening(shrinkage=1.0).partial_fit(X).set_params(shrinkage="auto")
    with pytest.raises(InputError, match="set after partial_fit"):
        late.transform(X)


def test_ledoit_wolf_matches_scikit_learn_on_independent_rows() -> None:
    covariance_module = pytest.importorskip("sklearn.covariance")
    X = np.random.default_rng(0).normal(size=(60, 40)) * np.linspace(0.5, 2, 40)
    centred = X - X.mean(axis=0)
    sigma = centred.T @ centred / 60
    ours = ledoit_wolf(centred.astype(np.float32), np.arange(60), sigma, 60)
    theirs = covariance_module.ledoit_wolf_shrinkage(X)
    assert ours == pytest.approx(theirs / (1 - theirs), rel=1e-4)


def weight(relative: float) -> float:
    """Ledoit and Wolf's weight of the identity, from lambda / mean eigenvalue."""
    return relative / (1 + relative)


def test_repeated_frames_do_not_count_as_evidence() -> None:
    X = correlated(13, 100, 30, 0.0)
    slow = np.repeat(X, 5, axis=0)  # the same 100 frames at five times the frame rate
    sigma = np.cov(slow.T)
    centred = slow - slow.mean(axis=0)
    naive = weight(ledoit_wolf(centred, np.arange(500), sigma, 500))
    aware = weight(ledoit_wolf(centred, np.zeros(500, np.int64), sigma, 500))
    truth = weight(ledoit_wolf(X - X.mean(axis=0), np.arange(100), np.cov(X.T), 100))
    assert naive < 0.3 * truth
    # Repetition is more regular than the first-order process behind n (1 - a) / (1 + a), which
    # makes 9 of every 5.
    assert truth < aware < 2 * truth


def test_sample_is_bounded_and_keeps_time_order() -> None:
    X = np.arange(5000, dtype=np.float32)[:, None].repeat(2, axis=1)
    groups = np.repeat(np.arange(10), 500)
    sample = StretchSample(capacity=600)
    for start in range(0, 5000, 1000):
        sample.add(X[start : start + 1000], groups[start : start + 1000])
    rows, labels, stretches = sample.stack()
    assert 500 < len(rows) <= 600
    assert len(np.unique(labels)) > 3
    np.testing.assert_array_equal(rows[:, 0] // 500, labels)
    inside = stretches[1:] == stretches[:-1]
    np.testing.assert_array_equal(np.diff(rows[:, 0])[inside], 1)


@pytest.mark.slow
def test_lambda_chosen_without_labels_retrieves_athletes(shared: Path) -> None:
    """Mean AUC of HOG-LDA at 64 px, box x 1.1: at least 0.80, and far above a small lambda."""
    pytest.importorskip("h5py")
    root = shared / "athletes"
    corpus = cs.Corpus.from_folder(root / "frames", size=(64, 64))
    labels = match_frames(load_labels(root), corpus).labels
    plain, mirrored = cs.hog(corpus.frames), cs.hog(corpus.frames[:, :, ::-1])

    def mean_auc(whitening: cs.Whitening) -> float:
        features = whitening.transform(plain), whitening.transform(mirrored)
        return float(np.mean([retrieval_auc(entry, *features).auc for entry in labels.values()]))

    pool, groups = np.concatenate([plain, mirrored]), np.tile(corpus.sequence, 2)
    fitted = cs.Whitening("stationary").fit(pool, groups)
    path = fitted.shrinkage_path_
    assert path is not None
    assert path.criterion == "time direction"
    auc = mean_auc(fitted)
    assert auc >= 0.80
    assert auc >= mean_auc(cs.Whitening("stationary", 0.1).fit(pool)) + 0.05
