"""A resolved scenario in a few lines of words: devices, links, protocol, data, and when it stops."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from p2pl_async.basics.units import show_bytes, show_rate, show_seconds
from p2pl_async.results.metrics import words

_NOTHING = ("none", "unlimited", "auto", "default", "0 s", "0 m", "0 B")  # what a default says that switches off
_SHOWN = {"s": show_seconds, "bit/s": show_rate, "B": show_bytes}


def in_words(scenario_text: str) -> list[tuple[str, str]]:
    """Return what a resolved scenario is about, as (name, text); nothing of a text that is none, as one cut off."""
    try:
        tables = tomllib.loads(scenario_text)
        found = {
            "devices": _devices(tables.get("devices", {})),
            "links": _links(tables),
            "protocol": _told(tables.get("protocol", {})),
            "learns": _learning(tables),
            "stops": _stop(tables.get("stop", {})),
        }
    except (tomllib.TOMLDecodeError, TypeError, AttributeError, ValueError):  # no resolved scenario, whatever it is
        return []
    return [(name, text) for name, text in found.items() if text]


def _devices(table: Mapping[str, Any]) -> str:
    compute = table.get("compute") or {}
    parts = [f"{table['count']:,}"] if isinstance(table.get("count"), int) else []
    if compute.get("per_epoch"):
        parts.append(f"a pass over their data takes {_value(compute['per_epoch'])}")
    parts += [f"{key} {compute[key]:g}" for key in ("spread", "jitter") if compute.get(key)]
    groups = table.get("group") or {}
    return ", ".join(parts) + (f"; groups {', '.join(groups)}" if groups else "")


def _links(tables: Mapping[str, Any]) -> str:
    link, topology = tables.get("link") or {}, tables.get("topology") or {}
    parts = [f"topology {_told(topology)}"] if topology else []
    parts += [f"{name} {_told(link[name])}" for name in ("latency", "loss", "outage") if _says(link.get(name))]
    parts += [f"{name} {_value(link[name])}" for name in ("rate", "mtu") if _says(link.get(name))]
    count = len(link.get("override") or ())
    parts += [f"{count} override{'s' * (count != 1)}"] if count else []
    medium = tables.get("medium") or {}
    parts += [f"shared air: {medium['kind']}"] if medium.get("kind", "dedicated") != "dedicated" else []
    parts += [f"{name} {_told(tables[name])}" for name in ("relay", "mobility") if _says(tables.get(name))]
    return "; ".join(parts)


def _learning(tables: Mapping[str, Any]) -> str:
    data = tables.get("data") or {}
    parts = [_told(data[name]) for name in ("dataset", "partition") if data.get(name)]
    return ", ".join([*parts, f"model {_told(tables['model'])}"]) if parts and tables.get("model") else ""


def _stop(table: Mapping[str, Any]) -> str:
    parts = [f"after {_value(table['virtual_time'])}"] if "virtual_time" in table else []
    parts += [f"after {table['rounds']:,} rounds"] if isinstance(table.get("rounds"), int) else []
    for name in ("accuracy", "metric"):
        for of, value in (table.get(name) or {}).items():
            parts.append(f"{words(name)} of {words(of)} at {value if name == 'metric' else f'{100 * value:g} %'}")
    return ", or ".join(parts)


def _says(value: Any) -> bool:
    """Tell whether a value switches something on."""
    kind = value.get("kind", "") if isinstance(value, Mapping) else value
    if kind == "constant":  # of a latency of nothing
        return bool(list(_details(value)))
    return kind not in (None, "static", *_NOTHING)


def _told(table: Mapping[str, Any]) -> str:
    """Return a table as its kind and what it says beside that."""
    details, kind = ", ".join(_details(table)), str(table.get("kind", "")).rpartition("/")[2]
    return f"{kind} ({details})" if details else kind


def _details(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if key in ("kind", "buffers") or not value or value in _NOTHING or isinstance(value, bool):
            continue
        if isinstance(value, Mapping):
            if "kind" in value and value["kind"] not in _NOTHING:
                yield f"{words(key)} {value['kind']}"
        elif isinstance(value, list):
            if not any(isinstance(one, list | Mapping) for one in value):
                yield f"{words(key)} {' x '.join(map(_value, value))}"
        else:
            yield f"{words(key)} {_value(value)}"


def _value(value: Any) -> str:
    """Return a value as people write it: "2 Mbit/s" of "2000000 bit/s"."""
    if isinstance(value, float):
        return f"{value:g}"
    number, _, unit = str(value).partition(" ")
    show = _SHOWN.get(unit)
    try:
        return str(value) if show is None else show(float(number))
    except ValueError:
        return str(value)
