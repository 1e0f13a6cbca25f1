"""Spread of runs around their mean when messages get lost: exact second moments.

With C the covariance of all devices' parameters (summed over the columns of the state), W' the covariance of
the mixing matrix and R = C + mean mean^T,

    mixing     C <- E[W] C E[W]^T + W' : R         (W' : R)_ij = sum_ab Cov(W_ia, W_jb) R_ab
    descending C <- (I - eta H) C (I - eta H)^T

in the order of DGD, CTA or ATC. C gives the expected loss, which is above the loss of the mean, and the expected
squared distance of devices from each other. The assumptions are those of `failures`. Memory and time grow with
the square of the number of all devices' features; `compressed` keeps that number small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics.failures import LossyMixing
from p2pl_async.dynamics.linearized import ParameterForm
from p2pl_async.dynamics.recursion import Rule, combine
from p2pl_async.dynamics.spectrum import DENSE
from p2pl_async.errors import PredictionError


class Moments(NamedTuple):
    """Means over runs, at each recorded round.

    Attributes:
        mean: state, (K, Q, D, m).
        covariance: of each device's parameters among themselves, summed over columns, (K, Q, D, D).
        consensus_square: mean of 1/Q sum_q |u_q - mean u|^2, (K,).
        at: the rounds.
    """

    mean: Array
    covariance: Array
    consensus_square: Array
    at: NDArray[np.int64]

    def square(self, features: Array) -> Array:
        """Return the expected squared deviation of outputs from their mean, summed over rows and columns, (K, Q).

        Args:
            features: Jacobian of those outputs, (rows, D).
        """
        return np.asarray(np.einsum("kqde,de->kq", self.covariance, features.T @ features))


def second_moments(form: ParameterForm, rule: Rule, mixing: LossyMixing, eta: float, at: NDArray[np.int64]) -> Moments:
    """Return means and covariances over runs in which messages get lost.

    Args:
        form: the devices' gradients.
        rule: "dgd", "cta" or "atc".
        mixing: the random matrix.
        eta: step size.
        at: rounds, ascending.

    Raises:
        PredictionError: if there are more states than `spectrum.DENSE`.
    """
    devices, size, _ = form.shape
    n = devices * size
    if n > DENSE:
        raise PredictionError(
            f"second moments of {devices} devices times {size} features have {n * n:,} entries "
            f"({3 * n * n * 8 / 2**30:.3g} GiB); they are for up to {DENSE:,} features in all, "
            "use compressed(..., rank=...)"
        )
    hessians = np.stack([form.hessian(q) for q in range(devices)])
    average, spread = mixing.mean, mixing.covariance.transpose(0, 2, 1, 3).reshape(devices**2, devices**2)
    mean = form.zeros()
    covariance: Array = np.zeros((n, n))

    def mixed(matrix: Array) -> Array:
        return np.asarray((average @ matrix.reshape(devices, -1)).reshape(n, n))

    def descended(matrix: Array) -> Array:
        return np.asarray((hessians @ matrix.reshape(devices, size, n)).reshape(n, n))

    def scatter(mean: Array, covariance: Array) -> Array:
        flat = mean.reshape(n, -1)
        blocks = (covariance + flat @ flat.T).reshape(devices, size, devices, size).transpose(0, 2, 1, 3)
        added = (spread @ blocks.reshape(devices**2, -1)).reshape(devices, devices, size, size)
        return np.asarray(added.transpose(0, 2, 1, 3).reshape(n, n))

    def both_sides(apply: Any, matrix: Array) -> Array:
        return np.asarray(apply(apply(matrix).T).T)

    found: list[tuple[Array, Array, float]] = []
    wanted = set(map(int, at))
    for k in range(int(at[-1]) + 1):
        if k in wanted:
            own = covariance.reshape(devices, size, devices, size)
            diagonal = np.stack([own[q, :, q] for q in range(devices)])
            away = ((mean - mean.mean(0)) ** 2).sum() / devices
            blocks = np.einsum("idjd->ij", own)
            scattered = (np.trace(blocks) - blocks.sum() / devices) / devices
            found.append((mean, diagonal, float(away + scattered)))
        if rule == "dgd":
            covariance = both_sides(lambda m: mixed(m) - eta * descended(m), covariance) + scatter(mean, covariance)
            mean = combine(average, mean) - eta * form.gradient(mean)
        elif rule == "cta":
            covariance = both_sides(mixed, covariance) + scatter(mean, covariance)
            mean = combine(average, mean)
            covariance = both_sides(lambda m: m - eta * descended(m), covariance)
            mean = mean - eta * form.gradient(mean)
        else:
            covariance = both_sides(lambda m: m - eta * descended(m), covariance)
            mean = mean - eta * form.gradient(mean)
            covariance = both_sides(mixed, covariance) + scatter(mean, covariance)
            mean = combine(average, mean)
    means, diagonals, distances = zip(*found, strict=True)
    return Moments(np.stack(means), np.stack(diagonals), np.array(distances), np.asarray(at))
