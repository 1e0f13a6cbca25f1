"""What encoding needs to know about each type of message: its fields, and how to get and check them all at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from p2pl_async.messages import Message, fields_of, fits


class Codec:
    """The facts about one message type that encoding needs, computed once.

    Attributes:
        scalar: whether every field is a single number or text: those of most small messages.
        values: returns the fields of a message, as a tuple.
        classes: returns the classes of these, to be compared with `types`, which takes a third of the time of single
            checks; of a single field it is no tuple, but that class.
    """

    def __init__(self, message_type: type[Message]) -> None:
        fields = fields_of(message_type)
        self.names = [name for name, _ in fields]
        self._checks = [check for _, check in fields]
        self.scalar = all(isinstance(check, type) for check in self._checks)
        self._types = [check if isinstance(check, type) else None for check in self._checks]
        self.values = _getter(self.names)
        classes = [f"{name}.__class__" for name in self.names]
        self.classes: Callable[[Message], Any] = operator.attrgetter(*classes) if classes else self.values
        self.types: Any = self._types[0] if len(self._types) == 1 else tuple(self._types)

    def fits(self, values: Sequence[Any]) -> bool:
        """Tell whether every value fits the annotation of its field."""
        return list(map(type, values)) == self._types or all(map(fits, self._checks, values))

    def misfit(self, values: Sequence[Any]) -> tuple[str, Any]:
        """Return the first field whose value doesn't fit."""
        fields = zip(self.names, self._checks, values, strict=True)
        return next((name, value) for name, check, value in fields if not fits(check, value))


def _getter(names: Sequence[str]) -> Callable[[Message], tuple[Any, ...]]:
    """Return what gives the attributes of these names as a tuple."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    if not names:
        return lambda message: ()
    only = operator.attrgetter(*names)
    return lambda message: (only(message),)


CODECS: dict[type[Message], Codec] = {}


def codec_of(message_type: type[Message]) -> Codec:
    codec = CODECS.get(message_type)
    if codec is None:
        codec = CODECS[message_type] = Codec(message_type)
    return codec
