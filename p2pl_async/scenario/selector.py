"""Selectors of devices: `3`, `[0, 1]`, `"0-4"`, `"0-4,7"`, `"*"`, a group's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from p2pl_async.basics.settings import mistake, nearest

_RANGE = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?")
GROUP_NAME = re.compile(r"[A-Za-z_][\w-]*")
_EXAMPLE = 'must be a device 3, a list [0, 1], a range "0-4", a mix "0-4,7", a group\'s name, or "*" for all'


def _read(value: object) -> int | tuple[int, ...] | str:
    """Return a selector as it was written, after looking at its form only."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value):
            return tuple(value)
    elif isinstance(value, str):
        for part in value.split(","):
            match = _RANGE.fullmatch(part.strip())
            if match and match[2] and int(match[2]) < int(match[1]):
                raise mistake(f'the range "{part.strip()}" must go upwards')
            if not (match or part.strip() == "*" or GROUP_NAME.fullmatch(part.strip())):
                raise mistake(_EXAMPLE)
        return value
    raise mistake(_EXAMPLE)


_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        {"type": "string", "examples": ["0-4", "0-4,7", "*"]},
    ]
}

Selector = Annotated[
    int | tuple[int, ...] | str,
    PlainValidator(_read),
    PlainSerializer(lambda selector: list(selector) if isinstance(selector, tuple) else selector),
    WithJsonSchema(_SCHEMA),
]


def select(selector: int | tuple[int, ...] | str, count: int, groups: Mapping[str, frozenset[int]]) -> frozenset[int]:
    """Return the ids of the devices that a selector means.

    Args:
        selector: as the scenario has it.
        count: number of devices; their ids are 0 to count - 1.
        groups: name -> ids of the groups that it may name.

    Raises:
        ValueError: if it names an unknown group or a device that isn't there.
    """
    if isinstance(selector, int):
        selector = (selector,)
    if isinstance(selector, tuple):
        return _inside(max(selector), frozenset(selector), count)
    ids: set[int] = set()
    for part in map(str.strip, selector.split(",")):
        match = _RANGE.fullmatch(part)
        if part == "*":
            ids.update(range(count))
        elif match:
            first, last = int(match[1]), int(match[2] or match[1])
            _inside(last, frozenset(), count)  # before a range of a billion is written out
            ids.update(range(first, last + 1))
        elif part in groups:
            ids |= groups[part]
        else:
            guess = nearest(part, groups)
            hint = f'did you mean "{guess}"?' if guess else f"known: {', '.join(groups) or 'none'}"
            raise ValueError(f'unknown group "{part}"; {hint}')
    return frozenset(ids)


def _inside(largest: int, ids: frozenset[int], count: int) -> frozenset[int]:
    if largest >= count:
        raise ValueError(f"there is no device {largest}; ids go from 0 to {count - 1}, as devices.count = {count}")
    return ids
