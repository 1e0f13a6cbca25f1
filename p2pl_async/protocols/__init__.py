"""Protocols: one algorithm per file. A new file in this folder joins by itself.

Every concrete `Protocol` with a default `kind` that a module here defines can be chosen in a
scenario's `[protocol]` table; one of a user's own is named `module:Class` or `file.py:Class`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from p2pl_async.basics.plugins import door
from p2pl_async.basics.settings import OneOf, kind_of
from p2pl_async.protocols.base import Protocol

if TYPE_CHECKING:
    PROTOCOLS: tuple[type[Protocol], ...]


class _Shipped(Mapping[str, type[Protocol]]):
    """The protocols of this folder by kind.

    A scenario that chooses one needs its file alone: loading all of them took a tenth of `p2pl check --quick`. It is
    the file with the name of the kind, or else any of them.
    """

    def __init__(self) -> None:
        self._modules = [info.name for info in pkgutil.iter_modules(__path__)]

    def __getitem__(self, kind: str) -> type[Protocol]:
        name = kind.replace("-", "_")
        found = self._in(name) if name in self._modules else {}
        return found[kind] if kind in found else self._all[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> dict[str, type[Protocol]]:
        return {kind: cls for name in self._modules for kind, cls in self._in(name).items()}

    def _in(self, name: str) -> dict[str, type[Protocol]]:
        """Return the protocols that a module of this folder defines, by kind."""
        module = importlib.import_module(f"{__name__}.{name}")
        return {
            kind_of(cls): cls
            for _, cls in inspect.getmembers(module, inspect.isclass)
            if issubclass(cls, Protocol) and not inspect.isabstract(cls) and cls.__module__ == module.__name__
        }


_SHIPPED = _Shipped()

AnyProtocol = Annotated[Protocol, OneOf("protocol", found_by=_SHIPPED, outside=door(Protocol))]

__all__ = ["PROTOCOLS", "AnyProtocol", "Protocol"]


def __getattr__(name: str) -> Any:
    """Return `PROTOCOLS`, all that ship with the package, which loads them."""
    if name == "PROTOCOLS":
        return tuple(_SHIPPED.values())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
