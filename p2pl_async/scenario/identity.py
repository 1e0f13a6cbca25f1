"""What makes two scenarios the same: digests of their values, and of the files that they name."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from p2pl_async.scenario.scenario import Scenario


def package_version() -> str:
    """Return the version of this package; "unknown" where it isn't installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("p2pl-async")
    except PackageNotFoundError:
        return "unknown"


def digests(scenario: Scenario, exclude: Collection[str] = ("seed", "name")) -> tuple[str, dict[str, str]]:
    """Return the digest of a scenario's values, and those of the files that it names.

    A file counts by its content, wherever it lies: a study that is moved is still done. A value that is its key's
    default counts too. Leaving those out would let a new key change no digest, but then neither would a default that
    changes, which changes the result; from one release to the next all is run again anyway, for their versions differ.

    Args:
        scenario: the scenario.
        exclude: tables and keys that don't count.
    """
    files: dict[str, str] = {}
    table = scenario.model_dump(mode="json", by_alias=True, exclude=set(exclude))
    text = json.dumps(_without_places(table, files), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20], files


def _without_places(value: Any, files: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(item, files) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item, files) for item in value]
    if isinstance(value, str) and ("/" in value or ":" in value or "\\" in value):
        name, digest = _file_named(value)
        if digest:
            files[name.partition(":")[0]] = digest
            return name
    return value


def _file_named(value: str) -> tuple[str, str]:
    """Return what a value says without the folder of the file that it names, and that file's digest; ("", "") if none.

    Files are: "/path/file.py:Class", the module of "package.module:Class", and "/path/data.csv".
    """
    where, colon, name = value.rpartition(":")
    if colon and name.isidentifier():
        if where.endswith(".py"):
            return f"{Path(where).name}:{name}", _hash(Path(where))
        try:
            spec = importlib.util.find_spec(where)
        except (ImportError, ValueError):
            return "", ""
        origin = spec.origin if spec is not None else None
        return (value, _hash(Path(origin))) if origin and Path(origin).is_file() else ("", "")
    path = Path(value)
    return (path.name, _hash(path)) if path.is_absolute() and path.is_file() else ("", "")


def _hash(path: Path) -> str:
    found = path.stat()
    return _hash_of(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=10_000)
def _hash_of(path: Path, changed_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:20]
