"""The stages between descriptors and training, category by category.

Cliques form within the parts of the pool (categories, or everything at once); these functions run a
stage on every part and put the results together in rows of the pool. They know arrays only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cliquesim.batches import BatchWarning, select_batches
from cliquesim.batches.problem import as_problem, default_lambda
from cliquesim.batches.selection import LAMBDA1_UNITS, LAMBDA2_UNITS
from cliquesim.cliques import CliqueWarning, build_cliques
from cliquesim.cliques.quantile import QUANTILES, explained_share, halves, strictest
from cliquesim.config import Config
from cliquesim.errors import InputError, RunError
from cliquesim.fusion import expanded, standardize
from cliquesim.neighbors import neighbors
from cliquesim.pool import Pool

Progress = Callable[[float], object]


@dataclass(frozen=True)
class PooledCliques:
    """Cliques, part by part: membership (K, rows of the pool), the part of each, S' per part."""

    membership: sp.csr_array
    part: NDArray[np.int64]
    similarity: list[NDArray[np.float64]]
    summary: dict[str, Any]


@dataclass(frozen=True)
class PooledBatches:
    """The cliques of every batch, as CSR rows of X in {0, 1}^(B x K)."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    summary: dict[str, Any]


def share_of(progress: Progress, done: float, share: float, total: float) -> Progress:
    """Progress of a piece of the work that is `share` of `total`, after `done` of it."""
    return lambda fraction: progress((done + share * fraction) / total)


def find_neighbors(
    similar: NDArray[np.float32],
    pool: Pool,
    k: int,
    pool_radius: int,
    num_threads: int | None,
    progress: Progress,
    device: str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Neighbours of every row of the pool among its part, of other sequences: (M, k) each."""
    indices = np.full((len(pool), k), -1, np.int64)
    values = np.full((len(pool), k), -np.inf, np.float32)
    done = 0
    for rows in pool.parts():
        found = neighbors(
            similar[rows],
            k=k,
            groups=pool.sequence[rows],
            pool_radius=pool_radius,
            sequences=pool.run[rows],
            num_threads=num_threads,
            device=device,
            progress=share_of(progress, done, len(rows), len(pool)),
        )
        indices[rows] = np.where(found.indices >= 0, rows[found.indices], -1)
        values[rows] = found.similarities
        done += len(rows)
    return indices, values


def expand(
    similar: NDArray[np.float32], nearest: NDArray[np.int64], pool: Pool, num_threads: int | None
) -> None:
    """Every row of the pool becomes what `expanded` makes of it, in place and part by part."""
    for rows in pool.parts():  # what is nearest to a row is in its part
        similar[rows] = expanded(similar, rows, nearest[rows], num_threads)


def make_cliques(
    similar: NDArray[np.float32],
    indices: NDArray[np.int64],
    pool: Pool,
    config: Config,
    quantile: float,
    num_threads: int | None,
    progress: Progress,
) -> PooledCliques:
    """Cliques of every part (Sect. 2.2), from neighbours in rows of the pool.

    `quantile` is `config.clique_quantile`, or what `choose_quantile` found.
    """
    blocks, part_of, similarities, infos = [], [], [], []
    same, pairs, done, too_few = 0.0, 0, 0, 0
    local = np.full(len(pool) + 1, -1, np.int64)  # the last entry answers for "no neighbour"
    for part, rows in enumerate(pool.parts()):
        sequences = len(np.unique(pool.sequence[rows]))
        if sequences * config.clique_per_sequence < config.clique_min_size:
            blocks.append(sp.csr_array((0, len(pool))))
            similarities.append(np.zeros((0, 0)))
            infos.append({"cliques": 0, "sequences": sequences})
            too_few += 1
            done += len(rows)
            continue
        local[rows] = np.arange(len(rows))
        built = build_cliques(
            similar[rows],
            local[indices[rows]],
            groups=pool.sequence[rows],
            similarity_quantile=quantile,
            min_size=config.clique_min_size,
            per_group=config.clique_per_sequence,
            merge=config.clique_merging,
            max_cliques=config.max_cliques,
            pool_radius=config.teacher_pool_radius,
            sequences=pool.run[rows],
            seed=config.seed,
            num_threads=num_threads,
            progress=share_of(progress, done, len(rows), len(pool)),
        )
        local[rows] = -1
        done += len(rows)
        member = built.membership
        blocks.append(
            sp.csr_array(
                (member.data, rows[member.indices], member.indptr),
                shape=(member.shape[0], len(pool)),
            )
        )
        part_of.append(np.full(member.shape[0], part))
        similarities.append(built.similarity)
        infos.append(built.info)
        sizes = np.diff(member.indptr).astype(np.int64)
        weight = int((sizes * (sizes - 1) // 2).sum())
        same, pairs = same + built.same_group_pairs * weight, pairs + weight
    if too_few:
        warnings.warn(
            f"{too_few} of {len(infos)} categories have too few sequences for a clique of "
            f"{config.clique_min_size} frames and are not learned from; lower clique_min_size, or "
            "set within_category=false",
            CliqueWarning,
            stacklevel=2,
        )
    membership = sp.vstack(blocks, format="csr")
    if membership.shape[0] < 2:
        raise InputError(
            f"only {membership.shape[0]} clique(s) were found: too few sequences resemble each "
            "other; lower clique_quantile or clique_min_size, raise clique_per_sequence, or set "
            "within_category=false"
        )
    frames = len(np.unique(pool.frame))
    summary = {
        "cliques": int(membership.shape[0]),
        "coverage": len(np.unique(pool.frame[membership.indices])) / frames,
        "mean_size": float(np.diff(membership.indptr).mean()),
        "same_sequence_pairs": same / pairs if pairs else 0.0,
        "per_part": infos,
    }
    return PooledCliques(membership, np.concatenate(part_of), similarities, summary)


def choose_quantile(
    similar: NDArray[np.float32],
    pool: Pool,
    config: Config,
    num_threads: int | None,
    progress: Progress,
    device: str = "cpu",
) -> dict[str, Any]:
    """How similar members of a clique must be, by what cliques explain (`cliques.quantile`).

    `quantile` is the chosen one, `explained` the share of each of those `tried`; 0 where there
    were no two cliques.
    """
    views = [
        standardize(similar[:, half], num_threads=num_threads)
        for half in halves(similar.shape[1], config.seed)
    ]
    tried, steps = list(QUANTILES), 2 * (1 + len(QUANTILES))
    shares = dict.fromkeys(tried, 0.0)
    for side, (seen, unseen) in enumerate((views, views[::-1])):
        done = side * (1 + len(tried))

        def step(number: int, done: int = done) -> Progress:
            return share_of(progress, done + number, 1, steps)

        nearest = find_neighbors(
            seen, pool, config.n_neighbors, config.teacher_pool_radius, num_threads, step(0), device
        )[0]
        for number, quantile in enumerate(tried, start=1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CliqueWarning)
                try:
                    built = make_cliques(
                        seen, nearest, pool, config, quantile, num_threads, step(number)
                    )
                except (InputError, RunError):  # too strict for two cliques
                    continue
            shares[quantile] += explained_share(built.membership, unseen) / 2
    if max(shares.values()) <= 0:
        raise InputError(
            "clique_quantile=auto: no cliques were found, or none whose frames resemble each other "
            "in what the cliques were not made from; set clique_quantile to a number"
        )
    return {
        "quantile": strictest(tried, list(shares.values())),
        "tried": tried,
        "explained": list(shares.values()),
    }


def choose_batches(
    cliques: PooledCliques,
    config: Config,
    num_threads: int | None,
    progress: Progress,
    device: str = "cpu",
) -> PooledBatches:
    """Batches of every part by Eq. (1). A part with at most r cliques is one batch.

    Parts of more than `config.cliques_per_selection` cliques are dealt into equal ones at random: B
    batches give each of 2,000 cliques less than one place, and most would never be seen.
    """
    counts = np.bincount(cliques.part, minlength=len(cliques.similarity))
    r = config.cliques_per_batch
    if counts.max() < 2:
        raise InputError(
            "no category has two cliques to tell apart; lower clique_quantile or set "
            "within_category=false"
        )
    if counts.max() < r:
        warnings.warn(
            f"cliques_per_batch={r}, but the largest category has only {counts.max()} cliques: "
            "each category is one batch of all its cliques; lower cliques_per_batch or set "
            "within_category=false to have batches chosen",
            BatchWarning,
            stacklevel=2,
        )
    firsts = np.cumsum(counts) - counts
    selections = [
        (part, own) for part, count in enumerate(counts.tolist()) for own in _dealt(count, config)
    ]
    batches: list[NDArray[np.int64]] = []
    reports: list[dict[str, Any]] = []
    for number, (part, own) in enumerate(selections):
        members, count = firsts[part] + own, len(own)
        report: dict[str, Any] = {"part": part, "cliques": count, "batches": 0}
        if 2 <= count <= r:
            batches.append(members)
            report["batches"] = 1
        elif count > r:
            C = cliques.membership[members]
            similarity = cliques.similarity[part][np.ix_(own, own)]
            lambda1, lambda2 = _coverage_weights(C, similarity, config)
            if not config.batch_similarity:
                similarity = np.zeros_like(similarity)
            chosen = select_batches(
                C,
                similarity,
                n_batches=config.n_batches,
                cliques_per_batch=r,
                lambda1=lambda1,
                lambda2=lambda2,
                lambda3=config.lambda3,
                p=config.coverage_p,
                method=config.batch_method,
                mode=config.batch_mode,
                local_search=config.batch_method != "random",
                time_limit=config.batch_time_limit,
                seed=config.seed,
                num_threads=num_threads,
                device=device,
                progress=share_of(progress, number, 1, len(selections)),
            )
            batches += [members[row] for row in chosen.X]
            report |= {
                "batches": len(chosen.X),
                "objective": chosen.objective,
                "terms": chosen.objective_terms,
                "lambdas": chosen.lambdas,
                "distinct": chosen.n_distinct_batches,
                "status": chosen.status,
            }
        reports.append(report)
    indices = np.concatenate(batches).astype(np.int64)
    summary = {
        "batches": len(batches),
        "cliques_used": len(np.unique(indices)),
        "cliques": int(cliques.membership.shape[0]),
        "per_part": reports,
    }
    return PooledBatches(np.cumsum([0, *map(len, batches)]), indices, summary)


def _dealt(n: int, config: Config) -> list[NDArray[np.int64]]:
    """The cliques 0 to n - 1 of a part, dealt at random where there are too many for B batches."""
    pieces = 1
    if config.cliques_per_selection is not None:
        pieces = -(-n // config.cliques_per_selection)
        pieces = min(pieces, n // (config.cliques_per_batch + 1))  # there is something to choose
    if pieces <= 1:
        return [np.arange(n)]
    shuffled = np.random.default_rng(config.seed).permutation(n)
    return [np.sort(piece) for piece in np.array_split(shuffled, pieces)]


def _coverage_weights(
    C: sp.csr_array, similarity: NDArray[np.float64], config: Config
) -> tuple[float, float]:
    """lambda1 and lambda2; those that the settings leave out follow the data and the loss.

    Every clique is a class of the softmax with weights of its own, so there a batch of many samples
    counts as much as all samples getting their turn. The contrastive loss has no such weights, and
    learns more from batches of distant cliques.
    """
    unit = default_lambda(as_problem(C, similarity, config.coverage_p), config.cliques_per_batch)
    units = LAMBDA2_UNITS if config.training.loss == "softmax" else LAMBDA1_UNITS
    return (
        units * unit if config.lambda1 is None else config.lambda1,
        LAMBDA2_UNITS * unit if config.lambda2 is None else config.lambda2,
    )


def neighbor_agreement(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
    """Mean share of a row's neighbours (-1 for none) that two rounds have in common."""
    common = np.zeros(len(new), np.int64)
    for column in old.T:  # neighbours differ within a row
        common += ((new == column[:, None]) & (new >= 0)).sum(axis=1)
    return float(np.mean(common / np.maximum(1, (new >= 0).sum(axis=1))))
