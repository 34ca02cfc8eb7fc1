"""The run again with one setting changed, and its own similarities pooled otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from cliquesim import pipeline
from cliquesim.baselines.workplace import FOLDER, Prepared, Workplace
from cliquesim.encoder import Encoder
from cliquesim.errors import RunError
from cliquesim.evaluation.protocol import Encode
from cliquesim.run_folder import StageObserver


class _Under:
    """An observer that puts a variant's name before its stages, and adds up their seconds."""

    def __init__(self, observer: StageObserver, prefix: str) -> None:
        self._observer, self._prefix, self.seconds = observer, prefix, 0.0

    def start(self, stage: str) -> None:
        self._observer.start(self._prefix + stage)

    def progress(self, stage: str, fraction: float, note: str = "") -> None:
        self._observer.progress(self._prefix + stage, fraction, note)

    def finish(self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]) -> None:
        self.seconds += seconds
        self._observer.finish(self._prefix + stage, seconds, reused, summary)


def ours(what: str = "learned", pool_radius: int | None = None) -> Callable[[Workplace], Prepared]:
    """The run's own similarity: of the network, or the fused one; or pooled by one radius only."""

    def prepare(place: Workplace) -> Prepared:
        encoder = place.model.encoder

        def load() -> Encode:
            return encoder.learned if what == "learned" else encoder.transform

        radii = None if pool_radius is None else [pool_radius]
        return place.encoded([place.finished(), what], load, radii)

    return prepare


def variant(folder: str, changes: Mapping[str, Any]) -> Callable[[Workplace], Prepared]:
    """A fit of the same frames with `changes`; stages that they leave alone are the run's.

    Variants of the same `folder` share their rounds.
    """

    def prepare(place: Workplace) -> Prepared:
        observer = _Under(place.run.observer, f"{FOLDER}/{folder}/")
        done = pipeline.fit(
            place.corpus,
            place.run.path / FOLDER / folder / "run",
            place.changed(changes),
            update=True,
            base=place.run.path,
            num_threads=place.threads,
            observer=observer,
        )
        model = done.model
        if model is None:
            raise RunError(f"the variant {folder!r} has no model")
        prepared = place.encoded([model], lambda: Encoder.load(model.folder, place.threads).learned)
        return dataclasses.replace(prepared, seconds=observer.seconds)

    return prepare
