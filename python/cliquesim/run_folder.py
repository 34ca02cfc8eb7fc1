"""The run folder: stages on disk that are skipped when unchanged and resumed when interrupted.

Layout::

    RUN/run.json            format version, cliquesim version, input, settings
    RUN/<stage>/stage.json  key, outputs with sizes and hashes, seconds, summary
    RUN/<stage>/...         the stage's outputs: .npy, .safetensors, .json, .csv

A stage's *key* is the hash of its name, its settings and the keys of the stages before it. A stage
runs in ``RUN/.<stage>.partial`` and is renamed when it is complete, so that at every moment a stage
is there whole or not at all. A partial folder is kept for a stage that can go on from its own
checkpoints, and used only if its key is the same.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cliquesim
from cliquesim._files import hash_file, hash_json, load_json, save_json
from cliquesim.errors import InputError, RunError

FORMAT_VERSION = 4
_HASHED_BYTES = 256 << 20  # larger outputs are checked by their size alone


class StageObserver(Protocol):
    """Told what a run is doing; the command line draws its progress bars with it."""

    def start(self, stage: str) -> None: ...
    def progress(self, stage: str, fraction: float, note: str = "") -> None: ...
    def finish(
        self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]
    ) -> None: ...


class SilentObserver:
    """Says nothing."""

    def start(self, stage: str) -> None: ...
    def progress(self, stage: str, fraction: float, note: str = "") -> None: ...
    def finish(
        self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]
    ) -> None: ...


@dataclass(frozen=True)
class Stage:
    """A finished stage: where its outputs are, and the key that later stages depend on."""

    name: str
    key: str
    folder: Path
    seconds: float
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageWork:
    """What a stage's body gets: the folder to fill and the way to report its progress."""

    folder: Path
    resuming: bool
    progress: Callable[[float], None]
    note: Callable[[float, str], None]


def _fsync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class RunFolder(AbstractContextManager["RunFolder"]):
    """One run on disk, locked while it is open for writing.

    Parameters
    ----------
    path : the folder; made when it does not exist.
    inputs : what the run is about (source and fingerprint); another input is refused.
    settings : all settings of the run; others are refused unless `update`.
    update : accept changed settings; the stages that depend on them are done again.
    base : another run of the same input; its stages stand in for those that would be equal.

    Raises
    ------
    InputError
        `path` is something else than a run, or a run of another format version, of other input, or
        (without `update`) of other settings.
    RunError
        Another process is working on the run.
    """

    planning = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        inputs: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        update: bool = False,
        base: Path | None = None,
        observer: StageObserver | None = None,
    ) -> None:
        self.path = Path(path)
        self.base = base
        self.observer = observer or SilentObserver()
        previous = read_manifest(self.path) if self.path.exists() else None
        if previous is not None:
            self._check_same_run(previous, inputs, settings, update)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        self.manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "cliquesim": cliquesim.__version__,
            "input": dict(inputs),
            "settings": dict(settings),
        }
        save_json(self.path / "run.json", self.manifest)

    def _check_same_run(
        self,
        previous: Mapping[str, Any],
        inputs: Mapping[str, Any],
        settings: Mapping[str, Any],
        update: bool,
    ) -> None:
        if previous["input"].get("fingerprint") != inputs.get("fingerprint"):
            raise InputError(
                f"{self.path} is the run of another input ({previous['input'].get('source')}, "
                f"fingerprint {previous['input'].get('fingerprint')}); choose another --out"
            )
        old, new = previous["settings"], json.loads(json.dumps(settings))
        changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
        if changed and not update:
            changes = ", ".join(f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in changed)
            raise InputError(
                f"{self.path} was made with other settings ({changes}); choose another folder for "
                "--out, or pass --update to redo the stages that depend on them"
            )

    def _take_lock(self) -> int:
        import fcntl

        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(f"another process is working on {self.path}") from None
        return descriptor

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def stage(
        self,
        name: str,
        settings: Mapping[str, Any],
        after: Sequence[Stage | str],
        body: Callable[[StageWork], Mapping[str, Any] | None],
        *,
        resumable: bool = False,
    ) -> Stage:
        """Run `body` unless its outputs are there already; `after` are stages (or plain keys).

        With `resumable`, an interrupted stage's partial folder is handed to the next attempt.
        """
        keys, key = _keys(name, settings, after)
        folder = self.path / name
        for place in (self.path, *([self.base] if self.base else [])):
            done = read_stage(place / name, name)
            if done is not None and done.key == key:
                self.observer.finish(name, done.seconds, True, done.summary)
                return done

        partial = folder.with_name(f".{folder.name}.partial")
        resuming = resumable and _partial_key(partial) == key
        if partial.exists() and not resuming:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        save_json(partial / "partial.json", {"key": key})

        self.observer.start(name)
        start = time.monotonic()
        work = StageWork(
            partial,
            resuming,
            lambda fraction: self.observer.progress(name, fraction),
            lambda fraction, text: self.observer.progress(name, fraction, text),
        )
        summary = dict(body(work) or {})
        seconds = time.monotonic() - start
        (partial / "partial.json").unlink()
        outputs = {
            str(path.relative_to(partial)): {
                "bytes": path.stat().st_size,
                **({"hash": hash_file(path)} if path.stat().st_size <= _HASHED_BYTES else {}),
            }
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        save_json(
            partial / "stage.json",
            {
                "stage": name,
                "key": key,
                "settings": dict(settings),
                "after": keys,
                "seconds": round(seconds, 3),
                "peak_memory_mib": round(peak_memory_mib(), 1),
                "summary": summary,
                "outputs": outputs,
            },
        )
        _fsync_tree(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
        self.observer.finish(name, seconds, False, summary)
        return Stage(name, key, folder, seconds, summary)


class PlannedRun:
    """Stands in for a RunFolder and runs nothing: notes which stages are done already."""

    planning = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.done: dict[str, bool] = {}

    def stage(
        self,
        name: str,
        settings: Mapping[str, Any],
        after: Sequence[Stage | str],
        body: Callable[[StageWork], Mapping[str, Any] | None],
        *,
        resumable: bool = False,
    ) -> Stage:
        """As `RunFolder.stage`, but the body is never called."""
        _, key = _keys(name, settings, after)
        found = read_stage(self.path / name, name)
        self.done[name] = found is not None and found.key == key
        return Stage(name, key, self.path / name, 0.0)


def _keys(
    name: str, settings: Mapping[str, Any], after: Sequence[Stage | str]
) -> tuple[list[str], str]:
    keys = [one if isinstance(one, str) else one.key for one in after]
    key = hash_json({"stage": name, "format": FORMAT_VERSION, "settings": settings, "after": keys})
    return keys, key


def _partial_key(partial: Path) -> str | None:
    try:
        return str(load_json(partial / "partial.json")["key"])
    except (OSError, ValueError, KeyError):
        return None


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The run.json of a run folder, or None for an empty folder; InputError for anything else."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder")
    manifest_path = path / "run.json"
    if not manifest_path.exists():
        # A fit that was stopped while it read the frames leaves their cache alone.
        begun = (path / "corpus/.lock").exists()
        if any(one.name not in {".lock", *(["corpus"] * begun)} for one in path.iterdir()):
            raise InputError(f"{path} is not empty and holds no cliquesim run (no run.json)")
        return None
    try:
        manifest = load_json(manifest_path)
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest_path} is damaged: {error}") from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} is a run of format version {version} (cliquesim "
            f"{manifest.get('cliquesim', 'unknown')}); cliquesim {cliquesim.__version__} reads "
            f"version {FORMAT_VERSION}: fit again into another folder"
        )
    return dict(manifest)


def open_run(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest of an existing run; InputError when there is none."""
    folder = Path(path)
    if not folder.exists():
        raise InputError(
            f"{folder} does not exist; make it with: cliquesim fit FRAMES --out {folder}"
        )
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} is an empty folder, not a run")
    return folder, manifest


def read_stage(folder: Path, name: str) -> Stage | None:
    """The finished stage in `folder` if all its outputs are intact."""
    try:
        record = load_json(folder / "stage.json")
        for relative, output in record["outputs"].items():
            path = folder / relative
            if path.stat().st_size != output["bytes"]:
                return None
            if "hash" in output and hash_file(path) != output["hash"]:
                return None
        return Stage(name, record["key"], folder, record["seconds"], record["summary"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
