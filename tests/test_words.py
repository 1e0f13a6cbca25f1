"""One word names one thing: no two different classes of the package share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "p2pl_async"

# Kinds of two families may share a name, which their modules tell apart.
FAMILIES = [
    {"basics/distributions.py", "link/latency.py"},  # of durations, of latencies
    {"basics/distributions.py", "link/latency.py", "learning/settings.py"},  # and of learning rates: `Constant`
    {"basics/distributions.py", "topology/shapes.py"},  # of durations, of graphs: `Exponential`
]
# A contract has the name of the class that fulfills it.
CONTRACTS = {"Job", "Trainer"}


def places_of(package: Path) -> dict[str, set[str]]:
    """Return the files in which each public class is defined, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(path.relative_to(package).as_posix())
    return found


def shared(package: Path) -> dict[str, set[str]]:
    """Return the names that stand for different things, with their files."""
    return {
        name: files
        for name, files in places_of(package).items()
        if len(files) > 1 and name not in CONTRACTS and files not in FAMILIES
    }


def test_no_two_classes_share_a_name() -> None:
    assert shared(PACKAGE) == {}


def test_a_name_with_two_meanings_is_found_with_its_files(tmp_path: Path) -> None:
    for name in ("air", "link"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "channel.py").write_text("class Channel:\n    pass\n\n\nclass _Channel:\n    pass\n")
    assert shared(tmp_path) == {"Channel": {"air/channel.py", "link/channel.py"}}
