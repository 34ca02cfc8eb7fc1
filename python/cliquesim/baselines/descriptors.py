"""Baselines without training: raw HOG, and whitened HOG (Sect. 2.1) by either covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cliquesim.baselines.workplace import Prepared, Workplace
from cliquesim.evaluation.protocol import Encode
from cliquesim.features.descriptors import HogLda
from cliquesim.fusion import standardize
from cliquesim.run_folder import Stage, StageWork


def raw_hog(place: Workplace) -> Prepared:
    """HOG at the run's first scale, without the mean of all frames; cosine."""

    def load() -> Encode:
        hog_lda = place.model.encoder.hog_lda
        mean = hog_lda.scales[0].whitening.mean_.astype(np.float32)

        def encode(
            frames: NDArray[np.uint8], mirrored: bool, extent: NDArray[Any]
        ) -> NDArray[np.float32]:
            raw = hog_lda.raw(frames, 0, mirrored).reshape(len(frames), -1)
            return standardize(raw - mean, center=False)

        return encode

    return place.encoded([place.finished()], load)


def hog_lda(estimator: str, one_scale: bool) -> Callable[[Workplace], Prepared]:
    """Whitened HOG at the first or at all scales of the run; its shrinkage comes from the data."""

    def prepare(place: Workplace) -> Prepared:
        config = place.config
        if config.estimator == estimator and config.shrinkage == "auto":
            # The run has fitted it already.
            return place.encoded(
                [place.finished(), str(one_scale)],
                lambda: _encode(place.model.encoder.hog_lda, one_scale),
            )
        fitted = _fitted(place, estimator)
        return place.encoded(
            [fitted, str(one_scale)],
            lambda: _encode(HogLda.load(fitted.folder / "hog_lda"), one_scale),
        )

    return prepare


def _fitted(place: Workplace, estimator: str) -> Stage:
    config = place.config
    names = (
        "scales",
        "scale_margins",
        "cell_size",
        "mirror",
        "focus",
        "within_category",
        "least_sequences",
    )
    settings = {name: place.run.manifest["settings"][name] for name in names}

    def body(work: StageWork) -> dict[str, Any]:
        fitting = HogLda(
            config.scales,
            config.scale_margins,
            config.cell_size,
            estimator,
            "auto",
            place.threads,
        )
        corpus = place.corpus
        fitting.fit_transform(
            corpus.frames,
            place.pool.sequence_of_frames,
            work.folder,
            config.mirror,
            work.progress,
            place.model.extent_,
        )
        (work.folder / "descriptors.npy").unlink()  # large; the whitening is enough
        fitting.save(work.folder / "hog_lda")
        return {"scales": fitting.summary()}

    return place.stage(
        f"hog_lda_{estimator}/fit",
        settings | {"estimator": estimator, "shrinkage": "auto"},
        [place.corpus.fingerprint],
        body,
    )


def _encode(hog_lda: HogLda, one_scale: bool) -> Encode:
    def encode(
        frames: NDArray[np.uint8], mirrored: bool, extent: NDArray[Any]
    ) -> NDArray[np.float32]:
        if not one_scale:
            return hog_lda.transform(frames, mirrored, extent)
        return next(hog_lda.by_scale(frames, mirrored, extent))[1]

    return encode
