"""A part of a scenario, before it is written."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Part:
    """Tables of a scenario that were read from a file.

    Attributes:
        says: a description of a line or two, for the head of the part.
        make: returns the tables. It is called with two functions: one from an ending in `beside` to the
            name of that file, and one from the path of any file to its path relative to the part.
        beside: ending such as ".edges.txt" -> text of a file to be written beside the part.
        warnings: differences in meaning between the file and the part.
    """

    says: str
    make: Callable[[Callable[[str], str], Callable[[Path], str]], dict[str, Any]]
    beside: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def files(self, name: str, path: Path, out: Path) -> dict[Path, str]:
        """Return the files to write: the part as `out`, and those beside it.

        Args:
            name: the format that was read.
            path: the file that was read.
            out: the part.
        """
        import tomli_w

        def beside(ending: str) -> str:
            return out.stem + ending

        def elsewhere(file: Path) -> str:
            return Path(os.path.relpath(file.resolve(), out.parent.resolve())).as_posix()

        comments = [f"{self.says}", f'Imported from {path.name} ({name}). Use it with  extends = "{out.name}"']
        comments += [f"Warning: {text}" for text in self.warnings]
        wide = [textwrap.fill(text, 110, initial_indent="# ", subsequent_indent="#   ") for text in comments]
        texts = {out: "\n".join(wide) + "\n\n" + tomli_w.dumps(self.make(beside, elsewhere))}
        return {**texts, **{out.with_name(beside(ending)): text for ending, text in self.beside.items()}}
