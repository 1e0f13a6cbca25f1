"""What a link holds before it refuses the next message."""

import pytest
from pydantic import ValidationError

from p2pl_async.link.queue import Backlog, Queue


def test_what_has_left_makes_room() -> None:
    held, limits = Backlog(), Queue(messages=2)
    held.add(1, 10, until=1.0)
    held.add(1, 10, until=2.0)
    assert not held.has_room(limits, 1, 1, now=0.999)
    assert held.has_room(limits, 1, 1, now=1.0)


def test_size_counts_all_that_is_held() -> None:
    held, limits = Backlog(), Queue(size="100 B")
    assert held.has_room(limits, 1, 100, now=0.0)
    held.add(1, 60, until=1.0)
    assert held.has_room(limits, 1, 40, now=0.0)
    assert not held.has_room(limits, 1, 41, now=0.0)
    assert held.has_room(limits, 1, 100, now=1.0)


def test_the_stricter_limit_counts() -> None:
    held = Backlog()
    held.add(1, 1, until=1.0)
    assert not held.has_room(Queue(messages=1, size="1 MB"), 1, 1, now=0.0)
    assert not held.has_room(Queue(messages=9, size="10 B"), 1, 11, now=0.0)
    assert held.has_room(None, 1, 10**12, now=0.0)


def test_packets_count_those_of_all_messages() -> None:
    held, limits = Backlog(), Queue(packets=10)
    held.add(7, 700, until=1.0)
    assert held.has_room(limits, 3, 300, now=0.0)
    assert not held.has_room(limits, 4, 400, now=0.0)
    assert held.has_room(limits, 10, 1000, now=1.0)


def test_what_leaves_first_makes_room_first() -> None:
    """A message that expires leaves before those ahead of it."""
    held, limits = Backlog(), Queue(messages=2)
    held.add(1, 10, until=9.0)
    held.add(1, 10, until=3.0)
    assert not held.has_room(limits, 1, 1, now=2.9)
    assert held.has_room(limits, 1, 1, now=3.0)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({}, "needs a limit"),
        ({"packets": 0}, "packets"),
        ({"lifetime": "0 s"}, "above"),
        ({"messages": 3, "drop": "middle"}, "'tail' or 'head'"),
        ({"messages": 0}, "messages"),
        ({"messages": "3"}, "messages"),
        ({"size": "0 B"}, "above"),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Queue.model_validate(limits)
