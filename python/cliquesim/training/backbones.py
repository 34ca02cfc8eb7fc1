"""Networks that turn a frame into an embedding: compact, AlexNet, and Exemplar-CNN's."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cliquesim import _core
from cliquesim.errors import InputError
from cliquesim.training._activation import ActivationSteps, ResponseNorm, activate
from cliquesim.training._normalisation import NormalisedRelu
from cliquesim.training.config import TrainingConfig


class GradientFrontEnd(nn.Module):
    """Fixed gradients in place of colours: what HOG looks at, before any learning.

    Central differences of the colour channel with the largest magnitude m (as HOG takes them),
    as three channels m, m cos(2 angle), m sin(2 angle): the doubled angle forgets the sign of the
    contrast. They are divided by the root-mean-square magnitude around each pixel, so that light
    and contrast of the neighbourhood drop out. (N, 3, H, W) in [0, 1] to (N, 3, H, W).

    Parameters
    ----------
    window
        Side in pixels of the neighbourhood; odd.
    floor
        Magnitude, of a frame in [0, 1], below which a neighbourhood counts as flat.
    """

    def __init__(self, window: int = 17, floor: float = 0.02) -> None:
        super().__init__()
        if window % 2 == 0:
            raise InputError(f"window must be odd, got {window}")
        self.window = window
        self.floor = floor

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate")
        dx = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
        dy = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
        square = dx * dx + dy * dy
        # The strongest channel, the first one at ties; pairwise is faster than max and gather.
        dxs, dys, squares = dx[:, :1], dy[:, :1], square[:, :1]
        for c in (1, 2):
            stronger = square[:, c : c + 1] > squares
            dxs = torch.where(stronger, dx[:, c : c + 1], dxs)
            dys = torch.where(stronger, dy[:, c : c + 1], dys)
            squares = torch.where(stronger, square[:, c : c + 1], squares)
        dx, dy, square = dxs, dys, squares
        energy = self._box(square.shape[2], square) @ square @ self._box(square.shape[3], square).T
        scale = (energy + self.floor**2).rsqrt()
        magnitude = square.sqrt()
        # cos(2a) = (dx^2 - dy^2) / m^2, sin(2a) = 2 dx dy / m^2; both times m.
        turn = scale / magnitude.clamp_min(1e-8)
        return torch.cat(
            (magnitude * scale, (dx * dx - dy * dy) * turn, 2.0 * dx * dy * turn), dim=1
        )

    def on_cpu(self, images: Tensor, extent: Tensor | None) -> Tensor:
        """`forward` in C++, faded outside `extent`; channels last."""
        n, _, height, width = images.shape
        rows = columns = np.empty((0, 0), np.float32)
        if extent is not None:
            rows, columns = (
                _fading(extent[:, axis].float(), side).numpy()
                for axis, side in ((1, height), (0, width))
            )
        channels = torch.empty((n, height, width, 3))
        _core.gradient_channels(
            images.contiguous().numpy(),
            self.window,
            self.floor,
            rows,
            columns,
            channels.numpy(),
            torch.get_num_threads(),
        )
        return channels.permute(0, 3, 1, 2)

    def _box(self, side: int, like: Tensor) -> Tensor:
        """(side, side): row i averages the window around i, cut at the border."""
        position = torch.arange(side, device=like.device)
        near = (position[:, None] - position[None, :]).abs() <= self.window // 2
        return near.to(like.dtype) / near.sum(1, keepdim=True)


class RGBFrontEnd(nn.Module):
    """Colours, shifted and scaled: by default to about zero mean and unit variance."""

    def __init__(self, mean: float = 0.45, scale: float = 4.0) -> None:
        super().__init__()
        self.mean = mean
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) * self.scale


def seen_by_network(
    front_end: GradientFrontEnd | RGBFrontEnd, images: Tensor, extent: Tensor | None
) -> Tensor:
    """What a front end makes of images (N, 3, H, W), faded outside the subject; channels last.

    Gradients come from C++ on the CPU, unless somebody asks for their derivative.
    """
    if (
        isinstance(front_end, GradientFrontEnd)
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and not images.requires_grad
    ):
        return front_end.on_cpu(images, extent)
    channels = fade_surroundings(front_end(images), extent)
    return channels.contiguous(memory_format=torch.channels_last)


def fade_surroundings(channels: Tensor, extent: Tensor | None, softness: float = 0.1) -> Tensor:
    """What a front end gives, faded to 0 outside the subject.

    Parameters
    ----------
    channels
        (N, C, H, W).
    extent
        (N, 2): shares of width and height that the subject takes, about the centre; None: all.
    softness
        Width of the edge outside the subject, as a share of half the side.
    """
    if extent is None:
        return channels
    rows = _fading(extent[:, 1], channels.shape[2], softness)
    columns = _fading(extent[:, 0], channels.shape[3], softness)
    return channels * (rows[:, None, :, None] * columns[:, None, None, :])


def _fading(share: Tensor, count: int, softness: float = 0.1) -> Tensor:
    """(N, count): 1 within the middle `share` of a side, 0 from `softness` of half a side on."""
    centre = ((torch.arange(count, device=share.device) + 0.5) * (2.0 / count) - 1.0).abs()
    weights = ((share[:, None] - centre) / softness + 1.0).clamp(0.0, 1.0)
    return torch.where(share[:, None] < 1, weights, 1.0)


class CompactNet(nn.Module):
    """Convolutions of stride 2 with batch norm, then one fully connected layer.

    The last map is flattened, not averaged: where a limb is matters for posture. 96 px and four
    convolutions end at 6 x 6. Layers: `"conv"` (the last map, flattened), `"fc"`, which is trained,
    and after `set_components` `"joint"`: `"fc"` and the map's principal components, one behind the
    other. Each has unit length before the components are given a share of `map_share` in dot
    products. What a fully connected layer leaves out of the map, as the cliques did not need it,
    tells other motions apart.
    """

    layers: tuple[str, ...] = ("conv", "fc")
    trained_layer = "fc"
    map_share = 1 / 3
    pixel_block = 1

    def __init__(
        self,
        image_size: int = 64,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        embedding_dim: int = 256,
        front_end: str = "gradient",
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.front_end = GradientFrontEnd() if front_end == "gradient" else RGBFrontEnd()
        stages: list[nn.Module] = []
        side, previous = image_size, 3
        for depth, width in enumerate(channels):
            kernel = 5 if depth == 0 else 3
            stages += [
                nn.Conv2d(previous, width, kernel, stride=2, padding=kernel // 2, bias=False),
                NormalisedRelu(width),
                nn.Identity(),  # saved models number the layers so
            ]
            previous, side = width, (side + 1) // 2
        self.convolutions = nn.Sequential(*stages)
        self.fc = nn.Linear(previous * side * side, embedding_dim)
        self.default_layer = self.trained_layer
        self.output_dim = embedding_dim

    def set_components(self, mean: Tensor, components: Tensor) -> None:
        """Have `"joint"`, by default: the mean of the last map (D,) and directions (k, D)."""
        self.register_buffer("map_mean", mean)
        self.register_buffer("map_components", components)
        self.layers = ("conv", "fc", "joint")
        self.default_layer = "joint"

    def embed(
        self, images: Tensor, layer: str | None = None, extent: Tensor | None = None
    ) -> Tensor:
        """Features (N, E) of a named layer; images (N, 3, S, S) in [0, 1]."""
        return self.embed_seen(seen_by_network(self.front_end, images, extent), layer)

    def embed_seen(self, x: Tensor, layer: str | None = None) -> Tensor:
        """Features of what `seen_by_network` makes of images."""
        name = _known_layer(layer or self.default_layer, self.layers)
        x = self.convolutions(x).flatten(1)
        if name == "conv":
            return x
        trained: Tensor = self.fc(x)
        if name == "fc":
            return trained
        with torch.autocast(x.device.type, enabled=False):
            trained = trained.float()
            trained = F.normalize(trained - trained.mean(1, keepdim=True))
            mean, components = self.get_buffer("map_mean"), self.get_buffer("map_components")
            rest = F.normalize((x.float() - mean) @ components.T)
            factors = (1 - self.map_share) ** 0.5, self.map_share**0.5
            return torch.cat((factors[0] * trained, factors[1] * rest), dim=1)

    def forward(self, images: Tensor, extent: Tensor | None = None) -> Tensor:
        return self.embed(images, self.trained_layer, extent)


class AlexNet(nn.Module):
    """The network of Krizhevsky et al. (2012) as Caffe's `bvlc_alexnet` has it, 227 px.

    Grouped convolutions 2, 4 and 5; local response normalisation comes BEFORE pooling with
    `lrn="before_pool"` (`bvlc_alexnet`) and after it with `"after_pool"` (`CaffeNet`). Layers:
    `"fc6"`, `"fc7"` (after their ReLU) and, when `fc8_dim` is given, the linear `"fc8"`. Where the
    head is a softmax, its weights are the paper's fc8.

    On a GPU cuDNN is slow at grouped convolutions and at three input channels: there every group is
    a convolution of its own, whose maps stay apart as long as they can, and the first layer may be
    given blocks of `pixel_block` x `pixel_block` pixels with all their colours for channels.
    """

    pixel_block = 4

    def __init__(
        self, fc8_dim: int | None = None, lrn: str = "before_pool", front_end: str = "rgb"
    ) -> None:
        super().__init__()
        if lrn not in ("before_pool", "after_pool"):
            raise InputError(f"lrn must be 'before_pool' or 'after_pool', got {lrn!r}")
        self.image_size = 227
        self.lrn = lrn
        # Caffe's weights and their first scale suit colours of 0 to 255 less their mean.
        rgb = RGBFrontEnd(mean=0.45, scale=255.0)
        self.front_end = GradientFrontEnd() if front_end == "gradient" else rgb
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = None if fc8_dim is None else nn.Linear(4096, fc8_dim)
        self.layers = ("fc6", "fc7") if fc8_dim is None else ("fc6", "fc7", "fc8")
        self.default_layer = self.trained_layer = self.layers[-1]
        self.output_dim = 4096 if fc8_dim is None else fc8_dim
        self._initialise()

    def _initialise(self) -> None:
        # Caffe's: normal, 0.01 (fc6 and fc7 0.005); bias 0.1 where the ReLUs should start alive.
        for name, module in self.named_children():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=0.005 if name in ("fc6", "fc7") else 0.01)
                assert module.bias is not None
                nn.init.constant_(module.bias, 0.0 if name in ("conv1", "conv3", "fc8") else 0.1)

    def _is_in_blocks(self, x: Tensor) -> bool:
        return x.shape[1] != self.conv1.in_channels

    def _convolved(self, x: Tensor) -> Tensor:
        """Maps (N, 256, 6, 6) after the last pooling."""
        for convolution in (self.conv1, self.conv2):
            (x,) = self._normalised_and_pooled([convolution(x)], None, 1)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        return F.max_pool2d(F.relu(self.conv5(x)), 3, stride=2)

    def _convolved_by_group(self, x: Tensor) -> Tensor:
        """The same of frames or of their blocks, group by group, with few passes over a map."""
        first = convolution_of_blocks if self._is_in_blocks(x) else F.conv2d
        maps = [first(x, self.conv1.weight, stride=4)]
        maps = self._normalised_and_pooled(maps, self.conv1.bias, 2)
        maps = convolution_of_groups(maps, self.conv2.weight, 2)
        (x,) = self._normalised_and_pooled(maps, self.conv2.bias, 1)
        maps = [F.conv2d(x, self.conv3.weight, padding=1)]
        maps = activate(maps, self.conv3.bias, ActivationSteps(parts=2))
        maps = convolution_of_groups(maps, self.conv4.weight, 1)
        maps = activate(maps, self.conv4.bias, ActivationSteps(parts=2))
        maps = convolution_of_groups(maps, self.conv5.weight, 1)
        return activate(maps, self.conv5.bias, ActivationSteps(pools=True))[0]

    def _normalised_and_pooled(
        self, x: list[Tensor], bias: Tensor | None, parts: int
    ) -> list[Tensor]:
        if self.lrn == "before_pool":
            steps = ActivationSteps(norm=ResponseNorm(), pools=True, parts=parts)
            return activate(x, bias, steps)
        x = activate(x, bias, ActivationSteps(pools=True))
        return activate(x, None, ActivationSteps(False, ResponseNorm(), parts=parts))

    def embed(
        self, images: Tensor, layer: str | None = None, extent: Tensor | None = None
    ) -> Tensor:
        """Features (N, E) of a named layer; images (N, 3, 227, 227) in [0, 1]."""
        return self.embed_seen(seen_by_network(self.front_end, images, extent), layer)

    def embed_seen(self, x: Tensor, layer: str | None = None) -> Tensor:
        """Features of what `seen_by_network` makes of images, or on a GPU of blocks of it."""
        name = _known_layer(layer or self.default_layer, self.layers)
        by_group = x.is_cuda or self._is_in_blocks(x)
        x = (self._convolved_by_group(x) if by_group else self._convolved(x)).flatten(1)
        x = F.dropout(F.relu(self.fc6(x)), 0.5, self.training)
        if name == "fc6":
            return x
        x = F.dropout(F.relu(self.fc7(x)), 0.5, self.training)
        if name == "fc7" or self.fc8 is None:
            return x
        features: Tensor = self.fc8(x)
        return features

    def forward(self, images: Tensor, extent: Tensor | None = None) -> Tensor:
        return self.embed(images, extent=extent)


def convolution_of_blocks(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """`F.conv2d` with `stride` of images given as blocks of `stride` x `stride` pixels.

    Where blocks are pixels, the stride is 1, and a kernel's side is rounded up to whole blocks.

    Parameters
    ----------
    x
        (N, stride^2 C or more, H, W): the colours of a block's pixels, row by row, and zeros there
        and beyond the image.
    weight
        (K, C, S, S), of a convolution of the images themselves without padding.
    """
    kernel = _KernelOfBlocks.apply(weight, stride, x.shape[1])  # type: ignore[no-untyped-call]
    return F.conv2d(x, kernel)


class _KernelOfBlocks(torch.autograd.Function):
    """(K, C, S, S) as (K, channels, S / stride, S / stride), rounded up, with zeros for the rest.

    Both lie with their channels last, so that each way is one look-up in rows.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, stride: int, channels: int) -> Tensor:
        count, colours, side, _ = weight.shape
        source, rest, ctx.target = _places_of_blocks(colours, side, stride, channels, weight.device)
        ctx.shape = count, side, side, colours
        rows = weight.permute(0, 2, 3, 1).reshape(count, -1).index_select(1, source)
        blocks = -(-side // stride)
        kernel = rows.masked_fill_(rest, 0).reshape(count, blocks, blocks, channels)
        return kernel.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows = gradient.permute(0, 2, 3, 1).reshape(len(gradient), -1)
        weight = rows.index_select(1, ctx.target).reshape(ctx.shape)
        return weight.permute(0, 3, 1, 2), None, None


@functools.cache
@torch.inference_mode(False)
def _places_of_blocks(
    colours: int, side: int, stride: int, channels: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a kernel of blocks has its numbers from, and where not; where the weights' come."""
    blocks = -(-side // stride)
    weights = torch.arange(side * side * colours).reshape(side, side, colours)
    more = blocks * stride - side
    pixels = F.pad(weights, (0, 0, 0, more, 0, more), value=-1)
    pixels = pixels.reshape(blocks, stride, blocks, stride, colours).transpose(1, 2)
    inside = pixels.reshape(blocks, blocks, -1)
    source = F.pad(inside, (0, channels - inside.shape[2]), value=-1).flatten()
    target = source.argsort()[-weights.numel() :]
    return source.clamp(0).to(device), (source < 0).to(device), target.to(device)


def convolution_of_groups(x: list[Tensor], weight: Tensor, padding: int) -> list[Tensor]:
    """`F.conv2d` with as many groups as there are x, every group on its own."""
    return [
        F.conv2d(part, kernel, padding=padding)
        for part, kernel in zip(x, weight.chunk(len(x)), strict=True)
    ]


class ExemplarNet(nn.Module):
    """64c5-128c5-256c5-512f of Exemplar-CNN (Dosovitskiy et al., 2014), by its default widths.

    Trained on patches of `patch_size`; the fully connected layer is a convolution as large as the
    patch's last map, so that `embed` runs on frames of twice the side and takes the maximum over
    each quadrant of where the patch can lie. Pooling (2 x 2) follows every convolution but the
    last. Batch norm is ours: few steps suffice. Layers: `"fc4"` (N, embedding_dim) of one patch,
    and `"quadrants"` (N, 4 embedding_dim) of a frame.
    """

    layers = ("fc4", "quadrants")
    pixel_block = 1

    def __init__(
        self,
        patch_size: int = 32,
        channels: tuple[int, ...] = (64, 128, 256),
        embedding_dim: int = 512,
        front_end: str = "gradient",
    ) -> None:
        super().__init__()
        if patch_size % 2 ** (len(channels) - 1):
            raise InputError(
                f"exemplar: image_size must be a multiple of {2 ** (len(channels) - 1)}, "
                f"got {patch_size}"
            )
        self.patch_size = patch_size
        self.image_size = 2 * patch_size
        self.front_end = GradientFrontEnd() if front_end == "gradient" else RGBFrontEnd()
        stages: list[nn.Module] = []
        previous = 3
        for depth, width in enumerate(channels):
            stages += [
                *([nn.MaxPool2d(2)] if depth else []),
                nn.Conv2d(previous, width, 5, padding=2, bias=False),
                NormalisedRelu(width),
                nn.Identity(),  # saved models number the layers so
            ]
            previous = width
        self.convolutions = nn.Sequential(*stages)
        self.fc = nn.Conv2d(previous, embedding_dim, patch_size >> (len(channels) - 1))
        self.default_layer, self.trained_layer = "quadrants", "fc4"
        self.output_dim = embedding_dim

    def embed(
        self, images: Tensor, layer: str | None = None, extent: Tensor | None = None
    ) -> Tensor:
        """Features of a named layer; images (N, 3, S, S) in [0, 1]."""
        return self.embed_seen(seen_by_network(self.front_end, images, extent), layer)

    def embed_seen(self, x: Tensor, layer: str | None = None) -> Tensor:
        """Features of what `seen_by_network` makes of images."""
        name = _known_layer(layer or self.default_layer, self.layers)
        x = F.relu(self.fc(self.convolutions(x)))
        return F.adaptive_max_pool2d(x, 1 if name == "fc4" else 2).flatten(1)

    def forward(self, images: Tensor, extent: Tensor | None = None) -> Tensor:
        return self.embed(images, self.trained_layer, extent)


Backbone = CompactNet | AlexNet | ExemplarNet


def build_backbone(config: TrainingConfig) -> Backbone:
    """The network that the settings describe, with random weights from torch's generator."""
    if config.backbone == "compact":
        return CompactNet(
            config.image_size, config.channels, config.embedding_dim, config.front_end
        )
    if config.backbone == "exemplar":
        return ExemplarNet(
            config.image_size, config.channels, config.embedding_dim, config.front_end
        )
    if config.image_size != 227:
        raise InputError(f"alexnet needs image_size 227, got {config.image_size}")
    fc8_dim = None if config.embedding_dim == 4096 else config.embedding_dim
    return AlexNet(fc8_dim, front_end=config.front_end)


def _known_layer(name: str, layers: tuple[str, ...]) -> str:
    if name not in layers:
        raise InputError(f"layer must be one of {', '.join(map(repr, layers))}, got {name!r}")
    return name
