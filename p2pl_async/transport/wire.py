"""Messages to bytes and back: msgpack, arrays as raw little-endian binary with dtype and shape.

    encoded = [tag, sender, number, field, field, ...]  array data  array data  ...
    array   = Ext(1, [dtype, shape]) among the fields, and after them, in the same order, its data:
              Bin(zeros up to a multiple of 8 bytes from the start, raw bytes)

An encoded message is a sequence of msgpack objects, so any msgpack reader can take it apart. Array data
come after the fields because they are then written with one copy and read in place without any; nested
among the fields, a model of 800 kB costs 0.2 ms to decode.

A radio is charged for the length of these bytes. Reading trusts no peer: whatever arrives, the
result is a message whose fields fit their annotations, or a `RemoteError`.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from p2pl_async.errors import ProtocolError, RemoteError
from p2pl_async.messages import _BY_TAG, ARRAY_KINDS, Damage, DeviceId, Message, type_of
from p2pl_async.transport.codec import CODECS, Codec, codec_of

MAX_BYTES = 1 << 30  # of an encoded message; a longer one is refused unread
_DTYPES = {np.dtype(kind).str.lstrip("|<"): np.dtype(kind) for kind in ARRAY_KINDS}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_DIMENSIONS = 8
_ARRAY = 1


def encode(message: Message, sender: DeviceId, number: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        ProtocolError: if a field's value doesn't fit its annotation, or the message is longer than `MAX_BYTES`.
    """
    encoded = encode_shared(message, sender, number)
    return encoded if type(encoded) is bytes else bytes(encoded)


def encode_shared(message: Message, sender: DeviceId, number: int) -> bytes | SharedBytes:
    """Return the bytes of a message, without copying its arrays if none of them can ever change.

    Raises:
        ProtocolError: if a field's value doesn't fit its annotation, or the message is longer than `MAX_BYTES`.
    """
    return encode_and_read(message, sender, number, math.nan)[0]


def encode_and_read(
    message: Message, sender: DeviceId, number: int, sent: float
) -> tuple[bytes | SharedBytes, Message | None]:
    """Return what `encode_shared` does, and the message that decoding it gives; None if only decoding tells.

    Scalars are the same before and after, so a receiver of a message that has nothing else gets them in a quarter
    of the time that `decode` takes.

    Args:
        message: to be sent.
        sender: as of `encode`.
        number: as of `encode`.
        sent: as of `decode`.
    """
    kind = type(message)
    codec = CODECS.get(kind) or codec_of(kind)
    values = codec.values(message)
    if codec.classes(message) != codec.types and not codec.fits(values):
        raise _misfit(codec, message, values)
    try:
        if not codec.scalar:
            return _with_arrays(message, sender, number, values), None
        data: bytes = _packer.pack((kind.tag, sender, number) + values)  # noqa: RUF005  # twice as fast as *values
    except (ValueError, OverflowError, TypeError) as error:
        raise ProtocolError(f"{kind.__name__} can't be encoded: {error}") from error
    if len(data) > MAX_BYTES:
        raise _too_long(message, data)
    if _BY_TAG.get(kind.tag) is not kind:
        return data, None
    try:
        read = kind(*values)
    except Exception:  # from its own __post_init__; where it is received, it counts
        return data, None
    _put_origin(read, (sender, number, sent))
    return data, read


def _with_arrays(message: Message, sender: DeviceId, number: int, values: Sequence[Any]) -> bytes | SharedBytes:
    """Return the bytes of a message whose fields fit."""
    arrays = [_little(value) for value in values if isinstance(value, np.ndarray)]
    encoded = SharedBytes(_packer.pack((message.tag, sender, number, *map(_described, values))), arrays)
    if len(encoded) > MAX_BYTES:
        raise _too_long(message, encoded)
    return encoded if all(map(_is_constant, arrays)) and arrays else bytes(encoded)


def _misfit(codec: Codec, message: Message, values: Sequence[Any]) -> ProtocolError:
    name, value = codec.misfit(values)
    return ProtocolError(
        f"{type(message).__name__}.{name}={_brief(value)} doesn't fit its annotation; convert it before sending"
    )


def _too_long(message: Message, encoded: bytes | SharedBytes) -> ProtocolError:
    return ProtocolError(
        f"{type(message).__name__} takes {len(encoded)} bytes, more than the {MAX_BYTES} that a receiver reads; send "
        "it in parts"
    )


class SharedBytes:
    """An encoded message in parts: its fields as bytes, and its arrays in place, which must not change.

    `len` and `bytes` are those of the message in one piece.

    Args:
        head: the encoded fields.
        arrays: contiguous and little-endian, in the order in which the fields describe them.
    """

    __slots__ = ("_size", "arrays", "head")

    def __init__(self, head: bytes, arrays: list[np.ndarray[Any, Any]]) -> None:
        self.head = head
        self.arrays = arrays
        size = len(head)
        for array in arrays:
            size += _BIN32.size + _padding(size) + array.nbytes
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        parts: list[Any] = [self.head]
        size = len(self.head)
        for array in self.arrays:
            padding = _padding(size)
            parts += (_BIN32.pack(0xC6, padding + array.nbytes), bytes(padding), array.data)
            size += _BIN32.size + padding + array.nbytes
        return b"".join(parts)  # the one copy of the data

    def start(self, count: int) -> bytes:
        """Return the first bytes, at most `count`, without a copy of the rest."""
        found = self.head[:count]
        size = len(self.head)
        for array in self.arrays:
            if len(found) == count:
                break
            padding = _padding(size)
            found += _BIN32.pack(0xC6, padding + array.nbytes) + bytes(padding)
            found += array.reshape(-1).view(np.uint8)[: max(0, count - len(found))].tobytes()
            size += _BIN32.size + padding + array.nbytes
        return found[:count]


def _padding(size: int) -> int:
    """Return how many zeros align the data of an array to 8 bytes, if `size` bytes of the message precede it."""
    return -(size + _BIN32.size) % 8


def _is_constant(array: np.ndarray[Any, Any]) -> bool:
    """Tell whether an array can't change any more, through any view."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or type(base) is bytes


def head_size(data: bytes | SharedBytes) -> int:
    """Return the length of the first part of an encoded message: everything but the data of its arrays."""
    if isinstance(data, SharedBytes):
        return len(data.head)
    unpacker = msgpack.Unpacker(use_list=False, ext_hook=_extension, strict_map_key=False)
    unpacker.feed(data[:_SMALL])
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        unpacker.feed(data[_SMALL:])
        unpacker.skip()
    return int(unpacker.tell())


def decode(
    data: bytes | SharedBytes,
    sent: float = math.nan,
    *,
    missing: Sequence[tuple[int, int]] = (),
    corrupted: bool = False,
) -> Message:
    """Return the message in encoded bytes; its arrays are read-only views of these.

    Args:
        data: the bytes that arrived.
        sent: the instant at which they were sent, if the receiving side knows it.
        missing: parts that didn't arrive, as [start, end) in bytes, ascending, after `head_size`;
            `data` may have anything there.
        corrupted: whether the message is known to be spoiled.

    Raises:
        RemoteError: if the bytes aren't a message, or fields don't fit their annotations.
    """
    if len(data) > MAX_BYTES:
        raise RemoteError(f"a message of {len(data)} bytes is longer than {MAX_BYTES}")
    try:
        if missing or corrupted:
            data = _patched(bytes(data), missing)
        arrays: list[tuple[int, int]] = []
        if isinstance(data, SharedBytes):
            fields = msgpack.unpackb(data.head, use_list=False, ext_hook=_extension, strict_map_key=False)
        else:
            fields, arrays = _take_apart(data)
    except RemoteError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise RemoteError(f"not a message: {error}") from error
    if type(fields) is not tuple or len(fields) < 3:
        raise RemoteError("not a message: no header")
    tag, sender, number, *values = fields
    if isinstance(data, SharedBytes):
        views = (array.view() for array in data.arrays)
        values = [next(views) if type(value) is _Described else value for value in values]
    elif arrays:
        _fill_in(values, arrays, data)
    message_type = type_of(tag)
    if message_type is None:
        raise RemoteError(f"unknown message {_brief(tag)}")
    if type(sender) is not int or sender < 0 or type(number) is not int or number < 0:
        raise RemoteError(f"{tag}: sender and number must be counts")
    try:
        codec = codec_of(message_type)
    except ProtocolError as error:  # a base of messages, of which there is none to send
        raise RemoteError(f"unknown message {_brief(tag)}") from error
    if len(values) != len(codec.names):
        raise RemoteError(f"{tag}: {len(values)} fields, expected {len(codec.names)}")
    if not codec.fits(values):
        name, value = codec.misfit(values)
        raise RemoteError(f"{tag}.{name}={_brief(value)} doesn't fit its annotation")
    try:
        message = message_type(*values)
    except (ValueError, TypeError) as error:  # a check in the message's own __post_init__
        raise RemoteError(f"{tag}: {error}") from error
    _put_origin(message, (sender, number, sent))
    if missing or corrupted:
        found = [(name, value) for name, value in zip(codec.names, values, strict=True) if type(value) is np.ndarray]
        places = {name: end - value.nbytes for (name, value), (_, end) in zip(found, arrays, strict=True)}
        object.__setattr__(message, "_damage", Damage(corrupted, tuple(missing), places))
    return message


def _take_apart(data: bytes) -> tuple[Any, list[tuple[int, int]]]:
    """Return the fields of an encoded message, and start and end of the content of each Bin after them."""
    if len(data) <= _SMALL:
        try:
            return msgpack.unpackb(data, use_list=False, ext_hook=_extension, strict_map_key=False), []
        except msgpack.ExtraData:
            pass
    unpacker = msgpack.Unpacker(use_list=False, ext_hook=_extension, strict_map_key=False)
    fed = 0
    while True:
        step = data[fed : 4 * fed or _SMALL]
        unpacker.feed(step)
        fed += len(step)
        try:
            fields = unpacker.unpack()
            break
        except msgpack.OutOfData:
            if not step:
                raise
    at = unpacker.tell()
    places = []
    while at < len(data):
        if len(data) - at < _BIN32.size or data[at] != 0xC6:
            raise RemoteError("not a message: bytes after the fields that are no array")
        start = at + _BIN32.size
        at = start + _BIN32.unpack_from(data, at)[1]
        places.append((start, at))
    if at > len(data):
        raise RemoteError(f"not a message: {at - len(data)} bytes are missing")
    return fields, places


def _patched(data: bytes, missing: Sequence[tuple[int, int]]) -> bytes:
    """Return an encoded message with zeros in its missing parts, and the headers of its arrays restored.

    An entry of an array of which a part is missing is 0 as a whole.
    """
    if not missing:
        return data
    patched = bytearray(data)
    for start, end in missing:
        patched[start:end] = bytes(end - start)
    unpacker = msgpack.Unpacker(use_list=False, ext_hook=_extension, strict_map_key=False)
    unpacker.feed(data[: missing[0][0]])
    described = [value for value in unpacker.unpack() if type(value) is _Described]
    at = int(unpacker.tell())
    for array in described:
        begin, entry = at + _BIN32.size + _padding(at), array.dtype.itemsize
        end = begin + math.prod(array.shape) * entry
        patched[at : at + _BIN32.size] = _BIN32.pack(0xC6, end - at - _BIN32.size)
        for first, last in missing:
            if first < end and last > begin:
                low = begin + max(first - begin, 0) // entry * entry
                high = min(begin - (begin - last) // entry * entry, end)
                patched[low:high] = bytes(high - low)
        at = end
    return bytes(patched)


def _fill_in(values: list[Any], places: list[tuple[int, int]], data: bytes) -> None:
    """Replace descriptions of arrays by the arrays, read-only views of the data."""
    described = [index for index, value in enumerate(values) if type(value) is _Described]
    if len(described) != len(places):
        raise RemoteError(f"{len(described)} arrays described, {len(places)} sent")
    for index, (start, end) in zip(described, places, strict=True):
        values[index] = values[index].read(data, start, end)


class _Described:
    """An array among the encoded fields: its dtype and shape, without the data."""

    __slots__ = ("dtype", "shape")

    def __init__(self, code: int, head: bytes) -> None:
        if code != _ARRAY:
            raise RemoteError(f"unknown extension {code}")
        try:
            described = msgpack.unpackb(head, use_list=False)
        except (ValueError, msgpack.exceptions.UnpackException) as error:
            raise RemoteError("array without dtype and shape") from error
        kind, shape = described if type(described) is tuple and len(described) == 2 else (None, None)
        dtype = _DTYPES.get(kind) if type(kind) is str else None
        if dtype is None or type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
            raise RemoteError("array without dtype and shape")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise RemoteError(f"array of shape {_brief(shape)}")
        self.dtype, self.shape = dtype, shape

    def read(self, data: bytes, start: int, end: int) -> np.ndarray[Any, Any]:
        """Return the array whose padding and data lie from `start` to `end`."""
        padding = end - start - math.prod(self.shape) * self.dtype.itemsize
        if not 0 <= padding < 8:
            raise RemoteError(f"array of {_brief(self.shape)} {self.dtype} in {end - start} bytes")
        count = math.prod(self.shape)
        return np.frombuffer(data, self.dtype, count, start + padding).reshape(self.shape)


_known_description = functools.lru_cache(maxsize=256)(_Described)  # peers send arrays of few shapes, too


def _extension(code: int, head: bytes) -> _Described:
    """Return what an extension among the fields stands for."""
    return _known_description(code, head) if len(head) <= _SHORT else _Described(code, head)


def _little(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array, contiguous and little-endian."""
    dtype = array.dtype
    if dtype not in _CODES:  # the codes are of little-endian types
        dtype = dtype.newbyteorder("<")
    if dtype not in _CODES or array.ndim > _MAX_DIMENSIONS:
        raise TypeError(f"an array of {array.dtype} in {array.ndim} dimensions can't be sent")
    return np.ascontiguousarray(array, dtype=dtype)


def _described(value: Any) -> Any:
    """Return a field's value, or the description that takes the place of an array."""
    return _description(value.dtype, value.shape) if isinstance(value, np.ndarray) else value


@functools.lru_cache(maxsize=256)  # a protocol sends arrays of few shapes
def _description(dtype: np.dtype[Any], shape: tuple[int, ...]) -> msgpack.ExtType:
    return msgpack.ExtType(_ARRAY, msgpack.packb((_CODES[dtype.newbyteorder("<")], shape)))


_put_origin = Message.__dict__["_origin"].__set__
_BIN32 = struct.Struct(">BI")  # msgpack's header of binary data: its code and length
_SMALL = 512  # bytes; the fields of most messages fit, without their arrays
_SHORT = 64  # bytes; descriptions of arrays are shorter, and what a hostile peer sends instead isn't kept
_packer = msgpack.Packer()  # one for all, since making one costs more than packing a small message


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
