"""Settings of a run, and the presets. One flat list, so that every difference has one name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cliquesim.errors import InputError


class Config(BaseModel):
    """All settings of a run that change its result. Sections are the stages, in order.

    The paper's own values are in `PRESETS["paper"]`; where the default differs, a measurement says
    why (README, "What was measured").
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, description="of every random choice")

    # corpus
    frame_size: int = Field(96, ge=32, le=512, description="side of the square frames, pixels")
    box_scale: float = Field(1.1, gt=0, le=4, description="crop side over the larger box side")
    max_rejected: float = Field(0.05, ge=0, le=1, description="share of unreadable frames allowed")

    # hog, whitening
    cell_size: int = Field(8, ge=2, le=64, description="HOG cell, pixels")
    scales: tuple[int, ...] = Field(
        (64, 96), min_length=1, description="sides at which HOG sees the frame, pixels"
    )
    scale_margins: tuple[float, ...] = Field(
        (1.1, 1.0), min_length=1, description="per scale: the frame's side over the crop's side"
    )
    estimator: Literal["full", "stationary"] = "stationary"
    shrinkage: float | Literal["auto"] = Field(
        "auto", description="added to the covariance, in mean eigenvalues"
    )

    # neighbours, cliques
    mirror: bool = Field(True, description="mirrored frames join the pool")
    within_category: bool = Field(
        True, description="cliques within categories, where there are any"
    )
    n_neighbors: int = Field(30, ge=1, description="of every frame, for its candidate clique")
    teacher_pool_radius: int = Field(2, ge=0, description="Eq. (9) for the similarities of cliques")
    clique_quantile: float = Field(0.95, ge=0, lt=1, description="similarity every pair must reach")
    clique_min_size: int = Field(3, ge=2)
    clique_per_sequence: int = Field(1, ge=1, description="frames of one sequence in a clique")
    max_cliques: int = Field(2000, ge=2, description="per category; the best covered are kept")

    # batches, Eq. (1)
    batch_method: Literal["cccp", "greedy", "random"] = "cccp"
    batch_mode: Literal["default", "paper"] = "default"
    n_batches: int = Field(50, ge=1, description="B, per category")
    cliques_per_batch: int = Field(16, ge=2, description="r")
    lambda1: float | None = Field(None, ge=0, description="coverage of a batch; None: from data")
    lambda2: float | None = Field(None, ge=0, description="coverage of all; None: from data")
    lambda3: float | None = Field(None, ge=0, description="integrality; None: a rising path")
    coverage_p: float = Field(1 / 16, gt=0, lt=1)
    batch_time_limit: float | None = Field(
        None, gt=0, description="seconds per category; results then depend on the machine's speed"
    )

    # training
    backbone: Literal["compact", "alexnet"] = "compact"
    front_end: Literal["gradient", "rgb"] = "gradient"
    input_size: int = Field(64, ge=32, description="side of the network's input, pixels")
    loss: Literal["contrastive", "softmax"] = "contrastive"
    head: Literal["batch", "global"] = "batch"
    temperature: float = Field(0.1, gt=0)
    optimizer: Literal["adamw", "adagrad", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    steps: int = Field(1200, ge=1, description="per round")
    batch_size: int = Field(128, ge=2, description="images a step")
    translation: float = Field(0.05, ge=0, description="augmentation: share of the side")
    log_scale: float = Field(0.06, ge=0)
    rotation: float = Field(6.0, ge=0, description="degrees")
    shear: float = Field(0.0, ge=0, description="degrees")
    color: float = Field(0.0, ge=0)
    erasing: float = Field(0.3, ge=0, le=1, description="probability")
    background: float = Field(0.7, ge=0, le=1, description="probability of another's surroundings")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = Field(100, ge=1, description="steps")

    # rounds, embedding
    max_rounds: int = Field(2, ge=1, le=4)
    agreement: float = Field(
        0.8, ge=0, le=1, description="stop when this share of neighbours stays from round to round"
    )
    embedding: Literal["fused", "learned"] = "fused"
    pool_radius: int = Field(1, ge=0, description="Eq. (9) for pooled similarities of the result")

    def model_post_init(self, _: Any) -> None:
        if len(self.scales) != len(self.scale_margins):
            raise ValueError("scales and scale_margins must have the same length")
        for side, margin in zip(self.scales, self.scale_margins, strict=True):
            if not 1 <= margin <= 4:
                raise ValueError(f"scale_margins must be in [1, 4], got {margin}")
            if round(side / self.cell_size) < 3:
                raise ValueError(f"scale {side} has fewer than three cells of {self.cell_size} px")

    def with_changes(self, changes: dict[str, Any]) -> Config:
        """A checked copy with some settings changed; InputError names what is wrong."""
        return _checked({**self.model_dump(), **changes})


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Sect. 3.1, as printed: HOG-LDA at one scale, B = K = 100, r = 20, AlexNet, AdaGrad, softmax,
    # 1e5 iterations of 128, p = 3.
    "paper": {
        "frame_size": 227,
        "box_scale": 1.1,
        "scales": (64,),
        "scale_margins": (1.0,),
        "teacher_pool_radius": 0,
        "clique_per_sequence": 2,
        "max_cliques": 100,
        "batch_mode": "paper",
        "n_batches": 100,
        "cliques_per_batch": 20,
        "lambda1": 1.0,
        "lambda2": 1.0,
        "lambda3": 1.0,
        "backbone": "alexnet",
        "front_end": "rgb",
        "input_size": 227,
        "loss": "softmax",
        "optimizer": "adagrad",
        "learning_rate": 1e-3,
        "weight_decay": 5e-4,
        "steps": 100_000,
        "log_scale": 0.12,
        "rotation": 10.0,
        "translation": 0.1,
        "color": 0.2,
        "erasing": 0.0,
        "background": 0.0,
        "max_rounds": 3,
        "embedding": "learned",
        "pool_radius": 3,
    },
    # A small corpus in few minutes: the embedded demo.
    "demo": {"steps": 400, "max_rounds": 1, "n_batches": 30},
}


def make_config(
    preset: str = "default",
    file: str | os.PathLike[str] | None = None,
    changes: dict[str, Any] | None = None,
) -> Config:
    """Settings from a preset, then a JSON file, then single changes; the later wins."""
    if preset not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    values = dict(PRESETS[preset])
    if file is not None:
        try:
            loaded = json.loads(Path(file).read_text())
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{file} is not JSON: {error}") from error
        if not isinstance(loaded, dict):
            raise InputError(f"{file} must hold one JSON object of settings")
        values.update(loaded)
    values.update(changes or {})
    return _checked(values)


def parse_setting(text: str) -> tuple[str, Any]:
    """`name=value` of the command line; the value is JSON, or a plain word."""
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"--set needs NAME=VALUE, got {text!r}")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()


def _checked(values: dict[str, Any]) -> Config:
    try:
        return Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        known = "" if name in Config.model_fields or name == "settings" else _suggestion(name)
        raise InputError(f"setting {name}: {first['msg']}{known}") from error


def _suggestion(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, Config.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
