"""DGD, CTA and ATC round after round: one linear system, solved for any instants.

    DGD    s <- W s - eta g(s)               adapt and combine at once (decentralized gradient descent)
    CTA    y = W s;  s <- y - eta g(y)       combine, then adapt
    ATC    s <- W (s - eta g(s))             adapt, then combine

Each is s <- A s + c. An emulated run follows this recursion; the gradient flow of the paper is
s' = (A - I) s + c, in units of rounds. Flow and recursion differ by some percent in early rounds.

Both are sums over sequences x_0 = s(0), x_1, x_2, ... whose terms need one step of the recursion each:

    powers       x_{j+1} = A x_j + c                  recursion: x_k itself     flow: Poisson weights
    Chebyshev    x_{j+1} = 2 (A x_j + c) - x_{j-1}    recursion: binomial       flow: Bessel functions

All weights are positive and sum to 1. A Chebyshev sum for round k has about 8 sqrt(k) terms instead of k, since
x^k = sum_j P(|S_k| = j) T_j(x) with S_k a simple random walk; it needs the eigenvalues of A to be real, between -1
and 1 (`spectrum.real_spectrum`).

Source: arXiv:2409.15267 (the three systems and their flow); the sums over Chebyshev polynomials are the
standard expansions of x^k and exp(t x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Array
from p2pl_async.dynamics.linearized import Form

Rule = Literal["dgd", "cta", "atc"]
Time = Literal["recursion", "flow"]

_BLOCK = 32  # terms of a sum that are added at once
_TINY = 34.0  # minus the logarithm of the weights left out of a sum


def combine(mixing: Array, state: Array) -> Array:
    """Return sum_j W_ij s_j, (Q, D, m)."""
    return np.asarray((mixing.astype(state.dtype, copy=False) @ state.reshape(len(state), -1)).reshape(state.shape))


def step(form: Form, rule: Rule, mixing: Array, eta: float, state: Array) -> Array:
    """Return the state after one round.

    Args:
        form: the devices' gradients.
        rule: "dgd", "cta" or "atc".
        mixing: W, (Q, Q).
        eta: step size.
        state: (Q, D, m).
    """
    if rule == "dgd":
        return combine(mixing, state) - eta * form.gradient(state)
    if rule == "cta":
        mixed = combine(mixing, state)
        return mixed - eta * form.gradient(mixed)
    return combine(mixing, state - eta * form.gradient(state))


def trajectory(
    form: Form,
    rule: Rule,
    mixing: Array | Callable[[int], Array],
    eta: float,
    at: Sequence[float] | NDArray[Any],
    *,
    start: Array | None = None,
    time: Time = "recursion",
    chebyshev: bool = False,
) -> Array:
    """Return the state at some instants, (len(at), Q, D, m).

    Args:
        form: the devices' gradients.
        rule: "dgd", "cta" or "atc".
        mixing: W, (Q, Q); or, for the recursion by powers, round -> W.
        eta: step size.
        at: instants in rounds, ascending; whole numbers for the recursion.
        start: state at 0; zeros by default.
        time: "recursion", or "flow" for the gradient flow.
        chebyshev: take far fewer steps; correct only if `spectrum.real_spectrum` is true.
    """
    instants = np.asarray(at, np.float64)
    first = form.zeros() if start is None else np.asarray(start)
    weights = _weights(instants, time, chebyshev)
    result = np.zeros((len(instants), first.size), first.dtype)
    terms: list[Array] = []
    begin = 0
    for term in _terms(form, rule, mixing, eta, first, weights.shape[1], chebyshev):
        terms.append(term.ravel())
        if len(terms) == _BLOCK or begin + len(terms) == weights.shape[1]:
            part = weights[:, begin : begin + len(terms)]
            used, own = (part != 0).any(1), np.flatnonzero((part != 0).any(0))
            if used.any():  # the recursion by powers uses only the terms of the rounds asked for
                chosen = np.stack([terms[j] for j in own])
                result[used] += part[used][:, own].astype(first.dtype, copy=False) @ chosen
            begin += len(terms)
            terms = []
    return result.reshape(len(instants), *first.shape)


def _terms(
    form: Form,
    rule: Rule,
    mixing: Array | Callable[[int], Array],
    eta: float,
    first: Array,
    count: int,
    chebyshev: bool,
) -> Iterator[Array]:
    before, now = first, first
    for j in range(count):
        yield now
        if j + 1 == count:
            return
        after = step(form, rule, mixing(j) if callable(mixing) else mixing, eta, now)
        if chebyshev and j:
            after *= 2
            after -= before
        before, now = now, after


def _weights(at: NDArray[np.float64], time: Time, chebyshev: bool) -> NDArray[np.float64]:
    """Return the weight of each term of the sum at each instant, (instants, terms)."""
    from scipy import special, stats

    last = float(at[-1])
    if (np.diff(at) < 0).any() or at[0] < 0:
        raise ValueError("instants must be ascending from 0")
    if time == "recursion" and (at != np.floor(at)).any():
        raise ValueError("instants of the recursion must be whole rounds")
    column = at[:, None]
    if chebyshev:
        count = math.ceil(math.sqrt(2 * _TINY * last)) + 1
        if time == "recursion":
            j = np.arange(min(int(last), count) + 1)
            # P(|S_k| = j): k + S_k is twice the number of steps up.
            weights = stats.binom.pmf((column + j) / 2, column, 0.5) * ((column + j) % 2 == 0)
        else:
            j = np.arange(count + 40)
            weights = special.ive(j, column)
        return np.asarray(weights * np.where(j == 0, 1, 2))
    if time == "recursion":
        return np.asarray(column == np.arange(int(last) + 1), np.float64)
    count = math.ceil(last + 9 * math.sqrt(last) + 40)
    return np.asarray(stats.poisson.pmf(np.arange(count), column))
