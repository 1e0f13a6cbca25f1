"""The list of metrics is complete: everything that the package records stands in it."""

from __future__ import annotations

import ast
from pathlib import Path

from p2pl_async.basics.settings import OneOf, marker
from p2pl_async.results.folder import PLOTS
from p2pl_async.results.metrics import COSTS, METRICS, is_share
from p2pl_async.scenario.tables import Evaluate

PACKAGE = Path(__file__).parents[2] / "p2pl_async"


def recorded() -> set[str]:
    """Return every name that some module gives to `record`, or that `evaluation` yields."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "record":
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
            if path.stem == "evaluation" and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                found |= {part.value for part in node.value.elts[:1] if isinstance(part, ast.Constant)}
    return {name for name in found if isinstance(name, str)}


def test_every_recorded_metric_is_listed_and_every_listed_one_is_recorded() -> None:
    scores = marker(Evaluate.model_fields["metrics"])
    assert isinstance(scores, OneOf)
    by_kind = {kind.replace("-", "_") for kind in scores.classes}
    assert recorded() | {"lost_*", "own_*", "*_trained"} | by_kind == METRICS.keys()
    assert all(is_share(name) == (name != "rmse") for name in by_kind)


def test_every_cost_has_a_plot_of_its_own() -> None:
    assert {cost.plot for cost in COSTS.values()} < set(PLOTS)
    assert len(set(PLOTS)) == len(PLOTS)
