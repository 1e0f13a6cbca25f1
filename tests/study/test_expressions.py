"""Expressions over recorded runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from p2pl_async.results.folder import RunFolder
from p2pl_async.results.summary_keys import leaves_of
from p2pl_async.results.table import DEVICE_COLUMNS, METRIC_COLUMNS, Table
from p2pl_async.study.expressions import Expression, RecordedValues
from p2pl_async.study.survival import Arrival


def write_devices(run: Path) -> None:
    """Write the table of two devices, the first in a group."""
    devices = Table(run / "devices", DEVICE_COLUMNS | {"group": "category"})
    for device, group in enumerate(("slow", "")):
        devices.add(device, 0.0, 0.0, 10, 3, 0.8, group)
    devices.close()


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedValues:
    """Two devices, evaluated at 1, 2 and 3 s; bytes grow by 100 a second."""
    folder = RunFolder(tmp_path / "run", "s", 1)
    folder.begin("")
    folder.write_summary({
        "status": "complete", "scenario": "s", "seed": 1, "virtual_seconds": 3.0,
        "accuracy": {"min": 0.8, "mean": 0.85},
        "messages": {"lost": {"burst": 4}, "bytes_on_air": 300, "by_kind": {"norm-key": {"messages": 7}}},
        "target": {"of": "mean", "accuracy": 0.9, "reached": False}, "energy": None, "sync": {"agreed": True},
    })  # fmt: skip
    table = Table(tmp_path / "run" / "metrics", METRIC_COLUMNS)
    for t, first, second in [(1.0, 0.5, 0.9), (2.0, 0.7, 0.9), (3.0, 0.8, 0.9)]:
        table.add(t, -1, "bytes_on_air", 100 * t)
        for device, value in enumerate((first, second)):
            table.add(t, device, "accuracy", value)
            table.add(t, device, "accuracy_trained", value - 0.1)
    table.add(2.5, 0, "push_weight", 0.5)
    table.close()
    write_devices(tmp_path / "run")
    folder.close()
    return RecordedValues(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100 * accuracy.min - 2 ** 2", 76),
        ("max(accuracy.min, 90 %) / 2", 0.45),
        ("-messages.lost.burst + messages.lost.collision", -4),
        ("'messages.by_kind.norm-key.messages'", 7),
        ("sync.agreed", 1),
        ("mean(accuracy - accuracy_trained)", 0.1),
        ("last(accuracy)", 0.85),
        ("first(accuracy)", 0.7),
        ("last(accuracy, until = 2.5)", 0.8),
        ("sum(push_weight) / 2", 0.25),
        ("time_to(70 %) - time_to(50 %)", 1),
        ("last(accuracy, group = slow)", 0.8),
        ("mean(accuracy - accuracy_trained, until = 2, group = others)", 0.1),
        ("last(accuracy, until = 2.5, group = 'slow')", 0.7),
    ],
)
def test_values(recorded: RecordedValues, text: str, value: float) -> None:
    assert Expression(text).of(recorded) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "energy.joules",
        "last(round)",
        "time_to(99 %) - 1",
        "1 / messages.lost.none",
        "last(accuracy, group = fast)",
        "time_to(50 %, group = fast)",
    ],
)
def test_what_a_run_does_not_have_is_nan(recorded: RecordedValues, text: str) -> None:
    value = Expression(text).of(recorded)
    assert isinstance(value, float)
    assert math.isnan(value)


def test_arrivals(recorded: RecordedValues) -> None:
    assert Expression("time_to(70 %)").of(recorded) == Arrival(2, True)
    assert Expression("bytes_to(70 %)").of(recorded) == Arrival(200, True)
    assert Expression("time_to(70 %, mean)").of(recorded) == Arrival(1, True)
    assert Expression("bytes_to(99 %) / 100").of(recorded) == Arrival(3, False)
    assert Expression("2 * time_to(90 %, mean)").of(recorded) == Arrival(6, False)
    assert Expression("time_to(90 %, group = others)").of(recorded) == Arrival(1, True)
    assert Expression("time_to(75 %, mean, group = slow)").of(recorded) == Arrival(3, True)


def test_arrivals_are_at_the_first_score_whatever_it_is_and_an_error_falls(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", "s", 1)
    folder.begin("")
    target = {"metric": "rmse", "value": 0.2, "accuracy": None, "of": "mean", "reached": True, "virtual_seconds": 2.5}
    about = {"status": "complete", "scenario": "s", "seed": 1, "virtual_seconds": 3.0}
    folder.write_summary({**about, "metric": "rmse", "lower_is_better": True, "target": target})
    table = Table(tmp_path / "run" / "metrics", METRIC_COLUMNS)
    for t, first, second in [(1.0, 0.5, 0.3), (2.0, 0.3, 0.1), (3.0, 0.2, 0.1)]:
        table.add(t, 0, "rmse", first)
        table.add(t, 1, "rmse", second)
        table.add(t, 0, "accuracy", 1.0)
    table.close()
    folder.close()
    run = RecordedValues(tmp_path / "run")
    assert Expression("time_to(0.3)").of(run) == Arrival(2, True)
    assert Expression("time_to(0.4, mean)").of(run) == Arrival(1, True)
    assert Expression("time_to(0.2, mean)").of(run) == Arrival(2.5, True)  # the target's, found between evaluations
    assert Expression("time_to(0.1)").of(run) == Arrival(3, False)


def test_a_target_that_every_device_reached_proves_lower_ones(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", "s", 1)
    folder.begin("")
    target = {"metric": "accuracy", "value": 0.9, "of": "every_device", "reached": True, "virtual_seconds": 2.5}
    target |= {"bytes_on_air": 250}
    about = {
        "status": "complete",
        "scenario": "s",
        "seed": 1,
        "virtual_seconds": 3.0,
        "messages": {"bytes_on_air": 300},
    }
    folder.write_summary({**about, "target": target})
    table = Table(tmp_path / "run" / "metrics", METRIC_COLUMNS)
    for t, first, second in [(1.0, 0.5, 0.9), (2.0, 0.8, 0.9)]:  # on some samples, the target on all
        table.add(t, 0, "accuracy", first)
        table.add(t, 1, "accuracy", second)
    table.close()
    write_devices(tmp_path / "run")
    folder.close()
    run = RecordedValues(tmp_path / "run")
    assert Expression("time_to(90 %, mean)").of(run) == Arrival(2.5, True)
    assert Expression("bytes_to(90 %, mean)").of(run) == Arrival(250, True)
    assert Expression("time_to(88 %)").of(run) == Arrival(2.5, True)
    assert Expression("time_to(85 %, group = slow)").of(run) == Arrival(2.5, True)
    assert Expression("time_to(85 %, mean)").of(run) == Arrival(2, True)  # an evaluation was earlier
    assert Expression("time_to(91 %, mean)").of(run) == Arrival(3, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy", 'did you mean "accuracy.'),
        ("messages.snt", 'did you mean "messages.sent"?'),
        ("tme_to(95 %)", "did you mean time_to?"),
        ("time_to(95 %, best)", "must be like"),
        ("time_to(95 %, until = 3)", "must be like"),
        ("last(accuracy, group = 3)", "must be like"),
        ("mean(accuracy, 3)", "must be like"),
        ("last(accuracy.min + __import__('os'))", "is not part of an expression"),
        ("[1 for x in y]", "is not part of an expression"),
        ("accuracy.min <", "must be an expression such as"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        Expression(text)


def test_leaves_of_a_summary() -> None:
    assert leaves_of({"a": {"b": 1, "c": None}, "d": True, "e": "text"}) == {"a.b": 1.0, "d": 1.0}
