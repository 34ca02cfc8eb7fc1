"""Training on batches of cliques: Eq. (7) and (8), with exact resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from cliquesim import _core
from cliquesim._files import PathLike
from cliquesim._validation import as_extent
from cliquesim.errors import InputError, RunError
from cliquesim.training._cuda_step import CudaStep, repeatable_convolutions
from cliquesim.training.augmentation import augment_frames
from cliquesim.training.checkpoints import (
    TrainingState,
    fingerprint,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from cliquesim.training.config import TrainingConfig
from cliquesim.training.distributed import Ranks
from cliquesim.training.gradient_mean import GradientMean
from cliquesim.training.losses import CliqueHead, clique_loss
from cliquesim.training.map_components import add_map_components
from cliquesim.training.model import EmbeddingModel
from cliquesim.training.optimizers import AveragedWeights, build_optimizer, learning_rate
from cliquesim.training.pixels import (
    as_torch_device,
    check_frames,
    limited_threads,
    resized,
    resolve_precision,
)
from cliquesim.training.sampling import (
    CliqueSampler,
    as_pool,
    batch_rows,
    labels_of_frames,
    step_seed,
)
from cliquesim.training.step_inputs import StepSource

Progress = Callable[[int, int, float], object]


@dataclass(frozen=True)
class TrainingResult:
    """A trained network and how it got there.

    Attributes
    ----------
    model
        With the averaged weights, if the settings average them.
    loss
        (steps,) float64, the loss of every step; of several processes their mean.
    resumed_from
        Steps that came from a checkpoint.
    seconds
        Wall clock of the other steps.
    precision
        `"float32"` or `"bfloat16"`.
    """

    model: EmbeddingModel
    loss: NDArray[np.float64]
    resumed_from: int
    seconds: float
    precision: str


def train(
    frames: NDArray[Any],
    membership: Any,
    batches: Any = None,
    *,
    pool: ArrayLike | None = None,
    sequence: ArrayLike | None = None,
    category: ArrayLike | None = None,
    extent: ArrayLike | None = None,
    config: TrainingConfig | None = None,
    initial: EmbeddingModel | None = None,
    checkpoint: PathLike | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    num_threads: int | None = None,
    ranks: Ranks | None = None,
) -> TrainingResult:
    """Train a network to tell the cliques of each batch apart (Sect. 2.4).

    Each step takes one batch x_b, draws frames from its cliques, changes them at random and
    makes one step on the loss. What a step draws depends on the seed and the step alone; a run
    that goes on from a checkpoint equals the uninterrupted one bit for bit (same machine, same
    number of threads, CPU). With `device="cuda"` frames stay on the GPU, and a step is one CUDA
    graph; see `cliquesim.training._cuda_step`.

    Parameters
    ----------
    frames
        uint8 (N, H, W, 3), may be memory-mapped.
    membership
        Sparse (K, P) of 0/1: cliques by pool rows.
    batches
        bool (B, K), dense or sparse, the X of Eq. (1); None draws random cliques instead.
    pool
        int (P, 2): frame index and flip (0 or 1) of each row; None when P = N, none mirrored.
    sequence
        int (N,), for the boost of same-sequence negatives; None leaves it out.
    category
        int (N,): random batches stay within one; unused with `batches`.
    extent
        (N, 2) in (0, 1]: shares of each frame's width and height that the subject takes, about its
        centre; what is outside counts as surroundings. None: all of it.
    config
        `TrainingConfig()` by default.
    initial
        A model to start from, of the same architecture: a later round (Sect. 2.6).
    checkpoint
        File that is written every `checkpoint_every` steps, and taken up if it is there.
    progress
        Called for every step with (steps done, steps in all, loss); on a GPU when the next has
        begun.
    device
        Torch device.
    num_threads
        For torch; None leaves its own choice.
    ranks
        Processes that train together; all call `train` with the same arguments, and get the same
        result. In step s rank r takes draw s * world + r, and the step goes along the mean of their
        gradients. There are steps / world steps, rounded up, so as many frames are seen. The
        learning rate is not scaled: a rate that grows with the world size has to be asked for.
        Rank 0 writes the checkpoint, from which all go on.

    Raises
    ------
    InputError
        Arrays that do not fit together; a checkpoint of other settings or data.
    RunError
        The loss became NaN or infinite; CUDA is asked for and cannot be used; another rank failed.
    KeyboardInterrupt
        After Ctrl-C, when the step in progress is done and its checkpoint written.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from cliquesim.training import TrainingConfig, train
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    >>> cliques = sp.csr_array(np.kron(np.eye(4), np.ones(3)))  # 4 cliques of 3 frames
    >>> config = TrainingConfig(image_size=32, channels=(4, 8), steps=3, cliques_per_batch=4)
    >>> train(frames, cliques, config=config).loss.shape
    (3,)
    """
    ranks = ranks or Ranks()
    config = (TrainingConfig() if config is None else config).with_steps(
        int(sp.csr_array(membership).count_nonzero())
    )
    config = dataclasses.replace(config, steps=math.ceil(config.n_steps / ranks.world))
    check_frames(frames)
    frame, flip = as_pool(pool, len(frames))
    sampler = _build_sampler(membership, batches, category, frame, len(frames), config)
    sequence_of_row = labels_of_frames(sequence, frame, len(frames), "sequence")
    share = as_extent(extent, len(frames))
    place = as_torch_device(device, "training")
    cuda = [place] if place.type == "cuda" else []
    with (
        limited_threads(num_threads),
        torch.random.fork_rng(devices=cuda),
        repeatable_convolutions(),
        _freed_memory_kept(place),
    ):
        trainer = _Trainer(
            frames, frame, flip, sequence_of_row, share, sampler, config, place, initial, ranks
        )
        if checkpoint is not None or ranks.world > 1:
            trainer.identify(batches)
        return trainer.run(checkpoint, progress)


def _build_sampler(
    membership: Any,
    batches: Any,
    category: ArrayLike | None,
    frame: NDArray[np.int64],
    n_frames: int,
    config: TrainingConfig,
) -> CliqueSampler:
    if membership.shape[1] != len(frame):
        raise InputError(
            f"membership must have a column for each of {len(frame)} pool rows, "
            f"got shape {membership.shape}"
        )
    of_row = labels_of_frames(category, frame, n_frames, "category")
    return CliqueSampler(membership, batches, of_row, config)


class _Trainer:
    """One training: the data, the network and the loop."""

    def __init__(
        self,
        frames: NDArray[np.uint8],
        frame: NDArray[np.int64],
        flip: NDArray[np.bool_],
        sequence: NDArray[np.int64] | None,
        extent: NDArray[np.float32],
        sampler: CliqueSampler,
        config: TrainingConfig,
        device: torch.device,
        initial: EmbeddingModel | None,
        ranks: Ranks | None = None,
    ) -> None:
        self.frames, self.config, self.device = frames, config, device
        self.ranks = ranks = ranks or Ranks()
        self.source = StepSource(
            sampler, frame, flip, sequence, extent, config, ranks.rank, ranks.world
        )
        self.dtype = resolve_precision(config.precision, device)
        self.key = ""
        self.initial = initial
        self.model = EmbeddingModel.random(config)
        backbone = self.model.backbone
        if initial is not None:
            known = backbone.state_dict().keys()  # components of the map are not trained
            weights = initial.backbone.state_dict()
            backbone.load_state_dict({name: weights[name] for name in known})
        backbone.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules: dict[str, nn.Module] = {"backbone": backbone}
        self.head: CliqueHead | None = None
        if config.loss == "softmax":
            torch.manual_seed(step_seed(config.seed, 0, torch_stream=True))
            biased = config.cosine_scale is None
            self.head = CliqueHead(sampler.n_cliques, backbone.output_dim, biased).to(device)
            modules["head"] = self.head
        average = None if config.averaging == "none" else AveragedWeights(backbone, config)
        on_cuda = device.type == "cuda"
        optimizer = build_optimizer(config, list(modules.values()), graph_safe=on_cuda)
        self.state = TrainingState(modules, optimizer, average, [])
        self.mean = GradientMean(ranks, self.state)
        self.cuda: CudaStep | None = None
        if on_cuda:
            self.cuda = CudaStep(
                frames, self.source, self.state, backbone, self.head, device, self.dtype, self.mean
            )

    def identify(self, batches: Any) -> None:
        """Hash what the result depends on."""
        chosen = None if batches is None else batch_rows(batches)
        some = np.linspace(0, len(self.frames) - 1, min(len(self.frames), 64)).astype(np.int64)
        source = self.source
        member = source.sampler.membership
        weights = [] if self.initial is None else list(self.initial.backbone.state_dict().items())
        self.key = fingerprint(
            self.config,
            {
                "shape": np.array(self.frames.shape),
                "frames": np.asarray(self.frames[some]),
                "frame": source.frame,
                "flip": source.flip,
                "sequence": source.sequence,
                "extent": source.extent,
                "indptr": member.indptr,
                "indices": member.indices,
                "batches": None if chosen is None else chosen.indices.astype(np.int64),
                "world": np.array(self.ranks.world) if self.ranks.world > 1 else None,
                "batch_ends": None if chosen is None else chosen.indptr.astype(np.int64),
                **{f"initial.{name}": value.cpu().numpy() for name, value in weights},
            },
        )

    def run(self, checkpoint: PathLike | None, progress: Progress | None) -> TrainingResult:
        state, config = self.state, self.config
        if checkpoint is not None and has_checkpoint(checkpoint):
            load_checkpoint(checkpoint, state, self.key)
        keys = self.ranks.exchange(int(self.key[:12] or "0", 16))
        if len({*zip(keys, self.ranks.exchange(state.step), strict=True)}) > 1:
            raise RunError(
                "the processes do not start from the same: each must see the same run folder"
            )
        resumed_from, saved_at = state.step, state.step
        written = checkpoint if self.ranks.rank == 0 else None
        told = state.step

        def tell(steps: int) -> None:
            nonlocal told
            while told < min(steps, state.step):
                told += 1
                if progress is not None:
                    progress(told, config.n_steps, state.loss[told - 1])

        start = time.perf_counter()
        with _deferred_interrupt() as interrupted, self._nothing_left_running():
            for step in range(state.step, config.n_steps):
                self.step(step)
                tell(step)  # what became known of earlier ones
                stopping = interrupted.is_set()
                due = (step + 1) % config.checkpoint_every == 0 or step + 1 == config.n_steps
                if due or stopping:
                    self.settle()
                    if written is not None:
                        save_checkpoint(written, state, self.key)
                        saved_at = state.step
                if stopping:
                    raise KeyboardInterrupt(f"training stopped; {saved_at} steps are saved")
                tell(step + 1)
        seconds = time.perf_counter() - start
        self.finish()
        precision = str(self.dtype).removeprefix("torch.")
        return TrainingResult(self.model, np.array(state.loss), resumed_from, seconds, precision)

    def step(self, step: int) -> None:
        """Make or start a step; its loss is logged now or, on a GPU, by the next or `settle`."""
        if not self.model.backbone.training:  # what walks through all modules
            self.model.backbone.train()
        self._log([self._step(step)] if self.cuda is None else self.cuda.run(step))

    def settle(self) -> None:
        """Wait until all steps are done, and log their losses."""
        if self.cuda is not None:
            self._log(self.cuda.finish())

    def _log(self, values: list[float]) -> None:
        for value in values:
            if not math.isfinite(value):
                raise RunError(
                    f"the loss became {value} in step {self.state.step + 1}: lower learning_rate "
                    f"(now {self.config.learning_rate:g})"
                )
            self.state.loss.append(value)

    @contextlib.contextmanager
    def _nothing_left_running(self) -> Iterator[None]:
        """Whatever ends the steps, the GPU is done with what this training lets go of then."""
        try:
            yield
        except BaseException:
            if self.cuda is not None:
                with contextlib.suppress(RuntimeError):  # it says what was raised already
                    self.cuda.wait()
            raise

    def _step(self, step: int) -> float:
        """A step by torch's operations, anywhere; returns the loss."""
        config, state = self.config, self.state
        inputs = self.source.draw(step)
        pixels = resized(self.frames[inputs.frames], config.image_size, self.device)
        images = augment_frames(pixels, inputs.sample, config.augmentation)
        inputs = inputs.to(self.device)
        torch.manual_seed(self.source.torch_seed(step))
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self.model.backbone(images, inputs.extent)
        loss = clique_loss(
            config,
            features.float(),
            self.head,
            inputs.cliques,
            inputs.labels,
            inputs.same_sequence,
            inputs.ignored,
        )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = self.mean.take(loss.detach())
        if math.isfinite(value):
            state.optimizer.step()
            if state.average is not None:
                state.average.update(self.model.backbone, state.average.weight(step))
        return value

    def finish(self) -> None:
        """Put the averaged weights in place, and components of what they make of the frames."""
        backbone, source = self.model.backbone, self.source
        if self.state.average is not None:
            backbone.load_state_dict(self.state.average.tensors)
        backbone.eval()
        add_map_components(
            self.model, self.frames, source.frame, source.flip, source.extent, str(self.device)
        )


@contextlib.contextmanager
def _freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Every step frees and asks for the same maps, each of whose pages would cost a fault."""
    if device.type != "cpu":
        yield
        return
    _core.keep_freed_memory(True)
    try:
        yield
    finally:
        _core.keep_freed_memory(False)


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Note the first Ctrl-C, so that a step ends before it takes effect; a second one acts.

    Only in the main thread and where Python's own handler is in place.
    """
    noted = threading.Event()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield noted
        return

    def note(number: int, stack: FrameType | None) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
