"""Several processes, started by torchrun, that train together; without it there is one.

Rank 0 works and calls the others when it trains. All that they tell each other goes through
`Ranks.exchange`: each hands over a number or, if it failed, its error, and an error ends them all.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cliquesim._device import check_device
from cliquesim.errors import InputError, MissingExtraError, RunError

if TYPE_CHECKING:
    from torch import Tensor

# The others wait through all stages that rank 0 works on alone.
_PATIENCE = timedelta(days=60)
# How long they wait for rank 0 to say what happened.
_FAREWELL = timedelta(seconds=60)
# gloo's threads need Python to let go of what was sent last: one that finds it ended aborts.
_LETTING_GO = 0.2


class PeerError(RunError):
    """Another process failed; all know of it."""


class Ranks:
    """The processes that train together, and this one's number among them.

    Attributes
    ----------
    rank, world
        0-based number of this process, and how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        self._gpus: Any = None
        self._connected = world > 1

    def exchange(self, value: float = 0.0, error: str | None = None) -> list[float]:
        """The values of all ranks, in their order; every rank has to call it.

        Raises
        ------
        PeerError
            A rank handed over an error (and this one did not), or has gone.
        """
        if self.world == 1:
            return [value]
        import torch
        import torch.distributed as dist

        mine = torch.tensor([value, error is not None], dtype=torch.float64)
        said = [torch.empty_like(mine) for _ in range(self.world)]
        errors: list[str | None] = [None] * self.world
        with self._disconnected_on_failure():
            dist.all_gather(said, mine)
            values, failed = torch.stack(said).unbind(1)
            if failed.any():
                dist.all_gather_object(errors, error)
        for rank, problem in enumerate(errors):
            if problem is not None and error is None:
                self._connected = False
                raise PeerError(f"rank {rank} of {self.world}: {problem}")
        return values.tolist()

    def from_first(self, value: Any = None) -> Any:
        """Rank 0's value, which may be large, on every rank."""
        if self.world == 1:
            return value
        import torch
        import torch.distributed as dist

        data = bytearray(pickle.dumps(value) if self.rank == 0 else b"")
        size = int(self.exchange(len(data))[0])
        if self.rank > 0:
            data = bytearray(size)
        with self._disconnected_on_failure():
            dist.broadcast(torch.frombuffer(data, dtype=torch.uint8), 0)
        return pickle.loads(data)

    def add(self, values: Tensor) -> None:
        """Replace contiguous values by their sums over the ranks."""
        if self.world == 1:
            return
        import torch.distributed as dist

        with self._disconnected_on_failure():
            dist.all_reduce(values, group=self._gpus if values.is_cuda else None)

    def take_gpu(self) -> None:
        """Make one GPU of the machine this process's own, and let them add by NCCL."""
        import torch
        import torch.distributed as dist

        check_device("cuda", "training")
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise RunError(f"no GPU is left: this machine has {count}")
        torch.cuda.set_device(local)
        self.exchange()
        self._gpus = dist.new_group(backend="nccl")

    def fail(self, error: BaseException) -> None:
        """Tell the others, who hear of it in their next exchange; rank 0 leaves first.

        For torchrun ends all others, as they are, when one has failed.
        """
        import torch
        import torch.distributed as dist

        if self._connected:
            with contextlib.suppress(PeerError):
                self.exchange(error=_describe(error))
        if self.rank > 0:
            # Nothing is sent: this ends with rank 0's connection.
            with contextlib.suppress(RuntimeError):
                request = dist.irecv(torch.empty(1), 0)
                if request is not None:
                    request.wait(_FAREWELL)

    @contextlib.contextmanager
    def _disconnected_on_failure(self) -> Iterator[None]:
        """Who left in the middle of an exchange can take part in no other."""
        try:
            yield
        except RuntimeError as error:
            self._connected = False
            raise PeerError(f"lost contact with the other processes: {error}") from error
        except BaseException:
            self._connected = False
            raise


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started, else this one alone.

    Whatever ends the block on one rank ends it on all; rank 0's last word is `from_first(None)`,
    for which the others wait. Ctrl-C is rank 0's to notice. An error of another rank is a
    `PeerError` on rank 0; on the others it is an exit without a word.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if ranks.rank > 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        if device == "cuda":
            ranks.take_gpu()
        yield ranks
        if ranks.rank == 0:
            ranks.from_first(None)
        ranks.exchange()  # none takes its connections down before all are done
    except BaseException as error:
        ranks.fail(error)
        if isinstance(error, PeerError) and ranks.rank > 0:
            raise SystemExit(1) from None
        raise
    finally:
        time.sleep(_LETTING_GO)
    dist.destroy_process_group()


def _describe(error: BaseException) -> str:
    if isinstance(error, (InputError, RunError, MissingExtraError)):
        return str(error)
    return f"{type(error).__name__}: {error}"
