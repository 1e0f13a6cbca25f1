"""Messages: whose tag it is, and what a field may be."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pl_async.basics.plugins import PluginError, load_class
from p2pl_async.errors import ProtocolError
from p2pl_async.link import Link, LinkSettings, Signal
from p2pl_async.messages import AsReceived, Message, fields_of, type_of
from p2pl_async.transport.wire import decode, encode

FILE = """
from dataclasses import dataclass
from p2pl_async import Message

@dataclass(frozen=True, slots=True)
class Word(Message, tag="{tag}"):
    text: str
"""


def test_the_tag_is_the_name_unless_given() -> None:
    @dataclass(frozen=True, slots=True)
    class Plainly(Message):
        x: int

    @dataclass(frozen=True, slots=True)
    class Named(Message, tag="test-named"):
        x: int

    assert type_of("plainly") is Plainly
    assert type_of("test-named") is Named
    assert type_of("nobody") is type_of(3) is None


def test_a_tag_belongs_to_one_class() -> None:
    @dataclass(frozen=True, slots=True)
    class First(Message, tag="test-one"):
        x: int

    with pytest.raises(ProtocolError, match=r"tag='test-one' of .*Second is taken by .*First; name another"):

        class Second(Message, tag="test-one"):
            x: int

    assert type_of("test-one") is First


def test_an_edited_file_can_be_loaded_again(tmp_path: Path) -> None:
    """Also if the edit that lay between was broken."""
    path = tmp_path / "words.py"
    path.write_text(FILE.format(tag="test-edited"))
    first = load_class(f"{path}:Word", Message)
    path.write_text(FILE.format(tag="test-edited") + "raise ValueError('oops')\n")
    with pytest.raises(PluginError, match="oops"):
        load_class(f"{path}:Word", Message)
    path.write_text(FILE.format(tag="test-edited") + "    number_two: int = 2\n")
    second = load_class(f"{path}:Word", Message)
    assert type_of("test-edited") is second is not first

    other = tmp_path / "others.py"
    other.write_text(FILE.format(tag="test-edited"))
    with pytest.raises(PluginError, match="is taken by"):
        load_class(f"{other}:Word", Message)


# Classes that no receiver could make are the sender's error


@dataclass(frozen=True, kw_only=True)
class ByName(Message, tag="test-by-name"):
    x: int


@dataclass(frozen=True)
class Computed(Message, tag="test-computed"):
    x: int
    y: int = field(init=False, default=1)


@dataclass(frozen=True, init=False)
class Unmade(Message, tag="test-unmade"):
    x: int


@dataclass(frozen=True)
class Helped(Message, tag="test-helped"):
    x: int
    scale: InitVar[int] = 1


@dataclass(frozen=True)
class Parent(Message, tag="test-parent"):
    x: int


class Undecorated(Parent, tag="test-undecorated"):
    y: int


class Renamed(Parent, tag="test-renamed"):
    """Only another tag."""


@dataclass(frozen=True)
class Several(Message, tag="test-several"):
    arrays: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Complex(Message, tag="test-complex"):
    array: NDArray[np.complex64]


@dataclass(frozen=True)
class Family(Message, tag="test-family"):
    array: NDArray[np.floating] | None


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (ByName, r"ByName must take its fields in their order, ByName\(x\), as a receiver .*; leave out kw_only"),
        (Computed, r"Computed must take its fields in their order, Computed\(x, y\)"),
        (Unmade, "Unmade must take its fields in their order"),
        (Helped, "Helped must take its fields in their order"),
        (Undecorated, "Undecorated must be a dataclass"),
        (Several, r"Several\.arrays has arrays in a tuple, which can't be sent; send one array, with their lengths"),
        (Complex, r"Complex\.array has type .*complex64.*, which can't be sent"),
    ],
)
def test_a_class_that_no_receiver_could_make_is_refused(cls: type[Message], text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        fields_of(cls)


def test_what_a_class_may_leave_to_its_parent_or_to_numpy() -> None:
    assert [name for name, _ in fields_of(Renamed)] == ["x"]
    assert [name for name, _ in fields_of(Family)] == ["array"]


@dataclass(frozen=True)
class Open(Message, tag="test-open"):
    x: int


@dataclass(frozen=True, slots=True)
class Longer(Parent, tag="test-longer"):
    y: str


@pytest.mark.parametrize("message", [Open(1), Longer(1, "y")])
def test_a_copy_for_one_receiver_shares_all_but_how_it_was_heard(message: Message) -> None:
    read = decode(encode(message, 3, 7), 2.5)
    link = Link(3, 4, LinkSettings(), 1)
    other = read.as_heard(AsReceived(Signal(rssi=-60.0), 10, link))
    copy = other.as_heard(AsReceived(Signal(rssi=-70.0, sinr=30.0), 12, link))
    assert copy == read == message
    assert type(copy) is type(message)
    assert (copy.sender, copy.number, copy.sent, copy.corrupted) == (3, 7, 2.5, False)
    assert (copy.rssi, copy.sinr) == (-70.0, 30.0)
    assert other.rssi == -60.0
    assert np.isnan(read.rssi)


def test_a_copy_for_one_receiver_is_as_damaged_as_the_message() -> None:
    spoiled = decode(encode(Open(1), 3, 7), corrupted=True)
    assert spoiled.as_heard(AsReceived(Signal(), 10, Link(3, 4, LinkSettings(), 1))).corrupted
