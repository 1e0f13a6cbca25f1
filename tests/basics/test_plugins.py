"""Classes of a user's own: found, cached, and clear errors when they can't be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pl_async.basics.plugins import PluginError, load_class
from p2pl_async.errors import P2plError
from p2pl_async.learning.models import Model
from p2pl_async.scenario import dump, load_scenario

BASE: Any = Model  # mypy allows no abstract class where a class is wanted

MODEL = """\
from p2pl_async.learning.models import Model

class Mine(Model):
    '''A model of one's own.'''

    width: int = 3

    def build(self, shape, n_classes):
        raise NotImplementedError
"""


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_class_is_loaded_from_a_file_once(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", MODEL)
    first = load_class(f"{path}:Mine", BASE)
    assert issubclass(first, BASE)
    assert load_class(f"{path}:Mine", BASE) is first
    (tmp_path / "sub").mkdir()
    assert load_class(f"{tmp_path}/sub/../mine.py:Mine", BASE) is first


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", MODEL)
    first = load_class(f"{path}:Mine", BASE)
    write(tmp_path / "mine.py", MODEL.replace("3", "4"))
    assert load_class(f"{path}:Mine", BASE).model_fields["width"].default == 4
    assert first.model_fields["width"].default == 3


def test_a_class_is_loaded_from_an_installed_module() -> None:
    assert load_class("p2pl_async.learning.models:Mlp", BASE).__name__ == "Mlp"


@pytest.mark.parametrize(
    ("text", "spec", "says"),
    [
        (MODEL, "missing.py:Mine", "can't read .*missing.py: no such file"),
        (MODEL, "mine.py:Mien", "has no class Mien; did you mean Mine?"),
        (MODEL, "mine.py:", 'must be "module:Class" or "file.py:Class"'),
        (MODEL + "\nOther = 3", "mine.py:Other", "must be a class derived from p2pl_async.learning.models.base.Model"),
        (MODEL + "\nclass Other: pass", "mine.py:Other", "must be a class derived from"),
        (MODEL + "\n1 / 0", "mine.py:Mine", "mine.py, line 11: ZeroDivisionError: division by zero"),
        (MODEL + "\nimport nowhere_to_be_found", "mine.py:Mine", "line 11: ModuleNotFoundError"),
        ("def f(:\n", "mine.py:Mine", "mine.py, line 1: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, text: str, spec: str, says: str) -> None:
    write(tmp_path / "mine.py", text)
    with pytest.raises(PluginError, match=says.replace("?", r"\?")) as caught:
        load_class(f"{tmp_path}/{spec}", BASE)
    assert isinstance(caught.value, P2plError)


def test_a_module_that_is_not_there_is_said_so() -> None:
    with pytest.raises(PluginError, match=r"there is no module nowhere_to_be_found.*did you mean nowhere"):
        load_class("nowhere_to_be_found:Mine", BASE)


def test_a_file_that_raised_is_tried_again(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "1 / 0")
    for _ in range(2):
        with pytest.raises(PluginError, match="ZeroDivisionError"):
            load_class(f"{path}:Mine", BASE)


def test_a_scenario_names_its_own_model_relative_to_itself(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", MODEL)
    text = '[devices]\ncount = 2\n[protocol]\nkind = "p2pl"\n[stop]\nrounds = 1\n'
    text += '[model]\nkind = "mine.py:Mine"\nwidth = 8\n'
    scenario = load_scenario(write(tmp_path / "s.toml", text))
    assert scenario.model.model_dump()["width"] == 8
    assert isinstance(scenario.model, load_class(f"{tmp_path}/mine.py:Mine", BASE))
    (tmp_path / "elsewhere").mkdir()
    assert load_scenario(write(tmp_path / "elsewhere" / "again.toml", dump(scenario))) == scenario
