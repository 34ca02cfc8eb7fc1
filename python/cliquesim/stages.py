"""Every stage of a fit on its run folder: what it depends on, what it reads, and what it leaves.

Each is a method of `Stages` that takes the stages it needs, and is done when its outputs are there.
`pipeline` knows their order; `parts` does the work of those that go category by category.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cliquesim import parts
from cliquesim._files import load_array, save_array
from cliquesim.config import Config
from cliquesim.encoder import Encoder
from cliquesim.features.descriptors import HogLda
from cliquesim.fusion import fuse, standardize
from cliquesim.pool import Pool
from cliquesim.run_folder import PlannedRun, RunFolder, Stage, StageWork

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus
    from cliquesim.training.distributed import Ranks

CORPUS = "corpus"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint.safetensors"
NEAREST = "nearest.npy"
_OF_CLIQUES = (  # settings that cliques depend on, beside their quantile
    "clique_min_size",
    "clique_per_sequence",
    "clique_merging",
    "max_cliques",
    "teacher_pool_radius",
    "seed",
)


class Stages:
    """The stages of one call of `fit`, as methods in their order."""

    def __init__(
        self,
        corpus: Corpus,
        run: RunFolder | PlannedRun,
        config: Config,
        num_threads: int | None,
        device: str = "cpu",
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks
        self.corpus, self.folder, self.config = corpus, run, config
        self.threads, self.device = num_threads, device
        self.pool = Pool.of(corpus, config)
        self.sequence = self.pool.sequence_of_frames
        self.extent = corpus.extent if config.focus else None
        self._values = config.model_dump(mode="json")

    def _settings(self, *names: str) -> dict[str, Any]:
        return {name: self._values[name] for name in names}

    def descriptors(self) -> Stage:
        """Whitened HOG of the frames and their mirror images (Sect. 2.1)."""
        names = (
            "scales",
            "scale_margins",
            "cell_size",
            "estimator",
            "shrinkage",
            "mirror",
            "focus",
            "within_category",
            "least_sequences",
        )

        def body(work: StageWork) -> dict[str, Any]:
            config = self.config
            hog_lda = HogLda(
                config.scales,
                config.scale_margins,
                config.cell_size,
                config.estimator,
                config.shrinkage,
                self.threads,
                self.device,
            )
            corpus = self.corpus
            found = hog_lda.fit_transform(
                corpus.frames,
                self.sequence,
                work.folder,
                config.mirror,
                work.progress,
                self.extent,
            )
            hog_lda.save(work.folder / "hog_lda")
            rows, dimensions = found.shape
            return {"rows": rows, "dimensions": dimensions, "scales": hog_lda.summary()}

        after = [self.corpus.fingerprint]
        return self.folder.stage("descriptors", self._settings(*names), after, body)

    def _teacher(
        self,
        students: Sequence[Stage],
        hog: Stage,
        nearest: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors whose dot products are the similarities that cliques are made from.

        `nearest` are each row's nearest by them, with which it is averaged.
        """
        whitened = load_array(hog.folder / "descriptors.npy", mmap=True)
        if not students:
            return whitened
        learned = [load_array(one.folder / "features.npy") for one in students]
        vectors = self._fused(learned, whitened, self.pool.sequence)[0]
        if nearest is not None:
            parts.expand(vectors, nearest, self.pool, self.threads)
        return vectors

    def _expansion(self, students: Sequence[Stage]) -> int:
        """With how many of its nearest a row of the teacher is averaged."""
        return self.config.teacher_expansion if students else 0

    def _fused(
        self,
        learned: Sequence[NDArray[np.float32]],
        whitened: NDArray[np.float32] | None,
        sequence: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], tuple[float, ...]]:
        """The networks' similarities, all together of weight 1, and that of whitened HOG."""
        features, weights = list(learned), [1 / len(learned)] * len(learned)
        if whitened is not None:
            features.append(whitened)
            weights.append(self.config.hog_weight)
        return fuse(features, sequence, weights, self.threads)

    def neighbors(self, number: int, students: Sequence[Stage], hog: Stage) -> Stage:
        names = (
            "mirror",
            "within_category",
            "n_neighbors",
            "teacher_pool_radius",
            *(("teacher_expansion", "hog_weight") if students else ()),
        )

        def body(work: StageWork) -> dict[str, Any]:
            config, expansion = self.config, self._expansion(students)
            vectors = self._teacher(students, hog)

            def find(k: int, done: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
                progress = parts.share_of(work.progress, done, 1, 2 if expansion else 1)
                return parts.find_neighbors(
                    vectors,
                    self.pool,
                    k,
                    config.teacher_pool_radius,
                    self.threads,
                    progress,
                    self.device,
                )

            if expansion:
                nearest = find(expansion, 0)[0]
                save_array(work.folder / NEAREST, nearest)
                parts.expand(vectors, nearest, self.pool, self.threads)
            indices, values = find(config.n_neighbors, 1 if expansion else 0)
            save_array(work.folder / "indices.npy", indices)
            save_array(work.folder / "similarities.npy", values)
            return {"rows": len(indices), "k": indices.shape[1]}

        name = f"round-{number}/neighbors"
        return self.folder.stage(name, self._settings(*names), [*students, hog], body)

    def quantile(self, hog: Stage) -> Stage:
        """How similar members of a clique must be, without labels; once, for all rounds."""
        names = (
            "mirror",
            "within_category",
            "n_neighbors",
            *_OF_CLIQUES,
        )

        def body(work: StageWork) -> dict[str, Any]:
            return parts.choose_quantile(
                self._teacher([], hog),
                self.pool,
                self.config,
                self.threads,
                work.progress,
                self.device,
            )

        return self.folder.stage("quantile", self._settings(*names), [hog], body)

    def cliques(
        self,
        number: int,
        students: Sequence[Stage],
        hog: Stage,
        found: Stage,
        cut: Stage | None = None,
    ) -> Stage:
        """Compact cliques (Sect. 2.2); `cut` has chosen their quantile."""
        names = ("clique_quantile", *_OF_CLIQUES)

        def body(work: StageWork) -> dict[str, Any]:
            nearest = load_array(found.folder / NEAREST) if self._expansion(students) else None
            quantile = cut.summary["quantile"] if cut else self._values["clique_quantile"]
            built = parts.make_cliques(
                self._teacher(students, hog, nearest),
                load_array(found.folder / "indices.npy"),
                self.pool,
                self.config,
                quantile,
                self.threads,
                work.progress,
            )
            save_array(work.folder / "indptr.npy", built.membership.indptr.astype(np.int64))
            save_array(work.folder / "indices.npy", built.membership.indices.astype(np.int64))
            save_array(work.folder / "part.npy", built.part)
            for part, similarity in enumerate(built.similarity):
                save_array(work.folder / f"similarity-{part}.npy", similarity)
            return built.summary

        name = f"round-{number}/cliques"
        after = [*students, hog, found, *([cut] if cut else [])]
        return self.folder.stage(name, self._settings(*names), after, body)

    def batches(self, number: int, built: Stage) -> Stage:
        """Batches of mutually distant cliques: Eq. (1)."""
        names = (
            "batch_method",
            "batch_mode",
            "n_batches",
            "cliques_per_batch",
            "cliques_per_selection",
            "batch_similarity",
            "lambda1",
            "lambda2",
            "lambda3",
            "coverage_p",
            "batch_time_limit",
            "seed",
        )
        settings = self._settings(*names)
        if self.config.training.loss == "softmax" and self.config.lambda1 is None:
            settings["lambda1"] = "softmax"  # which lambda1 follows where it is left out

        def body(work: StageWork) -> dict[str, Any]:
            cliques = load_cliques(built.folder, len(self.pool))
            chosen = parts.choose_batches(
                cliques, self.config, self.threads, work.progress, self.device
            )
            save_array(work.folder / "indptr.npy", chosen.indptr)
            save_array(work.folder / "indices.npy", chosen.indices)
            return chosen.summary

        name = f"round-{number}/batches"
        return self.folder.stage(name, settings, [built], body)

    def training(self, number: int, built: Stage, chosen: Stage, before: Stage | None) -> Stage:
        """Train on the batches (Sect. 2.4); from the second round on, from the round before."""
        settings = self._settings("mirror", "focus") | {
            "training": self.config.training.what_counts(),
            "seed": self.config.seed + number - 1,
        }

        def body(work: StageWork) -> dict[str, Any]:
            from cliquesim.training import EmbeddingModel

            membership = load_cliques(built.folder, len(self.pool)).membership
            options = {
                "membership": membership,
                "batches": load_batches(chosen.folder, membership.shape[0]),
                "pool": np.stack([self.pool.frame, self.pool.flip], axis=1),
                "sequence": self.sequence,
                "extent": self.extent,
                "config": dataclasses.replace(self.config.training, seed=settings["seed"]),
                "initial": EmbeddingModel.load(before.folder / MODEL) if before else None,
                "device": self.device,
                "num_threads": self.threads,
            }
            if self.ranks is not None:
                # The others open the frames themselves.
                frames = self.corpus.folder or self.folder.path / CORPUS
                checkpoint = work.folder / CHECKPOINT
                self.ranks.from_first((frames.resolve(), checkpoint.resolve(), options))
            return train_network(work, self.corpus.frames, ranks=self.ranks, **options)

        after = [built, chosen, *([before] if before else [])]
        name = f"round-{number}/training"
        return self.folder.stage(name, settings, after, body, resumable=True)

    def features(self, number: int, trained: Stage) -> Stage:
        """Learned features of the pool, standardised: dot product = Pearson correlation."""

        def body(work: StageWork) -> dict[str, Any]:
            from cliquesim.training import EmbeddingModel, embed

            model = EmbeddingModel.load(trained.folder / MODEL)
            sides = [False, True] if self.config.mirror else [False]
            blocks = [
                embed(
                    model,
                    self.corpus.frames,
                    extent=self.extent,
                    flip=flip,
                    device=self.device,
                    num_threads=self.threads,
                    progress=parts.share_of(work.progress, flip, 1, len(sides)),
                )
                for flip in sides
            ]
            features = standardize(np.concatenate(blocks), num_threads=self.threads)
            save_array(work.folder / "features.npy", features)
            return {"rows": len(features), "dimensions": features.shape[1]}

        name = f"round-{number}/features"
        return self.folder.stage(name, self._settings("mirror", "focus"), [trained], body)

    def embedding(self, hog: Stage, students: Sequence[Stage]) -> Stage:
        """One vector per frame; its dot product is the similarity that search uses."""

        def body(work: StageWork) -> dict[str, Any]:
            n = len(self.corpus)
            learned = [load_array(one.folder / "features.npy")[:n] for one in students]
            fused = self.config.embedding == "fused"
            whitened = load_array(hog.folder / "descriptors.npy", mmap=True)[:n] if fused else None
            features, weights = self._fused(learned, whitened, self.sequence)
            save_array(work.folder / "embedding.npy", features)
            return {
                "rows": n,
                "dimensions": int(features.shape[1]),
                "learned_dimensions": sum(part.shape[1] for part in learned),
                "weights": list(weights) if fused else [*weights, 0.0],
            }

        names = ("embedding", "hog_weight")
        return self.folder.stage("embedding", self._settings(*names), [hog, *students], body)

    def model(self, hog: Stage, trained: Sequence[Stage], embedding: Stage) -> Stage:
        """What embeds further frames."""

        def body(work: StageWork) -> dict[str, Any]:
            from cliquesim.training import EmbeddingModel

            Encoder(
                HogLda.load(hog.folder / "hog_lda"),
                [EmbeddingModel.load(one.folder / MODEL) for one in trained],
                embedding.summary["weights"],
                self.config.focus,
            ).save(work.folder)
            return {}

        return self.folder.stage("model", self._settings("focus"), [hog, *trained, embedding], body)


def train_network(
    work: StageWork, frames: NDArray[np.uint8], membership: Any, batches: Any, **options: Any
) -> dict[str, Any]:
    """The body of a resumable stage that trains: network, loss and summary; options of `train`."""
    from cliquesim.training import train

    checkpoint = work.folder / CHECKPOINT
    result = train(
        frames,
        membership,
        batches,
        checkpoint=checkpoint,
        progress=lambda step, steps, loss: work.note(step / steps, f"loss {loss:.3f}"),
        **options,
    )
    checkpoint.unlink(missing_ok=True)
    result.model.save(work.folder / MODEL)
    save_array(work.folder / "loss.npy", result.loss)
    tail = max(1, len(result.loss) // 20)
    return {
        "steps": len(result.loss),
        "loss": float(result.loss[-tail:].mean()),
        "resumed_from": result.resumed_from,
        "precision": result.precision,
    }


def load_cliques(folder: Path, columns: int) -> parts.PooledCliques:
    """The cliques of a finished round; `columns` is the number of rows of the pool."""
    indptr, indices = load_array(folder / "indptr.npy"), load_array(folder / "indices.npy")
    part = load_array(folder / "part.npy")
    membership = sp.csr_array(
        (np.ones(len(indices), np.uint8), indices, indptr), shape=(len(part), columns)
    )
    count = len(list(folder.glob("similarity-*.npy")))
    similarity = [load_array(folder / f"similarity-{p}.npy", mmap=True) for p in range(count)]
    return parts.PooledCliques(membership, part, similarity, {})


def load_batches(folder: Path, cliques: int) -> sp.csr_array:
    """The chosen batches as X in {0, 1}^(B x K) of Eq. (1), sparse."""
    indptr, indices = load_array(folder / "indptr.npy"), load_array(folder / "indices.npy")
    ones = np.ones(len(indices), bool)
    return sp.csr_array((ones, indices, indptr), shape=(len(indptr) - 1, cliques))


def agreement(before: Stage, now: Stage) -> float:
    """Mean share of a row's neighbours that two rounds have in common."""
    return parts.neighbor_agreement(
        load_array(before.folder / "indices.npy"), load_array(now.folder / "indices.npy")
    )
