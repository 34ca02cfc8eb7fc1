from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Addresses are those of device memory that the caller owns and keeps alive until `stream` has
# finished; `stream` is a cudaStream_t.
_Side = tuple[int, int, int, int]  # positions (int64), before, after (int32), their count
# Of a tile of similarities, where an address is 0 if there is none: similarities, those of the
# mirror images (float32), the stride of both; first row or column, their count, labels of all
# (int64), scales, errors and lengths (3 float32 each) where the similarities are integer products,
# indices of rows among all (int64); a list's best keys (uint64), bounds (float32), k, fresh keys
# (uint64), counts (int32).
_Values = tuple[int, int, int]
_TileSide = tuple[int, int, int, int, int]
_End = tuple[int, int, int, int, int]

def device_status() -> tuple[int, str]:
    """CUDA devices that this process can use, and the reason when there is none."""

def pool(
    products: int,
    product_stride: int,
    rows: _Side,
    cols: _Side,
    out: int,
    out_stride: int,
    device: int,
    stream: int,
) -> None: ...
def hog(
    frames: int,
    count: int,
    height: int,
    width: int,
    channels: int,
    cell_size: int,
    features: int,
    device: int,
    stream: int,
) -> None: ...
def linkage_workspace(n: int, dtype: str) -> int:
    """Bytes of device memory, aligned to 256."""

def linkage(
    distances: int,
    n: int,
    stride: int,
    dtype: str,
    workspace: int,
    device: int,
    stream: int,
    progress: Callable[[float], object] | None,
) -> NDArray[np.float64]:
    """SciPy's dendrogram of a symmetric square, which is destroyed."""

fresh_room: int  # keys of a list that a tile's scan may bring

def add_tile(
    values: _Values,
    rows: _TileSide,
    cols: _TileSide,
    symmetric: bool,
    group_window: int,
    serves_cols: bool,
    top: _End,
    bottom: _End,
    device: int,
    stream: int,
) -> None:
    """Merge a tile into the lists of its rows, and of its columns with `serves_cols`."""

def decide_candidates(
    rows: int,
    cols: int,
    row_count: int,
    dimensions: int,
    candidates: int,
    room: int,
    keys: int,
    bounds: int,
    k: int,
    sign: float,
    decided: int,
    device: int,
    stream: int,
) -> None:
    """Merge into empty lists what float32 products say of candidates, (row_count, room) keys by
    bounds of their scores; decided (int32): how many, negative where others may be better."""

def write_neighbors(
    keys: int,
    k: int,
    sign: float,
    rows: int,
    cols: int,
    indices: int,
    similarities: int,
    flips: int,
    device: int,
    stream: int,
) -> None: ...
def row_quantiles(
    values: _Values,
    rows: _TileSide,
    cols: _TileSide,
    symmetric: bool,
    group_window: int,
    levels: int,
    level_count: int,
    out: int,
    device: int,
    stream: int,
) -> None:
    """Quantiles of whole rows; excluded similarities are overwritten."""

def row_sums(
    offsets: int,
    columns: int,
    rows: int,
    values: int,
    width: int,
    count: int,
    out: int,
    device: int,
    stream: int,
) -> None:
    """out (count, rows) = values (count, width) times the transpose of a matrix of 0 and 1."""

def kick_round(
    sizes: tuple[int, int, int, int],
    tolerance: float,
    tables: tuple[int, ...],
    workspace: tuple[int, ...],
    capacity: int,
    seed: int,
    first: int,
    count: int,
    device: int,
    stream: int,
) -> None:
    """Kicks of a selection, many at a time; see `csrc/bindings/cuda_batches.cpp`."""

# Rows of `corpus` are `stride` bytes, a multiple of 16; `changes` are those of
# cliquesim.training._cuda_kernels.FRAME_CHANGE.
def gather(
    corpus: int, stride: int, changes: int, count: int, out: int, device: int, stream: int
) -> None: ...
def augment(
    corpus: int,
    stride: int,
    gathered: bool,
    changes: int,
    count: int,
    height: int,
    width: int,
    steps: tuple[bool, bool, bool, bool],  # moves, recolours, covers, erases
    softness: float,
    means: int,  # 4 float32 a frame
    mean: float,
    scale: float,
    fades: bool,
    block: int,
    pitch: int,
    out: int,
    bfloat16: bool,
    device: int,
    stream: int,
) -> None: ...
def gradient_channels(
    images: int,
    changes: int,
    count: int,
    height: int,
    width: int,
    window: int,
    floor: float,
    out: int,
    bfloat16: bool,
    device: int,
    stream: int,
) -> None: ...
def activation(
    shape: tuple[int, int, int, int],  # count, height, width, channels
    steps: tuple[bool, bool, bool],  # rectifies, normalises, pools
    norm: tuple[float, float, float],  # alpha / 5, beta, k
    x: list[int],  # one tensor, or two with half of the channels each
    bias: int,  # or 0
    y: list[int],
    places: int,  # uint8 like y; 0 without pooling
    bfloat16: bool,
    device: int,
    stream: int,
) -> None: ...
def activation_gradient_blocks(
    shape: tuple[int, int, int, int], steps: tuple[bool, bool, bool]
) -> int: ...
def activation_gradient(
    shape: tuple[int, int, int, int],
    steps: tuple[bool, bool, bool],
    norm: tuple[float, float, float],
    x: list[int],
    bias: int,
    dy: list[int],
    places: int,
    dx: list[int],
    bias_sums: int,  # float32, blocks x channels, to work in; 0 without a bias
    bias_gradient: int,
    bfloat16_bias_gradient: bool,
    bfloat16: bool,
    device: int,
    stream: int,
) -> None: ...
def adagrad(
    # weights, gradient, sums, rounded weights or 0, count, decay
    tensors: list[tuple[int, int, int, int, int, float]],
    rate: int,
    epsilon: float,
    device: int,
    stream: int,
) -> None: ...
