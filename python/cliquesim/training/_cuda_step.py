"""One training step on a CUDA device: its numbers up, one CUDA graph, its loss down."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from cliquesim._pinned import PinnedBlock
from cliquesim.training._cuda_inputs import StepBuffer
from cliquesim.training._cuda_pixels import CudaCorpus, NetworkInput
from cliquesim.training._fused_adagrad import FusedAdagrad
from cliquesim.training.backbones import Backbone
from cliquesim.training.checkpoints import TrainingState
from cliquesim.training.gradient_mean import GradientMean
from cliquesim.training.losses import CliqueHead, clique_loss
from cliquesim.training.optimizers import learning_rate
from cliquesim.training.step_inputs import StepInputs, StepSource

# Steps without a graph before it is captured: torch and cuDNN set themselves up in them.
_WARM_UP = 3
# The softmax over a batch has as many columns as the batch has cliques; rarer numbers than these
# go without a graph.
_MOST_GRAPHS = 8


class CudaStep:
    """The step of a training whose network, loss and optimiser lie on `device`.

    While the GPU works on a step, the numbers of the next are drawn, and its loss is read when the
    next is on its way, so that the GPU never waits for the host. All work is on a stream of its
    own, which the caller's waits for. With several ranks there is no graph: between gradients and
    new weights they hear of each other's errors before they add.

    Parameters
    ----------
    backbone, head
        The modules of `state`.
    dtype
        Of the products.

    Attributes
    ----------
    graphs
        By number of cliques, or all under the batch's size where the loss does not depend on it.
        Where one cannot be made, or there are too many, the same operations are launched one by
        one.
    """

    def __init__(
        self,
        frames: NDArray[np.uint8],
        source: StepSource,
        state: TrainingState,
        backbone: Backbone,
        head: CliqueHead | None,
        device: torch.device,
        dtype: torch.dtype,
        mean: GradientMean,
    ) -> None:
        config = source.config
        self.config, self.source, self.state = config, source, state
        self.backbone, self.head, self.dtype, self.device = backbone, head, dtype, device
        self.mean = mean
        self.buffer = StepBuffer(config.batch_size, device)
        for group in state.optimizer.param_groups:
            group["lr"] = self.buffer.rate
        self.input = NetworkInput(
            CudaCorpus(frames, config.image_size, device),
            backbone.front_end,
            config.augmentation,
            config.batch_size,
            config.image_size,
            dtype,
            device,
            backbone.pixel_block,
        )
        self._trained = _Trained(backbone)
        self.rounded = self._round_weights()
        self.loss = torch.zeros((), device=device)
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.graphs_wanted = True
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._eager: Counter[int] = Counter()
        self._next: tuple[int, StepInputs, int] | None = None
        # Two take turns: one step's loss is read while the next one's is on its way.
        self._losses = [PinnedBlock((), torch.float32, device) for _ in range(2)]
        self._unread: PinnedBlock | None = None

    def run(self, step: int) -> list[float]:
        """Start step `step`; the losses that are known by now and were not before, in order.

        Alone that is the loss of the step before, if `finish` did not give it; with several ranks
        that of this one.
        """
        if self._next is None or self._next[0] != step:
            self.wait()  # for the pinned buffer that is written out of turn
        if self._next is None and isinstance(self.state.optimizer, FusedAdagrad):
            self.state.optimizer.refresh()  # a checkpoint may have been loaded
        inputs, seed = self._prepare(step)
        over_batch = self.head is not None and self.config.head == "batch"
        n_cliques = len(inputs.cliques) if over_batch else self.config.batch_size
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            self.buffer.upload(step)
            torch.cuda.manual_seed(seed)  # that of this GPU alone: quick
            if self.mean.alone:
                self._launch(n_cliques)
                self._losses.reverse()
                self._losses[0].tensor.copy_(self.loss, non_blocking=True)
                self._losses[0].mark()
            else:
                self._differentiate(n_cliques)
        # The step before is done then, and its pinned buffer is free for the next one's numbers.
        known = self.finish()
        if self.mean.alone:
            self._unread = self._losses[0]
        if step + 1 < self.config.n_steps:
            self._prepare(step + 1)
        if not self.mean.alone:
            with torch.cuda.stream(self.stream):
                known = [self.mean.take(self.loss)]
                self._update()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return known

    def finish(self) -> list[float]:
        """Wait for the last step whose loss `run` did not give; its loss."""
        if self._unread is None:
            return []
        block, self._unread = self._unread, None
        return [float(block.array())]

    def wait(self) -> None:
        """Until the GPU has done all that it was given."""
        self.stream.synchronize()

    def _prepare(self, step: int) -> tuple[StepInputs, int]:
        """The inputs and torch's seed of a step."""
        if self._next is None or self._next[0] != step:
            inputs, average = self.source.draw(step), self.state.average
            weight = 0.0 if average is None else average.weight(step)
            self.buffer.write(step, inputs, learning_rate(self.config, step), weight)
            self._next = step, inputs, self.source.torch_seed(step)
        return self._next[1:]

    def _launch(self, n_cliques: int) -> None:
        if n_cliques in self.graphs:
            self.graphs[n_cliques].replay()
            return
        self._compute(n_cliques)
        self._eager[n_cliques] += 1
        if (
            self.graphs_wanted
            and self._eager[n_cliques] >= _WARM_UP
            and len(self.graphs) < _MOST_GRAPHS
        ):
            self._capture(n_cliques)

    def _compute(self, n_cliques: int) -> None:
        """From the buffer to new weights and `loss`, without waiting for the GPU."""
        self._differentiate(n_cliques)
        self._update()

    def _differentiate(self, n_cliques: int) -> None:
        """From the buffer to gradients and `loss`."""
        buffer = self.buffer
        images = self.input.make(buffer.changes)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = functional_call(self._trained, self.rounded, images)
        loss = clique_loss(
            self.config,
            features.float(),
            self.head,
            buffer.cliques[:n_cliques],
            buffer.labels,
            *self._relations(),
        )
        self.state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.loss.copy_(loss.detach())

    def _update(self) -> None:
        self.state.optimizer.step()
        if self.state.average is not None:
            self.state.average.update(self.backbone, self.buffer.average)

    def _round_weights(self) -> dict[str, Tensor]:
        """Weights that products read in place of the parameters, by name, where AdaGrad does so."""
        optimizer, alone = self.state.optimizer, self.mean.alone
        if not isinstance(optimizer, FusedAdagrad) or not alone or self.dtype != torch.bfloat16:
            return {}
        return {
            f"{name}.{one}": optimizer.round(parameter)
            for name, module in self._trained.named_modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
            for one, parameter in module.named_parameters(recurse=False)
        }

    def _relations(self) -> tuple[Tensor | None, Tensor | None]:
        same_sequence, ignored = self.source.relates
        return (
            self.buffer.same_sequence if same_sequence else None,
            self.buffer.ignored if ignored else None,
        )

    def _capture(self, n_cliques: int) -> None:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self.stream):
                self._compute(n_cliques)
        except RuntimeError as error:
            warnings.warn(
                f"training goes on without a CUDA graph, which could not be made: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            self.state.optimizer.zero_grad(set_to_none=True)
            self.graphs_wanted = False
        else:
            self.graphs[n_cliques] = graph


class _Trained(nn.Module):
    """A backbone up to the layer that is trained."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone.embed_seen(images, self.backbone.trained_layer)
        return features


@contextlib.contextmanager
def repeatable_convolutions() -> Iterator[None]:
    """Let cuDNN sum in a fixed order and choose without a stopwatch, so that a seed repeats."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
