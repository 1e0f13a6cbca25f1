"""Messages: whose tag it is, and what a field may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pl_async.basics.plugins import PluginError, load_class
from p2pl_async.errors import ProtocolError
from p2pl_async.messages import Message, type_of

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
