"""A run's messages as pcapng, for Wireshark and tshark.

    LINKTYPE_USER0   a header of 20 bytes, then as much of the encoded message as the trace has (`run --payloads`)
        from, to: uint32   number: uint32   fate: uint8   3 zeros   length of the message: uint32    all big-endian
    as IP            IPv4 and UDP headers instead: device k is 10.(k >> 16).(k >> 8 & 255).(k & 255), port 47806

The original length of a packet is that of its header and the whole message; less is captured. Instants are in
nanoseconds of virtual time. What a message was lost by is the packet's comment. The Lua dissector beside the file
(`wireshark -X lua_script:p2pl.lua`) names the fields.

Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.results.run import Run
from p2pl_async.results.table import writing

_USER0, _RAW_IP = 147, 101
_PORT = 47806
DISSECTOR = "p2pl.lua"
DELIVERED, PARTIAL, IN_FLIGHT, LOST = range(4)
_FATES = {"delivered": DELIVERED, "partial": PARTIAL, "in flight": IN_FLIGHT}


def write_pcapng(run: Run, path: Path, *, as_ip: bool = False) -> Path:
    """Write the messages of a run as pcapng, with a dissector beside it unless `as_ip`; return the path.

    Raises:
        ScenarioError: if the run kept no trace, or the file can't be written.
    """
    if run.trace is None:
        text = "has no trace of its messages, which a capture is made of; run it again with --trace"
        raise ScenarioError(str(run.path), [Problem("trace", text)])
    with writing(path), path.open("wb") as file:
        file.write(_section_header())
        file.write(_interface(_RAW_IP if as_ip else _USER0))
        for block in _packets(run, as_ip=as_ip):
            file.write(block)
    if not as_ip:
        script = path.with_name(DISSECTOR)
        with writing(script):
            script.write_bytes((files("p2pl_async.export") / DISSECTOR).read_bytes())
    return path


def _packets(run: Run, *, as_ip: bool) -> Iterator[bytes]:
    """Yield a block for each message, by the instant of sending."""
    assert run.trace is not None
    trace = run.trace.sort_values("sent_s", kind="stable")
    names = ("sent_s", "src", "dst", "number", "kind", "size_bytes", "arrival_s", "fate")
    columns = [trace[name].tolist() for name in names]
    payloads = trace["payload"].tolist() if "payload" in trace.columns else [b""] * len(trace)
    for sent, src, dst, number, kind, size, arrival, fate, payload in zip(*columns, payloads, strict=True):
        code = _FATES.get(fate, LOST)
        header = _ip_header(src, dst, number, size) if as_ip else _header(src, dst, number, code, size)
        comment = f"{kind}; lost by {fate}" if code == LOST else f"{kind}; {fate}"
        if math.isfinite(arrival):
            comment += f" after {(arrival - sent) * 1e3:.6g} ms"
        if as_ip:
            payload = payload[: 65535 - len(header)]  # a datagram that its own lengths can tell
        yield _packet(sent, header + payload, len(header) + size, comment)


def _header(src: int, dst: int, number: int, fate: int, size: int) -> bytes:
    return struct.pack(">IIIB3xI", src, dst, number & 0xFFFFFFFF, fate, size)


def _ip_header(src: int, dst: int, number: int, size: int) -> bytes:
    """Return IPv4 and UDP headers; a length that their 16 bits can't tell is the most that they can."""
    length = min(28 + size, 65535)
    fields = (0x45, 0, length, number & 0xFFFF, 0, 64, 17, 0, _address(src), _address(dst))
    head = struct.pack(">BBHHHBBHII", *fields)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack(">H", check) + head[12:]
    return head + struct.pack(">HHHH", _PORT, _PORT, length - 20, 0)  # no checksum


def _address(device: int) -> int:
    return (10 << 24) | (device & 0xFFFFFF)


# Blocks: type, length, body, length


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


_END = struct.pack("<HH", 0, 0)


def _section_header() -> bytes:
    return _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, b"p2pl_async") + _END)


def _interface(link_type: int) -> bytes:
    nanoseconds = _option(9, b"\x09")
    return _block(1, struct.pack("<HHI", link_type, 0, 0) + _option(2, b"p2pl") + nanoseconds + _END)


def _packet(at: float, captured: bytes, original: int, comment: str) -> bytes:
    ticks = round(at * 1e9)
    head = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(captured), min(original, 0xFFFFFFFF))
    return _block(6, head + captured + bytes(-len(captured) % 4) + _option(1, comment.encode()) + _END)
