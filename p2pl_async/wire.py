"""Messages to bytes and back: msgpack, arrays as raw little-endian binary with dtype and shape.

    frame  = [tag, sender, number, field, field, ...]
    array  = Ext(1, start (1 byte), [dtype, shape], zeros up to start, raw bytes)

`start` is a multiple of 8: numpy reads an array of 800 kB in place, and aligned.

The length of these bytes is what a radio is charged for. Reading trusts nothing: whatever
arrives, the result is a message whose fields fit their annotations, or a `RemoteError`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from p2pl_async.errors import ProtocolError, RemoteError
from p2pl_async.messages import DeviceId, Message, fields_of, fits, type_of

MAX_BYTES = 1 << 30  # of one frame; a longer one is refused unread
_KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_DTYPES = {np.dtype(kind).str.lstrip("|<"): np.dtype(kind) for kind in _KINDS}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_DIMENSIONS = 8
_ARRAY = 1


def encode(message: Message, sender: DeviceId, number: int) -> bytes:
    """Return the frame of a message.

    Raises:
        ProtocolError: if a field's value doesn't fit its annotation.
    """
    codec = _codec(type(message))
    values = codec.values(message)
    if not codec.fits(values):
        name, value = codec.misfit(values)
        raise ProtocolError(
            f"{type(message).__name__}.{name}={_brief(value)} doesn't fit its annotation; convert it before sending"
        )
    try:
        if codec.scalar:
            data: bytes = _packer.pack((message.tag, sender, number, *values))
            return data
        parts: list[Any] = [_packer.pack_array_header(3 + len(values))]
        for value in (message.tag, sender, number, *values):
            parts += _array_parts(value) if isinstance(value, np.ndarray) else (_packer.pack(value),)
        return b"".join(parts)  # the one copy of an array's data
    except (ValueError, OverflowError, TypeError) as error:
        raise ProtocolError(f"{type(message).__name__} can't be encoded: {error}") from error


def decode(data: bytes, sent: float = math.nan) -> Message:
    """Return the message in a frame; its arrays are read-only views of the frame.

    Args:
        data: what arrived.
        sent: the instant it was sent, if the receiving side knows it.

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
    tag, sender, number, *values = frame
    message_type = type_of(tag)
    if message_type is None:
        raise RemoteError(f"unknown message {_brief(tag)}")
    if type(sender) is not int or sender < 0 or type(number) is not int or number < 0:
        raise RemoteError(f"{tag}: sender and number must be counts")
    codec = _codec(message_type)
    if len(values) != len(codec.names):
        raise RemoteError(f"{tag}: {len(values)} fields, expected {len(codec.names)}")
    if not codec.fits(values):
        name, value = codec.misfit(values)
        raise RemoteError(f"{tag}.{name}={_brief(value)} doesn't fit its annotation")
    try:
        message = message_type(*values)
    except (ValueError, TypeError) as error:  # a check in the message's own __post_init__
        raise RemoteError(f"{tag}: {error}") from error
    object.__setattr__(message, "_origin", (sender, number, sent))
    return message


class _Codec:
    """What the wire needs of one message type, worked out once."""

    def __init__(self, message_type: type[Message]) -> None:
        fields = fields_of(message_type)
        self.names = [name for name, _ in fields]
        self._checks = [check for _, check in fields]
        # Small messages are all scalars, and comparing types at once is three times as fast as check by check.
        self.scalar = all(isinstance(check, type) for check in self._checks)
        self._types = [check if isinstance(check, type) else None for check in self._checks]

    def values(self, message: Message) -> list[Any]:
        """Return the values of the fields, in order."""
        return [getattr(message, name) for name in self.names]

    def fits(self, values: Sequence[Any]) -> bool:
        """Tell whether every value fits the annotation of its field."""
        return list(map(type, values)) == self._types or all(map(fits, self._checks, values))

    def misfit(self, values: Sequence[Any]) -> tuple[str, Any]:
        """Return the first field whose value doesn't fit."""
        fields = zip(self.names, self._checks, values, strict=True)
        return next((name, value) for name, check, value in fields if not fits(check, value))


_codecs: dict[type[Message], _Codec] = {}


def _codec(message_type: type[Message]) -> _Codec:
    codec = _codecs.get(message_type)
    if codec is None:
        codec = _codecs[message_type] = _Codec(message_type)
    return codec


def _array_parts(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Return the pieces of an array's extension: msgpack's header, ours, and the data itself."""
    code = _CODES.get(array.dtype.newbyteorder("<"))
    if code is None or array.ndim > _MAX_DIMENSIONS:
        raise TypeError(f"an array of {array.dtype} in {array.ndim} dimensions can't be sent")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = _packer.pack((code, array.shape))
    start = (1 + len(head) + 7) // 8 * 8
    outside = _EXT32.pack(0xC9, start + little.nbytes, _ARRAY)
    return outside, bytes([start]), head.ljust(start - 1, b"\0"), little.data


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


_EXT32 = struct.Struct(">BIb")  # msgpack's header of an extension: its code, length and type
_packer = msgpack.Packer()  # making one costs more than packing a small frame


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
