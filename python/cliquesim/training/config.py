"""Settings of the training, as plain values that go to JSON and back. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cliquesim._validation import as_choice, as_count, as_real
from cliquesim.errors import InputError

_LEAST_STEPS, _DRAWS = 1200, 10


@dataclass(frozen=True)
class AugmentationConfig:
    """Strengths of the random changes that one frame goes through; 0 switches a change off.

    Attributes
    ----------
    translation
        Largest shift, as a share of the frame's side, in each direction.
    log_scale
        Largest natural logarithm of the zoom (0.06: between 0.94 and 1.06).
    rotation, shear
        Largest angle in degrees.
    brightness, contrast, saturation, color_gain
        Largest relative change; `color_gain` changes each colour channel on its own.
    erasing
        Probability that a rectangle of `erasing_area` (least and largest share of the frame) is
        replaced by the frame's mean colour.
    background
        Probability that what lies outside a soft ellipse is replaced by another frame's pixels.
        None: 0.7 for frames without a box, 0 for those with one, whose surroundings the network
        does not see anyway; better for short trainings. The ellipse's half axes are drawn from
        `background_radius`, as a share of half the side; its edge is `background_softness` wide.
    """

    translation: float = 0.05
    log_scale: float = 0.06
    rotation: float = 6.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    color_gain: float = 0.0
    erasing: float = 0.3
    erasing_area: tuple[float, float] = (0.02, 0.15)
    background: float | None = 0.7
    background_radius: tuple[float, float] = (0.6, 1.1)
    background_softness: float = 0.15

    def __post_init__(self) -> None:
        for name in ("erasing_area", "background_radius"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be (least, largest) above 0, got {(low, high)}")
        as_real(self.erasing, "erasing", 0.0, 1.0)
        if self.background is not None:
            as_real(self.background, "background", 0.0, 1.0)
        for name in ("brightness", "contrast", "saturation", "color_gain"):
            as_real(getattr(self, name), name, 0.0, 1.0)
        for name in ("translation", "log_scale", "rotation", "shear", "background_softness"):
            as_real(getattr(self, name), name, 0.0)

    @property
    def moves(self) -> bool:
        """Whether frames are shifted, scaled, turned or sheared."""
        return any((self.translation, self.log_scale, self.rotation, self.shear))

    @property
    def recolors(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.color_gain))

    @property
    def replaces(self) -> bool:
        """Whether surroundings may be replaced."""
        return self.background is None or self.background > 0

    @classmethod
    def none(cls) -> AugmentationConfig:
        """No change at all."""
        return cls(translation=0, log_scale=0, rotation=0, erasing=0, background=0)

    @classmethod
    def paper(cls) -> AugmentationConfig:
        """Random translation, scaling, rotation and colour (Sect. 3.1); strengths are ours."""
        return cls(
            translation=0.1,
            log_scale=0.12,
            rotation=12.0,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            color_gain=0.1,
            erasing=0.0,
            background=0.0,
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How one network is trained on cliques; the defaults are those that measured best.

    Attributes
    ----------
    backbone
        `"compact"`; `"alexnet"`: the paper's network, meant for a GPU; or `"exemplar"`: that of the
        baseline Exemplar-CNN, for patches.
    image_size
        Side in pixels of the square that the network sees; frames are resized to it.
    front_end
        `"gradient"`: fixed, sign-free gradients in place of colours; or `"rgb"`.
    channels, embedding_dim
        Channels of the compact network's convolutions, and the length of its embedding.
    map_components
        So many principal components of the compact network's last map join its embedding, for they
        tell more than the trained layer of what the cliques did not ask for; 0: none.
    initial_weights
        Safetensors file to start the backbone from, or None for random weights.
    loss
        `"contrastive"` (supervised contrastive) or `"softmax"`.
    head
        Softmax over the `"batch"`'s cliques only (Sect. 2.3) or over all, `"global"`.
    cosine_scale
        The softmax's logits are the cosines of features and its weights, times this (Wang et al.,
        NormFace, 2017): with 8 one of 32 cliques can become 99 % probable, but not much more. None:
        their products plus a bias, as in the paper.
    temperature
        Of the contrastive loss.
    same_sequence_boost
        Added to the contrastive logits of negatives out of the same sequence.
    label_smoothing
        Of the softmax.
    optimizer
        `"adamw"`, `"adagrad"` (Sect. 3.1) or `"sgd"` with momentum, Eq. (8).
    epsilon
        AdaGrad's smoothing term.
    schedule
        `"one_cycle"` (linear rise over `warmup`, then a cosine down to 0) or `"constant"`.
    weight_decay
        lambda of Eq. (7).
    averaging, averaging_decay
        `"ema"` averages the weights exponentially, `"swa"` evenly over the last quarter of the
        steps, `"none"` keeps the last ones.
    steps, batch_size
        Iterations, and frames in each. Without steps every member of every clique is drawn ten
        times, but there are at least 1,200 steps; see `with_steps`.
    images_per_clique
        Frames drawn from each clique of a batch; None spreads the batch over all its cliques.
    cliques_per_batch
        Only for random batches, when no selection of batches is given.
    precision
        `"auto"` takes bfloat16 where the processor computes in it, else float32.
    checkpoint_every
        Steps between two checkpoints.
    """

    backbone: str = "compact"
    image_size: int = 96
    front_end: str = "gradient"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    embedding_dim: int = 256
    map_components: int = 256
    initial_weights: str | None = None
    loss: str = "contrastive"
    head: str = "batch"
    cosine_scale: float | None = 8.0
    temperature: float = 0.1
    same_sequence_boost: float = 1.0
    label_smoothing: float = 0.0
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    epsilon: float = 1e-4
    weight_decay: float = 0.01
    schedule: str = "one_cycle"
    warmup: float = 0.1
    averaging: str = "ema"
    averaging_decay: float = 0.99
    steps: int | None = None
    batch_size: int = 128
    images_per_clique: int | None = 4
    cliques_per_batch: int = 32
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    precision: str = "auto"
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        as_choice(self.backbone, "backbone", ("compact", "alexnet", "exemplar"))
        as_choice(self.front_end, "front_end", ("gradient", "rgb"))
        as_choice(self.loss, "loss", ("contrastive", "softmax"))
        as_choice(self.head, "head", ("batch", "global"))
        as_choice(self.optimizer, "optimizer", ("adamw", "adagrad", "sgd"))
        as_choice(self.schedule, "schedule", ("one_cycle", "constant"))
        as_choice(self.averaging, "averaging", ("ema", "swa", "none"))
        as_choice(self.precision, "precision", ("auto", "float32", "bfloat16"))
        as_count(self.image_size, "image_size", 16)
        if self.steps is not None:
            as_count(self.steps, "steps", 1)
        as_count(self.batch_size, "batch_size", 4)
        as_count(self.cliques_per_batch, "cliques_per_batch", 2)
        as_count(self.checkpoint_every, "checkpoint_every", 1)
        as_count(self.embedding_dim, "embedding_dim", 1)
        as_count(self.map_components, "map_components", 0)
        as_count(self.seed, "seed", 0)
        if self.images_per_clique is not None:
            as_count(self.images_per_clique, "images_per_clique", 1)
            if 2 * self.images_per_clique > self.batch_size:
                raise InputError(
                    "images_per_clique must leave room for two cliques in a batch of "
                    f"{self.batch_size}, got {self.images_per_clique}"
                )
        as_real(self.temperature, "temperature", 1e-6)
        if self.cosine_scale is not None:
            as_real(self.cosine_scale, "cosine_scale", 1e-6)
        as_real(self.label_smoothing, "label_smoothing", 0.0, 1.0)
        as_real(self.learning_rate, "learning_rate", 0.0)
        as_real(self.weight_decay, "weight_decay", 0.0)
        as_real(self.warmup, "warmup", 0.0, 1.0)
        as_real(self.averaging_decay, "averaging_decay", 0.0, 1.0)

    @classmethod
    def light(cls, **changes: Any) -> TrainingConfig:
        """For small corpora and short waits, such as the demo."""
        light = cls(
            image_size=64,
            channels=(16, 32, 64, 128),
            steps=400,
            images_per_clique=8,
            cliques_per_batch=16,
            augmentation=AugmentationConfig(background=None),
        )
        return dataclasses.replace(light, **changes)

    @classmethod
    def paper(cls, **changes: Any) -> TrainingConfig:
        """Sect. 3.1: AlexNet from random weights, AdaGrad 0.001, batches of 128, softmax."""
        paper = cls(
            backbone="alexnet",
            image_size=227,
            front_end="rgb",
            embedding_dim=4096,
            map_components=0,
            loss="softmax",
            cosine_scale=None,
            optimizer="adagrad",
            learning_rate=0.001,
            epsilon=1e-4,
            weight_decay=0.0,
            schedule="constant",
            averaging="none",
            steps=100_000,
            images_per_clique=None,
            cliques_per_batch=20,
            augmentation=AugmentationConfig.paper(),
            precision="float32",
            checkpoint_every=1000,
        )
        return dataclasses.replace(paper, **changes)

    def with_steps(self, n_members: int) -> TrainingConfig:
        """These settings with a number of steps: their own, or that for so many clique members.

        Few cliques are learned in 1,200 steps, whatever their number; three times as many gained
        nothing. A large corpus has more to be seen.
        """
        if self.steps is not None:
            return self
        steps = max(_LEAST_STEPS, round(_DRAWS * n_members / self.batch_size))
        return dataclasses.replace(self, steps=steps)

    @property
    def n_features(self) -> int:
        """Length of a trained network's embedding, of as many frames as there are dimensions."""
        return self.embedding_dim + (self.map_components if self.backbone == "compact" else 0)

    @property
    def n_steps(self) -> int:
        """`steps`, once it is known."""
        if self.steps is None:
            raise InputError("steps is not known before the cliques are: with_steps")
        return self.steps

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return dataclasses.asdict(self)

    def what_counts(self) -> dict[str, Any]:
        """`to_dict` for comparing two trainings: equal for those of before `cosine_scale`, too."""
        values = self.to_dict()
        if self.loss != "softmax" or self.cosine_scale is None:
            del values["cosine_scale"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`; an unknown name is refused."""
        values = dict(values)
        if isinstance(values.get("augmentation"), dict):
            values["augmentation"] = _build(AugmentationConfig, values["augmentation"])
        config: TrainingConfig = _build(cls, values)
        return config


def _build(kind: type[Any], values: dict[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{kind.__name__} has no setting {unknown[0]!r}")
    return kind(**values)
