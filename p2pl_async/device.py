"""The device: all that a protocol can see, without the network.

A device knows its id, its neighbors, how much data it has and its own random stream; it can
train, send, receive and sleep. The same protocol file runs over any links, and over real ones.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import trio

from p2pl_async.errors import DeviceFailed, ProtocolError
from p2pl_async.hardware.local_clock import IDEAL, LocalClock
from p2pl_async.learner import Learner
from p2pl_async.messages import DeviceId, Message, Vector, distance
from p2pl_async.topology.neighborhood import Neighborhood
from p2pl_async.trace import Record
from p2pl_async.transport import Transport

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Observer:
    """Functions called while devices run: they look and change nothing; None isn't called.

    Attributes:
        record: takes (device, metric, value) of what protocols measure.
        on_use: takes a device, and a message that has entered its model.
        on_round: takes a device that has finished a round.
        on_crash: takes a device that has crashed.
        on_up: takes a device that was down and no longer is.
        on_gone: takes a device that is down for good before its protocol has ended.
        sink: takes the network's records, in order.
    """

    record: Callable[[DeviceId, str, float], object] | None = None
    on_use: Callable[[DeviceId, Message], object] | None = None
    on_round: Callable[[Device], object] | None = None
    on_crash: Callable[[Device], object] | None = None
    on_up: Callable[[Device], object] | None = None
    on_gone: Callable[[Device], object] | None = None
    sink: Callable[[Record], object] | None = None


NO_OBSERVER = Observer()


class Device:
    """One device, as its protocol sees it.

    Attributes:
        id: this device, 0 to n - 1.
        all_in_neighbors: the devices that this one can ever hear, in order of id.
        all_out_neighbors: the devices that can ever hear this one, in order of id.
        round: rounds finished so far.
        boots: how often it has restarted after a crash.
        params: the argument of the last `finish_round`, shape (n_params,): the model that is evaluated.
        trained: the result of the last `train`, shape (n_params,).
        passive: set by a protocol on a device that only answers: when nothing is left to happen,
            the run may end while it waits.
        holds: set by a protocol whose devices share something out: returns the share of this one, which a crash takes
            along, and which is then recorded as `weight_lost`.
        largest: bound on the entries of models that `takes` accepts; None for no bound.
        pulls: sender -> how far its models were from this device's, or its messages moved it, summed; and how many.
        given: sender -> mixing weight of its models, summed over mixes; of a server, itself included.
        mixes: how many mixes these are.
        entered: factor with which its local steps entered the mass that push-sum shares out, summed; and how many
            there were.
        state: of a protocol from round to round, if it puts it here; for tests and debuggers.
    """

    def __init__(
        self,
        id: DeviceId,
        transport: Transport,
        in_neighbors: Sequence[DeviceId],
        out_neighbors: Sequence[DeviceId],
        random: Callable[[], np.random.Generator],
        *,
        hops: Callable[[], int] | None = None,
        neighborhood: Neighborhood | None = None,
        clock: LocalClock = IDEAL,
        learner: Learner | None = None,
        rounds: int | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self.id = id
        self.all_in_neighbors = tuple(in_neighbors)
        self.all_out_neighbors = tuple(out_neighbors)
        self.round = 0
        self.boots = 0
        self.params: Vector | None = None
        self.trained: Vector | None = None
        self.passive = False
        self._saved: Vector | None = None
        self.holds: Callable[[], float] | None = None
        self.state: Any = None
        self.largest: float | None = None
        self.pulls: dict[DeviceId, tuple[float, int]] = {}
        self.given: dict[DeviceId, float] = {}
        self.mixes = 0
        self.entered = 0.0, 0
        self._make_random = random
        self._transport = transport
        self._inbox = transport.inbox(id)
        self._neighborhood = neighborhood
        self._hops = hops
        self._learner = learner
        self._rounds = math.inf if rounds is None else rounds
        self._record = observer.record
        self._on_use = observer.on_use
        self._on_round = observer.on_round
        self._local = clock
        self._booted = 0.0  # virtual second

    def __repr__(self) -> str:
        return f"<device {self.id}, round {self.round}>"

    @functools.cached_property
    def random(self) -> np.random.Generator:
        """This device's own random stream; use no other randomness."""
        return self._make_random()  # when first asked for: 10,000 of them take half a second

    # Neighbors

    @property
    def in_neighbors(self) -> tuple[DeviceId, ...]:
        """The devices that this one can hear now, in order of id; may change with time and round."""
        if self._neighborhood is None:
            return self.all_in_neighbors
        return self._neighborhood.incoming(self.id, self.now, self.round)

    @property
    def out_neighbors(self) -> tuple[DeviceId, ...]:
        """The devices that can hear this one now, in order of id; may change with time and round."""
        if self._neighborhood is None:
            return self.all_out_neighbors
        return self._neighborhood.outgoing(self.id, self.now, self.round)

    @property
    def roams(self) -> bool:
        """Whether links come and go with time, as when devices move; neighbors are then those of the moment."""
        return self._neighborhood is not None and self._neighborhood.roams

    @property
    def hops(self) -> int:
        """A number of hops that leads from any device to any other; at least the diameter of the graph."""
        return 0 if self._hops is None else self._hops()

    # Time and rounds

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Wait, by this device's own clock."""
        now = trio.current_time()
        length = self._lasts(seconds, now)
        if 0 < length < math.inf:
            await self._transport.sleep_until(self.id, now + length)
        else:
            await trio.sleep(length)

    def timeout(self, seconds: float) -> trio.CancelScope:
        """Limit the block that follows to `seconds` by this device's own clock, as `trio.move_on_after`.

        `with device.timeout(5): message = await device.receive()`; a message that arrives at that very
        instant is in time.
        """
        return trio.move_on_after(self._lasts(seconds, trio.current_time()))

    def _lasts(self, seconds: float, now: float) -> float:
        """Return the virtual seconds of a wait by this device's own clock, from the instant `now` on."""
        length = self._local.lasts(now, seconds)
        if length > 0 and now + length == now:
            raise ProtocolError(
                f"a wait of {seconds:g} s at {now:.9g} s is below {math.ulp(now):.2g} s, which virtual time resolves "
                "then; wait longer, or end the run earlier"
            )
        return length

    @property
    def local_time(self) -> float:
        """The reading of this device's own clock: seconds since it was switched on or restarted, plus its offset."""
        return self._local.shown(self._booted, trio.current_time())

    @property
    def running(self) -> bool:
        """False once this device has finished as many rounds as the scenario asks for."""
        return self.round < self._rounds

    def finish_round(self, params: Vector | None = None, *, count: int = 1) -> None:
        """Count a round, or several; `params` is from now on the model that is evaluated."""
        if params is not None:
            self.params = params
        self.round += count
        if self._on_round is not None:
            self._on_round(self)

    # Crashes

    @property
    def resumed(self) -> bool:
        """Whether `initial_params` returns what this device had before a crash, instead of a first model."""
        return self._saved is not None

    def boot(self) -> None:
        """For the emulation: the device is switched on, or has restarted."""
        self._booted = trio.current_time()

    def crash(self, *, keep_state: bool) -> None:
        """For the emulation: all that was in memory is lost.

        Args:
            keep_state: whether `params` are on flash. The number of rounds is there in any case:
                messages of an earlier round would be out of date for every neighbor.
        """
        self.boots += 1
        if self.holds is not None:
            self.record("weight_lost", self.holds())
            self.holds = None
        self.trained = self.state = None
        if not keep_state:
            self.params = None
        self._saved = self.params if self.round else None  # before the first round there was nothing to save

    # Learning

    @property
    def n_samples(self) -> int:
        """The number of training samples on this device."""
        return self._learn().n_samples(self.id)

    @property
    def layers(self) -> tuple[slice, ...]:
        """Where each parameter tensor lies in a flat parameter vector."""
        return self._learn().layers

    def initial_params(self) -> Vector:
        """Return this device's own random initial parameters, shape (n_params,), of the run's precision.

        After a crash that its `params` survived, return those.
        """
        if self._saved is not None:
            return self._saved
        params = self._learn().initial_params(self.id)
        if self.params is None:
            self.params = params
        return params

    @property
    def batches_per_epoch(self) -> int:
        """The number of local steps in one pass over this device's data."""
        return self._learn().batches_per_epoch(self.id)

    @property
    def learning_rate(self) -> float:
        """The step size eta that this device's next local step takes, its schedule applied."""
        return self._learn().learning_rate(self.id)

    async def train(
        self, w: Vector, *, epochs: int | None = None, steps: int | None = None, drift: Vector | None = None
    ) -> Vector:
        """Train on this device's data, starting from `w`; takes virtual time.

        Args:
            w: parameters, shape (n_params,), of the run's precision; not changed. Don't change it while waiting.
            epochs: passes over the local data; 1 if neither is given.
            steps: or a number of mini-batches.
            drift: added to the parameters after every local step, shape (n_params,); nothing by default.

        Returns:
            New parameters of the same shape, read-only.
        """
        if epochs is not None and steps is not None:
            raise ProtocolError(f"train(epochs={epochs}, steps={steps}) takes one of the two")
        if epochs is None and steps is None:
            epochs = 1
        self.trained = await self._learn().train(self.id, w, epochs, steps, drift)
        return self.trained

    async def gradient(self, w: Vector) -> Vector:
        """Return the mean gradient of this device's next mini-batch at `w`; takes the virtual time of one step.

        It is the gradient that a local step of `train` would descend along: weight decay and
        clipping are in it, momentum and the learning rate are not.

        Args:
            w: parameters, shape (n_params,); not changed. Don't change it while waiting.

        Returns:
            A vector of the same shape, read-only.
        """
        return await self._learn().gradient(self.id, w)

    def _learn(self) -> Learner:
        if self._learner is None:
            raise ProtocolError("this protocol learns, and the scenario has no [data] and [model] to learn from")
        return self._learner

    # Messages

    def send(self, target: DeviceId | Sequence[DeviceId], message: Message) -> None:
        """Send a message to an out-neighbor, or to several; returns at once, it may get lost."""
        if isinstance(target, int | np.integer):
            target = (target,)
        targets = [int(j) for j in target]  # also those of `device.random.choice`, which are numpy's
        if targets:
            self._transport.send(self.id, targets, message)

    def broadcast(self, message: Message) -> None:
        """Send a message to every out-neighbor; it is encoded once."""
        targets = self.all_out_neighbors if self._neighborhood is None else self.out_neighbors
        self._transport.send(self.id, targets, message)

    def is_sending(self, target: DeviceId) -> bool:
        """Tell whether this device's radio is still busy with messages for `target`."""
        return self._transport.is_sending(self.id, target)

    def receive(self, kind: type[M] = Message) -> Awaitable[M]:  # type: ignore[assignment]
        """Wait for a message: `await device.receive()` is the oldest not yet read, of one type or of any.

        `device.timeout` around it limits the wait.
        """
        # The inbox's own coroutine: one more around it would cost a hop 0.2 µs.
        return self._inbox.take(kind)  # type: ignore[return-value]

    def receive_nowait(self, kind: type[M] = Message) -> M | None:  # type: ignore[assignment]
        """Return the oldest message not yet read, of one type or of any, or None."""
        return typing.cast("M | None", self._inbox.take_nowait(kind))

    def answer(self, kind: type[M], call: Callable[[M], object]) -> None:
        """Have `call(message)` run whenever a message of this type arrives, also while this device trains.

        Such messages are no longer received otherwise. The call can send; it can't wait, and a crash ends it.
        """
        self._inbox.answer(kind, self._guarded(call))

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Have `call()` run in so many seconds, also while this device trains, unless it crashes before."""
        now = trio.current_time()
        at = now + self._lasts(seconds, now)
        self._transport.schedule(self.id, at, self._guarded(lambda _: call()))

    def _guarded(self, call: Callable[[typing.Any], object]) -> Callable[[typing.Any], object]:
        def guarded(argument: typing.Any) -> None:
            try:
                call(argument)
            except Exception as error:
                raise DeviceFailed(self.id, self.now, error) from error

        return guarded

    @property
    def waiting_for(self) -> list[type[Message]]:
        """The types of message that this device's tasks are waiting for."""
        return self._inbox.wanted

    # Measuring

    def record(self, metric: str, value: float) -> None:
        """Write a number of one's own into the run's metrics, with the time and this device."""
        if self._record is not None:
            self._record(self.id, metric, value)

    def takes(self, w: Vector, u: float = 1.0) -> bool:
        """Tell whether a model from a peer has no entry beyond the bound of `[protocol] largest`; counts it if it has.

        Args:
            w: its parameters, or its numerator if it comes with a push weight, of any shape.
            u: that push weight.
        """
        if self.largest is None or float(np.abs(w).max(initial=0.0)) <= self.largest * u:
            return True
        self.record("too_large", 1)
        return False

    def used(self, messages: Iterable[Message]) -> None:
        """Note that messages have entered this device's model, or a copy or tracker that moves it.

        A run that keeps a trace keeps these too: they are the arrows in the timeline of its page.
        """
        if self._on_use is not None:
            for message in messages:
                self._on_use(self.id, message)

    def mixed(self, weights: Iterable[tuple[DeviceId, float]]) -> None:
        """Note in `given` the weights that models of other devices had in a mix; of one device there may be several.

        A server, which alone averages, tells its own weight too.
        """
        self.mixes += 1
        for j, weight in weights:
            self.given[j] = self.given.get(j, 0.0) + weight

    def steps_enter(self, factor: float) -> None:
        """Note in `entered` the factor with which the local steps of a training enter the mass."""
        total, count = self.entered
        self.entered = total + factor, count + 1

    def pulled(self, j: DeviceId, far: float) -> None:
        """Note in `pulls` how far a message of device j moved this one, or its model was from this one's.

        `record_mix` does so for messages that hold a model; a protocol whose messages don't calls it for each.
        """
        if self._record is not None and far < math.inf:
            total, count = self.pulls.get(j, (0.0, 0))
            self.pulls[j] = total + far, count + 1

    def record_mix(self, heard: Mapping[DeviceId, Message]) -> None:
        """Record how many messages were mixed, and how old they were.

        Writes the metrics `neighbors_mixed`, `staleness_s` and, if the messages have a `round`,
        `staleness_rounds`: means over the messages, in seconds since they were sent and in rounds
        behind this device's own.
        """
        if self._record is None:
            return
        for j in sorted(heard):
            if self.params is not None:
                self.pulled(j, distance(heard[j], self.params))
        self.record("neighbors_mixed", len(heard))
        if heard:
            now = self.now
            messages = [heard[j] for j in sorted(heard)]
            self.record("staleness_s", sum(now - message.sent for message in messages) / len(messages))
            rounds = [message.round for message in messages if hasattr(message, "round")]
            if rounds:
                self.record("staleness_rounds", sum(self.round - heard_round for heard_round in rounds) / len(rounds))
