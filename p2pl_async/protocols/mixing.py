"""Mixing: weights from sample counts and degrees, and the weighted mean itself.

Every rule gives a row of a row-stochastic matrix, so a mix is a convex combination: whatever
links do, parameters stay in the convex hull of the former ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from p2pl_async.errors import ProtocolError
from p2pl_async.messages import DeviceId, Vector

WeightRule = Literal["size", "uniform", "metropolis", "metropolis-size", "relative-size"]
OnMissing = Literal["renormalize", "self", "cache"]

BLOCK = 1 << 14
"""Entries of the longest slice that `blocks` gives by default: several float64 arrays of them fit the cache."""

FEW = 1 << 15
"""The same where only a sum and one product in float32 must fit it."""

_MOST = 1 << 53  # counts of a peer beyond it would overflow where they are stored


class Peer(NamedTuple):
    """The facts about a device that mixing weights depend on."""

    n_samples: int
    degree: int  # number of its in-neighbors, itself not counted


def mix(
    own: Vector,
    heard: Mapping[DeviceId, Vector],
    weights: Mapping[DeviceId, float],
    me: DeviceId,
    *,
    stepped: Vector | None = None,
) -> Vector:
    """Average a device's parameters with those it heard: one consensus step.

    `w_k <- sum_j a_kj w_j`, added up in order of id.

    Args:
        own: parameters of this device, shape (n_params,).
        heard: neighbor -> its parameters, each shape (n_params,); may be empty.
        weights: row k of the mixing matrix: the own weight and one for each of `heard`; sums to 1.
        me: this device, k.
        stepped: `own` after a local step, shape (n_params,); the step, `stepped - own`, is added to the mean.

    Returns:
        A new read-only array, shape and dtype of `own`; the inputs are unchanged.

    Raises:
        ProtocolError: if `heard` has a device without a weight, or a vector of another shape.

    Source: arXiv:2310.18861, consensus phase.
    """
    for j, w in heard.items():
        if j not in weights:
            raise ProtocolError(f"device {j} was heard and has no mixing weight; weights are for {sorted(weights)}")
        if w.shape != own.shape:
            raise ProtocolError(f"device {j} sent parameters of shape {w.shape}, mixing needs {own.shape}")
    terms = [(own.dtype.type(weights[j]), own if j == me else heard[j]) for j in sorted({me, *heard})]
    mixed = np.empty_like(own)
    product = np.empty(min(FEW, own.size), own.dtype)
    for block in blocks(own.size, FEW):
        total = mixed[block]
        np.multiply(terms[0][1][block], terms[0][0], out=total)
        for weight, w in terms[1:]:
            np.multiply(w[block], weight, out=product[: total.size])
            total += product[: total.size]
        if stepped is not None:
            np.subtract(stepped[block], own[block], out=product[: total.size])
            total += product[: total.size]
    mixed.flags.writeable = False  # so that training from it and sending it need no copy
    return mixed


def stepped(w: Vector, direction: Vector, eta: float) -> Vector:
    """Return `w - eta direction`, a new read-only array of the shape and dtype of `w`; both vectors are (n_params,)."""
    after = np.empty_like(w)
    for block in blocks(w.size, FEW):
        part = np.multiply(direction[block], w.dtype.type(-eta), out=after[block])
        part += w[block]
    after.flags.writeable = False  # so that sending it needs no copy
    return after


def add_scaled(x: Vector, terms: Iterable[tuple[float, Vector]]) -> None:
    """Add `factor` times a vector to `x` for each (factor, vector), in their order, in one pass; each (n_params,)."""
    for _ in _adding(x, terms):
        pass


def scaled_sum(x: Vector, terms: Iterable[tuple[float, Vector]], scale: float) -> Vector:
    """Do as `add_scaled`; return `scale` times the sum, from the same pass, new and read-only."""
    scaled = np.empty_like(x)
    for block in _adding(x, terms):
        np.multiply(x[block], scale, out=scaled[block])
    scaled.flags.writeable = False  # so that training from it needs no copy
    return scaled


def _adding(x: Vector, terms: Iterable[tuple[float, Vector]]) -> Iterator[slice]:
    each = [(x.dtype.type(factor), v) for factor, v in terms]
    product = np.empty(min(FEW, x.size), x.dtype)
    for block in blocks(x.size, FEW):
        part = x[block]
        for factor, v in each:
            part += np.multiply(v[block], factor, out=product[: part.size])
        yield block


def add_difference(x: Vector, new: Vector, old: Vector, factor: float = 1.0) -> None:
    """Add `factor (new - old)` to `x`, in one pass; all are (n_params,)."""
    difference = np.empty(min(FEW, x.size), x.dtype)
    for block in blocks(x.size, FEW):
        part = np.subtract(new[block], old[block], out=difference[: x[block].size])
        if factor != 1:
            part *= x.dtype.type(factor)
        x[block] += part


def blocks(size: int, longest: int = BLOCK) -> Iterator[slice]:
    """Yield consecutive slices that cover `size` entries, each of at most `longest`.

    Passes over several vectors go block by block: each block is then read from memory once.
    """
    return (slice(start, start + longest) for start in range(0, size, longest))


def is_finite(w: Vector) -> bool:
    """Tell whether every parameter is a finite number."""
    # A finite sum has finite terms. A sum that isn't may have overflowed, so only then are the terms checked.
    return bool(np.isfinite(w.sum())) or bool(np.isfinite(w).all())


def is_count(*numbers: int) -> bool:
    """Tell whether numbers that a peer sent can be counts: at least 0, and no larger than a device can reach."""
    return all(0 <= number <= _MOST for number in numbers)


def unsound(parts: Mapping[DeviceId, Vector]) -> DeviceId | None:
    """Return the device whose vector must be left out so that a sum may become finite; None if there is none.

    It is one with an entry that isn't a number, or else the one with the largest entry.
    """
    sizes = {j: float(np.abs(w).max(initial=0.0)) for j, w in sorted(parts.items())}
    return max(sizes, key=lambda j: (math.isnan(sizes[j]), sizes[j]), default=None)


def is_like(w: Vector, other: Vector) -> bool:
    """Tell whether a vector has the shape and dtype of another, so that both can be mixed."""
    return w.shape == other.shape and w.dtype == other.dtype


def row(rule: WeightRule, me: DeviceId, own: Peer, neighbors: Mapping[DeviceId, Peer]) -> dict[DeviceId, float]:
    """Return row k of the mixing matrix over this device and all its in-neighbors.

    Args:
        rule: "size" a_kj = n_j / sum of n over the neighborhood (P2PL); "uniform" 1 / (degree + 1);
            "metropolis" 1 / (1 + max(d_k, d_j)), the rest to itself; "metropolis-size"
            min(n_k / (1 + d_k), n_j / (1 + d_j)) / n_k, the rest to itself; "relative-size"
            n_j / (n_k + n_j) / degree, the rest to itself.
        me: this device, k.
        own: its sample count and degree.
        neighbors: the same of each in-neighbor.

    Returns:
        Device -> weight, in order of id; weights are at least 0 and sum to 1.

    Source: arXiv:2310.18861 (size); Xiao and Boyd 2004 (metropolis); N. Metropolis et al. 1953 and W. K. Hastings 1970
    (metropolis-size: the chain that proposes each neighbor alike and whose target is n, so n_k a_kj = n_j a_jk).
    """
    if rule == "size":
        sizes = {j: float(peer.n_samples) for j, peer in {**neighbors, me: own}.items()}
        return _normalized(sizes)
    if rule == "uniform":
        return _normalized(dict.fromkeys([me, *neighbors], 1.0))
    if rule == "metropolis":
        weights = {j: 1 / (1 + max(own.degree, peer.degree)) for j, peer in neighbors.items()}
    elif rule == "metropolis-size":
        rate = own.n_samples / (1 + own.degree)
        flows = {j: min(rate, peer.n_samples / (1 + peer.degree)) for j, peer in neighbors.items()}
        weights = {j: flow / own.n_samples for j, flow in flows.items()}
    else:
        share = 1 / max(1, len(neighbors))
        weights = {j: share * peer.n_samples / (own.n_samples + peer.n_samples) for j, peer in neighbors.items()}
    weights[me] = 1 - sum(weights[j] for j in sorted(weights))
    return dict(sorted(weights.items()))


def without_missing(
    weights: Mapping[DeviceId, float], me: DeviceId, heard: Mapping[DeviceId, object], on_missing: OnMissing
) -> dict[DeviceId, float]:
    """Return the weights of this device and of those heard, summing to 1 again.

    `renormalize` scales up the weights that are left; `self` adds the missing weight to the device's own.
    With `cache` the caller has put old copies into `heard`, and the weights still missing are renormalized.
    """
    left = {j: weight for j, weight in weights.items() if j == me or j in heard}
    if on_missing == "self":
        left[me] += 1 - sum(left[j] for j in sorted(left))
        return left
    return _normalized(left)


def _normalized(weights: Mapping[DeviceId, float]) -> dict[DeviceId, float]:
    order = sorted(weights)
    total = sum(weights[j] for j in order)
    return {j: weights[j] / total for j in order}
