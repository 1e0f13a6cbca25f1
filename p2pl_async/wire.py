"""Messages to bytes and back: msgpack, arrays as raw little-endian binary with dtype and shape.

    frame  = [tag, sender, number, field, field, ...]
    array  = Ext(1, start (1 byte), [dtype, shape], zeros up to start, raw bytes)

`start` is a multiple of 8: numpy reads an array of 800 kB in place, and aligned.

The length of these bytes is what a radio is charged for. Reading trusts nothing: whatever
arrives, the result is a message whose fields fit their annotations, or a `RemoteError`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import msgpack
import numpy as np

from p2pl_async.errors import ProtocolError, RemoteError
from p2pl_async.messages import Check, DeviceId, Message, fields_of, type_of

MAX_BYTES = 1 << 30  # of one frame; a longer one is refused unread
_DTYPES = {np.dtype(code).str.lstrip("|<"): np.dtype(code) for code in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_DIMENSIONS = 8
_ARRAY = 1


def encode(message: Message, sender: DeviceId, number: int) -> bytes:
    """Return the frame of a message.

    Raises:
        ProtocolError: if a field's value doesn't fit its annotation.
    """
    frame: list[Any] = [message.tag, sender, number]
    for name, check in _fields(type(message)):
        value = getattr(message, name)
        if not check(value):
            raise ProtocolError(
                f"{type(message).__name__}.{name}={_brief(value)} doesn't fit its annotation; "
                "convert it before sending"
            )
        frame.append(value)
    try:
        data: bytes = msgpack.packb(frame, default=_pack)
    except (ValueError, OverflowError, TypeError) as error:
        raise ProtocolError(f"{type(message).__name__} can't be encoded: {error}") from error
    return data


def decode(data: bytes) -> Message:
    """Return the message in a frame; its arrays are read-only views of the frame.

    Raises:
        RemoteError: if the bytes are no frame, or fields don't fit their annotations.
    """
    if len(data) > MAX_BYTES:
        raise RemoteError(f"a frame of {len(data)} bytes is longer than {MAX_BYTES}")
    try:
        frame = msgpack.unpackb(data, use_list=False, ext_hook=_unpack, strict_map_key=False)
    except RemoteError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise RemoteError(f"not a frame: {error}") from error
    if type(frame) is not tuple or len(frame) < 3:
        raise RemoteError("not a frame: no header")
    tag, sender, number = frame[:3]
    message_type = type_of(tag)
    if message_type is None:
        raise RemoteError(f"unknown message {_brief(tag)}")
    if type(sender) is not int or sender < 0 or type(number) is not int or number < 0:
        raise RemoteError(f"{tag}: sender and number must be counts")
    fields = _fields(message_type)
    values = frame[3:]
    if len(values) != len(fields):
        raise RemoteError(f"{tag}: {len(values)} fields, expected {len(fields)}")
    for value, (name, check) in zip(values, fields, strict=True):
        if not check(value):
            raise RemoteError(f"{tag}.{name}={_brief(value)} doesn't fit its annotation")
    try:
        message = message_type(*values)
    except (ValueError, TypeError) as error:  # a check in the message's own __post_init__
        raise RemoteError(f"{tag}: {error}") from error
    stamp(message, sender, number)
    return message


def stamp(message: Message, sender: DeviceId, number: int) -> None:
    """Write sender and number on a message that was just read."""
    object.__setattr__(message, "_sender", sender)
    object.__setattr__(message, "_number", number)


@functools.cache
def _fields(message_type: type[Message]) -> tuple[tuple[str, Check], ...]:
    return fields_of(message_type)


def _pack(value: object) -> msgpack.ExtType:
    """Return the msgpack extension of an array."""
    if not isinstance(value, np.ndarray) or value.dtype.newbyteorder("<") not in _CODES:
        kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{kind} can't be sent")
    if value.ndim > _MAX_DIMENSIONS:
        raise TypeError(f"an array of {value.ndim} dimensions can't be sent")
    little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).reshape(value.shape)
    head = msgpack.packb((_CODES[little.dtype], little.shape))
    start = (1 + len(head) + 7) // 8 * 8
    return msgpack.ExtType(_ARRAY, b"".join((bytes([start]), head.ljust(start - 1, b"\0"), little.data)))


def _unpack(code: int, data: bytes) -> np.ndarray[Any, Any]:
    """Return the array in a msgpack extension, as a read-only view."""
    if code != _ARRAY:
        raise RemoteError(f"unknown extension {code}")
    start = data[0] if data else 0
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(data[1:start])
    try:
        head = unpacker.unpack()
    except (msgpack.exceptions.UnpackException, ValueError) as error:
        raise RemoteError("array without dtype and shape") from error
    dtype = _DTYPES.get(head[0]) if type(head) is tuple and len(head) == 2 and type(head[0]) is str else None
    shape = head[1] if dtype is not None else None
    if dtype is None or start % 8 or type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise RemoteError("array without dtype and shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise RemoteError(f"array of shape {_brief(shape)}")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise RemoteError(f"array of {_brief(shape)} {dtype} in {len(data) - start} bytes")
    return np.frombuffer(data, dtype=dtype, offset=start).reshape(shape)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
