"""Recorded movement: our CSV of positions, ns-2's setdest commands, BonnMotion's waypoints.

Each reader returns device -> corners (t, x, y, z), in seconds and meters, instants ascending. It raises
ValueError if the text can't be read, with the line and what should be there.
"""

from __future__ import annotations

import functools
import gzip
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Corners = list[tuple[float, float, float, float]]

_EXAMPLE = "t,node,x,y"


def read_movement(path: Path, format: str) -> dict[int, Corners]:
    """Return device -> corners of a file in one of `FORMATS`.

    Raises:
        ValueError: if it can't be read.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError) as error:
        raise ValueError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text; it must be a file of positions") from error
    try:
        found = FORMATS[format](text.splitlines())
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    if not found:
        raise ValueError(f"{path} has no positions")
    return found


def read_csv(lines: Sequence[str]) -> dict[int, Corners]:
    """Return the corners of a CSV: a header `t,node,x,y` or `t,node,x,y,z`, then a line per sample.

    Lines may be in any order; between two samples a device goes straight. Of two samples of one
    instant the second is a jump.
    """
    rows = [(number, line.split(",")) for number, line in enumerate(lines, 1) if line.strip()]
    header = ",".join(word.strip().lower() for word in rows[0][1]) if rows else ""
    if header not in (_EXAMPLE, f"{_EXAMPLE},z"):
        raise ValueError(f"line 1: must be the header {_EXAMPLE} or {_EXAMPLE},z")
    columns = len(rows[0][1])
    found: dict[int, Corners] = {}
    for number, words in rows[1:]:
        if len(words) != columns:
            raise ValueError(f"line {number}: has {len(words)} values, and the header {columns}")
        t, x, y, z = (_number(number, word) for word in (words[0], *words[2:], "0")[:4])
        found.setdefault(_device(number, words[1]), []).append((_time(number, t), x, y, z))
    for corners in found.values():
        corners.sort(key=lambda corner: corner[0])
    return found


_SET = re.compile(r"\$node_\((\d+)\)\s+set\s+([XYZ])_\s+(\S+)")
_TIMED = re.compile(r"\$ns_\s+at\s+(\S+)\s+[\"'](.*)[\"']")
_GO = re.compile(r"\$node_\((\d+)\)\s+setdest\s+(\S+)\s+(\S+)\s+(\S+)")


def read_ns2(lines: Sequence[str]) -> dict[int, Corners]:
    """Return the corners that ns-2's movement commands make: `set X_`, and `setdest x y speed` at an instant.

    A new destination replaces the old one on the way, and speed 0 stops. Other commands in such
    files, on `$god_` and `$ns_`, don't concern positions and are ignored.
    """
    starts: dict[int, dict[str, float]] = {}
    orders: dict[int, list[tuple[float, int, str, tuple[float, ...]]]] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        timed = _TIMED.search(text)
        at = 0.0 if timed is None else _time(number, _number(number, timed[1]))
        command = text if timed is None else timed[2]
        placed, go = _SET.search(command), _GO.search(command)
        if go:
            order = tuple(_number(number, word) for word in go.groups()[1:])
            if timed is None:
                raise ValueError(f'line {number}: a setdest needs its instant: $ns_ at 2.0 "..."')
            if order[2] < 0:
                raise ValueError(f"line {number}: speed {order[2]:g} must be at least 0")
            orders.setdefault(int(go[1]), []).append((at, number, "go", order))
        elif placed and timed:
            jump = ("XYZ".index(placed[2]), _number(number, placed[3]))
            orders.setdefault(int(placed[1]), []).append((at, number, "put", jump))
        elif placed:
            starts.setdefault(int(placed[1]), {})[placed[2]] = _number(number, placed[3])
        elif "$node_" in command and ("set " in command or "setdest" in command):
            raise ValueError(f'line {number}: must be like $node_(0) set X_ 1.5, not "{line.strip()[:60]}"')
    found = {}
    for device in sorted({*starts, *orders}):
        start = starts.get(device, {})
        if "X" not in start or "Y" not in start:
            raise ValueError(f"node {device} has no start; it needs $node_({device}) set X_ and set Y_")
        place = [start["X"], start["Y"], start.get("Z", 0.0)]
        found[device] = _follow(place, sorted(orders.get(device, []), key=lambda order: order[:2]))
    return found


def _follow(place: list[float], orders: Iterable[tuple[float, int, str, tuple[float, ...]]]) -> Corners:
    corners: Corners = [(0.0, *place)]  # type: ignore[list-item]
    for at, _, what, values in orders:
        # The device turns wherever it is on its way at that instant, so later corners are cut off.
        while len(corners) > 1 and corners[-1][0] > at:
            end = corners.pop()
            begin = corners[-1]
            if begin[0] <= at:
                share = (at - begin[0]) / (end[0] - begin[0])
                x, y, z = (p + share * (q - p) for p, q in zip(begin[1:], end[1:], strict=True))
                corners.append((at, x, y, z))
        here = corners[-1][1:]
        if at > corners[-1][0]:
            corners.append((at, *here))
        if what == "put":
            there = list(here)
            there[int(values[0])] = values[1]
            corners.append((at, *there))  # type: ignore[arg-type]
        elif values[2] > 0 and here[:2] != values[:2]:
            x, y, speed = values
            corners.append((at + math.dist(here[:2], (x, y)) / speed, x, y, here[2]))
    return corners


def read_bonnmotion(lines: Sequence[str], *, width: int = 3) -> dict[int, Corners]:
    """Return the corners of a BonnMotion file: a line per device, of waypoints `t x y t x y ...`.

    Args:
        lines: of the file.
        width: numbers of a waypoint: 3, or 4 where a height follows x and y.
    """
    found: dict[int, Corners] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) % width:
            shape = "t x y z"[: 2 * width - 1]
            raise ValueError(f"line {number}: has {len(words)} values, which must be {shape} again and again")
        values = [_number(number, word) for word in words]
        corners: Corners = []
        for k in range(0, len(values), width):
            t, x, y, z = (*values[k : k + width], 0.0)[:4]
            if corners and t < corners[-1][0]:
                raise ValueError(f"line {number}: time goes back, from {corners[-1][0]:g} to {t:g} s")
            corners.append((_time(number, t), x, y, z))
        found[len(found)] = corners
    return found


FORMATS: Mapping[str, Callable[[Sequence[str]], dict[int, Corners]]] = {
    "csv": read_csv,
    "ns2": read_ns2,
    "bonnmotion": read_bonnmotion,
    "bonnmotion-3d": functools.partial(read_bonnmotion, width=4),
}


def csv_of(found: Mapping[int, Corners]) -> str:
    """Return corners as the text that `read_csv` reads."""
    rows = [f"{t!r},{device},{x!r},{y!r},{z!r}" for device, corners in sorted(found.items()) for t, x, y, z in corners]
    return "\n".join([f"{_EXAMPLE},z", *rows]) + "\n"


def _number(line: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'line {line}: "{word.strip()[:20]}" must be a number')
    return value


def _time(line: int, value: float) -> float:
    if value < 0:
        raise ValueError(f"line {line}: t = {value:g} s must be at least 0")
    return value


def _device(line: int, word: str) -> int:
    if not word.strip().isascii() or not word.strip().isdigit():
        raise ValueError(f'line {line}: node "{word.strip()[:20]}" must be a device id, a whole number from 0')
    return int(word)
