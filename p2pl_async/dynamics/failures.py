"""Mixing when messages get lost: mean and covariance of the random mixing matrix, exactly.

If losses are independent of the parameters and of each other from round to round, the mean over runs
follows the lossless recursion with the mean matrix: E[s(k + 1)] = E[A] E[s(k)] + E[c]. That is exact for DGD, CTA
and ATC, which mix once a round. A single run differs from it; `moments` says by how much.

A device that misses a neighbor's message either adds that weight to its own ("self": the mean is W with
(1 - p) of each weight), or scales up the weights that are left ("renormalize"). The latter needs means of ratios
w_j B_j / (w_0 + sum_l w_l B_l) of independent Bernoulli B. With 1 / S = integral of exp(-s S) they become one
integral over a product, computed to rounding error by Gauss-Legendre quadrature.

Valid for: losses independent over links (or over undirected edges), rounds and parameters; no bursts, no
retries that delay; every message of a round is heard in that round or never.

Source: S. Boyd et al., IEEE Trans. Inf. Theory 2006 (mean and second moment of random mixing). The ratios are
our derivation, tested against all patterns of losses.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array

OnMissing = Literal["renormalize", "self"]

_POWER = 8  # power of the integration variable, which makes the integrand smooth at 0
_NODES = 240


@dataclass(frozen=True)
class LossyMixing:
    """A mixing matrix whose messages get lost.

    Attributes:
        weights: W without losses, (Q, Q), rows sum to 1.
        loss: [i, j] the probability that i doesn't hear j in a round, (Q, Q).
        undirected: whether an edge loses both directions at once; if not, each direction is independent.
        on_missing: where the weight of a lost message goes.
    """

    weights: Array
    loss: Array
    undirected: bool = False
    on_missing: OnMissing = "renormalize"

    def __post_init__(self) -> None:
        links = self.links
        if not ((self.loss[links] >= 0) & (self.loss[links] <= 1)).all():
            raise ValueError("loss must be probabilities between 0 and 1")
        if self.undirected and not np.array_equal(self.loss[links], self.loss.T[links]):
            raise ValueError("losses of undirected edges must be the same in both directions")
        if self.on_missing == "renormalize" and not (np.diag(self.weights) > 0).all():
            raise ValueError("renormalizing needs a positive weight of every device for itself")

    @property
    def links(self) -> NDArray[np.bool_]:
        """Which [i, j] are links: i puts weight on j, another device."""
        return np.asarray((self.weights != 0) & ~np.eye(len(self.weights), dtype=bool))

    @functools.cached_property
    def mean(self) -> Array:
        """E[W], (Q, Q)."""
        return np.stack([self._row_mean(i) for i in range(len(self.weights))])

    @functools.cached_property
    def covariance(self) -> Array:
        """Cov(W_ia, W_jb), (Q, Q, Q, Q) with indices i, a, j, b."""
        n = len(self.weights)
        result = np.zeros((n, n, n, n))
        for i in range(n):
            result[i, :, i, :] = self._row_covariance(i)
        if self.undirected:  # the rows of two devices depend on each other only by their edge
            for i, j in zip(*np.nonzero(np.triu(self.links & self.links.T)), strict=True):
                p = self.loss[i, j]
                first = self._row_mean(i, {j: 0.0}) - self._row_mean(i, {j: 1.0})
                second = self._row_mean(j, {i: 0.0}) - self._row_mean(j, {i: 1.0})
                result[i, :, j, :] = p * (1 - p) * np.outer(first, second)
                result[j, :, i, :] = result[i, :, j, :].T
        return result

    def slopes(self, i: int, j: int) -> Array:
        """Return d E[W] / d loss of one link (of the edge, if undirected), (Q, Q). E[W] is linear in each loss."""
        result = np.zeros_like(self.weights)
        result[i] = self._row_mean(i, {j: 1.0}) - self._row_mean(i, {j: 0.0})
        if self.undirected:
            result[j] = self._row_mean(j, {i: 1.0}) - self._row_mean(j, {i: 0.0})
        return result

    def draw(self, random: np.random.Generator) -> Array:
        """Return the matrix of one round, (Q, Q)."""
        uniform = random.random(self.weights.shape)
        if self.undirected:
            uniform = np.triu(uniform) + np.triu(uniform, 1).T
        heard = np.where(self.links & (uniform < self.loss), 0.0, self.weights)
        if self.on_missing == "renormalize":
            return np.asarray(heard / heard.sum(1, keepdims=True))
        return heard + np.diag(1 - heard.sum(1))

    def _row(self, i: int, instead: dict[int, float] | None = None) -> tuple[NDArray[np.int64], Array, Array]:
        """Return a device's neighbors, their weights and the probabilities of hearing them.

        `instead`: neighbor -> loss to assume in place of its own.
        """
        neighbors = np.flatnonzero(self.links[i])
        loss = self.loss[i, neighbors].copy()
        for j, p in (instead or {}).items():
            loss[neighbors == j] = p
        return neighbors, self.weights[i, neighbors], 1 - loss

    def _row_mean(self, i: int, instead: dict[int, float] | None = None) -> Array:
        neighbors, w, heard = self._row(i, instead)
        result = np.zeros(len(self.weights))
        if self.on_missing == "self":
            result[neighbors] = w * heard
        else:
            own = self.weights[i, i]
            nodes, measure = _quadrature(own)
            factors = (1 - heard) + heard * np.exp(-np.outer(nodes, w))  # (nodes, neighbors)
            rest = _without_one(factors)
            result[neighbors] = (
                w * heard * ((measure * np.exp(-nodes * own))[:, None] * np.exp(-np.outer(nodes, w)) * rest).sum(0)
            )
        result[i] = 1 - result.sum()
        return result

    def _row_covariance(self, i: int) -> Array:
        neighbors, w, heard = self._row(i)
        n, d = len(self.weights), len(neighbors)
        second = np.zeros((d, d))  # E[r_j r_k] of the neighbors' weights
        mean = self._row_mean(i)[neighbors]
        if self.on_missing == "self":
            covariance = np.diag(w**2 * heard * (1 - heard))
        else:
            own = self.weights[i, i]
            nodes, measure = _quadrature(own)
            decay = np.exp(-np.outer(nodes, w))
            factors = (1 - heard) + heard * decay
            base = measure * nodes * np.exp(-nodes * own)
            for j in range(d):
                without = _without_one(np.delete(factors, j, axis=1))
                alone = np.delete(factors, j, axis=1).prod(1)
                second[j, j] = w[j] ** 2 * heard[j] * (base * decay[:, j] * alone).sum()
                others = np.delete(np.arange(d), j)
                pair = (base * decay[:, j])[:, None] * decay[:, others] * without
                second[j, others] = w[j] * w[others] * heard[j] * heard[others] * pair.sum(0)
            covariance = second - np.outer(mean, mean)
        # The own weight is 1 minus the others.
        spread = np.zeros((n, d))
        spread[neighbors, np.arange(d)] = 1
        spread[i] = -1
        return np.asarray(spread @ covariance @ spread.T)


def _quadrature(own: float) -> tuple[Array, Array]:
    """Return nodes s and weights for integrals from 0 to infinity of functions that fall at least as exp(-own s)."""
    v, weights = np.polynomial.legendre.leggauss(_NODES)
    v, weights = (v + 1) / 2, weights / 2
    rate = own / _POWER  # v = exp(-rate s)
    return -np.log(v) / rate, weights / (rate * v)


def _without_one(factors: Array) -> Array:
    """Return for each column the product of all others, (nodes, d)."""
    d = factors.shape[1]
    before, after = np.ones_like(factors), np.ones_like(factors)
    for j in range(1, d):
        before[:, j] = before[:, j - 1] * factors[:, j - 1]
        after[:, d - 1 - j] = after[:, d - j] * factors[:, d - j]
    return before * after
