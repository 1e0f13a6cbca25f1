"""Users' own classes, named in a scenario as `module:Class` or `/path/file.py:Class`.

Loading a class runs the code of its file, with all rights of the process. A scenario can run no other
code, so read the files that it names before you run it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from p2pl_async.basics.settings import nearest
from p2pl_async.errors import P2plError

T = TypeVar("T")

_PREFIX = "p2pl_async_user_"


class PluginError(P2plError, ValueError):
    """A class that a scenario names can't be loaded."""


def load_class(spec: str, base: type[T]) -> type[T]:
    """Return the class that `spec` names; runs the code of its module.

    Args:
        spec: `package.module:Class`, or `file.py:Class` with a path that is absolute or
            relative to the working directory (a scenario's paths are absolute by then).
        base: what the class must derive from.

    Returns:
        The same class object each time, as long as the file's content doesn't change.

    Raises:
        PluginError: if there is no such file, module or class, if its code raises, or if the
            class doesn't derive from `base`.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise PluginError('must be "module:Class" or "file.py:Class"')
    module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
        guess = nearest(name, classes)
        raise PluginError(f"{where} has no class {name}" + (f"; did you mean {guess}?" if guess else ""))
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PluginError(f"{name} in {where} must be a class derived from {base.__module__}.{base.__name__}")
    return found


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    try:
        code = path.read_bytes()
    except OSError as error:
        raise PluginError(f"can't read {path}: {(error.strerror or str(error)).lower()}") from error
    # The module's name is made from path and content, so the import system serves as the cache.
    name = f"{_PREFIX}{hashlib.sha256(str(path).encode() + b'|' + code).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # set before running it, as dataclasses and pydantic look up their module
    try:
        # Compiled from the bytes that were hashed; the loader would take a stale .pyc for an edit within a second.
        exec(compile(code, str(path), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        raise _raised(path, error) from error
    return module


def line_of_plugin(error: BaseException) -> str:
    """Return the innermost line of an error's traceback that is in a file which a scenario names; "" if none is."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith(_PREFIX):
            place = f"{frame.f_code.co_filename}, line {line}"
    return place


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(f"there is no module {name}; is it installed, or did you mean {name}.py?") from error
        raise _raised(name, error) from error
    except Exception as error:
        raise _raised(name, error) from error


def _raised(where: object, error: Exception) -> PluginError:
    """Return the error of a module whose own code raised, with the line that did."""
    if isinstance(error, SyntaxError):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(where)), None)
        line = line or frames[-1].lineno
    return PluginError(f"{where}, line {line}: {type(error).__name__}: {error}")
