"""Interval repair, as plain objects: what is pushed counts once, whatever the channel does with messages and news."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pl_async.compression import Dense, Sparse
from p2pl_async.errors import RemoteError
from p2pl_async.protocols import repairing
from p2pl_async.protocols.repairing import Applied, Confirmation, Confirmed, Owed, Share

SIZE = 12


def share(seed: int) -> Share:
    """Return a share with three entries, or now and then with all of them."""
    random = np.random.default_rng(seed)
    if seed % 7 == 0:
        return Share(Dense(random.normal(size=SIZE)), float(random.random()))
    indices = np.sort(random.choice(SIZE, 3, replace=False)).astype(np.int64)
    return Share(Sparse(SIZE, indices, random.normal(size=3)), float(random.random()))


class Channel:
    """One link whose messages and confirmations a test delivers when it likes, in any order, any number of times."""

    def __init__(self) -> None:
        self.owed, self.applied = Owed(), Applied()
        self.messages: list[tuple[int, int, Share]] = []
        self.news: list[int] = []
        self.pushed = [np.zeros(SIZE + 1)]  # C[0], C[1], ...
        self.received = np.zeros(SIZE + 1)

    def push(self) -> None:
        new = share(len(self.pushed))
        self.owed.push(new)
        self.pushed.append(self.pushed[-1] + row(new))
        everything = self.owed.outstanding()
        assert everything is not None
        self.messages.append((self.owed.base, self.owed.top, everything))

    def deliver(self, index: int) -> None:
        added = self.applied.receive(*self.messages[index % len(self.messages)])
        if added is not None:
            self.received = self.received + row(added)
        self.news.append(self.applied.number)

    def confirm(self, index: int) -> None:
        self.owed.confirm(self.news[index % len(self.news)])

    def check(self) -> None:
        np.testing.assert_allclose(self.received, self.pushed[self.applied.number], atol=1e-9)
        outstanding = self.owed.outstanding()
        left = np.zeros(SIZE + 1) if outstanding is None else row(outstanding)
        np.testing.assert_allclose(self.pushed[self.owed.base] + left, self.pushed[-1], atol=1e-9)
        assert self.owed.base <= self.applied.number <= self.owed.top


def row(some: Share) -> np.ndarray:
    return np.append(some.q.dense(), some.u)


steps = st.lists(
    st.tuples(st.sampled_from(["push", "push", "deliver", "newest", "confirm", "news"]), st.integers(0, 10**6)),
    max_size=120,
)


@pytest.mark.parametrize("window", [1, 2, 4, 128])
@settings(max_examples=60)
@given(steps=steps)
def test_nothing_is_lost_and_nothing_counts_twice(window, steps) -> None:
    kept, repairing.WINDOW = repairing.WINDOW, window
    try:
        channel = Channel()
        for what, index in steps:
            if what == "push":
                channel.push()
            elif what in ("deliver", "newest") and channel.messages:
                channel.deliver(index if what == "deliver" else len(channel.messages) - 1)
            elif what in ("confirm", "news") and channel.news:
                channel.confirm(index if what == "confirm" else len(channel.news) - 1)
            channel.check()
        assert len(channel.owed._recent) <= window
    finally:
        repairing.WINDOW = kept


def test_a_push_that_was_confirmed_is_not_sent_again() -> None:
    channel = Channel()
    channel.push()
    channel.deliver(0)
    channel.confirm(0)
    assert channel.owed.outstanding() is None
    channel.push()
    base, top, everything = channel.messages[-1]
    assert (base, top) == (1, 2)
    np.testing.assert_array_equal(row(everything), row(share(2)))


def test_memory_is_bounded_where_no_confirmation_ever_comes() -> None:
    channel = Channel()
    for _ in range(3 * repairing.WINDOW):
        channel.push()
        channel.deliver(len(channel.messages) - 1)
    channel.check()
    assert len(channel.owed._recent) == repairing.WINDOW
    assert len(channel.applied._since) <= repairing.WINDOW + 2


def test_a_sum_that_begins_nowhere_is_refused() -> None:
    channel = Channel()
    for _ in range(3):
        channel.push()
    channel.deliver(2)
    with pytest.raises(RemoteError, match="begins after number 2"):
        channel.applied.receive(2, 9, share(1))
    channel.check()


def test_after_a_crash_of_either_end_both_go_on() -> None:
    channel = Channel()
    for _ in range(3):
        channel.push()
    channel.deliver(2)
    again = Owed(start=1000)  # the sender has forgotten all
    again.push(share(5))
    added = channel.applied.receive(again.base, again.top, share(5))
    assert added is not None
    np.testing.assert_array_equal(row(added), row(share(5)))
    assert channel.applied.number == 1001
    assert channel.applied.receive(0, 3, share(1)) is None  # what it said before the crash is old
    forgetful = Applied()  # the receiver has
    again.confirm(1001)
    again.push(share(6))
    everything = again.outstanding()
    assert everything is not None
    added = forgetful.receive(again.base, again.top, everything)
    assert added is not None
    np.testing.assert_array_equal(row(added), row(share(6)))


@pytest.mark.parametrize("number", [-1, 0, 2, 10**9])
def test_impossible_confirmations_change_nothing(number) -> None:
    channel = Channel()
    channel.push()
    channel.owed.confirm(number)
    channel.check()
    assert channel.owed.base == 0


def test_confirmations_go_straight_back_where_there_is_a_link_and_around_where_there_is_none() -> None:
    known = Confirmed(3, frozenset({1, 2}))
    known.know(3, 1, Confirmation(0, 10))  # of 1's pushes to us: only 1 needs to hear of it
    known.know(3, 0, Confirmation(0, 20))  # of 0's, to whom no link leads: everybody passes it on
    known.know(7, 8, Confirmation(1, 30, 2, 3))  # others'
    known.know(7, 8, Confirmation(1, 29))  # older news
    known.know(7, 8, Confirmation(0, 99))  # of a former life
    ours, passed = [[3, 0, 0, 20, 0, 0]], [[7, 1, 8, 30, 2, 3]]
    assert known.rows(1).tolist() == [*ours, [3, 0, 1, 10, 0, 0], *passed]
    assert known.rows(2).tolist() == [*ours, *passed]
    assert Confirmed(0, frozenset()).rows(1).shape == (0, 6)


def test_what_is_taken_back_is_given_back_when_the_receiver_is_heard_again() -> None:
    """Whatever of it the receiver had applied; until it confirms, nothing is pushed to it."""
    channel = Channel()
    for _ in range(3):
        channel.push()
    channel.deliver(1)
    back = channel.owed.take_back()
    assert back is not None
    np.testing.assert_allclose(row(back), channel.pushed[-1])
    assert not channel.owed.open
    everything = channel.owed.outstanding()
    assert everything is not None
    channel.confirm(0)
    assert not channel.owed.open
    added = channel.applied.receive(0, channel.owed.top, everything)
    assert added is not None
    np.testing.assert_allclose(row(added), -channel.pushed[2], atol=1e-12)
    channel.owed.confirm(channel.applied.number)
    assert channel.owed.open
