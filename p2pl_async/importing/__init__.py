"""Parts of scenarios from other people's files: `p2pl import mahimahi|k7|netem|ns2|bonnmotion FILE -o part.toml`.

A part is an ordinary TOML file that a scenario extends; files that it needs lie beside it. A
difference in meaning between the source and the part is a warning, and a comment in the part.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2pl_async.basics.settings import nearest
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.importing.measured import k7, mahimahi
from p2pl_async.importing.movement import bonnmotion, ns2
from p2pl_async.importing.netem import netem
from p2pl_async.importing.part import Part

FORMATS: dict[str, Callable[[Path], Part]] = {
    "mahimahi": mahimahi,
    "k7": k7,
    "netem": netem,
    "ns2": ns2,
    "bonnmotion": bonnmotion,
}


def import_file(name: str, path: Path, out: Path, *, force: bool = False) -> list[str]:
    """Write the content of a file as a part of a scenario, and files that the part needs beside it.

    Args:
        name: one of `FORMATS`.
        path: the file.
        out: the TOML file to write.
        force: overwrite existing files.

    Returns:
        Warnings: differences in meaning between the file and the part.

    Raises:
        ScenarioError: if the file can't be read or understood, or `out` exists already.
    """
    if name not in FORMATS:
        guess = nearest(name, FORMATS)
        hint = f'did you mean "{guess}"?  ' if guess else ""
        raise ScenarioError("p2pl import", [Problem("format", f"{hint}known: {', '.join(FORMATS)}", name)])
    try:
        part = FORMATS[name](path)
        files = part.files(name, path, out)
        there = [str(file) for file in files if file.exists()]
        if there and not force:
            raise ScenarioError("p2pl import", [Problem("--out", f"{', '.join(there)} exists already; add --force")])
        out.parent.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except ValueError as error:
        raise ScenarioError("p2pl import", [Problem(name, str(error))]) from error
    except OSError as error:
        raise ScenarioError("p2pl import", [Problem(name, f"{error.filename}: {error.strerror}")]) from error
    return part.warnings
