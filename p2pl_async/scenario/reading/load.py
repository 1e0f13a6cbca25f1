"""From a scenario file to a `Scenario`, and back.

TOML -> shorthands written out -> extends -> --set -> presets -> pydantic -> Scenario
                                                                    |
                                          every mistake -> Problem -+-> ScenarioError
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from p2pl_async.basics.limits import MOST_EXTENDED, MOST_NESTED, MOST_SCENARIO_BYTES
from p2pl_async.basics.settings import mistakes, nearest
from p2pl_async.errors import Problem, ScenarioError
from p2pl_async.scenario.reading.plain import Table, beyond, merge, toml_value, without_none
from p2pl_async.scenario.reading.presets import LINK_PRESETS, SCENARIO_PRESETS
from p2pl_async.scenario.reading.problems import problems_of
from p2pl_async.scenario.reading.schema_walk import Keys, expand, inside, over, path_of, unset_kind
from p2pl_async.scenario.scenario import Scenario, check_tables
from p2pl_async.scenario.tables import LinkTableSettings


class Loaded(NamedTuple):
    """A scenario, and where its values come from."""

    scenario: Scenario
    origins: dict[str, str]  # "link.loss.p" -> "" (the file itself), "preset NAME", a file it extends, "--set KEY"


def load_scenario(path: str | os.PathLike[str], overrides: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """Return the scenario that a TOML file describes.

    A class of the user's own that the file names is loaded, which runs that file's code;
    nothing else in a scenario can run code.

    Args:
        path: the file; relative paths in it are relative to its folder.
        overrides: "key.path=value" each, with a TOML value or a bare text; applied in order.
            Relative paths in them are relative to the working directory.
        seed: takes the place of the scenario's seed.

    Raises:
        ScenarioError: with everything that is wrong in the file.
    """
    return read_scenario(path, overrides, seed).scenario


def read_scenario(path: str | os.PathLike[str], overrides: Sequence[str] = (), seed: int | None = None) -> Loaded:
    """Return what `load_scenario` does, and who set which value."""
    if isinstance(overrides, str | Mapping):
        said = [overrides] if isinstance(overrides, str) else [f"{key}={value}" for key, value in overrides.items()]
        written = ", ".join(f'"{text}"' for text in said)
        raise TypeError(f"overrides={overrides!r} must be a list; write [{written}]")
    texts = overrides if seed is None else [*overrides, f"seed={seed}"]
    return finish(changed(read_draft(path), [change_of(text, str(path)) for text in texts]))


class Draft(NamedTuple):
    """A scenario file as it was read, before presets and checks: what its variants start from."""

    source: str  # the file, as errors name it
    raw: Table
    short: frozenset[Keys]  # keys of what was written as a shorthand
    origins: Mapping[str, str]  # as in `Loaded`


class NewValue(NamedTuple):
    """A value that takes the place of one in a draft."""

    keys: Keys
    value: Any
    rule: str  # its name in errors and origins: "--set link.loss"
    folder: Path  # of relative paths in the value


def read_draft(path: str | os.PathLike[str]) -> Draft:
    """Return the table of a scenario file, merged over those that it extends.

    Raises:
        ScenarioError: if it, or one that it extends, can't be read.
    """
    short: set[Keys] = set()
    origins: dict[str, str] = {}
    raw = _read(Path(path), str(path), short, origins)
    raw.setdefault("name", re.sub(r"[^\w .+-]", "_", Path(path).stem).lstrip(" .+-") or "scenario")
    return Draft(str(path), raw, frozenset(short), origins)


def change_of(text: str, source: str) -> NewValue:
    """Return the change that "key.path=value" asks for.

    Raises:
        ScenarioError: if the text is no such thing; it names `source`.
    """
    name, equals, value = text.partition("=")
    keys = keys_of(name)
    if not equals or not keys:
        raise ScenarioError(source, [Problem(f"--set {text[:60]}", 'must be like "--set devices.count=50"')])
    return NewValue(keys, toml_value(value.strip()), f"--set {name}", Path.cwd())


def keys_of(path: str) -> Keys:
    """Return "link.override[2].loss" as keys; none if it is no path of a scenario."""
    parts = path.strip().replace("[", ".").replace("]", "").split(".")
    return () if "" in parts or len(parts) > MOST_NESTED else tuple(int(key) if key.isdigit() else key for key in parts)


def changed(draft: Draft, changes: Iterable[NewValue]) -> Draft:
    """Return a draft with each change applied, in order; the one given stays as it is.

    Raises:
        ScenarioError: if a change can't be applied.
    """
    raw, short, origins = draft.raw, set(draft.short), dict(draft.origins)
    for keys, value, rule, folder in changes:
        table = raw
        missing = unset_kind(Scenario, raw, keys)
        if missing is not None:
            table = _put(table, (*missing[0], "kind"), missing[1], draft.source, rule, origins)
        if wrong := beyond(value):
            raise ScenarioError(draft.source, [Problem(rule, wrong)])
        table = _put(table, keys, value, draft.source, rule, origins)
        untouched = {known for known in short if known != keys[: len(known)] and keys != known[: len(keys)]}
        short = set()
        raw = expand(Scenario, table, folder, short)  # which takes what is written out by now for no shorthand
        short |= untouched
    return Draft(draft.source, raw, frozenset(short), origins)


def finish(draft: Draft) -> Loaded:
    """Return the scenario that a draft describes.

    Raises:
        ScenarioError: with everything that is wrong in it.
    """
    raw, origins = dict(draft.raw), dict(draft.origins)
    found = _expand_presets(raw, origins)
    scenario, more = _check(raw, set(draft.short))
    if scenario is None or found:
        raise ScenarioError(draft.source, [*found, *more])
    return Loaded(scenario, origins)


def dump(scenario: Scenario) -> str:
    """Return a scenario as TOML with every default written out; loading it gives an equal one."""
    import tomli_w

    table = without_none(scenario.model_dump(mode="json", by_alias=True))
    head = (
        f"# {scenario.name}, seed {scenario.seed}: every value resolved. `p2pl run` on this file repeats the run.\n\n"
    )
    return head + tomli_w.dumps(table)


def _read(path: Path, source: str, short: set[Keys], origins: dict[str, str], above: tuple[Path, ...] = ()) -> Table:
    """Return the table of a file, merged over those that it extends."""
    path = Path(os.path.abspath(path))
    if len(above) > MOST_EXTENDED:
        text = f"must not lead over more than {MOST_EXTENDED} files; it goes on from {path.name}"
        raise ScenarioError(source, [Problem("extends", text)])
    where = f"{path.name}: " if above else ""
    raw = expand(Scenario, read_toml(path, source, where), path.parent, short)
    base: Table = {}
    if "extends" in raw:
        base = _base(raw.pop("extends"), path, source, short, origins, above)
        base.pop("name", None)  # a file that extends another is a scenario of its own
    return over(Scenario, base, raw, path.name if above else "", origins)


def _base(
    extends: Any, path: Path, source: str, short: set[Keys], origins: dict[str, str], above: tuple[Path, ...]
) -> Table:
    """Return the table of the file, or preset, that the file at `path` extends."""
    key = f"{path.name}: extends" if above else "extends"
    if not isinstance(extends, str):
        raise ScenarioError(source, [Problem(key, 'must be a file such as "base.toml"', extends)])
    if extends in SCENARIO_PRESETS:
        table = expand(Scenario, SCENARIO_PRESETS[extends].table, path.parent, short)
        return dict(merge({}, table, f"preset {extends}", origins))
    parent = Path(os.path.abspath(path.parent / Path(extends).expanduser()))
    if parent in (path, *above):
        raise ScenarioError(source, [Problem(key, "must not lead back to the same file", extends)])
    if not parent.is_file():
        text = f"no such file: {parent}{_near_file(parent)}; presets: {', '.join(SCENARIO_PRESETS)}"
        raise ScenarioError(source, [Problem(key, text, extends)])
    return _read(parent, source, short, origins, (path, *above))


def read_toml(path: Path, source: str | None = None, where: str = "") -> Table:
    """Return the table in a file; a ScenarioError names `source`, by default the file, and begins with `where`."""
    source = str(path) if source is None else source
    try:
        with path.open("rb") as file:
            content = file.read(MOST_SCENARIO_BYTES + 1)
        if len(content) > MOST_SCENARIO_BYTES:
            text = f"is a file of more than {MOST_SCENARIO_BYTES} bytes; move long lists into CSV files"
            raise ScenarioError(source, [Problem(where or str(path), text)])
        # As text files are opened: a line ends with \n, whatever the system that wrote it.
        table = tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
        if wrong := beyond(table):
            raise ScenarioError(source, [Problem(where or str(path), wrong)])
        return table
    except RecursionError:
        problem = Problem(where or str(path), f"has tables or lists nested more than {MOST_NESTED} deep")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = Problem(f"{where}line {line}", "must be UTF-8 text; save the file with that encoding")
    except tomllib.TOMLDecodeError as error:
        match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        text, line_number, column = match.groups() if match else (str(error), None, None)
        place = f"line {line_number}, column {column}" if line_number else "end of file"
        twice = re.search(r"\((?:'[^']*',? ?)+\)", text)  # a table's name, as Python writes it
        if twice:
            text = text.replace(twice[0], f"[{'.'.join(re.findall(chr(39) + '([^' + chr(39) + ']*)', twice[0])[::2])}]")
        hint = "; a text must be in quotes" if text == "Invalid value" else ""
        written = content.decode("utf-8", "replace").splitlines()[int(line_number) - 1] if line_number else ""
        if comma := re.search(r"=\s*([-+]?\d+),(\d+)\s*(?:#.*)?$", written):
            hint = f"; a decimal comma must be a point, {comma[1]}.{comma[2]}"
        problem = Problem(where + place, f"not valid TOML: {text[0].lower()}{text[1:]}{hint}")
    except ValueError:  # Python reads 4,300 digits
        problem = Problem(where or str(path), "has a whole number of more than 64 bits")
    except FileNotFoundError:
        problem = Problem(str(path), f"no such file{_near_file(path)}")
    except OSError as error:
        problem = Problem(str(path), f"can't be read: {(error.strerror or str(error)).lower()}")
    raise ScenarioError(source, [problem])


def _near_file(path: Path) -> str:
    """Return a hint at a file beside `path` with almost its name."""
    try:
        guess = nearest(path.name, [item.name for item in path.parent.iterdir()])
    except OSError:
        return f"; there is no folder {path.parent}"
    return f'; did you mean "{path.parent / guess}"?' if guess else ""


def _put(table: Table, keys: Keys, value: Any, source: str, rule: str, origins: dict[str, str]) -> Table:
    layer = value
    node: Any = table
    steps: list[str | int] = []  # the keys, as indices where they go into a list
    for key in keys:
        if not isinstance(node, list):
            steps.append(str(key))
        elif isinstance(key, int) and key < len(node):
            steps.append(key)
        else:
            text = f"there is no such item; {path_of(steps)} has {len(node)}, counted from 0"
            raise ScenarioError(source, [Problem(rule, text)])
        node = inside(node, steps[-1])
    for step in reversed(steps):
        layer = {step: layer}
    return over(Scenario, table, layer, rule, origins)


def _expand_presets(raw: Table, origins: dict[str, str]) -> list[Problem]:
    """Put the tables of link presets under what the scenario says; changes `raw`, returns problems."""
    found: list[Problem] = []
    if isinstance(raw.get("air"), Mapping):
        raw["air"] = {
            name: _under_air(air, f"air.{name}.", origins, found) if isinstance(air, Mapping) else air
            for name, air in raw["air"].items()
        }
    raw.update(_under_air(raw, "", origins, found))
    link = raw.get("link")
    if not isinstance(link, Mapping):
        return found
    overrides = link.get("override")
    if isinstance(overrides, list):
        layers = [
            _under_preset(item, f"link.override[{i}]", origins, found) if isinstance(item, Mapping) else item
            for i, item in enumerate(overrides)
        ]
        raw["link"] = {**link, "override": layers}
    return found


def _under_air(air: Mapping[str, Any], path: str, origins: dict[str, str], found: list[Problem]) -> Table:
    """Return a table with `link` and `medium`, and under both those of the preset that its link names."""
    link, medium = air.get("link"), air.get("medium", {})
    if not isinstance(link, Mapping):
        return dict(air)
    result, name = dict(air), link.get("preset")
    if isinstance(name, str) and name in LINK_PRESETS and isinstance(medium, Mapping):
        shared = LINK_PRESETS[name].medium
        if medium.get("kind", shared["kind"]) == shared["kind"]:
            result["medium"] = _under(shared, f"{path}medium", name, medium, origins)
    result["link"] = _under_preset(link, f"{path}link", origins, found)
    return result


def _under_preset(table: Mapping[str, Any], path: str, origins: dict[str, str], found: list[Problem]) -> Table:
    said = {key: value for key, value in table.items() if key != "preset"}
    if "preset" not in table:
        return said
    name = table["preset"]
    origins.pop(f"{path}.preset", None)
    if not isinstance(name, str) or name not in LINK_PRESETS:
        guess = nearest(str(name), LINK_PRESETS)
        hint = f'; did you mean "{guess}"?' if guess else ";"
        found.append(Problem(f"{path}.preset", f"unknown preset{hint}  known: {', '.join(LINK_PRESETS)}", name))
        return said
    preset = expand(LinkTableSettings, LINK_PRESETS[name].link, Path("/"), set())
    return _under(preset, path, name, said, origins)


def _under(preset: Table, path: str, name: str, said: Mapping[str, Any], origins: dict[str, str]) -> Table:
    """Return the table at `path` of a preset, with what the scenario says on top."""
    rules: dict[str, str] = {}
    result = merge(merge({}, preset, f"preset {name}", rules, path), said, "said", rules, path)
    origins.update({key: rule for key, rule in rules.items() if rule != "said"})
    return dict(result)


def _check(raw: Table, short: set[Keys]) -> tuple[Scenario | None, list[Problem]]:
    """Return the scenario, or every problem in its table."""
    try:
        return Scenario.model_validate(raw), []
    except ValidationError as error:
        found = problems_of(Scenario, error, raw, short)
        bad = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    # With a wrong table, pydantic didn't get to what must fit between the right ones.
    good: Table = {}
    for name, field in Scenario.model_fields.items():
        if name not in bad and name in raw:
            good[name] = TypeAdapter(field.rebuild_annotation()).validate_python(raw[name])
        elif name not in bad and not field.is_required():
            good[name] = field.get_default(call_default_factory=True)
    known = {problem.path for problem in found}
    more = problems_of(Scenario, mistakes("scenario", check_tables(good)), raw, short)
    return None, found + [problem for problem in more if problem.path not in known]
