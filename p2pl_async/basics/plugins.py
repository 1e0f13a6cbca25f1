"""Users' own classes, named in a scenario as `module:Class` or `/path/file.py:Class`.

Loading a class runs the code of its file, with all rights of the process. A scenario can run no other
code, so read the files that it names before you run it. A file imports those beside it by their names, before
installed modules. They are modules of that folder alone: `sys.path` doesn't change, and a `utils.py` beside another
scenario is another module.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from p2pl_async.basics.settings import nearest
from p2pl_async.errors import P2plError

T = TypeVar("T")

_PREFIX = "p2pl_async_user_"
_BESIDE: dict[str, dict[Path, str]] = {}  # module -> the files beside it that it imports, and their modules


class PluginError(P2plError, ValueError):
    """A class that a scenario names can't be loaded."""


def door(base: type[T]) -> Callable[[str], type[T]]:
    """Return what loads a user's class derived from `base`: the `outside` of a `OneOf`."""
    return lambda spec: load_class(spec, base)


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
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        at = f", line {inspect.getsourcelines(found)[1]}" if where.endswith(".py") else ""
        raise PluginError(f"{where}{at}: {name} must define {', '.join(missing)}")
    return found


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    try:
        code = path.read_bytes()
    except OSError as error:
        raise PluginError(f"can't read {path}: {(error.strerror or str(error)).lower()}") from error
    # The module's name is made from path and content, so the import system serves as the cache.
    name = _name(path, code)
    if name in sys.modules and _is_current(name, set()):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    beside = _BESIDE[name] = {}
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(path.parent, beside)}
    sys.modules[name] = module  # set before running it, as dataclasses and pydantic look up their module
    try:
        # Compiled from the bytes that were hashed; the loader would take a stale .pyc for an edit within a second.
        exec(compile(code, str(path), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception) or isinstance(error, PluginError):  # the latter of a file beside it
            raise
        raise _raised(path, error) from error
    return module


def _name(path: Path, code: bytes) -> str:
    return f"{_PREFIX}{hashlib.sha256(str(path).encode() + b'|' + code).hexdigest()[:16]}"


def _is_current(name: str, seen: set[str]) -> bool:
    """Tell whether no file has changed that a module imports from beside it, or that those import."""
    if name in seen:
        return True
    seen.add(name)
    beside = _BESIDE.get(name, {})
    return all(_name_of(path) == was and _is_current(was, seen) for path, was in beside.items())


def _name_of(path: Path) -> str:
    """Return the name of the module that a file would be now; "" if it is gone."""
    try:
        return _name(path, path.read_bytes())
    except OSError:
        return ""


def _importer(folder: Path, beside: dict[Path, str]) -> Callable[..., ModuleType]:
    """Return the `__import__` of a user's file: files in its folder come first, and are noted in `beside`."""

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        path = folder / f"{name}.py"
        if level or not path.is_file():
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = _from_file(path)
        beside[path] = module.__name__
        return module

    return import_


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
