"""Plain tables, as TOML gives them: merging them, and who set which value."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from p2pl_async.basics.limits import MOST_NESTED

Table = dict[str, Any]


def merge(old: Any, new: Mapping[Any, Any], rule: str = "", rules: dict[str, str] | None = None, path: str = "") -> Any:
    """Return `old` with what `new` says instead; neither is changed.

    Tables merge key by key; a table with another `kind` replaces the one before, as do lists
    and values. Where `old` is a list, the keys of `new` are indices into it.

    Args:
        old: the table, or list of tables, from before.
        new: the table that comes on top.
        rule: the name of what sets its values.
        rules: key path -> rule, for every value; kept up to date here.
        path: where the tables lie, as those paths begin.
    """
    result = list(old) if isinstance(old, list) else dict(old)
    for key, value in new.items():
        here = join(path, key)
        before = old[key] if isinstance(old, list) else old.get(key)
        if _goes_into(value, before):
            if rules is not None and value and not before:
                rules.pop(here, None)  # an empty table was a value; it no longer is
            result[key] = merge(before, value, rule, rules, here)
            continue
        result[key] = value
        if rules is not None:
            for known in [known for known in rules if known == here or known.startswith((f"{here}.", f"{here}["))]:
                del rules[known]
            rules.update({leaf: rule for leaf, _ in leaves(value, here)})
    return result


def _goes_into(value: Any, before: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    if isinstance(before, list):
        return bool(value) and all(isinstance(key, int) for key in value)
    return isinstance(before, Mapping) and value.get("kind", before.get("kind")) == before.get("kind")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key path, value) of everything in a table that isn't itself a table."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, join(path, key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, join(path, index))
    else:
        yield path, value


def join(path: str, key: str | int) -> str:
    """Return the path of a key in the table at `path`: "link.override[2].loss"."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def without_none(value: Any) -> Any:
    """Return a table without the keys that are None, which TOML has no word for."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list | tuple) else value


def beyond(value: Any) -> str:
    """Return what of a value is beyond any scenario's: its depth, or a whole number; "" if nothing is."""
    level: list[Any] = [value]
    for _ in range(MOST_NESTED + 1):
        if any(isinstance(node, int) and abs(node) >= 1 << 63 for node in level):
            return "has a whole number of more than 64 bits"
        lists = [
            node.values() if isinstance(node, Mapping) else node for node in level if isinstance(node, Mapping | list)
        ]
        if not lists:
            return ""
        level = [item for items in lists for item in items]
    return f"has tables or lists nested more than {MOST_NESTED} deep"


def origin_of(origins: Mapping[str, str], path: str, main: str) -> str | None:
    """Return the rule that set a key, or the table around it; None if no rule did."""
    while path != main:
        if path in origins:
            return origins[path] or main
        path = path.rpartition(".")[0]
    return None


def toml_value(text: str) -> Any:
    """Return a TOML value, or the text itself if it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or a number of more digits than Python reads
        return text
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, bool | int | float | str | list | dict) else text
