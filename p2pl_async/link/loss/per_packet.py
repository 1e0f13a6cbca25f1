"""Bursts that step with each packet of the link, as netem and ns-3 have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from p2pl_async.basics.arrays import Floats, Indices
from p2pl_async.basics.randomness import stream
from p2pl_async.basics.settings import mistake
from p2pl_async.basics.timeline import Stretch
from p2pl_async.basics.units import Probability
from p2pl_async.link.loss.base import BURST, CAUSES, LOSS, Codes, LossModel, LossProcess
from p2pl_async.link.over_time import VARIES

_DEPENDENT = Stretch(None, math.inf)
_BLOCK = 4096  # packets whose states are drawn at once
_FAR = 1 << 16  # packets that nothing looked at, from which on their states aren't drawn where there is another way


class StatesByPacket:
    """A loss that steps with each packet: its states come from `draw`, each with its share of losses and its cause.

    Args:
        draw: returns the states of the next n packets, shape (n,); the sequence doesn't depend
            on how many are asked for at once.
        losses: for each state, the share of packets that are lost, shape (s,).
        codes: for each state, the cause of such a loss, shape (s,).
        pass_over: goes on behind so many packets by the law of the states, without drawing each.
    """

    __slots__ = ("_ahead", "_codes", "_draw", "_losses", "_next", "_pass_over")

    def __init__(
        self,
        draw: Callable[[int], Indices],
        losses: Floats,
        codes: Codes,
        pass_over: Callable[[int], object] | None = None,
    ) -> None:
        self._draw = draw
        self._pass_over = pass_over
        self._losses = losses
        self._codes = codes
        self._ahead: Indices = np.empty(0, np.intp)  # states drawn; the packet to come has the one at _next
        self._next = 0

    def fate(self, uniform: float, at: float) -> str:
        state = self._look(1)[0]
        self._next += 1
        return CAUSES[self._codes[state]] if uniform < self._losses[state] else ""

    def fates(self, uniforms: Floats, at: Floats) -> Codes:
        states = self._look(len(uniforms))
        return (uniforms < self._losses[states]) * self._codes[states]

    def passed(self, packets: int) -> None:
        self._next += packets

    def skip(self, packets: int, at: float) -> None:
        self._next += packets

    def at(self, now: float) -> Stretch[None]:
        return _DEPENDENT

    def _look(self, packets: int) -> Indices:
        """Return the states of the next packets."""
        missing = self._next + packets - len(self._ahead)
        if missing > 0:
            skipped = max(self._next - len(self._ahead), 0)
            if self._pass_over is not None and skipped > _FAR:
                self._pass_over(skipped)
                skipped, missing = 0, missing - skipped
            for _ in range(skipped // _BLOCK):  # a million at once take five times as long
                self._draw(_BLOCK)
            skipped, missing = skipped % _BLOCK, missing - skipped // _BLOCK * _BLOCK
            self._ahead = np.concatenate((self._ahead[self._next :], self._draw(max(missing, 64))[skipped:]))
            self._next = 0
        return self._ahead[self._next : self._next + packets]


class _Chain:
    """A Markov chain of few states that starts stationary; one uniform variable per step.

    A uniform variable makes one step a map from each state to the next. The states of a block
    are the compositions of those maps from its beginning on, found by doubling: no loop over
    packets.

    Args:
        generator: its stream.
        matrix: row s has the probabilities of going from state s to each state, shape (s, s).
    """

    __slots__ = ("_generator", "_matrix", "_state", "_steps")

    def __init__(self, generator: np.random.Generator, matrix: Floats) -> None:
        self._generator = generator
        self._matrix = matrix
        self._steps = np.cumsum(matrix, axis=1)[:, :-1]
        shares = np.maximum(_stationary(matrix), 0)
        self._state = int(np.searchsorted(np.cumsum(shares)[:-1], generator.random() * shares.sum(), side="right"))

    def draw(self, n: int) -> Indices:
        """Return the states of the next n packets, shape (n,)."""
        uniforms = self._generator.random(n)
        # after[k, s]: the state after packets 0 to k if the one of packet 0 is s
        after: Indices = (uniforms[:, None, None] >= self._steps).sum(axis=2)
        width = 1
        while width < n:
            after[width:] = np.take_along_axis(after[width:], after[:-width], axis=1)
            width *= 2
        states = np.concatenate(([self._state], after[:, self._state]))
        self._state = int(states[-1])
        return states[:-1]

    def pass_over(self, n: int) -> None:
        """Go on behind n packets: their steps at once, by the power of the matrix; one uniform variable."""
        steps = np.cumsum(np.linalg.matrix_power(self._matrix, n)[self._state])[:-1]
        self._state = int(np.searchsorted(steps, self._generator.random(), side="right"))


def _stationary(matrix: Floats) -> Floats:
    """Return the share of steps that a Markov chain spends in each state, shape (s,)."""
    n = len(matrix)
    equations = np.vstack((matrix.T - np.eye(n), np.ones(n)))
    shares: Floats = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return shares


class GilbertPackets(LossModel):
    """Bursts that step per packet: p from good to bad, r back, or a loss and a mean burst length.

    A packet is lost with probability 1 - k while good and 1 - h while bad; then the state
    changes. Without h and k (simple Gilbert) all is lost while bad and nothing while good:
    bursts have 1 / r packets on average, and `loss` with `burst` gives r = 1 / burst and
    p = r loss / (1 - loss).

    Source: O. Hohlfeld, R. Geib, G. Haßlinger, "Packet loss in real-time services: Markovian
    models generating QoE impairments", IWQoS 2008, for the letters.
    """

    kind: Literal["gilbert-packets"] = "gilbert-packets"
    p: Annotated[Probability | None, VARIES] = Field(
        default=None, description="probability that the link turns bad after a packet"
    )
    r: Annotated[Probability | None, VARIES] = Field(
        default=None, description="probability that it turns good again after a packet"
    )
    h: Annotated[Probability, VARIES] = Field(default=0.0, description="share of packets that arrive while bad")
    k: Annotated[Probability, VARIES] = Field(default=1.0, description="share of packets that arrive while good")
    loss: Annotated[Probability | None, VARIES] = Field(
        default=None, description="share of packets lost, instead of p and r"
    )
    burst: Annotated[float, Field(strict=True, ge=1)] | None = Field(
        default=None, description="mean number of packets lost in a row, with loss"
    )

    @model_validator(mode="after")
    def _check(self) -> GilbertPackets:
        chain, design = (self.p, self.r), (self.loss, self.burst)
        if (None in chain) == (None in design) or (chain != (None, None) and design != (None, None)):
            raise mistake('needs p and r, such as p = "5 %" and r = "40 %", or loss = "10 %" and burst = 4')
        if self.loss is not None and self.burst is not None:
            if (self.h, self.k) != (0.0, 1.0):
                raise mistake("h and k go with p and r; loss and burst mean that all is lost while bad, and only then")
            if self.loss == 1:
                raise mistake('loss must be below 100 %; for a link that loses everything write loss = "100 %"')
            least = self.loss / (1 - self.loss)
            if self.burst < least * (1 - 1e-9):
                longer = math.ceil(least * 100 - 1e-6) / 100
                raise mistake(
                    f"burst={self.burst:g} is impossible at a loss of {self.loss:.6g}, for which losses come at least "
                    f"{least:.6g} in a row on average; write burst = {longer:g} or lower the loss"
                )
        elif self.p == 0 and self.r == 0:
            raise mistake('p and r must not both be 0; for independent losses write loss = "5 %"')
        return self

    @property
    def rates(self) -> tuple[float, float]:
        """Probabilities of turning bad and good after a packet."""
        if self.p is not None and self.r is not None:
            return self.p, self.r
        assert self.loss is not None
        assert self.burst is not None
        return min(self.loss / (1 - self.loss) / self.burst, 1.0), 1 / self.burst

    def make(self, seed: int, src: int, dst: int) -> LossProcess:
        p, r = self.rates
        chain = _Chain(stream(seed, "burst", src, dst), np.array([[1 - p, p], [r, 1 - r]]))
        return StatesByPacket(
            chain.draw, np.array([1 - self.k, 1 - self.h]), np.array([LOSS, BURST], np.int8), chain.pass_over
        )


class FourState(LossModel):
    """Bursts and lone losses, per packet, as netem's `loss state`: gap, received in burst, lost in burst, lone loss.

    State 1: received, in a gap; 2: received, in a burst; 3: lost, in a burst; 4: lost alone,
    always followed by state 1. `p13` is the probability that a packet in state 3 follows one in
    state 1, and so on; without `p32`, `p23` and `p14` it is a simple Gilbert chain.

    Source: S. Salsano, F. Ludovici, A. Ordine, D. Giannuzzi, "Definition of a general and
    intuitive loss model for packet networks and its implementation in the Netem module in the
    Linux kernel", 2012.
    """

    kind: Literal["four-state"] = "four-state"
    p13: Annotated[Probability, VARIES] = Field(description="a burst begins")
    p31: Annotated[Probability, VARIES] = Field(description="it ends with a packet lost")
    p32: Annotated[Probability, VARIES] = Field(
        default=0.0, description="in a burst, a packet received follows one lost"
    )
    p23: Annotated[Probability, VARIES] = Field(
        default=1.0, description="in a burst, a packet lost follows one received"
    )
    p14: Annotated[Probability, VARIES] = Field(default=0.0, description="a packet is lost alone")

    @model_validator(mode="after")
    def _check(self) -> FourState:
        for first, second in (("p13", "p14"), ("p31", "p32")):
            total = getattr(self, first) + getattr(self, second)
            if total > 1 + 1e-12:
                raise mistake(f"{first} and {second} must not exceed 100 % together, which is all that follows a state")
        for name in ("p31", "p23"):
            if getattr(self, name) == 0:
                raise mistake(f"{name} must be above 0, or a burst never ends")
        return self

    def make(self, seed: int, src: int, dst: int) -> LossProcess:
        matrix = np.array(
            [
                [1 - self.p13 - self.p14, 0, self.p13, self.p14],
                [0, 1 - self.p23, self.p23, 0],
                [self.p31, self.p32, 1 - self.p31 - self.p32, 0],
                [1, 0, 0, 0],
            ]
        )
        chain = _Chain(stream(seed, "burst", src, dst), matrix)
        return StatesByPacket(
            chain.draw, np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, BURST, LOSS], np.int8), chain.pass_over
        )


class BurstError(LossModel):
    """With a probability per packet a burst begins, and loses from `least` to `most` packets in a row.

    The first lost packet is the one with which it begins. A burst that begins within another
    takes its place, which may shorten it.

    Source: ns-3, `BurstErrorModel`.
    """

    kind: Literal["burst-error"] = "burst-error"
    rate: Annotated[Probability, VARIES] = Field(description="probability that a burst begins with a packet")
    least: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(default=1, description="shortest burst, packets")
    most: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(default=4, description="longest burst, packets")

    @model_validator(mode="after")
    def _check(self) -> BurstError:
        if self.least > self.most:
            raise mistake(f"least, {self.least}, must not be above most, {self.most}")
        return self

    def make(self, seed: int, src: int, dst: int) -> LossProcess:
        bursts = _LatestBurst(stream(seed, "burst", src, dst), self.rate, self.least, self.most)
        return StatesByPacket(bursts.draw, np.array([0.0, 1.0]), np.array([0, BURST], np.int8))


class _LatestBurst:
    """Whether the burst that began last still goes on, packet by packet; two uniform variables each."""

    __slots__ = ("_generator", "_least", "_left", "_most", "_rate")

    def __init__(self, generator: np.random.Generator, rate: float, least: int, most: int) -> None:
        self._generator = generator
        self._rate = rate
        self._least = least
        self._most = most
        self._left = 0  # packets that the burst so far still takes
        self.draw(most)  # nothing farther back matters, so from here on it is stationary

    def draw(self, n: int) -> Indices:
        """Return 1 for each of the next n packets that is in a burst, else 0; shape (n,)."""
        begins, sizes = self._generator.random((n, 2)).T
        index = np.arange(n)
        ends = index + self._least + np.floor(sizes * (self._most - self._least + 1)).astype(np.intp)
        latest = np.maximum.accumulate(np.where(begins < self._rate, index, -1))
        end = np.where(latest < 0, self._left, ends[latest])
        self._left = int(end[-1]) - n
        states: Indices = (index < end).astype(np.intp)
        return states
