"""What messages hold that nobody has added yet: in flight, or in an inbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np

from p2pl_async.experiment.emulation import Emulation
from p2pl_async.messages import Message
from p2pl_async.protocols.exchanging import AppliedMarks, Told
from p2pl_async.protocols.pushing import Mass, Push
from p2pl_async.protocols.replicas import Replicas
from p2pl_async.protocols.running_sums import Account
from p2pl_async.protocols.settling import Promised, Promises
from p2pl_async.protocols.tracking import Tracker
from p2pl_async.transport.wire import decode

M = TypeVar("M", bound=Message)


def afloat(emulation: Emulation, kind: type[M]) -> list[M]:
    """Return every message of a type that is on its way or unread, once per receiver."""
    frames = [what[1] for *_, call, what in emulation.clock.calendar if "arrive" in call.__name__]
    messages: list[Message] = [decode(frame.data, frame.sent) for frame in frames]
    for device in emulation.devices:
        inbox = emulation.transport.inbox(device.id)
        while (message := inbox.take_nowait()) is not None:
            messages.append(message)
    return [message for message in messages if isinstance(message, kind)]


def totals(emulation: Emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over devices and all that is on its way to one."""
    states = [device.state for device in emulation.devices if device.state is not None]
    holders = [mass for mass, _ in states] + [push for _, received in states for push in received.pending]
    holders += afloat(emulation, Push)
    holders = [holder for holder in holders if holder.x.size]  # others say only what was heard
    return sum(holder.x for holder in holders), sum(holder.u for holder in holders)


def owed_totals(emulation: Emulation) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over the devices present, with what they owe each other."""
    return account_totals({device.id: device.state[0] for device in emulation.devices if device.state is not None})


def account_totals(accounts: Mapping[int, Account]) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over accounts, and over links between them what is owed and what isn't settled yet."""
    x = np.sum([account.x - account.debt.x for account in accounts.values()], axis=0)
    u = sum(account.u - account.debt.u for account in accounts.values())
    for i, account in accounts.items():
        for j, promises in account.promised.items():
            for sums, sign in owed(promises, account, accounts.get(j), i, j):
                x, u = x + sign * sums.x, u + sign * sums.u
    return x, u


def tracked_total(trackers: Mapping[int, Tracker]) -> np.ndarray:
    """Return the sum of trackers, with what is owed over links between them, and what one end has still to undo."""
    y = np.sum([tracker.y for tracker in trackers.values()], axis=0)
    for i, tracker in trackers.items():
        for j, flow in tracker.flows.items():
            there = trackers.get(j)
            other = None if there is None else there.flows.get(i)
            agree = (
                there is not None
                and other is not None
                and (flow.boot, there.boot, flow.incarnation) == (there.boot, flow.boot, other.incarnation)
                and other.boot == tracker.boot
            )
            if agree:
                assert other is not None
                y = y + (0 if flow.promised is None else flow.promised) - (0 if other.taken is None else other.taken)
            else:  # this end will undo what it knows
                y = y + (0 if flow.promised is None else flow.promised) - (0 if flow.taken is None else flow.taken)
    return y


def transfer_totals(states: Mapping[int, tuple[Mass, Replicas, list[Told]]], gamma: float) -> tuple[np.ndarray, float]:
    """Return the sums of x and u over devices that transfer copies, with what is on its way, and what is owed."""
    x = np.sum([mass.x for mass, *_ in states.values()], axis=0, dtype=float)
    u = sum(mass.u for mass, *_ in states.values())
    for i, (_, replicas, debts) in states.items():
        open_ = [(told, -1.0) for told in debts]
        for j, marks in replicas.links.marks.items():
            there = states.get(j)
            knows = there is not None and replicas.links.boots.get(j, 0) == there[1].links.device.boots
            applied = there[1].links._applied_marks.get(i) if there is not None and knows else None
            theirs = there is not None and there[1].links.boots.get(i, 0) == replicas.links.device.boots
            for mark, (_, told) in marks.waiting.items():
                if not (applied is not None and theirs and _is_applied(applied, mark)):
                    open_.append((told, 1.0))
            for mark, (_, told) in marks.taken_back.items():
                if applied is not None and theirs and _is_applied(applied, mark):
                    open_.append((told, -1.0))
        for told, sign in open_:
            x = x + sign * gamma / (1 + told.degree) * told.x
            u += sign * gamma / (1 + told.degree) * told.u
    return x, u


def _is_applied(applied: AppliedMarks, mark: int) -> bool:
    return mark <= applied.last and bool(applied.bits >> (applied.last - mark) & 1)


def owed(
    promises: Promises, sender: Account, receiver: Account | None, i: int, j: int
) -> Iterator[tuple[Promised, float]]:
    """Yield the sums, with signs, that device i still has to give to device j or to get back."""
    if receiver is None or sender.boots.get(j, 0) != receiver.boot:
        yield promises.newest, 1.0  # i takes this back as soon as it knows, except for what was confirmed
        yield promises.sums[promises.confirmed], -1.0
        return
    yield promises.newest, 1.0
    if receiver.boots.get(i, 0) != sender.boot:
        return  # j has taken nothing from this life of i
    credit = receiver.credited.get(i)
    final = 0 if credit is None else credit.count
    if credit is not None and credit.incarnation == promises.incarnation:
        yield credit.sums, -1.0
        final = credit.final
    for sums, sign in promises.unsettled(final):
        yield sums, -sign
