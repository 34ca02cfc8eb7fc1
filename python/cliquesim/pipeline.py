"""The order of the stages, the rounds (Sect. 2.6), and the run folder that they fill.

corpus -> descriptors (-> quantile) -> [neighbours -> cliques -> batches -> training -> features]
x rounds -> embedding -> model. This module alone knows the order; a stage knows nothing of the one
before.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cliquesim._device import check_device
from cliquesim._files import save_json
from cliquesim.cliques import CliqueWarning
from cliquesim.config import Config
from cliquesim.errors import InputError
from cliquesim.estimate import estimate, part_sizes_of
from cliquesim.run_folder import PlannedRun, RunFolder, Stage, StageObserver, read_manifest
from cliquesim.stages import CORPUS, Stages, agreement

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus
    from cliquesim.training.distributed import Ranks


@dataclass(frozen=True)
class FitResult:
    """What `fit` leaves: the run folder, the numbers of its stages, and the last of them."""

    folder: Path
    summary: dict[str, Any]
    model: Stage | None = None

    def describe(self) -> str:
        """A few lines for people."""
        s = self.summary
        lines = [
            f"{s['frames']} frames of {s['sequences']} sequences; {s['rounds']} round(s): "
            f"{s['stopped_because']}.",
            f"Last round: {s['cliques']} cliques cover {s['coverage']:.0%} of the frames, "
            f"{s['batches']} batches.",
            f"Embedding: {self.folder / 'embedding/embedding.npy'}",
            f"Next: cliquesim search {self.folder} QUERY.jpg --grid out.png; "
            f"cliquesim report {self.folder}",
        ]
        if s["rejected"]:
            lines.insert(1, f"{s['rejected']} frames could not be read; see the report.")
        return "\n".join(lines)


def check_run_folder(folder: str | os.PathLike[str]) -> None:
    """InputError unless `folder` is empty or a run of this format version."""
    read_manifest(Path(folder))


def fit(
    corpus: Corpus,
    folder: str | os.PathLike[str],
    config: Config | None = None,
    *,
    update: bool = False,
    source: str | Sequence[str] | None = None,
    base: Path | None = None,
    num_threads: int | None = None,
    device: str = "cpu",
    observer: StageObserver | None = None,
    ranks: Ranks | None = None,
) -> FitResult:
    """Learn the similarity of a corpus in a run folder; finished stages are kept.

    Parameters
    ----------
    corpus : the frames.
    folder : made, or a run of the same corpus that is gone on with.
    config : settings; None for the defaults.
    update : accept other settings than the run was started with.
    source : where the frames came from, one path or several, for the record.
    base : a run of the same corpus whose stages are taken where they are equal; the new run keeps
        no frames then, and cannot be used alone.
    num_threads : None for all processors.
    device : "cpu" or "cuda": where the stages run that have a CUDA version.
    observer : is told of stages and progress.
    ranks : further processes that wait in `help_to_train`; this is rank 0.

    Raises
    ------
    InputError
        Too few or too similar frames, settings that do not fit the corpus, a foreign folder.
    RunError
        ``device="cuda"`` cannot be used; the message says why.
    """
    config = config or Config()
    check_device(device, stage="fit")
    _check_corpus(corpus)
    inputs = {"source": source, "fingerprint": corpus.fingerprint, "frames": len(corpus)}
    settings = config.model_dump(mode="json")
    with RunFolder(folder, inputs, settings, update=update, base=base, observer=observer) as run:
        own = (run.path / CORPUS).resolve()
        if base is None and (corpus.folder is None or corpus.folder.resolve() != own):
            corpus.save(run.path / CORPUS)
        return _run(Stages(corpus, run, config, num_threads, device, ranks))


def help_to_train(ranks: Ranks) -> None:
    """Take part in the trainings of rank 0's `fit`, until that is done."""
    from cliquesim.corpus import Corpus
    from cliquesim.training import train

    while (call := ranks.from_first()) is not None:
        folder, checkpoint, options = call
        train(Corpus.load(folder).frames, checkpoint=checkpoint, ranks=ranks, **options)


def plan(
    corpus: Corpus,
    folder: str | os.PathLike[str],
    config: Config | None = None,
    *,
    num_threads: int | None = None,
) -> dict[str, Any]:
    """What `fit` would do: stages with work, seconds, memory, and whether they are done already.

    Times are counts of work times rates that are measured now; nothing is written.
    """
    config = config or Config()
    _check_corpus(corpus)
    planned = PlannedRun(folder)
    _run(Stages(corpus, planned, config, num_threads))
    sizes = part_sizes_of(corpus.category, config.within_category)
    stages = [
        {**dataclasses.asdict(one), "done": planned.done.get(one.name, one.name == "corpus")}
        for one in estimate(sizes, config, num_threads)
    ]
    to_do = [one for one in stages if not one["done"]]
    return {
        "frames": len(corpus),
        "categories": len(sizes),
        "stages": stages,
        "seconds": sum(one["seconds"] for one in to_do),
        "memory_mib": max((one["memory_mib"] for one in to_do), default=0),
        "disk_mib": sum(one["disk_mib"] for one in to_do),
    }


def _check_corpus(corpus: Corpus) -> None:
    if len(corpus) < 3:
        raise InputError(f"a corpus of {len(corpus)} frame(s) is too small: at least 3 are needed")
    first = np.asarray(corpus.frames[0])
    if all(np.array_equal(first, corpus.frames[i]) for i in range(1, len(corpus))):
        raise InputError(f"all {len(corpus)} frames of the corpus are the same picture")


def _run(stages: Stages) -> FitResult:
    """All stages in their order, round by round."""
    config, run, corpus = stages.config, stages.folder, stages.corpus
    if not run.planning:
        _tell_of_pieces(stages)
    hog = stages.descriptors()
    cut = stages.quantile(hog) if config.clique_quantile == "auto" else None
    reason = f"max_rounds={config.max_rounds} reached"
    previous: Stage | None = None
    trained: list[Stage] = []
    students: list[Stage] = []
    agreed: list[float] = []
    rounds = 0
    for number in range(1, config.max_rounds + 1):
        found = stages.neighbors(number, students, hog)
        if previous is not None and not run.planning:
            agreed.append(agreement(previous, found))
            if agreed[-1] >= config.agreement:
                reason = f"neighbours agree with the round before ({agreed[-1]:.0%})"
                break
        built = stages.cliques(number, students, hog, found, cut)
        chosen = stages.batches(number, built)
        before = trained[-1] if trained else None
        trained.append(stages.training(number, built, chosen, before))
        students.append(stages.features(number, trained[-1]))
        if config.students == "last":
            trained, students = trained[-1:], students[-1:]
        rounds, previous = number, found
    final = stages.embedding(hog, students)
    model = stages.model(hog, trained, final)
    if run.planning:
        return FitResult(run.path, {})
    summary = {
        "run": str(run.path),
        "frames": len(corpus),
        "rejected": len(corpus.rejected),
        "sequences": len(np.unique(corpus.sequence)),
        "rounds": rounds,
        "stopped_because": reason,
        "agreement": [round(one, 4) for one in agreed],
        "cliques": built.summary["cliques"],
        "coverage": built.summary["coverage"],
        "same_sequence_pairs": built.summary["same_sequence_pairs"],
        "batches": chosen.summary["batches"],
        "dimensions": final.summary["dimensions"],
    }
    save_json(run.path / "summary.json", summary)
    return FitResult(run.path, summary, model)


def _tell_of_pieces(stages: Stages) -> None:
    sequences, pieces = (len(np.unique(one)) for one in (stages.corpus.sequence, stages.sequence))
    if pieces > sequences:
        warnings.warn(
            f"a category has fewer than {stages.config.least_sequences} sequences (folders of "
            f"frames, videos): cut in time, the {sequences} sequence(s) count as {pieces}, as "
            "cliques take their frames from different ones (least_sequences)",
            CliqueWarning,
            stacklevel=4,
        )
