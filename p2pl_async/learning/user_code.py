"""Calls of users' own code: what it raises becomes an error that names its file and line."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pl_async.errors import P2plError, Problem, ScenarioError

_LIBRARIES = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))


@contextmanager
def user_code(path: str, method: Callable[..., object], expected: str) -> Iterator[None]:
    """Turn what the code in the block raises into a ScenarioError: what was expected, where, and what it raised.

    Args:
        path: the key of the scenario that names the code.
        method: of the user's object; its place is named where the error has no line of the user's.
        expected: what the code must do, such as "build(shape, n_classes) must return a torch.nn.Module".

    Raises:
        ScenarioError: for any exception but a `P2plError`, which passes.
    """
    try:
        yield
    except P2plError:
        raise
    except Exception as error:
        raise mistake(path, method, f"{expected}; {_place(error, method)}: {_what(error)}") from error


def mistake(path: str, method: Callable[..., object], text: str) -> ScenarioError:
    """Return the error of a user's object, such as a model, that breaks its contract."""
    return ScenarioError(
        path.split(".", 1)[0], [Problem(path, text, getattr(getattr(method, "__self__", None), "kind", None))]
    )


def source(method: Callable[..., object]) -> str:
    """Return the file and line where a method begins."""
    code: Any = getattr(method, "__code__")  # noqa: B009 -- a bound method has that of its function
    return f"{code.co_filename}, line {code.co_firstlineno}"


def _place(error: Exception, method: Callable[..., object]) -> str:
    """Return the innermost line of an error that is neither this package's nor a library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", *_LIBRARIES)) and "site-packages" not in frame.filename:
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return source(method)


def _what(error: Exception) -> str:
    """Return an error's type and text; of an assertion without a text, its line."""
    text = str(error)
    if not text and isinstance(error, AssertionError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
