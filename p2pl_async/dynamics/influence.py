"""Influence: how much each device's data count where devices average models, and how fast they agree.

Where devices mix by W and pi W = pi, mixing leaves z = sum_k pi_k w_k alone, so only their local steps move it:

    z <- z - eta sum_k pi_k s_k g_k(w_k)         s_k local steps a round, g_k the gradient of f_k

They minimize sum_k pi_k s_k f_k, up to terms of the order of eta, where f_k is the mean loss on device k's n_k samples.
That is the loss on all data pooled only if pi_k s_k ~ n_k. On undirected graphs, with d_k neighbors and S_k
samples on device k and its neighbors:

    weights           pi_k ~
    size              n_k S_k
    uniform           1 + d_k
    metropolis        1
    metropolis-size   n_k
    relative-size     n_k d_k

A round of epochs has s_k ~ n_k steps, so that there "metropolis" counts each sample alike, and "size" counts those of
large devices twice over: by their weight and by their steps. Losses that fall on all links alike leave pi as it is if
their weight goes to the device itself; if it goes to all that were heard, pi is that of E[W].

In a run pi is that of the weights that mixes gave, summed up. On losses with known minima that is right in rounds, with
cached copies at any speeds, for exchanges in pairs (AD-PSGD), for copies (CHOCO), and for gossip learning that merges,
then trains. In mode "fresh" it is an estimate, as a device that mixes several times before it next hears somebody shows
others less of its steps than it has made: one that was 2.5 times as fast as the other four of a star was told to count
for 31 %, and did for 25 %; speeds within 20 % of each other made no difference.

Source: A. H. Sayed, "Adaptation, learning, and optimization over networks", 2014 (the objective that the Perron vector
weighs); J. Wang et al., "Tackling the objective inconsistency problem", NeurIPS 2020 (unequal steps, with a server).
The vectors of the table are our derivation, tested against eigenvectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics.failures import LossyMixing

_DENSE = 1000  # entries of a covariance up to which dense eigenvalues are computed: about a second


class Agreement(NamedTuple):
    """The factor by which devices that only mix come closer in each round, in the long run.

    Attributes:
        mean: of the mean over runs: the second largest absolute eigenvalue of E[W].
        mean_square: of the root of the mean square distance of devices from their mean; larger than `mean` where
            messages get lost, for single runs scatter, else the same.
    """

    mean: float
    mean_square: float


def stationary(weights: Array) -> Array | None:
    """Return pi, how much each device's model counts in the long run, (n,); sums to 1.

    Args:
        weights: [k, j] the weight that k gives to j, per round or summed over a run in which devices had different
            numbers of rounds, (n, n); the diagonal doesn't count.

    Returns:
        pi with sum_k pi_k weights_kj = pi_j sum_i weights_ji; None if there is no single one, as where devices are cut
        off.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = len(weights)
    flows = np.where(np.eye(n, dtype=bool), 0.0, weights)
    count, group = connected_components(csr_array(flows), directed=True, connection="strong")
    leaving = {int(group[k]) for k, j in zip(*np.nonzero(flows), strict=True) if group[k] != group[j]}
    if count - len(leaving) != 1:  # each group that gives no weight to another keeps a model of its own
        return None
    balance = (np.diag(flows.sum(1)) - flows).T
    balance[-1] = 1.0  # one balance follows from the others; instead, the sum is 1
    found = np.linalg.solve(balance, np.eye(n)[-1])
    return np.asarray(np.maximum(found, 0.0))


def sample_weight(pi: Array, steps: Array, samples: Array) -> Array:
    """Return how much a sample of each device counts in what devices minimize together, (n,); an average one counts 1.

    Args:
        pi: how much each device's model counts, (n,).
        steps: local steps of each device in a round, or any multiple, (n,).
        samples: of each device, (n,), all positive.
    """
    share = pi * steps / (pi * steps).sum()
    return np.asarray(share * samples.sum() / samples)


def distance_from_data(weight: Array, samples: Array) -> float:
    """Return the total variation distance of what devices minimize from the pooled loss: 0 (the same) to 1.

    Args:
        weight: of a sample of each device (`sample_weight`), (n,).
        samples: of each device, (n,).
    """
    return float(np.abs(weight - 1) @ samples / (2 * samples.sum()))


def agreement(mixing: LossyMixing) -> Agreement:
    """Return how fast devices that only mix agree.

    With P = I - 1 1^T / n, the covariance of their distances from the mean follows C <- P E[W C W^T] P.
    """
    mean, n = mixing.mean, len(mixing.weights)
    values = np.sort(np.abs(np.linalg.eigvals(mean)))
    second = float(values[-2]) if n > 1 else 0.0
    if not mixing.loss[mixing.links].any():
        return Agreement(second, second)
    center = np.eye(n) - 1 / n
    spread = mixing.covariance.transpose(0, 2, 1, 3).reshape(n * n, n * n)  # [(i, j), (a, b)] Cov(W_ia, W_jb)

    def apply(vector: Array) -> Array:
        c = vector.reshape(n, n)
        return np.asarray((center @ (mean @ c @ mean.T + (spread @ c.ravel()).reshape(n, n)) @ center).ravel())

    if n * n <= _DENSE:
        matrix = np.stack([apply(column) for column in np.eye(n * n)], axis=1)
        radius = np.abs(np.linalg.eigvals(matrix)).max()
    else:
        from scipy.sparse.linalg import LinearOperator, eigs

        operator = LinearOperator((n * n, n * n), apply, dtype=np.float64)
        start = center.ravel()  # the largest eigenvalue has a positive semidefinite eigenvector, which this one meets
        radius = np.abs(eigs(operator, 1, which="LM", v0=start, tol=1e-10, return_eigenvectors=False)).max()
    return Agreement(second, float(np.sqrt(radius)))
