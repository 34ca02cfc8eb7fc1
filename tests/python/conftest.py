"""Shared fixtures: the data that lies outside the repository, when it is there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    # A shell starts its background jobs with Ctrl-C ignored, and they hand that on to their
    # children; the tests of interruption need the ordinary behaviour.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the evaluation data; its tests are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("CLIQUESIM_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no evaluation data in {folder} (CLIQUESIM_SHARED names another place)")
    return folder
