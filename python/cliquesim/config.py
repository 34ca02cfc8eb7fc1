"""Settings of a run, and the presets. One flat list, so that every difference has one name."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cliquesim.errors import InputError
from cliquesim.training.config import TrainingConfig


class Config(BaseModel):
    """All settings of a run that change its result. Sections are the stages, in order.

    The paper's own values are in `PRESETS["paper"]`; where the default differs, a measurement says
    why (README, "What was measured", and bench/README.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, description="of every random choice")

    # corpus
    frame_size: int = Field(96, ge=32, le=512, description="side of the square frames, pixels")
    box_scale: float = Field(1.1, gt=0, le=4, description="crop side over the larger box side")
    max_rejected: float = Field(0.05, ge=0, le=1, description="share of unreadable frames allowed")

    focus: bool = Field(
        True, description="leave out what lies outside the boxes, where the corpus has some"
    )

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
    within_category: bool = Field(True, description="cliques within categories")
    least_sequences: int = Field(
        8,
        ge=0,
        description="with fewer in a category, pieces of them count as sequences",
    )
    n_neighbors: int = Field(30, ge=1, description="of every frame, for its candidate clique")
    teacher_pool_radius: int = Field(2, ge=0, description="Eq. (9) for the similarities of cliques")
    teacher_expansion: int = Field(
        5,
        ge=0,
        description="from the second round on, for the similarities of cliques: how many of its "
        "nearest frames are averaged with a frame",
    )
    clique_quantile: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        0.95,
        description="similarity every pair must reach, a quantile of that of random pairs; auto: "
        "by what the cliques explain",
    )
    clique_min_size: int = Field(3, ge=2)
    clique_per_sequence: int = Field(1, ge=1, description="frames of one sequence in a clique")
    clique_merging: bool = Field(True, description="merge highly overlapping cliques (Sect. 2.2)")
    max_cliques: int = Field(2000, ge=2, description="per category; the best covered are kept")

    # batches, Eq. (1)
    batch_method: Literal["cccp", "greedy", "random"] = "cccp"
    batch_mode: Literal["default", "paper"] = "default"
    n_batches: int = Field(50, ge=1, description="B, per category or part of it")
    cliques_per_batch: int = Field(32, ge=2, description="r")
    cliques_per_selection: int | None = Field(
        300,
        ge=2,
        description="a category of more cliques is dealt into equal parts, B batches for each; "
        "None: never",
    )
    batch_similarity: bool = Field(
        True, description="the similarity term of Eq. (1); False leaves the coverages alone"
    )
    lambda1: float | None = Field(
        None, ge=0, description="coverage of a batch; None: from data, larger with the softmax"
    )
    lambda2: float | None = Field(None, ge=0, description="coverage of all; None: from data")
    lambda3: float | None = Field(None, ge=0, description="integrality; None: a rising path")
    coverage_p: float = Field(1 / 16, gt=0, lt=1)
    batch_time_limit: float | None = Field(
        None, gt=0, description="seconds per selection; results then depend on the machine's speed"
    )

    # training: AugmentationConfig and the rest are dotted names, e.g. training.augmentation.erasing
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    # rounds, embedding
    max_rounds: int = Field(
        3, ge=1, le=4, description="how often cliques are made and a network is trained"
    )
    agreement: float = Field(
        0.95, ge=0, le=1, description="stop when this share of neighbours stays from round to round"
    )
    students: Literal["all", "last"] = Field(
        "all", description="whose networks make the learned similarity: of all rounds, or the last"
    )
    hog_weight: float = Field(
        1 / 3,
        gt=0,
        description="of whitened HOG beside all networks together, where their similarities are "
        "fused: for the cliques of later rounds, and in the embedding",
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


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Sect. 3.1, as printed: HOG-LDA at one scale, B = K = 100, r = 20, AlexNet, AdaGrad, softmax,
    # 1e5 iterations of 128, p = 3.
    "paper": {
        "frame_size": 227,
        "box_scale": 1.1,
        "focus": False,
        "scales": (64,),
        "scale_margins": (1.0,),
        "teacher_pool_radius": 0,
        "teacher_expansion": 0,
        "clique_per_sequence": 2,
        "max_cliques": 100,
        "batch_mode": "paper",
        "n_batches": 100,
        "cliques_per_batch": 20,
        "cliques_per_selection": None,
        "lambda1": 1.0,
        "lambda2": 1.0,
        "lambda3": 1.0,
        "training": TrainingConfig.paper().to_dict(),
        "max_rounds": 3,
        "students": "last",
        "hog_weight": 1.0,
        "embedding": "learned",
        "pool_radius": 3,
    },
    # A small corpus in few minutes: the embedded demo.
    "demo": {
        "training": TrainingConfig.light().to_dict(),
        "max_rounds": 1,
        "n_batches": 30,
        "cliques_per_batch": 16,
    },
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
        values = _merge(values, loaded)
    return _checked(_merge(values, changes or {}))


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `values`, section by section; "training.steps" reaches into a section."""
    merged = dict(values)
    for name, value in changes.items():
        section, dot, rest = name.partition(".")
        if dot:
            value = {rest: value}
        if isinstance(value, dict) and isinstance(merged.get(section, {}), dict):
            value = _merge(merged.get(section, {}), value)
        merged[section] = value
    return merged


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
        raise InputError(f"setting {name}: {first['msg']}{_suggestion(name)}") from error


def _suggestion(name: str) -> str:
    known = [*Config.model_fields, *_dotted("training", TrainingConfig().to_dict())]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close and name not in known else ""


def _dotted(prefix: str, values: dict[str, Any]) -> list[str]:
    names = []
    for name, value in values.items():
        full = f"{prefix}.{name}"
        names += _dotted(full, value) if isinstance(value, dict) else [full]
    return names
