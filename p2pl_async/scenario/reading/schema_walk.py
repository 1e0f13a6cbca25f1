"""Walking a plain table along the classes that will check it: which keys it can have, what its values mean."""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from p2pl_async.basics.settings import OneOf, Settings, Short, inner_class, marker, word_of
from p2pl_async.scenario.reading.plain import Table, join, merge
from p2pl_async.scenario.tables import LinkOverride

Keys = tuple[str | int, ...]


class Many(NamedTuple):
    """A list of tables, or a table of named ones, all of one class, or each of one of several."""

    cls: type[Settings] | OneOf


Place = type[Settings] | Many | None  # what checks a table; None where that isn't known


def path_of(keys: Sequence[str | int]) -> str:
    """Return keys as a path: "link.override[2].loss.p"."""
    path = ""
    for key in keys:
        path = join(path, key)
    return path


def fields_of(cls: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of a table by the names that a scenario uses; of an override, those of `[link]` too."""
    fields = {field.alias or name: field for name, field in cls.model_fields.items()}
    return {**fields, **LinkOverride.partial.model_fields} if cls is LinkOverride else fields


class _Slot(NamedTuple):
    """What a field is annotated with; found once for each class, as a study walks along it a thousand times."""

    found: OneOf | Short | None
    word: str | None
    holds_many: bool
    inner: type[Settings] | None
    is_path: bool
    words: frozenset[Any]  # that stand beside a path: `init = "he"`


@functools.cache
def _slots_of(cls: type[Settings]) -> Mapping[str, _Slot]:
    return {
        name: _Slot(
            marker(field),
            word_of(field),
            typing.get_origin(field.annotation) in (dict, list, tuple),
            inner_class(field),
            Path in (field.annotation, *typing.get_args(field.annotation)),
            frozenset(word for option in typing.get_args(field.annotation) for word in typing.get_args(option)),
        )
        for name, field in fields_of(cls).items()
    }


def child(place: Place, key: str | int, value: Any) -> Place:
    """Return what checks the table `value`, which is at `key` of the table that `place` checks."""
    if place is None:
        return None
    if isinstance(place, Many):
        return _chosen(place.cls, value) if isinstance(place.cls, OneOf) else place.cls
    slot = _slots_of(place).get(str(key))
    if slot is None:
        return None
    if isinstance(slot.found, OneOf):
        return Many(slot.found) if slot.holds_many else _chosen(slot.found, value)
    return Many(slot.inner) if slot.inner is not None and slot.holds_many else slot.inner


def _chosen(one_of: OneOf, value: Any) -> Place:
    try:
        return one_of.find(value["kind"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def known_keys(root: type[Settings], keys: Keys, raw: Mapping[str, Any]) -> list[str]:
    """Return the keys that the table at `keys` below `root` can have; none if that isn't known."""
    place: Place = root
    node: Any = raw
    for key in keys:
        node = node[key]
        place = child(place, key, node)
    if place is None or isinstance(place, Many):
        return []
    return [*fields_of(place), *place.read_before]


def expand(root: type[Settings], raw: Mapping[str, Any], folder: Path, short: set[Keys]) -> Table:
    """Return a table with shorthands written out and paths made absolute.

    Args:
        root: the class that checks the table.
        raw: the table, as read from a file.
        folder: relative paths in it are relative to this one.
        short: gets the keys of what was written as a shorthand.
    """
    return _expand_table(root, raw, folder, short, ())


def _expand_table(place: Place, table: Mapping[str, Any], folder: Path, short: set[Keys], keys: Keys) -> Table:
    slots = _slots_of(place) if isinstance(place, type) else {}
    result = {}
    for key, value in table.items():
        here = (*keys, key)
        if key in slots:
            value = _expand_value(slots[key], value, folder, short, here)
        result[key] = _expand_inside(child(place, key, value), value, folder, short, here)
    return result


def _expand_inside(place: Place, value: Any, folder: Path, short: set[Keys], keys: Keys) -> Any:
    if isinstance(value, Mapping):
        return _expand_table(place, value, folder, short, keys)
    if isinstance(value, list) and isinstance(place, Many):
        items = [_expand_item(place, item, folder) for item in value]
        return [_expand_inside(child(place, i, item), item, folder, short, (*keys, i)) for i, item in enumerate(items)]
    return value


def _expand_item(place: Many, item: Any, folder: Path) -> Any:
    """Return an item of a list whose items are chosen by kind, a bare kind as a table; others as they are."""
    if not isinstance(place.cls, OneOf) or place.cls.outside is None:
        return item
    if isinstance(item, Mapping):
        return {**item, "kind": _absolute_spec(item["kind"], folder)} if "kind" in item else item
    return place.cls.table(_absolute_spec(item, folder))


def _expand_value(slot: _Slot, value: Any, folder: Path, short: set[Keys], keys: Keys) -> Any:
    found = slot.found
    if isinstance(value, str) and value == slot.word:
        return value
    if isinstance(found, OneOf) and found.outside is not None:
        if isinstance(value, Mapping) and "kind" in value:
            value = {**value, "kind": _absolute_spec(value["kind"], folder)}
        value = _absolute_spec(value, folder)
    if isinstance(value, Mapping):
        short.discard(keys)  # a file may write out what one that it extends has as a shorthand
    elif found is not None:
        try:
            table = found.table(value)
        except ValueError:
            return value
        if table is not value:
            short.add(keys)
        return table
    if isinstance(value, str) and slot.is_path and value not in slot.words:
        return str(folder / Path(value).expanduser())
    return value


def _absolute_spec(value: Any, folder: Path) -> Any:
    """Return "file.py:Class" with an absolute path; other values as they are."""
    where, colon, name = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return f"{folder / Path(where).expanduser()}:{name}" if colon and where.endswith(".py") else value


def over(root: type[Settings], old: Any, new: Mapping[Any, Any], rule: str, rules: dict[str, str]) -> Table:
    """Return the table `old` with what `new` says instead, as `merge` does, and whose alternatives it displaces.

    A key of which a table has only one of several, such as `mean` of a target, takes the place of the others.

    Args:
        root: the class that checks the table.
        old: the table from before.
        new: the table that comes on top.
        rule: the name of what sets its values.
        rules: key path -> rule, for every value; kept up to date here.
    """
    merged: Table = merge(_make_room(root, old, new, rules, ""), new, rule, rules)
    return merged


def _make_room(place: Place, old: Any, new: Any, rules: dict[str, str], path: str) -> Any:
    """Return what `old` has, without the values to which `new` gives an alternative."""
    if not isinstance(new, Mapping) or not isinstance(old, Mapping | list):
        return old
    groups = place.alternatives if isinstance(place, type) else ()
    gone = {key for group in groups if not new.keys().isdisjoint(group) for key in group if key not in new}
    for key in gone:
        rules.pop(join(path, key), None)
    items: list[tuple[Any, Any]] = list(enumerate(old) if isinstance(old, list) else old.items())
    kept = {
        key: _make_room(child(place, key, value), value, new[key], rules, join(path, key)) if key in new else value
        for key, value in items
        if key not in gone
    }
    return list(kept.values()) if isinstance(old, list) else kept


def inside(node: Any, key: str | int) -> Any:
    """Return what a table or a list has at `key`; None if it has nothing there, or is neither."""
    if isinstance(node, list):
        return node[key] if isinstance(key, int) and key < len(node) else None
    return node.get(str(key)) if isinstance(node, Mapping) else None


def unset_kind(root: type[Settings], raw: Mapping[str, Any], keys: Collection[str | int]) -> tuple[Keys, str] | None:
    """Find the first table on the way to `keys` that `raw` lacks and that needs a kind; return its keys and a kind.

    The kind is the default one if that has the next key, else what a bare number means, else the
    only one that has it: `link.loss.p` means Bernoulli losses.
    """
    place: Place = root
    node: Any = raw
    way = list(keys)
    for depth, key in enumerate(way[:-1]):
        field = fields_of(place).get(str(key)) if isinstance(place, type) else None
        node = inside(node, key)
        found = marker(field) if field is not None else None
        if isinstance(found, OneOf) and not isinstance(node, Mapping):
            fits = [kind for kind, cls in found.classes.items() if way[depth + 1] in fields_of(cls)]
            usual = [getattr(field.default, "kind", None)] if field is not None else []
            if found.shorthand is not None:
                usual.append(found.shorthand("0")["kind"])
            chosen = next((kind for kind in usual if kind in fits), fits[0] if len(fits) == 1 else None)
            return None if chosen is None else (tuple(way[: depth + 1]), chosen)
        place = child(place, key, node)
    return None
