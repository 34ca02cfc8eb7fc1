"""Losses that turn cliques into a training signal (Sect. 2.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cliquesim.training.config import TrainingConfig


class CliqueHead(nn.Module):
    """The classifier of the pretext task: one weight row, and with `biased` a bias, a clique."""

    def __init__(self, n_cliques: int, embedding_dim: int, biased: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_cliques, embedding_dim).normal_(std=0.01))
        self.bias = nn.Parameter(torch.zeros(n_cliques)) if biased else None


def restricted_softmax_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cliques: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    cosine_scale: float | None = None,
) -> Tensor:
    """Cross-entropy over the r cliques of one batch only, Eq. (7) within Sect. 2.3's batch.

    Parameters
    ----------
    features
        (M, E).
    weight, bias
        (K, E), (K,): one row a clique of the whole corpus; without a bias, None.
    cliques
        (r,) distinct cliques of this batch.
    labels
        (M,) positions within `cliques`.
    cosine_scale
        None: logits are products of features and weights, plus the bias, as in the paper. A number:
        their cosines times it, plus the bias (Wang et al., NormFace, 2017), so that the network is
        trained for what its features are compared by.
    """
    some = None if bias is None else bias[cliques]
    logits = _logits(features, weight[cliques], some, cosine_scale)
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def global_softmax_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cliques: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    cosine_scale: float | None = None,
) -> Tensor:
    """Cross-entropy over all K cliques, as the authors' released code has it.

    Takes what `restricted_softmax_loss` takes.
    """
    logits = _logits(features, weight, bias, cosine_scale)
    return F.cross_entropy(logits, cliques[labels], label_smoothing=label_smoothing)


def _logits(
    features: Tensor, weight: Tensor, bias: Tensor | None, cosine_scale: float | None
) -> Tensor:
    if cosine_scale is None:
        return F.linear(features, weight, bias)
    return F.linear(cosine_scale * F.normalize(features, dim=1), F.normalize(weight, dim=1), bias)


def supervised_contrastive_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    *,
    same_sequence: Tensor | None = None,
    boost: float = 0.0,
    ignored: Tensor | None = None,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020, their L_out) on cosine similarities.

    For each frame, the mean over its positives of -log softmax, where the softmax runs over all
    other frames; then the mean over the frames that have a positive. O(M^2 E).

    Parameters
    ----------
    features
        (M, E), of any length; they are normalised here.
    labels
        (M,) clique of each frame.
    temperature
        Divides the cosines.
    same_sequence
        (M, M) bool. Negatives out of the same sequence share background and clothing, so they
        are the hard ones: `boost` is added to their logits.
    ignored
        (M, M) bool: pairs that count neither as positive nor as negative, because the cliques
        overlap there.
    """
    unit = F.normalize(features.float(), dim=1)
    logits = unit @ unit.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    if same_sequence is not None and boost != 0.0:
        logits = logits + boost * (same_sequence & ~positive)
    left_out = itself if ignored is None else itself | (ignored & ~positive)
    log_share = logits - torch.logsumexp(
        logits.masked_fill(left_out, float("-inf")), dim=1, keepdim=True
    )
    count = positive.sum(1)
    per_frame = -(log_share * positive).sum(1) / count.clamp_min(1)
    return per_frame.sum() / (count > 0).sum().clamp_min(1)


def clique_loss(
    config: TrainingConfig,
    features: Tensor,
    head: CliqueHead | None,
    cliques: Tensor,
    labels: Tensor,
    same_sequence: Tensor | None,
    ignored: Tensor | None,
) -> Tensor:
    """The loss that the settings choose."""
    if head is None:
        return supervised_contrastive_loss(
            features,
            labels,
            config.temperature,
            same_sequence=same_sequence,
            boost=config.same_sequence_boost,
            ignored=ignored,
        )
    loss = restricted_softmax_loss if config.head == "batch" else global_softmax_loss
    return loss(
        features,
        head.weight,
        head.bias,
        cliques,
        labels,
        config.label_smoothing,
        config.cosine_scale,
    )
