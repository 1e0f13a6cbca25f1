"""Imports point down: every module of the package against the layers below, and what stays out of quick starts."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "p2pl_async"

# Bottom to top. A part may import those of lower rows, and within a folder its own modules.
LAYERS = [
    ["errors", "clock"],
    ["basics"],
    ["messages", "results", "dynamics"],
    ["link", "topology", "learning", "radio", "hardware", "compression"],
    ["air", "importing", "relay", "trace"],
    ["transport", "learner"],
    ["device"],
    ["protocols"],
    ["scenario"],
    ["experiment"],
    ["testing", "prediction"],
    ["report", "export"],
    ["study"],
    ["cli"],
    ["__main__"],
    [""],  # the package itself: the public names
]
LEVEL = {part: level for level, row in enumerate(LAYERS) for part in row}

# What sees less than all below it.
SEES_ONLY = {
    "protocols": {"device", "messages", "compression", "basics", "errors"},
    "learning": {"basics", "errors"},
    "compression": {"messages", "basics", "errors"},
    "link": {"basics", "errors"},
    "radio": {"basics", "errors"},
    "importing": {"radio", "basics", "errors"},
    "results": {"basics", "errors"},
    "dynamics": {"basics", "errors"},
    "export": {"results", "errors"},
    "report": {"prediction", "results", "scenario", "basics", "errors"},
    "study": {"report", "results", "scenario", "basics", "errors"},
}


def part_of(module: str) -> str:
    """Return the row entry that a module belongs to: "link" of "p2pl_async.link.loss"."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def imports_of(tree: ast.AST, *, lazy: bool = True) -> Iterator[str]:
    """Yield the full names that a module imports; without `lazy`, only those at its top."""
    nodes = ast.walk(tree) if lazy else ast.iter_child_nodes(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package, not dots"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def sources() -> Mapping[str, ast.Module]:
    """Return the syntax tree of every module of the package."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(names[:-1] if names[-1] == "__init__" else names)
        found[module] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def own_imports(tree: ast.AST, *, lazy: bool = True, known: Mapping[str, object] | None = None) -> set[str]:
    """Return the modules of the package, or of `known`, that a module imports."""
    modules = sources() if known is None else known
    return {name for name in imports_of(tree, lazy=lazy) if name in modules}


def complaints(modules: Mapping[str, ast.Module]) -> list[str]:
    """Return what is wrong with the imports, naming both modules."""
    found = []
    for module, tree in modules.items():
        part = part_of(module)
        for other in sorted(own_imports(tree, known=modules)):
            below = part_of(other)
            if below == part:
                continue
            if below == "" and part not in ("cli", "__main__"):
                found.append(f"{module} imports {other}, the public names, which are for users")
            elif LEVEL[below] >= LEVEL[part] and below != "":
                found.append(f"{module} imports {other}, which does not lie below it")
            elif part in SEES_ONLY and below not in SEES_ONLY[part]:
                found.append(f"{module} imports {other}; {part} sees only {', '.join(sorted(SEES_ONLY[part]))}")
    return found


def test_every_module_has_its_place() -> None:
    assert {part_of(module) for module in sources()} == LEVEL.keys()


def test_imports_point_down() -> None:
    assert complaints(sources()) == []


def test_an_import_that_points_up_is_named_with_both_modules() -> None:
    spoiled = {
        **sources(),
        "p2pl_async.link.loss": ast.parse("def f():\n    from p2pl_async.device import Device"),
        "p2pl_async.transport.wire": ast.parse("import p2pl_async.protocols.mixing"),
        "p2pl_async.protocols.p2pl": ast.parse("from p2pl_async import transport"),
    }
    assert complaints(spoiled) == [
        "p2pl_async.link.loss imports p2pl_async.device, which does not lie below it",
        "p2pl_async.protocols.p2pl imports p2pl_async, the public names, which are for users",
        "p2pl_async.protocols.p2pl imports p2pl_async.transport; "
        "protocols sees only basics, compression, device, errors, messages",
        "p2pl_async.transport.wire imports p2pl_async.protocols.mixing, which does not lie below it",
    ]


def circle(modules: Mapping[str, ast.Module]) -> list[str]:
    """Return modules of which each imports the next and the last the first; none if there is no such circle.

    Imports inside functions and under `TYPE_CHECKING` count: a reader follows them too.
    """
    graph = {module: own_imports(tree, known=modules) - {module} for module, tree in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(sources()) == []


def test_a_circle_is_named() -> None:
    spoiled = {
        "p2pl_async.a": ast.parse("if TYPE_CHECKING:\n    from p2pl_async.b import B"),
        "p2pl_async.b": ast.parse("def f():\n    import p2pl_async.a"),
    }
    assert set(circle(spoiled)) == {"p2pl_async.a", "p2pl_async.b"}


def test_only_learning_and_dynamics_know_torch() -> None:
    knowing = {
        module for module, tree in sources().items() if any(name.split(".")[0] == "torch" for name in imports_of(tree))
    }
    assert {part_of(module) for module in knowing} == {"learning", "dynamics"}


@pytest.mark.parametrize(
    "part",
    [
        "link",
        "topology",
        "learning",
        "messages",
        "trace",
        "results",
        "radio",
        "hardware",
        "air",
        "compression",
        "study",
    ],
)
def test_what_decides_has_no_await(part) -> None:
    for module, tree in sources().items():
        if part_of(module) == part:
            asynchronous = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
            assert not asynchronous, module


HEAVY = ("torch", "sklearn", "matplotlib", "pandas", "pyarrow", "networkx", "scipy")


def test_importing_is_light() -> None:
    modules = ("p2pl_async", "p2pl_async.scenario.reading.load", "p2pl_async.cli.main", "p2pl_async.testing")
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    print(module, *[name for name in {HEAVY} if name in sys.modules])
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert tuple(child.stdout.splitlines()) == modules


def test_help_needs_no_library_but_the_command_lines() -> None:
    code = (
        "import sys; from p2pl_async.cli.main import app; app(['--help'], standalone_mode=False); "
        "print(*[name for name in ('numpy', 'trio', 'pydantic', 'rich') if name in sys.modules], file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert child.stderr.split() == []
    assert "Emulate a scenario and its baselines; show and keep results." in child.stdout
    assert "..." not in child.stdout.partition("Commands:")[2]  # each command's line is whole
    said = [line.split()[0] for line in child.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert said[:4] == ["guide", "check", "run", "report"]


CHECK = """
import sys
from p2pl_async.cli.main import app
app(["check", "--quick", "scenarios/quickstart.toml"], standalone_mode=False)
from p2pl_async.basics.settings import Settings
tables, classes = [Settings], []
while tables:
    classes += (found := tables.pop().__subclasses__())
    tables += found
print(*sorted(sys.modules), file=sys.stderr)
print(*(cls.__name__ for cls in classes if cls.__pydantic_complete__), file=sys.stderr)
print(len(set(classes)), file=sys.stderr)
"""


def test_a_quick_check_loads_no_library_that_a_file_can_do_without_and_only_its_own_protocol_and_tables() -> None:
    child = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, cwd=ROOT)
    modules, built, classes = child.stderr.splitlines()
    assert not {*HEAVY, "trio", "rich", "msgpack", "pooch"} & set(modules.split())
    own = {name.removeprefix(f"{PACKAGE}.") for name in modules.split() if name.startswith(PACKAGE)}
    assert not {"device", "transport", "experiment", "report", "study"} & own
    protocols = {name.removeprefix("protocols.") for name in own if name.startswith("protocols.")}
    assert protocols == {
        "averaging", "base", "listening", "max_norm", "mixing", "norm_keys", "norm_neighbors", "norm_supply", "p2pl",
        "silence",
    }  # fmt: skip
    assert {"Scenario", "P2PL", "GilbertElliott"} <= set(built.split())
    assert len(set(built.split())) < int(classes) / 4  # pydantic builds a table when it first reads one


def test_a_run_without_learning_loads_no_torch(tmp_path) -> None:
    (tmp_path / "quiet.py").write_text(
        "from p2pl_async import Protocol\n\n"
        'class Quiet(Protocol):\n    """Says nothing."""\n    kind: str = "quiet"\n    trains = False\n\n'
        "    async def run(self, device):\n        device.finish_round()\n"
    )
    (tmp_path / "s.toml").write_text('devices.count = 3\nprotocol.kind = "quiet.py:Quiet"\nstop.rounds = 1\n')
    code = (
        "import sys; from p2pl_async import load_scenario, run; run(load_scenario(sys.argv[1])); "
        "print(*[name for name in ('torch', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "s.toml"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert child.stdout.split() == []
