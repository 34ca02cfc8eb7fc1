"""The run folder: what is skipped, redone, resumed and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cliquesim.errors import InputError, RunError
from cliquesim.run_folder import FORMAT_VERSION, RunFolder, StageWork, open_run

INPUT = {"source": "frames", "fingerprint": "abc"}


class Bodies:
    """Two chained stages that count how often they run."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def run(self, folder: Path, settings: dict[str, int], *, update: bool = False) -> None:
        with RunFolder(folder, INPUT, settings, update=update) as run:
            one = run.stage("one", {"a": settings["a"]}, [], self.body("one"))
            run.stage("deep/two", {"b": settings["b"]}, [one], self.body("two"))

    def body(self, name: str):  # type: ignore[no-untyped-def]
        def write(work: StageWork) -> dict[str, str]:
            self.runs.append(name)
            (work.folder / "out.txt").write_text(name)
            return {"wrote": name}

        return write


def test_unchanged_stages_are_skipped_and_changed_ones_redone(tmp_path: Path) -> None:
    bodies = Bodies()
    bodies.run(tmp_path / "run", {"a": 1, "b": 1})
    bodies.run(tmp_path / "run", {"a": 1, "b": 1})
    assert bodies.runs == ["one", "two"]
    bodies.run(tmp_path / "run", {"a": 1, "b": 2}, update=True)
    assert bodies.runs == ["one", "two", "two"]
    bodies.run(tmp_path / "run", {"a": 2, "b": 2}, update=True)
    assert bodies.runs[3:] == ["one", "two"]


def test_equal_stages_of_another_run_stand_in(tmp_path: Path) -> None:
    bodies, base = Bodies(), tmp_path / "base"
    bodies.run(base, {"a": 1, "b": 1})
    with RunFolder(tmp_path / "run", INPUT, {}, base=base) as run:
        one = run.stage("one", {"a": 1}, [], bodies.body("one"))
        two = run.stage("deep/two", {"b": 2}, [one], bodies.body("two"))
    assert one.folder == base / "one"
    assert two.folder == tmp_path / "run/deep/two"
    assert bodies.runs == ["one", "two", "two"]


def test_damaged_output_is_made_again(tmp_path: Path) -> None:
    bodies = Bodies()
    bodies.run(tmp_path / "run", {"a": 1, "b": 1})
    (tmp_path / "run/one/out.txt").write_text("onf")
    bodies.run(tmp_path / "run", {"a": 1, "b": 1})
    assert bodies.runs == ["one", "two", "one"]


def test_an_interrupted_stage_leaves_nothing_that_counts(tmp_path: Path) -> None:
    def die(work: StageWork) -> None:
        (work.folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    def finish(work: StageWork) -> None:
        assert not work.resuming
        assert [one.name for one in work.folder.iterdir()] == ["partial.json"]

    for body in (die, finish):
        with RunFolder(tmp_path / "run", INPUT, {}) as run:
            if body is die:
                with pytest.raises(KeyboardInterrupt):
                    run.stage("one", {}, [], body)
                assert not (tmp_path / "run/one").exists()
            else:
                run.stage("one", {}, [], body)


def test_a_resumable_stage_gets_its_partial_folder_back(tmp_path: Path) -> None:
    def die(work: StageWork) -> None:
        (work.folder / "checkpoint").write_text("7")
        raise KeyboardInterrupt

    seen: list[bool] = []

    def go_on(work: StageWork) -> None:
        seen.append(work.resuming and (work.folder / "checkpoint").read_text() == "7")

    def start_anew(work: StageWork) -> None:
        seen.append(work.resuming)

    with RunFolder(tmp_path / "run", INPUT, {}) as run:
        with pytest.raises(KeyboardInterrupt):
            run.stage("one", {"x": 1}, [], die, resumable=True)
        run.stage("one", {"x": 1}, [], go_on, resumable=True)
        with pytest.raises(KeyboardInterrupt):
            run.stage("two", {"x": 1}, [], die, resumable=True)
        run.stage("two", {"x": 2}, [], start_anew, resumable=True)
    assert seen == [True, False]


def test_another_input_or_other_settings_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", INPUT, {"a": 1}):
        pass
    with pytest.raises(InputError, match="run of another input"):
        RunFolder(tmp_path / "run", {"source": "other", "fingerprint": "xyz"}, {"a": 1})
    with pytest.raises(InputError, match=r"a: 1 -> 2.*--update"):
        RunFolder(tmp_path / "run", INPUT, {"a": 2})


def test_folders_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(InputError, match="holds no cliquesim run"):
        RunFolder(tmp_path, INPUT, {})
    with pytest.raises(InputError, match="does not exist"):
        open_run(tmp_path / "nothing")
    with pytest.raises(InputError, match="is not a folder"):
        open_run(tmp_path / "holiday.jpg")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", INPUT, {}):
        pass
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    manifest["format_version"] = FORMAT_VERSION + 1
    (tmp_path / "run/run.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"format version {FORMAT_VERSION + 1}"):
        open_run(tmp_path / "run")
    with pytest.raises(InputError, match=f"format version {FORMAT_VERSION + 1}"):
        RunFolder(tmp_path / "run", INPUT, {})


def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run", INPUT, {}),
        pytest.raises(RunError, match="another process"),
    ):
        RunFolder(tmp_path / "run", INPUT, {})
