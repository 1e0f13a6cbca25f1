"""Bare values in a scenario that stand for a table: `latency = "20 ms"`, `loss = "5 %"`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from p2pl_async.basics.settings import Settings, kind_of, mistake, nearest


def number_or_kind(value: Any, what: str, example: str, classes: Iterable[type[Settings]]) -> Any:
    """Return `value` if it may be a number; a text without digits was meant as a kind, and misspelled."""
    if not isinstance(value, str) or any(sign.isdigit() for sign in value):
        return value
    kinds = [kind_of(cls) for cls in classes]
    guess = nearest(value, kinds)
    meant = f'did you mean "{guess}"?' if guess else f'write it like "{example}"'
    raise mistake(f"unknown {what}; {meant}  known: {', '.join(kinds)}")
