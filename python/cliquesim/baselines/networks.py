"""Networks trained on other positives than cliques, by the run's own trainer and settings.

Sect. 3.1's 1-sample CNN and NN-CNN, Exemplar-CNN, and random weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cliquesim import parts
from cliquesim._files import hash_file, hash_json
from cliquesim.baselines.workplace import Prepared, Workplace
from cliquesim.errors import InputError
from cliquesim.evaluation.protocol import Encode
from cliquesim.fusion import standardize
from cliquesim.pool import Pool
from cliquesim.run_folder import Stage, StageWork
from cliquesim.stages import MODEL, Stages, train_network
from cliquesim.training.config import TrainingConfig

if TYPE_CHECKING:
    from cliquesim.training import EmbeddingModel

N_NEIGHBORS = 10  # of NN-CNN, Sect. 3.1
_MOST_BATCHES = 2000  # then they come again, in another order
_PATCH = 32  # side of Exemplar-CNN's patches; frames are twice that


@dataclass(frozen=True)
class Positives:
    """Sets of frames that a network is to tell apart, in place of cliques.

    Attributes
    ----------
    membership : sparse (K, P) of 0 and 1, sets by rows of the pool.
    part : int64 (K,), the category of each.
    rest : int64 (K,) bool; sets that join every batch of their category.
    """

    membership: sp.csr_array
    part: NDArray[np.int64]
    rest: NDArray[np.bool_]

    @classmethod
    def around(
        cls, pool: Pool, neighbors: NDArray[np.int64] | None = None, *, rest: bool = False
    ) -> Positives:
        """A set per row of the pool: the row, and its neighbours (P, k), -1 for none.

        With `rest` one more per category, of all its rows: the class of "all other samples".
        """
        n = len(pool)
        own = np.arange(n)[:, None]
        rows = own if neighbors is None else np.hstack([own, neighbors])
        lists = [one[one >= 0] for one in rows] + (pool.parts() if rest else [])
        ends = np.cumsum([0, *map(len, lists)])
        indices = np.concatenate(lists)
        membership = sp.csr_array(
            (np.ones(len(indices), np.uint8), indices, ends), shape=(len(lists), n)
        )
        part = pool.category
        if rest:
            part = np.concatenate([part, [pool.category[one[0]] for one in pool.parts()]])
        return cls(membership, part, np.arange(len(lists)) >= n)

    def random_batches(self, r: int, n: int, seed: int) -> sp.csr_array:
        """n random batches (n, K) of r sets of one category, drawn by the categories' sizes."""
        generator = np.random.default_rng(seed)
        names, count = np.unique(self.part[~self.rest], return_counts=True)
        names, count = names[count > 1], count[count > 1]
        if len(names) == 0:
            raise InputError("no category has two frames to tell apart")
        members = {one: np.flatnonzero((self.part == one) & ~self.rest) for one in names.tolist()}
        rest = {one: np.flatnonzero((self.part == one) & self.rest) for one in names.tolist()}
        rows = []
        for one in generator.choice(names, n, p=count / count.sum()).tolist():
            free = min(r - len(rest[one]), len(members[one]))
            rows.append(
                np.append(generator.choice(members[one], max(1, free), replace=False), rest[one])
            )
        indices = np.concatenate(rows)
        ends = np.cumsum([0, *map(len, rows)])
        return sp.csr_array(
            (np.ones(len(indices), np.uint8), indices, ends), shape=(n, len(self.part))
        )


def random_init(place: Workplace) -> Prepared:
    """The run's network with the random weights that training would start from."""
    config = dataclasses.replace(place.config.training, initial_weights=None)
    config = dataclasses.replace(config, seed=place.config.seed)

    def load() -> Encode:
        from cliquesim.training import EmbeddingModel

        return encode_with(EmbeddingModel.random(config), place.threads)

    return place.encoded([place.corpus.fingerprint, hash_json(config.to_dict())], load)


def as_printed(config: TrainingConfig) -> TrainingConfig:
    """How Sect. 3.1 trains its baselines: colours, their changes, the softmax, and its layer alone.

    The network, the optimiser and its schedule stay: so few steps ask for them.
    """
    paper = TrainingConfig.paper()
    return dataclasses.replace(
        config,
        front_end=paper.front_end,
        loss=paper.loss,
        cosine_scale=paper.cosine_scale,
        augmentation=paper.augmentation,
        map_components=paper.map_components,
    )


def one_sample(name: str, printed: bool) -> Callable[[Workplace], Prepared]:
    """1-sample CNN: a class per frame, of that frame alone, changed at random.

    The class of all other samples is in every batch with the softmax; the contrastive loss, in
    which a class without a common look has no place, has the other frames of the batch for it.
    With `printed` trained as Sect. 3.1 has it, else as the run's own network is.
    """

    def prepare(place: Workplace) -> Prepared:
        config = _training(place, printed)
        return _trained(place, name, [], lambda: _sets(place, config), config=config)

    return prepare


def nn_cnn(name: str, printed: bool) -> Callable[[Workplace], Prepared]:
    """NN-CNN (Sect. 3.1): a class per frame, of it and the 10 nearest by whitened HOG.

    Nearest of the frames' category, of whatever sequence, as single frames. With `printed` trained
    as Sect. 3.1 has it, else as the run's own network is.
    """

    def prepare(place: Workplace) -> Prepared:
        each_alone = dataclasses.replace(place.pool, sequence=np.arange(len(place.pool)))
        return _neighbors_as_classes(place, name, each_alone, 0, _training(place, printed))

    return prepare


def neighbors_in_place_of_cliques(place: Workplace) -> Prepared:
    """A class per frame, of it and its 10 nearest as cliques have them: pooled, across sequences.

    What is left of the method without cliques and batches of them.
    """
    radius = place.config.teacher_pool_radius
    return _neighbors_as_classes(
        place, "neighbors_not_cliques", place.pool, radius, place.config.training
    )


def _training(place: Workplace, printed: bool) -> TrainingConfig:
    return as_printed(place.config.training) if printed else place.config.training


def _neighbors_as_classes(
    place: Workplace, name: str, pool: Pool, teacher_pool_radius: int, training: TrainingConfig
) -> Prepared:
    """Train on every row with its nearest of the pool's other sequences, by the run's HOG-LDA."""
    hog = Stages(place.corpus, place.run, place.config, place.threads).descriptors()
    settings = {"n_neighbors": N_NEIGHBORS, "teacher_pool_radius": teacher_pool_radius}

    def sets() -> Positives:
        similar = np.load(hog.folder / "descriptors.npy", mmap_mode="r")
        found, _ = parts.find_neighbors(
            similar, pool, N_NEIGHBORS, teacher_pool_radius, place.threads, lambda _: None
        )
        return _sets(place, training, found)

    return _trained(place, name, [hog], sets, settings, config=training)


def exemplar_cnn(place: Workplace) -> Prepared:
    """Exemplar-CNN: a surrogate class per frame, of one random patch of it, changed at random.

    Features are the maxima over the four quadrants of the frame.
    """
    config = dataclasses.replace(
        place.config.training,
        backbone="exemplar",
        image_size=_PATCH,
        channels=(64, 128, 256),
        embedding_dim=512,
        initial_weights=None,
    )

    def sets() -> Positives:
        pool = Pool.of(place.corpus, place.config.model_copy(update={"mirror": False}))
        return Positives.around(pool, rest=config.loss == "softmax")

    def cut() -> NDArray[np.uint8]:
        return patches(place.corpus.frames, _PATCH, place.config.seed)

    return _trained(place, "exemplar_cnn", [], sets, config=config, frames=cut)


def no_imagenet(place: Workplace) -> Exception | None:
    """Why AlexNet cannot be had, if it cannot."""
    if place.imagenet is None:
        return InputError(
            "alexnet needs a weight file: --imagenet FILE (safetensors, in torchvision's or "
            "Caffe's layout)"
        )
    from cliquesim.baselines.imagenet import load_imagenet

    load_imagenet(place.imagenet)
    return None


def alexnet(place: Workplace) -> Prepared:
    """AlexNet trained on ImageNet, with labels: features of fc7, correlation."""
    path = place.imagenet
    if path is None:
        raise InputError("alexnet needs a weight file: --imagenet FILE")

    def load() -> Encode:
        from cliquesim.baselines.imagenet import load_imagenet

        return encode_with(load_imagenet(path), place.threads)

    return place.encoded([hash_file(path)], load)


def patches(frames: NDArray[np.uint8], side: int, seed: int) -> NDArray[np.uint8]:
    """One random square (n, side, side, 3) of every frame, scaled to twice `side` before."""
    from PIL import Image

    corners = np.random.default_rng(seed).integers(0, side + 1, (len(frames), 2))
    result = np.empty((len(frames), side, side, 3), np.uint8)
    for i, (y, x) in enumerate(corners.tolist()):
        image = Image.fromarray(np.ascontiguousarray(frames[i]))
        scaled = np.asarray(image.resize((2 * side, 2 * side), Image.Resampling.BILINEAR))
        result[i] = scaled[y : y + side, x : x + side]
    return result


def _sets(
    place: Workplace, config: TrainingConfig, neighbors: NDArray[np.int64] | None = None
) -> Positives:
    return Positives.around(place.pool, neighbors, rest=config.loss == "softmax")


def _trained(
    place: Workplace,
    name: str,
    after: list[Stage | str],
    sets: Callable[[], Positives],
    settings: dict[str, Any] | None = None,
    *,
    config: TrainingConfig,
    frames: Callable[[], NDArray[np.uint8]] | None = None,
) -> Prepared:
    """Train on `sets`, in as many steps as all rounds of the run; `frames` None: the corpus's."""
    steps = place.training_steps()
    config = dataclasses.replace(config, steps=steps, seed=place.config.seed)
    chosen = {
        **(settings or {}),
        "training": config.what_counts(),
        "mirror": place.config.mirror,
        "focus": place.config.focus,
        "within_category": place.config.within_category,
        "least_sequences": place.config.least_sequences,
        "cliques_per_batch": place.config.cliques_per_batch,
    }

    def body(work: StageWork) -> dict[str, Any]:
        positives = sets()
        batches = positives.random_batches(
            place.config.cliques_per_batch, min(steps, _MOST_BATCHES), config.seed
        )
        pool = None if frames else np.stack([place.pool.frame, place.pool.flip], axis=1)
        summary = train_network(
            work,
            frames() if frames else place.corpus.frames,
            positives.membership,
            batches,
            pool=pool,
            sequence=place.pool.sequence_of_frames,
            extent=None if frames else place.model.extent_,
            config=config,
            num_threads=place.threads,
        )
        return {"sets": positives.membership.shape[0], **summary}

    after = [place.corpus.fingerprint, *after]
    trained = place.stage(f"{name}/training", chosen, after, body, resumable=True)

    def load() -> Encode:
        from cliquesim.training import EmbeddingModel

        return encode_with(EmbeddingModel.load(trained.folder / MODEL), place.threads)

    return place.encoded([trained], load)


def encode_with(model: EmbeddingModel, threads: int | None) -> Encode:
    """Features of the layer that a network was trained for, as unit rows: Pearson correlation."""
    from cliquesim.training import embed

    def encode(
        frames: NDArray[np.uint8], mirrored: bool, extent: NDArray[Any]
    ) -> NDArray[np.float32]:
        return standardize(embed(model, frames, extent=extent, flip=mirrored, num_threads=threads))

    return encode
