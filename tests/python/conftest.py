"""Shared fixtures: data that lies outside the repository, when it is there; a small training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_training


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


@pytest.fixture(scope="module")
def toy() -> Any:
    """Frames, membership and sequences of a small training."""
    return toy_training.bars()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from a second thread, and bits depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
