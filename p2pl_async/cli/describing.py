"""`p2pl list NAME`: one protocol, loss, medium, ...: its keys with type, unit, default and meaning, and an example."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pl_async.basics.settings import OneOf, Settings, inner_class, kind_of, marker, word_of
from p2pl_async.basics.units import show_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

_EXAMPLES = {
    "path": '"data.csv"',
    "string": '"name"',
    "integer": "1",
    "number": "1.0",
    "array": "[]",
    "boolean": "true",
}


class Kind(NamedTuple):
    """A class that a scenario chooses by its kind.

    Attributes:
        path: where a scenario says so: "link.loss".
        what: its family, as errors call it.
        cls: the class.
    """

    path: str
    what: str
    cls: type[Settings]


def all_kinds() -> list[Kind]:
    """Return everything that a scenario can choose by its kind; a class at the first of its places only."""
    from p2pl_async.scenario.scenario import Scenario

    found: dict[tuple[str, type[Any]], Kind] = {}
    for kind in _kinds(Scenario, "", ()):
        found.setdefault((kind.what, kind.cls), kind)
    return list(found.values())


def _kinds(table: type[Settings], above: str, seen: tuple[type[Any], ...]) -> Iterator[Kind]:
    """Yield every class below a table that is chosen by kind; the table's own, then those of its tables."""
    if table in seen:
        return
    for name, field in table.model_fields.items():
        path = f"{above}.{field.alias or name}".lstrip(".")
        found, inner = marker(field), inner_class(field)
        if isinstance(found, OneOf):
            for cls in found.classes.values():
                yield Kind(path, found.what, cls)
                yield from _kinds(cls, path, (*seen, table))
        elif inner is not None:
            yield from _kinds(inner, path, (*seen, table))


class Key(NamedTuple):
    """A key of a table: its name, type or unit, default ("" if it must be given), and meaning."""

    name: str
    type: str
    default: str
    meaning: str


def keys_of(cls: type[Settings]) -> list[Key]:
    """Return the keys of a class, but its kind."""
    schema = cls.model_json_schema()
    definitions = schema.get("$defs", {})
    found = []
    for name, field in cls.model_fields.items():
        if name == "kind":
            continue
        key = field.alias or name
        part = schema["properties"].get(key, schema["properties"].get(name, {}))
        default = "" if field.is_required() else _toml(part.get("default"))
        units = _units(part)
        if units and isinstance(part.get("default"), int | float):
            value = part["default"]
            default = f'"{show_seconds(value)}"' if units[0] == "s" else f'"{value:g} {units[0]}"'
        elif field.default is None and (word := word_of(field)):
            default = f'"{word}"'
        found.append(Key(key, _type(part, definitions), default, part.get("description") or field.description or ""))
    return found


def _type(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the type of a value in a few words, with its unit by an example."""
    if "$ref" in part:
        part = {**definitions.get(part["$ref"].rpartition("/")[2], {}), **part}
    if "anyOf" in part or "oneOf" in part:
        options = [_type(option, definitions) for option in (*part.get("anyOf", ()), *part.get("oneOf", ()))]
        shown = list(dict.fromkeys(option for option in options if option != "null"))
        alone = {word for option in shown for word in option.split(" or ")}
        tables = [option for option in shown if f'"{_kind_in(option)}"' in alone]
        also = ["a table with one of these as its kind"] if tables else []
        return " or ".join([*(option for option in shown if option not in tables), *also])
    if "const" in part:
        return json.dumps(part["const"])
    if "enum" in part:
        return " or ".join(json.dumps(value) for value in part["enum"])
    if "examples" in part:
        units = _units(part)
        known = f" ({', '.join(units)})" if units else ""
        return f'like "{part["examples"][0]}"{known}'
    if part.get("type") == "object" and "kind" in part.get("properties", {}):
        return f'{{ kind = "{part["properties"]["kind"].get("const", "...")}", ... }}'
    names = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text",
             "array": "list", "object": "table", "null": "null"}  # fmt: skip
    kinds = part.get("type", "value")
    return " or ".join(names.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _kind_in(option: str) -> str:
    """Return the kind of the table that an option of `_type` stands for; "" if it is something else."""
    found = re.fullmatch(r'\{ kind = "([^"]*)", \.\.\. \}', option)
    return found[1] if found else ""


def _units(part: Mapping[str, Any]) -> list[str]:
    """Return the units of a quantity, the one of bare numbers in the program first; none for anything else."""
    found = re.search(r"\(([^()]*)\)\\s\*\$$", part.get("pattern", ""))
    return found[1].split("|") if found else []


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + " }"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def example_of(kind: Kind) -> str:
    """Return a part of a scenario that chooses this kind: with every key that must be given."""
    schema = kind.cls.model_json_schema()
    lines = [f'kind = "{kind_of(kind.cls)}"']
    for key in keys_of(kind.cls):
        if key.default:
            continue
        lines.append(f"{key.name} = {_sample(schema['properties'].get(key.name, {}), schema.get('$defs', {}))}")
    listed = kind.path in ("event", "link.override")
    return "\n".join([f"[[{kind.path}]]" if listed else f"[{kind.path}]", *lines])


def _sample(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return a value of a type, as a scenario writes it."""
    if "$ref" in part:
        part = {**definitions.get(part["$ref"].rpartition("/")[2], {}), **part}
    for option in (*part.get("anyOf", ()), *part.get("oneOf", ())):
        return _sample(option, definitions)
    if "examples" in part:
        return json.dumps(part["examples"][0], ensure_ascii=False)
    if "enum" in part:
        return json.dumps(part["enum"][0])
    if part.get("format") == "path":
        return _EXAMPLES["path"]
    least = part.get("minimum", part.get("exclusiveMinimum"))
    if least is not None and part.get("type") in ("integer", "number"):
        return json.dumps(max(least + ("exclusiveMinimum" in part), 1))
    return _EXAMPLES.get(str(part.get("type")), "{}")


def description(kind: Kind) -> Iterator[RenderableType]:
    """Yield what to print of a kind."""
    from rich.padding import Padding
    from rich.text import Text

    yield Text.assemble((kind_of(kind.cls), "bold"), f": {kind.what}, {kind.path} of a scenario\n")
    for text in (inspect.cleandoc(kind.cls.__doc__ or ""), source_of(kind.cls)):
        if text:
            yield Text(re.sub(r"(?<!\n)\n(?![\n -])", " ", text) + "\n")  # the terminal breaks lines
    yield Text()
    for key in keys_of(kind.cls):
        default = f" = {key.default}" if key.default else "  must be given"
        default = "  none by default" if key.default == "none" else default  # which no scenario can write
        yield Padding(Text.assemble((key.name, "bold"), default), 0)
        for text in filter(None, (key.meaning, f"value: {key.type}")):
            yield Padding(Text(text), (0, 0, 0, 4))
    yield Text("\n" + example_of(kind) + "\n")


def source_of(cls: type[Any]) -> str:
    """Return where a kind comes from, as its module says; "" if it says so itself, or nothing does."""
    if "Source:" in (cls.__doc__ or ""):
        return ""
    found = re.search(r"^Source:.*?(?=\n\n|\Z)", sys.modules[cls.__module__].__doc__ or "", re.MULTILINE | re.DOTALL)
    return found[0] if found and kind_of(cls) and cls.__module__.startswith("p2pl_async.protocols.") else ""
