"""`device=`: what is refused, and with which words."""

from __future__ import annotations

import pytest

from cliquesim._device import check_device, cuda_status
from cliquesim.errors import InputError, RunError


def test_cpu_is_always_there() -> None:
    assert check_device("cpu", stage="hog") == "cpu"


def test_unknown_device_is_bad_input() -> None:
    with pytest.raises(InputError, match="device must be one of 'cpu', 'cuda', got 'tpu'"):
        check_device("tpu", stage="hog")


def test_unusable_cuda_is_refused_with_the_reason() -> None:
    available, reason = cuda_status()
    assert reason
    if available:
        pytest.skip("CUDA can be used here")
    with pytest.raises(RunError) as error:
        check_device("cuda", stage="temporal pooling")
    assert reason in str(error.value)
