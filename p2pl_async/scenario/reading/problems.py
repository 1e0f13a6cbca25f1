"""What pydantic found, in plain words: one `Problem` per mistake, with the path as the user wrote it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p2pl_async.basics.settings import Settings, nearest, unknown_key
from p2pl_async.errors import Problem
from p2pl_async.scenario.reading.schema_walk import Keys, known_keys, path_of

_PLAIN = {
    "missing": "is missing; it has no default",
    "int_type": "must be a whole number, without quotes",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, without quotes",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
    "assertion_error": "{error}",
}

_NUMBERS = {_PLAIN["int_parsing"], _PLAIN["float_parsing"]}


def problems_of(
    root: type[Settings], error: ValidationError, raw: Mapping[str, Any], short: Collection[Keys] = ()
) -> list[Problem]:
    """Return a problem for each mistake that pydantic found in a scenario's table.

    Args:
        root: the class that checked the table.
        error: what pydantic raised.
        raw: the table that it checked.
        short: keys of tables that the user wrote as a bare value.
    """
    found: dict[str, Problem] = {}
    missing: set[str] = set()
    meant: set[str] = set()  # keys that a misspelled one stands for: they aren't missing too
    for detail in error.errors():
        keys = _keys(detail["loc"], raw)
        if keys[:-1] in short:
            keys = keys[:-1]
        path = path_of(keys) or "scenario"
        if detail["type"] == "missing":
            missing.add(path)
        elif detail["type"] == "extra_forbidden":
            meant.add(path_of([*keys[:-1], nearest(str(keys[-1]), known_keys(root, keys[:-1], raw)) or ""]))
        # A value that fits none of several types has an error for each: the first stands for all,
        # and where it asks for a number, a text is told which words would do too.
        text = _text(root, detail, keys, raw)
        first = found.setdefault(path, Problem(path, text, _shown(detail)))
        if detail["type"] == "literal_error" and first.text in _NUMBERS:
            found[path] = replace(first, text=f"{first.text}, or {detail['ctx']['expected']}".replace("'", '"'))
    return [problem for path, problem in found.items() if path not in missing & meant]


def _keys(loc: Sequence[str | int], raw: Mapping[str, Any]) -> Keys:
    """Return the keys in `loc`, without what pydantic adds for the alternatives of a type."""
    keys: list[str | int] = []
    node: Any = raw
    for part in loc:
        if isinstance(node, Mapping):
            keys.append(part)
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            keys.append(part)
            node = node[part]
    return tuple(keys)


def _text(root: type[Settings], detail: ErrorDetails, keys: Keys, raw: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown_key(str(keys[-1]), known_keys(root, keys[:-1], raw))
    if kind in ("literal_error", "enum"):
        expected = detail["ctx"]["expected"].replace("'", '"').replace(" or ", ", ")
        names = [name.strip('"') for name in expected.split(", ")]
        guess = nearest(str(detail["input"]), names)
        options = "must be " + (expected if len(names) == 1 else f"one of {expected}")
        return f'did you mean "{guess}"?  {options}' if guess else options
    if kind in _PLAIN:
        return _PLAIN[kind].format(**detail.get("ctx", {}))
    text = detail["msg"]
    return text[0].lower() + text[1:] if "url" in detail else text


def _shown(detail: ErrorDetails) -> object:
    value = detail["input"]
    if detail["type"] in ("missing", "extra_forbidden"):
        return None
    if isinstance(value, list | tuple) and all(isinstance(item, int | float | str) for item in value):
        return list(value)
    return None if value is None or isinstance(value, Mapping | list | tuple | Settings) else value
