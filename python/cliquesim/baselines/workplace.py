"""What every baseline is measured with: the run, its frames and settings, and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cliquesim._files import PathLike, load_array, load_json, save_array, save_json
from cliquesim.config import Config, make_config
from cliquesim.errors import RunError
from cliquesim.evaluation.protocol import Encode, Protocol, Score
from cliquesim.pool import Pool
from cliquesim.run_folder import RunFolder, Stage, StageWork, read_stage

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus
    from cliquesim.model import SimilarityModel

FOLDER = "baselines"
Scores = dict[int, Score]  # by the radius p of Eq. (9)


@dataclass(frozen=True)
class Prepared:
    """A baseline that is trained, but not scored.

    Attributes
    ----------
    after : stages and hashes that its scores depend on.
    score : scores it, within a stage.
    settings : further settings that the scores depend on.
    seconds : what making it took, whenever that was.
    load : gives what embeds frames; None if it does not embed.
    """

    after: Sequence[Stage | str]
    score: Callable[[StageWork], Scores]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    load: Callable[[], Encode] | None = None


@dataclass(frozen=True)
class Workplace:
    """One run that is open for its baselines."""

    run: RunFolder
    model: SimilarityModel
    protocol: Protocol
    threads: int | None
    imagenet: Path | None

    @property
    def corpus(self) -> Corpus:
        return self.model.corpus_

    @property
    def config(self) -> Config:
        return self.model.config

    @property
    def pool(self) -> Pool:
        return Pool.of(self.corpus, self.config)

    @property
    def radii(self) -> tuple[int, ...]:
        """Radii of Eq. (9) that every similarity is scored with."""
        return (0, self.config.pool_radius) if self.config.pool_radius else (0,)

    def finished(self, name: str = "model") -> Stage:
        """A stage of the run itself; by default its last, which holds its encoder."""
        stage = read_stage(self.run.path / name, name)
        if stage is None:
            raise RunError(f"{self.run.path}: the stage {name!r} went away")
        return stage

    def training_steps(self) -> int:
        """Steps of all rounds of the run together."""
        rounds = range(1, self.model.summary_["rounds"] + 1)
        return sum(self.finished(f"round-{r}/training").summary["steps"] for r in rounds)

    def changed(self, changes: Mapping[str, Any]) -> Config:
        """The run's settings with some of them changed."""
        return make_config(changes={**self.config.model_dump(mode="json"), **changes})

    def stage(
        self,
        name: str,
        settings: Mapping[str, Any],
        after: Sequence[Stage | str],
        body: Callable[[StageWork], Mapping[str, Any] | None],
        *,
        resumable: bool = False,
    ) -> Stage:
        """A stage below the baselines' folder of the run, kept if it is there already."""
        return self.run.stage(f"{FOLDER}/{name}", settings, after, body, resumable=resumable)

    def encoded(
        self,
        after: Sequence[Stage | str],
        load: Callable[[], Encode],
        radii: Sequence[int] | None = None,
    ) -> Prepared:
        """A baseline that embeds frames; `load` is called only if it is scored."""

        def score(work: StageWork) -> Scores:
            return self.protocol.score(
                self.corpus.frames, self.model.extent_, load(), radii or self.radii, work.progress
            )

        seconds = sum(one.seconds for one in after if isinstance(one, Stage))
        settings = {"pool_radii": list(radii or self.radii)}
        return Prepared(after, score, settings, seconds, load)

    def keep_features(self, name: str, prepared: Prepared) -> None:
        """Embed the whole corpus, for the report's figures: `load_features`."""
        assert prepared.load is not None
        load = prepared.load

        def body(work: StageWork) -> dict[str, Any]:
            features = load()(self.corpus.frames, False, self.model.extent_)
            save_array(work.folder / "features.npy", features)
            return {"rows": len(features)}

        self.stage(f"{name}/features", {}, prepared.after, body)

    def scored(self, name: str, prepared: Prepared) -> tuple[Scores, float]:
        """Its scores, computed or kept, and the seconds that scoring took."""

        def body(work: StageWork) -> dict[str, Any]:
            scores = prepared.score(work)
            save_json(
                work.folder / "result.json",
                {
                    "pool_radii": list(scores),
                    "auc": [one.auc for one in scores.values()],
                    "per_category": [one.per_category for one in scores.values()],
                },
            )
            save_array(
                work.folder / "per_anchor.npy", np.stack([s.per_anchor for s in scores.values()])
            )
            save_array(work.folder / "tpr.npy", np.stack([s.tpr for s in scores.values()]))
            return {f"auc_p{p}": one.auc for p, one in scores.items()}

        after = [*prepared.after, self.protocol.key]
        stage = self.stage(f"{name}/result", prepared.settings, after, body, resumable=True)
        return load_scores(self.run.path, name), stage.seconds


def load_features(run: PathLike, name: str) -> NDArray[np.float32] | None:
    """Features (N, E) of the run's frames by one baseline, if they are kept; memory-mapped."""
    stage = read_stage(Path(run) / FOLDER / name / "features", f"{FOLDER}/{name}/features")
    return None if stage is None else load_array(stage.folder / "features.npy", mmap=True)


def load_scores(run: PathLike, name: str) -> Scores:
    """What `evaluate_baselines` keeps of one baseline: a `Score` per radius p of Eq. (9)."""
    folder = Path(run) / FOLDER / name / "result"
    stored = load_json(folder / "result.json")
    per_anchor, tpr = load_array(folder / "per_anchor.npy"), load_array(folder / "tpr.npy")
    return {
        int(p): Score(stored["auc"][i], stored["per_category"][i], per_anchor[i], tpr[i])
        for i, p in enumerate(stored["pool_radii"])
    }
