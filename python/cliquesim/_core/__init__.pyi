from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Kernels take C-contiguous arrays of exactly the stated dtype and num_threads = 0 for all
# processors; `progress` gets the fraction that is done. The public functions check and convert.
_Progress = Callable[[float], object] | None
_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_I64 = NDArray[np.int64]
_I32 = NDArray[np.int32]
_Bool = NDArray[np.bool_]
_Map = NDArray[np.float32] | NDArray[np.int16]

simd_level: str

def built_levels() -> list[str]: ...
def runnable_levels() -> list[str]: ...
def load_level(level: str) -> ModuleType: ...

# --- common ---

def best_simd_level() -> str: ...
def available_processors() -> int: ...
def keep_freed_memory(keep: bool) -> bool: ...
def _busy_loop(count: int, fail_at: int, num_threads: int, progress: _Progress) -> int: ...

# --- hog ---

def hog(
    frames: NDArray[np.uint8],  # (N, H, W, 1 or 3)
    features: _F32,  # (N, h, w, 31), written
    cell_size: int,
    num_threads: int,
    progress: _Progress,
) -> None: ...

# --- whitening ---

# `sum` and `scatter` (its lower triangle) are added to. The first row with NaN or inf, or -1.
def add_moments(
    x: _F32, shift: _F32, sum: _F64, scatter: _F64, num_threads: int, progress: _Progress
) -> int: ...
def average_over_offsets(
    covariance: _F64, rows: int, cols: int, channels: int, num_threads: int
) -> _F64: ...

# The lower triangle becomes L with a = L L^T, the rest is scratch; False if not positive definite.
def cholesky(a: _F64, num_threads: int) -> bool: ...

# L^-T, of the lower triangle L.
def invert_transposed(factor: _F64, num_threads: int) -> _F32: ...

# Writes (x - mean) projection to `out`. The first row with NaN or inf, or -1.
def project(
    x: _F32, mean: _F32, projection: _F32, out: _F32, num_threads: int, progress: _Progress
) -> int: ...

# --- neighbors ---

def neighbors(
    corpus: _F32,
    queries: _F32 | None,
    mirrored: _F32 | None,
    k: int,
    n_bottom: int,
    correlation: bool,
    groups: _I64 | None,
    query_groups: _I64 | None,
    group_window: int,
    pool_radius: int,
    sequences: _I64 | None,
    precision: str,
    memory_limit: int,
    num_threads: int,
    progress: _Progress,
) -> tuple[_I64, _F32, _I64, _F32, _Bool | None, _Bool | None, dict[str, Any]]: ...
def similarity_quantiles(
    corpus: _F32,
    queries: _F32 | None,
    mirrored: _F32 | None,
    probabilities: _F64,
    correlation: bool,
    groups: _I64 | None,
    query_groups: _I64 | None,
    group_window: int,
    pool_radius: int,
    sequences: _I64 | None,
    memory_limit: int,
    num_threads: int,
    progress: _Progress,
) -> _F32: ...
def neighbor_products() -> str: ...
def has_vnni() -> bool: ...
def _multiply_add_rate(seconds: float) -> float: ...

# --- linkage ---

_Link = tuple[_F64, list[int], float]  # dendrogram, clusters after every pass, step

def linkage_distances(
    y: _F32 | _F64,
    n: int,
    negate: bool,
    overwrite: bool,
    limit: int,
    num_threads: int,
    progress: _Progress,
    listed: int = ...,
    few: int = ...,
) -> _Link: ...
def linkage_vectors(
    vectors: _F32 | _F64,
    metric: str,
    storage: str,
    limit: int,
    num_threads: int,
    progress: _Progress,
    listed: int = ...,
    few: int = ...,
) -> _Link: ...
def linkage_graph(
    indptr: _I64,
    indices: _I64,
    data: _F32 | _F64,
    negate: bool,
    num_threads: int,
    progress: _Progress,
) -> _Link: ...

# --- cliques ---

_Cliques = tuple[_I64, _I64, _F64]  # offsets, members, intra

def candidate_cliques(
    X: _F32,
    neighbors: _I64,
    groups: _I64 | None,
    sequences: _I64 | None,
    pool_radius: int,
    threshold: float,
    per_group: int,
    group_window: int,
    max_size: int,
    num_threads: int,
    progress: _Progress,
) -> _Cliques: ...
def distinct_cliques(
    offsets: _I64, members: _I64, intra: _F64, min_size: int, n: int
) -> _Cliques: ...
def merge_cliques(
    X: _F32,
    offsets: _I64,
    members: _I64,
    intra: _F64,
    groups: _I64 | None,
    sequences: _I64 | None,
    pool_radius: int,
    per_group: int,
    group_window: int,
    max_size: int,
    overlap: str,
    min_overlap: float,
    ratio: float,
    max_edges: int,
    max_posting: int,
    num_threads: int,
    progress: _Progress,
) -> tuple[_Cliques, dict[str, int]]: ...
def cover_greedily(offsets: _I64, members: _I64, intra: _F64, n: int, count: int) -> _I64: ...
def clique_means(
    X: _F32,
    offsets: _I64,
    members: _I64,
    sequences: _I64 | None,
    pool_radius: int,
    shift: int,
    num_threads: int,
) -> _F64: ...
def pair_similarities(
    X: _F32,
    first: _I64,
    second: _I64,
    sequences: _I64 | None,
    pool_radius: int,
    num_threads: int,
) -> _F32: ...

# --- batches ---

def merge_samples(offsets: _I64, indices: _I64, samples: int) -> tuple[_I64, _I64, _F64]: ...
def objective_terms(
    X: _F64,
    similarity: _F64,
    offsets: _I64,
    indices: _I64,
    weights: _F64,
    p: float,
    smoothing: float,
    num_threads: int,
) -> tuple[float, float, float]: ...
def greedy_batches(
    first: _I64,
    cliques_per_batch: int,
    similarity: _F64,
    offsets: _I64,
    indices: _I64,
    weights: _F64,
    lambda1: float,
    lambda2: float,
    p: float,
    num_threads: int,
) -> tuple[_I64, _F64, _I64, bool]: ...
def swap_batches(
    starts: _I64,
    cliques_per_batch: int,
    similarity: _F64,
    offsets: _I64,
    indices: _I64,
    weights: _F64,
    lambda1: float,
    lambda2: float,
    p: float,
    kicks: int,
    seed: int,
    time_limit: float,
    num_threads: int,
) -> tuple[_I64, _F64, _I64, bool]: ...
def solve_relaxed(
    linear: _F64,
    start: _F64,
    cliques_per_batch: float,
    similarity: _F64,
    offsets: _I64,
    indices: _I64,
    weights: _F64,
    lambda1: float,
    lambda2: float,
    p: float,
    smoothing: float,
    tolerance: float,
    max_iterations: int,
    time_limit: float,
    num_threads: int,
) -> tuple[_F64, float, str, dict[str, Any]]: ...

# --- training ---

# Empty arrays leave their step out; see training/augmentation.py.
def augment(
    frames: NDArray[np.uint8],  # (n, H, W, 3)
    affine: _F32,  # (n, 6)
    colour: _F32,  # (n, 6)
    others: _I64,  # (n, 1)
    ellipse: _F32,  # (n, 2)
    softness: float,
    erase: _F32,  # (n, 4)
    images: _F32,  # (n, 3, H, W), written
    num_threads: int,
) -> None: ...
def gradient_channels(
    images: _F32,  # (n, 3, H, W)
    window: int,
    floor: float,
    rows: _F32,  # (n, H), or empty
    columns: _F32,  # (n, W), or empty
    channels: _F32,  # (n, H, W, 3), written
    num_threads: int,
) -> None: ...

# Maps as rows of channels, float32, or bfloat16 as its bits (int16).
def normalise_and_rectify(
    x: _Map,  # (n, C)
    weight: _F32,  # (C,)
    bias: _F32,  # (C,)
    epsilon: float,
    y: _Map,  # (n, C), written
    mean: _F32,  # (C,), written
    variance: _F32,  # (C,), written
    num_threads: int,
) -> None: ...
def normalise_and_rectify_gradient(
    x: _Map,  # (n, C)
    dy: _Map,  # (n, C)
    weight: _F32,  # (C,)
    bias: _F32,  # (C,)
    epsilon: float,
    mean: _F32,  # (C,)
    variance: _F32,  # (C,)
    dx: _Map,  # (n, C), written
    dweight: _F32,  # (C,), written
    dbias: _F32,  # (C,), written
    num_threads: int,
) -> None: ...

# --- temporal ---

def pooled_similarity(
    features: _F32,
    col_features: _F32,
    rows: _I64,
    cols: _I64,
    sequence: _I64,
    radius: int,
    correlation: bool,
    num_threads: int,
    progress: _Progress,
) -> _F32: ...
def window_plan(
    requests: _I64, sequence: _I64, radius: int, name: str
) -> tuple[_I64, _I64, _I64, _I32, _I32]: ...
