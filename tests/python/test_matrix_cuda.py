"""What the stages on a CUDA device share, on the CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What is set, and what torch's matrix product asks for. A process each: torch remembers the way.
SCRIPT = """
import torch
from cliquesim._matrix_cuda import full_precision

def state():
    answers = [getattr(torch.backends.cuda.matmul, "fp32_precision", None)]
    for ask in (torch.get_float32_matmul_precision, lambda: torch.backends.cuda.matmul.allow_tf32):
        try:
            answers.append(ask())
        except RuntimeError:
            answers.append("mixed")
    return answers

{choose}
before = state()
assert before[1:] != ["highest", False] or not {tf32}, before
with full_precision():
    assert torch.backends.cuda.matmul.allow_tf32 is False
assert state() == before, (before, state())
try:
    with full_precision():
        raise KeyError
except KeyError:
    pass
assert state() == before, (before, state())
"""


@pytest.mark.parametrize(
    ("choose", "tf32"),
    [
        ("", False),
        ("torch.set_float32_matmul_precision('high')", True),
        ("torch.set_float32_matmul_precision('medium')", True),
        ("torch.backends.cuda.matmul.allow_tf32 = True", True),
        ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", True),
        ("torch.backends.cuda.matmul.fp32_precision = 'ieee'", False),
        ("torch.backends.fp32_precision = 'tf32'", True),
    ],
)
def test_products_are_never_rounded_to_tf32(choose: str, tf32: bool) -> None:
    import torch

    if "fp32_precision" in choose and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no fp32_precision")
    script = SCRIPT.format(choose=choose, tf32=tf32)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
