"""Protocols: one algorithm per file. A new file in this folder joins by itself.

Every concrete `Protocol` with a default `kind` that a module here defines can be chosen in a
scenario's `[protocol]` table; one of a user's own is named `module:Class` or `file.py:Class`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Annotated

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf
from p2pl_async.protocols.base import Protocol


def _find() -> list[type[Protocol]]:
    found = []
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Protocol) and not inspect.isabstract(cls) and cls.__module__ == module.__name__:
                found.append(cls)
    return found


PROTOCOLS = tuple(_find())
"""The protocols that ship with the package."""

AnyProtocol = Annotated[Protocol, OneOf("protocol", *PROTOCOLS, outside=door(Protocol))]

__all__ = ["PROTOCOLS", "AnyProtocol", "Protocol"]
