"""Messages between devices: frozen dataclasses derived from `Message`.

    @dataclass(frozen=True, slots=True)
    class Value(Message):
        x: float

A field is an `int`, `float`, `bool`, `str`, `bytes`, a numpy array (`Vector`, `NDArray[np.int32]`,
...), a `tuple[T, ...]` of one of those, or `T | None`. The receiver checks them: a value that doesn't fit
is a `RemoteError`, never an exception inside a protocol.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from p2pl_async.basics.arrays import Vector as Vector
from p2pl_async.errors import ProtocolError

DeviceId = int

Check = type[Any] | Callable[[Any], bool]
"""The check of a field's value: exactly this type, or this function returns True."""

_BY_TAG: dict[str, type[Message]] = {}
_SCALARS = (int, float, bool, str, bytes)
ARRAY_KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""The types of entries that arrays in messages can have, as numpy writes them."""
_SAMPLED = 256  # entries that stand for all of a vector, about: it takes a few microseconds
_FAMILIES = (np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger, np.inexact, np.floating)


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """The damage of a message that arrived."""

    corrupted: bool
    missing: tuple[tuple[int, int], ...]  # [start, end) in bytes of the encoded message, ascending
    places: Mapping[str, int]  # field with an array -> byte at which its data begin


class FramePower(Protocol):
    """The power of a message's last frame at a receiver, and its ratio to noise and interference."""

    @property
    def rssi(self) -> float:
        """In dBm."""

    @property
    def sinr(self) -> float:
        """In dB."""


class Hearable(Protocol):
    """The link that a message came over."""

    def expected_delivery(self, signal: Any, size: int, now: float) -> float:
        """Return the probability that a message of `size` bytes arrives that is heard like `signal`, sent at `now`."""


class AsReceived(NamedTuple):
    """How a receiver's radio heard a message."""

    signal: FramePower
    size: int  # bytes of the message
    link: Hearable


class Message:
    """Base of every message; `sender` and `number` are filled in by the wire on arrival.

    The tag names the type on the wire, and a radio is charged for it: by default the class's name in
    lower case, or `class Params(Message, tag="p")`.

    A type with `partial=True` is delivered even if fragments are lost, provided that all fields but the
    data of arrays have arrived. Missing entries of arrays are 0, and `mask` tells which they are.
    """

    __slots__ = ("_damage", "_heard", "_origin")

    tag: ClassVar[str]
    partial: ClassVar[bool]

    _source: ClassVar[str]  # the file of the class, or its module if there is none
    _damage: Damage  # set only on a received message that is damaged
    _heard: AsReceived  # set only on a message received by a radio
    _origin: tuple[DeviceId, int, float]  # sender, number, instant of sending (nan if unknown)

    def __init_subclass__(cls, tag: str | None = None, partial: bool | None = None) -> None:
        # `dataclass(slots=True)` makes the class twice, the second time without the keyword and the qualified name.
        cls.tag = tag or cls.__dict__.get("tag") or cls.__name__.lower()
        cls.partial = cls.__dict__.get("partial", False) if partial is None else partial
        # A user's file that was edited and loaded again is another module, with a newer version of the class.
        cls._source = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
        other = _BY_TAG.setdefault(cls.tag, cls)
        if (other._source, other.__name__) != (cls._source, cls.__name__):
            raise ProtocolError(
                f"tag={cls.tag!r} of {cls.__module__}.{cls.__qualname__} is taken by "
                f'{other.__module__}.{other.__qualname__}; name another: class {cls.__name__}(Message, tag="...")'
            )
        _BY_TAG[cls.tag] = cls

    @property
    def sender(self) -> DeviceId:
        """The device that sent this message; only received messages have one."""
        return self._origin[0]

    @property
    def number(self) -> int:
        """The sender's count of its messages, from 0; a duplicate has the number of the first."""
        return self._origin[1]

    @property
    def sent(self) -> float:
        """The instant of sending, in virtual seconds; nan if the receiver can't know it. For measurements only."""
        return self._origin[2]

    @property
    def corrupted(self) -> bool:
        """Whether it arrived corrupted, on a link that delivers such messages; its content is still as it was sent."""
        damage: Damage | None = getattr(self, "_damage", None)
        return damage is not None and damage.corrupted

    @property
    def missing(self) -> tuple[tuple[int, int], ...]:
        """The bytes of the encoded message that didn't arrive, as [start, end); () if it is whole."""
        damage: Damage | None = getattr(self, "_damage", None)
        return () if damage is None else damage.missing

    @property
    def rssi(self) -> float:
        """The received power in dBm of the frame that completed it; nan without `[radio]`."""
        heard: AsReceived | None = getattr(self, "_heard", None)
        return math.nan if heard is None else heard.signal.rssi

    @property
    def sinr(self) -> float:
        """The ratio of that power to noise and the most interference, in dB; nan without `[radio]`."""
        heard: AsReceived | None = getattr(self, "_heard", None)
        return math.nan if heard is None else heard.signal.sinr

    @property
    def expected_delivery(self) -> float:
        """The probability that another frame of its size arrives at the same `sinr`; nan without `[radio]`.

        By the error rate of `[radio] phy`; losses of `[link] loss`, outages and collisions come on top.
        """
        heard: AsReceived | None = getattr(self, "_heard", None)
        return math.nan if heard is None else heard.link.expected_delivery(heard.signal, heard.size, self.sent)

    def as_heard(self, heard: AsReceived) -> Self:
        """For the emulation: return a copy that shares all fields, as one receiver heard it."""
        copy = object.__new__(type(self))
        kind: type[Message] = type(self)
        for name, put in _slots_of(kind):  # type: ignore[arg-type]  # mypy takes the class for one that can't be hashed
            value = getattr(self, name, _UNSET)
            if value is not _UNSET:
                put(copy, value)
        if kind.__dictoffset__:
            copy.__dict__.update(self.__dict__)
        _put_heard(copy, heard)
        return copy

    def mask(self, field: str) -> NDArray[np.bool_]:
        """Return which entries of an array are missing, in the array's shape; none of a message that is whole.

        Raises:
            ProtocolError: if the field is no array.
        """
        array = getattr(self, field, None)
        if not isinstance(array, np.ndarray):
            raise ProtocolError(f"mask({field!r}) needs a field of {type(self).__name__} that is an array")
        gone = np.zeros(array.size, np.bool_)
        damage: Damage | None = getattr(self, "_damage", None)
        if damage is not None and array.size:
            place = damage.places.get(field, 0)
            for start, end in damage.missing:
                gone[max(start - place, 0) // array.itemsize : max(-(-(end - place) // array.itemsize), 0)] = True
        return gone.reshape(array.shape)


_UNSET = object()


_put_heard = Message.__dict__["_heard"].__set__


@functools.cache
def _slots_of(kind: type[Message]) -> list[tuple[str, Callable[[Message, Any], None]]]:
    """Return the slots of a message as its receivers share it, each with what sets it."""
    slots = {
        name: slot
        for cls in reversed(kind.__mro__)
        for name, slot in vars(cls).items()
        if isinstance(slot, types.MemberDescriptorType)
    }
    return [(name, slot.__set__) for name, slot in slots.items() if name != "_heard"]


def distance(message: Message, own: Vector) -> float:
    """Return how far the model in a message is from a device's own, as `apart` does; infinite if it has no model.

    The model is the field `w`, or `x` divided by the push weight `u`.

    Args:
        message: the message.
        own: shape (n_params,).
    """
    model = getattr(message, "w", getattr(message, "x", None))
    if not isinstance(model, np.ndarray) or model.size < own.size:
        return math.inf
    return apart(some_of(model.reshape(-1)[: own.size]), some_of(own), getattr(message, "u", 1.0))


def some_of(w: Vector) -> Vector:
    """Return some entries of a vector, evenly spaced, that stand for all where only a distance counts; a view."""
    return w[:: -(-w.size // _SAMPLED)]


def apart(x: Vector, own: Vector, u: float = 1.0) -> float:
    """Return the root of the mean square of x / u - own; infinite if it isn't finite.

    Args:
        x: the numerator of a model, (n,).
        own: a model, (n,).
        u: the push weight of x; 0, which no model has, counts as 1.
    """
    with np.errstate(all="ignore"):  # what a peer sent may be anything
        difference = (x if u == 1 else x / (u or 1.0)) - own
        far = float(np.sqrt(np.add.reduce(np.square(difference)) / difference.size))  # np.mean takes thrice as long
    return far if math.isfinite(far) else math.inf


def type_of(tag: object) -> type[Message] | None:
    """Return the message type with this tag, or None."""
    return _BY_TAG.get(tag) if isinstance(tag, str) else None


def fields_of(message_type: type[Message]) -> tuple[tuple[str, Check], ...]:
    """Return the fields of a message type, in order, each with its check.

    Raises:
        ProtocolError: if the class is no dataclass, can't be made from its fields in their order, or a field has
            a type that can't be sent.
    """
    decorated = "__dataclass_fields__" in message_type.__dict__ or not inspect.get_annotations(message_type)
    if not dataclasses.is_dataclass(message_type) or not decorated:
        raise ProtocolError(f"message {message_type.__name__} must be a dataclass; write @dataclass(frozen=True)")
    try:
        hints = typing.get_type_hints(message_type)
    except NameError as error:
        raise ProtocolError(
            f"message {message_type.__name__}: {error}; define it, and the types it names, at the top of a module"
        ) from error
    names = [field.name for field in dataclasses.fields(message_type)]
    takes = inspect.signature(message_type).parameters.values()
    if [one.name for one in takes if one.kind is one.POSITIONAL_OR_KEYWORD] != names or len(takes) != len(names):
        raise ProtocolError(
            f"message {message_type.__name__} must take its fields in their order, {message_type.__name__}"
            f"({', '.join(names)}), as a receiver makes it from them; leave out kw_only, init=False and InitVar"
        )
    return tuple((name, _check(hints[name], f"{message_type.__name__}.{name}")) for name in names)


def fits(check: Check, value: Any) -> bool:
    """Tell whether a value passes a check."""
    return type(value) is check if isinstance(check, type) else check(value)


def _check(hint: Any, name: str) -> Check:
    """Return the predicate that tells whether a value fits the annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS or hint is type(None):
        return typing.cast("type[Any]", hint)
    if hint is np.ndarray or origin is np.ndarray:
        scalar = typing.get_args(arguments[1])[0] if len(arguments) == 2 else np.generic
        scalar = typing.get_origin(scalar) or scalar  # np.floating[Any]
        if scalar in _FAMILIES or np.dtype(scalar).str.lstrip("<>|=") in ARRAY_KINDS:
            return lambda value: isinstance(value, np.ndarray) and issubclass(value.dtype.type, scalar)
    if origin is typing.Union or origin is types.UnionType:
        options = [_check(argument, name) for argument in arguments]
        return lambda value: any(fits(option, value) for option in options)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        if any(leaf is np.ndarray or typing.get_origin(leaf) is np.ndarray for leaf in _parts(arguments[0])):
            raise ProtocolError(
                f"{name} has arrays in a tuple, which can't be sent; send one array, with their lengths"
            )
        item = _check(arguments[0], name)
        return lambda value: type(value) is tuple and all(fits(item, entry) for entry in value)
    raise ProtocolError(
        f"{name} has type {hint}, which can't be sent; use int, float, bool, str, bytes, a numpy array, "
        "tuple[T, ...] or T | None"
    )


def _parts(hint: Any) -> list[Any]:
    """Return an annotation and all its parts."""
    return [hint, *(part for argument in typing.get_args(hint) for part in _parts(argument))]
