"""Where a stage runs: `device="cpu"` or `device="cuda"`, and why CUDA cannot be used."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from cliquesim._validation import as_choice
from cliquesim.errors import RunError

if TYPE_CHECKING:
    import torch


def cuda_status() -> tuple[bool, str]:
    """Whether ``device="cuda"`` can work here, and the reason why not (else what was found).

    The device is asked for at every call: a module that imports says nothing about a driver.
    """
    if importlib.util.find_spec("cliquesim._cuda") is None:
        return False, "this installation was built without the CUDA module cliquesim._cuda"
    try:
        from cliquesim import _cuda
    except ImportError as error:
        return False, f"the CUDA module cliquesim._cuda does not load: {error}"
    count, problem = _cuda.device_status()
    if count == 0:
        return False, problem
    import torch

    if torch.version.cuda is None:
        return False, f"the installed torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return False, f"torch {torch.__version__} finds no usable CUDA device"
    return True, f"{count} CUDA device{'s' if count > 1 else ''}, torch CUDA {torch.version.cuda}"


def check_device(device: str, stage: str) -> str:
    """Return `device`, one of "cpu" and "cuda", if `stage` can run there.

    Raises
    ------
    InputError
        `device` is neither "cpu" nor "cuda".
    RunError
        CUDA cannot be used; the message says why.
    """
    as_choice(device, "device", ("cpu", "cuda"))
    if device == "cuda":
        available, reason = cuda_status()
        if not available:
            raise RunError(f"{stage} cannot run with device='cuda': {reason}")
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that torch can allocate: those that are free, and those it keeps for itself."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def out_of_memory(what: str, need: int, device: torch.device, advice: str = "") -> RunError:
    """The error to raise: `what` takes `need` bytes, and how many are free."""
    free = free_memory(device)
    return RunError(f"{what} {need} bytes of device memory, and {free} are free{advice}")


def on_cuda(values: Any) -> bool:
    """Whether `values` is a tensor on a CUDA device."""
    return bool(getattr(values, "is_cuda", False))


def to_host(values: Any) -> Any:
    """`values`, or the NumPy array of a torch tensor."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return values
