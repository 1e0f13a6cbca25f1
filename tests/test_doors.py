"""Every door for a class of one's own: it opens, and a mistake behind it is answered with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pl_async import Scenario, load_scenario, run
from p2pl_async.basics.settings import OneOf
from p2pl_async.cli.main import app

SCENARIO = """
devices.count = 3
topology = "complete"
link.latency = "5 ms"
protocol = { kind = "choco", compressor = { kind = "top-k", sparsity = 0.5 } }
model = { kind = "mlp", hidden = [4] }
data.train_samples = 90
train.batch_size = 30
evaluate.samples = 30
stop.rounds = 2
"""

# Door -> (key, base, the method that is asked, with a body that works)
DOORS = {
    "protocol": (
        "protocol", "Protocol", "async def run(self, device):", "device.finish_round(device.initial_params())",
    ),
    "model": (
        "model", "Model", "def build(self, shape, n_classes):", "return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))",
    ),
    "data": ("data.dataset", "DataSource", "def load(self):", "return Dataset('d', X, Y, X, Y, 10)"),
    "partition": (
        "data.partition", "Partition", "def divide(self, labels, n_devices, random):",
        "return np.array_split(np.arange(len(labels)), n_devices)",
    ),
    "training loss": ("train.loss", "TrainingLoss", "def of_each(self, outputs, y):", "return outputs.square().sum(1)"),
    "metric": ("evaluate.metrics", "Score", "def of(self, outputs, y, weights):", "return float(weights.sum())"),
    "loss": ("link.loss", "LossModel", "def make(self, seed, src, dst):", "return Coin()"),
    "latency": ("link.latency", "Latency", "def process(self, generator):", "return lambda at: 0.01"),
    "topology": ("topology", "TopologySettings", "def make(self, n, random):", "return nx.path_graph(n)"),
    "compressor": (
        "protocol.compressor", "Compressor", "def compress(self, v, layers, random):", "return Dense(v.copy())",
    ),
}  # fmt: skip
HEAD = """import networkx as nx, numpy as np
from p2pl_async import *
from p2pl_async.compression import Dense
from torch import nn
X, Y = np.random.default_rng(0).random((90, 8, 8)), np.arange(90) %% 10
class Coin(PacketLoss):
    def fate(self, uniform, at):
        return "loss" if uniform < 0.3 else ""
class Mine(%s):
    quality = lambda self, layers: 1.0
    models_per_message = property(lambda self: 1.0)
    %s
        %s
"""  # the body is line 13


def write(folder: Path, door: str, body: str | None = None) -> Path:
    key, base, method, works = DOORS[door]
    (folder / "mine.py").write_text(HEAD % (base, method, works if body is None else body))
    path = folder / "s.toml"
    value = '["mine.py:Mine"]' if door == "metric" else '"mine.py:Mine"'
    if door == "compressor":
        path.write_text(SCENARIO.replace('{ kind = "top-k", sparsity = 0.5 }', value))
    else:
        kept = [line for line in SCENARIO.splitlines() if not line.startswith((f"{key} ", f"{key}."))]
        path.write_text("\n".join([*kept, f"{key} = {value}"]))
    return path


@pytest.mark.parametrize("door", DOORS)
def test_a_class_of_ones_own_is_used(door: str, tmp_path: Path) -> None:
    found = run(load_scenario(write(tmp_path, door)))
    assert found.summary["status"] == "complete"
    if door == "loss":
        assert found.summary["messages"]["lost"]["loss"] > 0
    if door == "topology":
        assert len(found.links) == 4
    if door == "metric":
        assert found.summary["scores"] == {"Mine": {"min": 1.0, "mean": 1.0, "max": 1.0}}
    if door == "latency":
        assert found.links["mean_delay_s"].tolist() == pytest.approx([0.01] * 6)


@pytest.mark.parametrize("door", DOORS)
def test_what_it_raises_names_the_line(door: str, tmp_path: Path) -> None:
    said = answer(write(tmp_path, door, 'raise ValueError("oops")'))
    assert "oops" in said
    assert f"{tmp_path}/mine.py, line 13" in said


@pytest.mark.parametrize("door", DOORS)
def test_a_class_without_its_method_is_refused_with_its_line(door: str, tmp_path: Path) -> None:
    path = write(tmp_path, door)
    method = DOORS[door][2].removeprefix("async ").partition("(")[0].removeprefix("def ")
    code = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(code.replace(f"def {method}(", "def another("))
    said = answer(path)
    assert f"{tmp_path}/mine.py, line 9: Mine must define {method}" in said


@pytest.mark.parametrize(
    ("door", "expected"),
    [
        ("model", "build(shape, n_classes) must return a torch.nn.Module"),
        ("data", "load() must return a p2pl_async.Dataset"),
        ("partition", "must return 3 arrays of rows, each row in one of them; returned NoneType"),
        ("training loss", "of_each(outputs, y) must return the loss of each sample"),
        ("metric", "of(outputs, y, weights) must return a number"),
        ("topology", "must return a networkx graph on 0..2, returned NoneType"),
    ],
)
def test_what_returns_nothing_is_told_what_to_return(door: str, expected: str, tmp_path: Path) -> None:
    said = answer(write(tmp_path, door, "pass"))
    assert expected in said
    assert "/mine.py" in said


def answer(path: Path) -> str:
    """Return what is said of a user's mistake; exit status 2."""
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(path.parent / "out"), "--quiet", "--no-plots"])
    assert result.exit_code == 2, result.stderr
    assert "bug in p2pl_async" not in result.stderr
    return result.stderr


def test_a_file_imports_those_beside_it(tmp_path: Path) -> None:
    def quality(folder: str, number: int) -> float:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / "utils.py").write_text(f"from more import two\nVALUE = {number} * two()\n")
        (path / "more.py").write_text("def two():\n    import random\n    return 2\n")
        scenario = load_scenario(write(path, "compressor"))
        code = (path / "mine.py").read_text().replace("1.0\n    models", "VALUE\n    models")
        (path / "mine.py").write_text(code.replace("from torch import nn", "from utils import VALUE"))
        scenario = load_scenario(path / "s.toml")
        found: float = scenario.protocol.compressor.quality([])  # type: ignore[attr-defined]
        return found

    assert quality("one", 1) == 2
    assert quality("other", 5) == 10, "each folder has its own"
    assert quality("one", 7) == 14, "an edit is seen"
    (tmp_path / "one" / "more.py").write_text("\n1 / 0\n")
    said = answer(tmp_path / "one" / "s.toml")
    assert f"{tmp_path}/one/more.py, line 2: ZeroDivisionError" in said


def test_every_choice_by_name_that_a_user_may_want_has_a_door() -> None:
    asked = {key for key, *_ in DOORS.values()} - {"protocol.compressor"}
    assert {path for path in asked if isinstance(_choice(path), OneOf)} == asked


def _choice(path: str) -> object:
    from p2pl_async.basics.settings import inner_class, marker

    table: type = Scenario
    *way, last = path.split(".")
    for key in way:
        found = inner_class(table.model_fields[key])  # type: ignore[attr-defined]
        assert found is not None
        table = found
    choice = marker(table.model_fields[last])  # type: ignore[attr-defined]
    return choice if isinstance(choice, OneOf) and choice.outside is not None else None
