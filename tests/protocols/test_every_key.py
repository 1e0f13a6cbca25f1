"""Every key of `[protocol]` changes a run, or is refused: none is read and ignored."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from helpers.contract_worlds import LOSSLESS, LOSSY, ONLY_ON, outcome, run, settings_under_loss
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from p2pl_async.basics.settings import OneOf, kind_of, marker
from p2pl_async.errors import Deadlock, DeviceFailed
from p2pl_async.protocols import PROTOCOLS, Protocol

OTHERS: dict[str, list[Any]] = {
    "largest": [1e-3],
    "server": [1],
    "fraction": [0.5],
    "compensation": [{"after": 2, "pause": "20 s"}],
    "resync": [2],
    "max_lead": [0],
    "patience": ["300 ms"],
    "beacon": ["300 ms"],
    "timeout": ["300 ms"],
    "period": ["3 s"],
    "u_min": [0.9],
    "mode": [
        {"kind": "barrier", "timeout": "300 ms"},
        {"kind": "cache", "max_age": 1},
        {"kind": "fresh", "wait": "1 s"},
    ],
    "lead_timeout": ["300 ms"],
}
"""Other values of keys whose type doesn't tell which make sense."""

WHERE: dict[str, dict[str, Any]] = {
    "consensus_steps": {"mode": {"kind": "barrier", "timeout": "1 s"}},
    "lead_timeout": {"max_lead": 0},
    "resync": {"delivery": "absolute", "compressor": {"kind": "top-k"}},
}
"""Settings with which a key matters, where the usual ones leave no room for it."""


def others(field: FieldInfo) -> list[Any]:
    """Return values of a key other than its default, as a scenario writes them."""
    default = field.default
    found = marker(field)
    if isinstance(found, OneOf):
        return [{"kind": kind} for kind in found.classes if kind != getattr(default, "kind", None)]
    words = [w for part in (field.annotation, *typing.get_args(field.annotation)) for w in _words(part)]
    if words:
        return [word for word in words if word != default]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [default + 1, default + 2]
    if isinstance(default, float):
        return [default / 2 if default else 0.5, default * 3]
    return [2, 0.5, "1 s"]


def _words(kind: Any) -> list[Any]:
    return list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []


_OUTCOMES: dict[str, object] = {}  # many keys are compared with one usual run


def tried(cls: type[Protocol], topology: str, link: dict[str, Any], settings: dict[str, Any]) -> object:
    """Return what comes of a run, be it the error that ends it."""
    what = repr((cls, topology, link, settings))
    if what not in _OUTCOMES:
        try:
            _OUTCOMES[what] = outcome(run(cls, topology, link, settings=settings))
        except (Deadlock, DeviceFailed) as error:
            _OUTCOMES[what] = str(error)
    return _OUTCOMES[what]


# Devices of `local` begin at their own optimum in these worlds, so that training changes nothing.
CASES = [
    pytest.param(cls, key, id=f"{kind_of(cls)}-{key}")
    for cls in PROTOCOLS
    if kind_of(cls) != "local"
    for key in cls.model_fields
    if key != "kind"
]


@pytest.mark.parametrize(("cls", "key"), CASES)
def test_it_changes_a_run_or_is_refused(cls: type[Protocol], key: str) -> None:
    possible = ONLY_ON.get(kind_of(cls), ["ring", "star"])
    # Where all have as many neighbors, the rules for mixing weights agree.
    topology = "star" if key == "weights" and "star" in possible else possible[0]
    refused = []
    for link in (LOSSY, LOSSLESS):
        base = (settings_under_loss(cls) if link is LOSSY else {}) | WHERE.get(key, {})
        before = tried(cls, topology, link, base)
        for value in OTHERS.get(key, others(cls.model_fields[key])):
            try:
                cls.model_validate({**base, key: value})
            except ValidationError as error:
                refused.append(str(error))
                continue
            if tried(cls, topology, link, {**base, key: value}) != before:
                return
    raise AssertionError(f"no value of {key} changes a run; refused: {refused}")
