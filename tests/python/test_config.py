"""Settings: presets, files, single changes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cliquesim.config import PRESETS, Config, make_config, parse_setting
from cliquesim.errors import InputError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_survive_json(preset: str) -> None:
    config = make_config(preset)
    assert Config(**json.loads(config.model_dump_json())) == config


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"training": {"steps": 7}, "seed": 1}')
    config = make_config("demo", file, {"seed": 2})
    assert (config.training.steps, config.seed, config.max_rounds) == (7, 2, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_batchez": 3}, "did you mean 'n_batches'"),
        ({"training.stepz": 3}, "did you mean 'training.steps'"),
        ({"training.augmentation.erasing": 7}, "erasing must be in"),
        ({"training.steps": 0}, "steps must be at least 1"),
        ({"n_batches": 0}, "setting n_batches"),
        ({"training.steps": "many"}, r"setting training\.steps"),
        ({"lambda1": float("nan")}, "setting lambda1"),
        ({"scales": (16,), "scale_margins": (1.0,)}, "fewer than three cells"),
        ({"scales": (64,)}, "same length"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config(changes=changes)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_bad_files_are_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"settings\.json"):
        make_config(file=file)
    with pytest.raises(InputError, match=r"missing\.json"):
        make_config(file=tmp_path / "missing.json")


def test_settings_of_the_command_line() -> None:
    assert parse_setting("training.steps=7") == ("training.steps", 7)
    assert parse_setting("training.loss=softmax") == ("training.loss", "softmax")
    assert parse_setting("scales=[64, 96]") == ("scales", [64, 96])
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse_setting("steps")
