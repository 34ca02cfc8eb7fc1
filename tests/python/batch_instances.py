"""Random instances of Eq. (1), and Eq. (5) as printed, for the tests of the batches."""

from __future__ import annotations

import numpy as np


def instance(K, N, seed, size=5, rank=8):
    """Random overlapping cliques and the Gram matrix of random directions."""
    rng = np.random.default_rng(seed)
    C = np.zeros((K, N))
    for k in range(K):
        C[k, rng.choice(N, rng.integers(2, size + 1), replace=False)] = 1
    V = rng.standard_normal((K, rank)) / np.sqrt(rank)
    return C, V @ V.T


def relaxed_instance(B, K, N, r, seed, size=5, rank=8):
    """An instance and a point X_t whose rows sum to r."""
    C, S = instance(K, N, seed, size, rank)
    X = np.random.default_rng(seed + 1000).uniform(0.5, 1.5, (B, K))
    return C, S, np.minimum(X * r / X.sum(axis=1, keepdims=True), 1.0)


def objective(X, C, S, lambda1, lambda2, p=1 / 16):
    """Eq. (1) as printed."""
    X = np.asarray(X, dtype=float)
    similarity = np.trace(X @ S @ X.T) - np.trace(X @ np.diag(np.diag(S)) @ X.T)
    per_batch = sum(((x @ C) ** p)[(x @ C) > 0].sum() for x in X)
    total = X.sum(axis=0) @ C
    return similarity - lambda1 * per_batch - lambda2 * (total[total > 0] ** p).sum()


class Reference:
    """Eq. (5) at X_t as printed, with lambda3 in the gradient of v."""

    def __init__(self, X_t, C, S, lambda1, lambda2, lambda3, smoothing, p=1 / 16):
        self.C, self.S, self.p, self.eps = C[:, C.any(axis=0)], S, p, smoothing
        self.lambda1, self.lambda2, self.shape = lambda1, lambda2, X_t.shape
        self.linear = 2 * X_t * np.diag(S)[None] + lambda3 * (2 * X_t - 1)
        self.offset = smoothing**p if smoothing else 0.0
        self.scale = 1 / ((1 + smoothing) ** p - self.offset)

    def value(self, x):
        X = x.reshape(self.shape)
        cover = X @ self.C
        each = ((cover + self.eps) ** self.p - self.offset).sum() * self.scale
        total = ((cover.sum(axis=0) + self.eps) ** self.p - self.offset).sum() * self.scale
        quadratic = np.trace(X @ self.S @ X.T)
        linear = (X * self.linear).sum()
        return quadratic - linear - self.lambda1 * each - self.lambda2 * total

    def gradient(self, x):
        X = x.reshape(self.shape)
        cover = X @ self.C
        slope = self.scale * self.p * (cover + self.eps) ** (self.p - 1)
        total = self.scale * self.p * (cover.sum(axis=0) + self.eps) ** (self.p - 1)
        coverage = (self.lambda1 * slope + self.lambda2 * total[None]) @ self.C.T
        return (2 * X @ self.S - self.linear - coverage).ravel()
