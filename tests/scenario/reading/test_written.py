"""The JSON Schema accepts every scenario that is shipped, and refuses spoiled ones; with a validator of its own."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from p2pl_async.scenario.reading.jsonschema import scenario_schema

jsonschema = pytest.importorskip("jsonschema", reason="it comes with the dev extra")

ROOT = Path(__file__).parents[3]
SHIPPED = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in sorted(path for path in (ROOT / "scenarios").rglob("*.toml") if path.parent.name != "studies")
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "p2pl_async" / "guide").glob("*.md"))]
EXAMPLES = {
    f"{path.stem} {name}": text
    for path in PAGES
    for name, text in re.findall(r"<!-- (\S+) -->\n```toml\n(.*?)```", path.read_text("utf-8"), flags=re.DOTALL)
    if not text.startswith("question")  # a study
}
SPOILED: dict[str, Any] = {
    "devices": {"count": "ten"},
    "devises": {"count": 3},
    "stop": 5,
    "link": {"latncy": "5 ms"},
    "topology": {"kind": "rign"},
    "protocol": "p2p",
    "event": [{"at": "5 s"}],
    "seed": -1,
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = scenario_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", [*SHIPPED, *EXAMPLES])
def test_what_is_shipped_is_accepted(validator: Any, name: str) -> None:
    table = tomllib.loads({**SHIPPED, **EXAMPLES}[name])
    assert [error.message for error in validator.iter_errors(table)] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_spoiled_is_refused(validator: Any, name: str) -> None:
    whole = tomllib.loads(SHIPPED[name])
    accepted = []
    for key, value in SPOILED.items():
        table = copy.deepcopy(whole)
        table[key] = (
            {**table.get(key, {}), **value} if isinstance(value, dict) and isinstance(table.get(key), dict) else value
        )
        if validator.is_valid(table):
            accepted.append(key)
    assert accepted == []
