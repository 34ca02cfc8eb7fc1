"""What the distributions hold: data and stubs beside the code, and nothing of the workshop."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("scikit_build_core", reason="needs the extra dev")

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from scikit_build_core.build import build_sdist, build_wheel
settings = {"wheel.cmake": "false", "build-dir": sys.argv[1] + "/build"}
print({"wheel": build_wheel, "sdist": build_sdist}[sys.argv[2]](sys.argv[1], settings))
"""


def _build(kind: str, folder: Path) -> Path:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs the source tree")
    command = [sys.executable, "-c", BUILD, str(folder), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel without its compiled modules, which takes seconds instead of minutes."""
    return zipfile.ZipFile(_build("wheel", tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_package_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for expected in (
        "cliquesim/py.typed",
        "cliquesim/_core/__init__.pyi",
        "cliquesim/datasets/demo/data/bodies.npz",
        "cliquesim/datasets/demo/data/PROVENANCE.md",
        "cliquesim/report/template.html",
        "cliquesim/report/style.css",
    ):
        assert expected in names
    source = ROOT / "python/cliquesim/datasets/demo/data/bodies.npz"
    assert wheel.read("cliquesim/datasets/demo/data/bodies.npz") == source.read_bytes()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_tracked_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    command = ["git", "ls-files", "python/cliquesim"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout")
    tracked = {name.removeprefix("python/") for name in listed.stdout.split()}
    assert tracked
    assert not tracked - set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        assert name.startswith("cliquesim"), name
        assert "__pycache__" not in name


def test_the_source_distribution_can_be_built_from(tmp_path: Path) -> None:
    with tarfile.open(_build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for expected in (
        "CMakeLists.txt",
        "csrc/bindings/module.cpp",
        "python/cliquesim/datasets/demo/data/bodies.npz",
        "python/cliquesim/report/template.html",
    ):
        assert expected in names
    assert not any(name.startswith((".ci", "build/")) or name.endswith(".so") for name in names)
