"""A scenario's run from end to end: what ends it, what is measured, its baselines, and what a broken run leaves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import trio
from helpers.small_worlds import params_of, run_watched, small, trace_of

from p2pl_async.device import Device
from p2pl_async.errors import Deadlock, DeviceFailed, ScenarioError
from p2pl_async.experiment import running as experiment
from p2pl_async.messages import Message
from p2pl_async.protocols.base import Protocol
from p2pl_async.protocols.local import Local
from p2pl_async.protocols.p2pl import P2PL
from p2pl_async.results.run import Run, Snapshot, load_run
from p2pl_async.scenario.building.world import build_world
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.scenario.scenario import Scenario

SUMMARY = {
    "status", "error", "scenario", "seed", "versions", "trace_digest", "virtual_seconds", "wall_seconds", "wall",
    "stopped_by", "accuracy", "accuracy_trained", "target", "rounds", "messages", "staleness", "sync", "refused",
    "influence", "consensus_distance", "training", "baselines",
}  # fmt: skip


def values(result: Run, metric: str, device: int | None = None) -> pd.DataFrame:
    """Return the measurements of a metric."""
    found = result.metrics[result.metrics.metric == metric]
    return found if device is None else found[found.device == device]


def test_accuracies(scenario: Scenario, devices: list[Device]) -> list[float]:
    """Return each device's accuracy on all test data, computed with plain torch."""
    import torch

    data = build_world(scenario).dataset
    assert data is not None
    model = scenario.model.module(data.x_train.shape[1:], data.n_classes, 0)
    found = []
    for w in params_of(devices):
        torch.nn.utils.vector_to_parameters(torch.tensor(w), model.parameters())
        guess = model(torch.tensor(data.x_test)).argmax(1).numpy()
        found.append(float(np.mean(guess == data.y_test)))
    return found


test_accuracies.__test__ = False  # type: ignore[attr-defined]


# What ends a run


def test_rounds_end_a_run() -> None:
    result = experiment.run(small(stop={"rounds": 3}))
    assert result.summary["stopped_by"] == "rounds"
    assert result.summary["rounds"] == {"min": 3, "mean": 3, "max": 3}
    assert set(result.devices["rounds"]) == {3}


def test_virtual_time_ends_a_run_whatever_is_under_way() -> None:
    result = experiment.run(small(stop={"rounds": None, "virtual_time": "6.5 s"}))
    assert result.summary["stopped_by"] == "virtual time"
    assert result.summary["virtual_seconds"] == 6.5
    assert result.metrics["time_s"].max() <= 6.5
    assert 0 < result.summary["rounds"]["min"] < result.summary["rounds"]["max"]  # devices have speeds of their own


def test_whichever_condition_comes_first_ends_the_run() -> None:
    first = experiment.run(small(stop={"rounds": 2, "virtual_time": "500 s", "accuracy": "100 %"}))
    assert first.summary["stopped_by"] == "rounds"
    assert first.summary["target"] == {
        "metric": "accuracy", "value": 1.0, "accuracy": 1.0, "of": "every_device", "reached": False,
        "virtual_seconds": None, "bytes_on_air": None, "seconds_on_air": None, "energy_j": None,
    }  # fmt: skip


@pytest.mark.parametrize("of", ["every_device", "mean"])
def test_an_accuracy_ends_a_run_once_all_test_data_confirms_it(of) -> None:
    scenario = small(
        data={"train_samples": 1000},
        evaluate={"samples": 20, "every": "1 s"},  # so few that they often say yes too early
        stop={"rounds": None, "virtual_time": "300 s", "accuracy": {of: "80 %"}},
    )
    result, (devices,) = run_watched(scenario)
    reached = test_accuracies(scenario, devices)
    level = {"every_device": min(reached), "mean": float(np.mean(reached))}
    assert level[of] >= 0.8
    target = result.summary["target"]
    assert result.summary["stopped_by"] == "accuracy"
    assert target["reached"]
    assert target["of"] == of
    assert target["accuracy"] == 0.8
    assert target["virtual_seconds"] == result.summary["virtual_seconds"] < 300
    assert target["bytes_on_air"] == result.summary["messages"]["bytes_on_air"] > 0


def test_the_mean_is_reached_no_later_than_the_accuracy_of_every_device() -> None:
    def reached(**accuracy: str) -> float:
        stop = {"rounds": None, "accuracy": accuracy}
        result = experiment.run(small(data={"train_samples": 1000}, evaluate={"every": "200 ms"}, stop=stop))
        return float(result.summary["virtual_seconds"])

    assert reached(mean="80 %") < reached(every_device="80 %")


def test_a_subset_on_which_models_are_worse_does_not_hide_that_the_mean_is_reached() -> None:
    """With these 40 samples, the mean on the subset stays below that on all test data."""
    found = []
    for seed in range(3):
        scenario = small(
            seed=seed,
            data={"train_samples": 1000},
            evaluate={"samples": 40, "every": "1 s"},
            stop={"rounds": 12, "accuracy": {"mean": "85 %"}},
        )
        summary = experiment.run(scenario).summary
        assert summary["target"]["reached"] == (summary["accuracy"]["mean"] >= 0.85)
        every = experiment.run(
            scenario.model_copy(update={"evaluate": scenario.evaluate.model_copy(update={"samples": 0})})
        )
        found.append(summary["virtual_seconds"] == every.summary["virtual_seconds"])
    assert found == [True] * 3


def test_a_target_that_only_the_final_evaluation_sees_is_reached() -> None:
    scenario = small(data={"train_samples": 1000}, evaluate={"every": "999 s"}, stop={"rounds": 4, "accuracy": "50 %"})
    summary = experiment.run(scenario).summary
    assert summary["accuracy"]["min"] > 0.5
    assert summary["stopped_by"] == "rounds"
    assert summary["target"]["reached"]
    assert summary["target"]["virtual_seconds"] == summary["virtual_seconds"]


def test_a_protocol_that_returns_ends_a_run() -> None:
    class Once(Local):
        kind: Any = "once"

        async def run(self, device: Device) -> None:
            await device.train(device.initial_params())

    result = experiment.run(small(protocol=Once(), stop={"rounds": 50}))
    assert result.summary["stopped_by"] == "protocol"
    assert result.summary["status"] == "complete"


# What is measured


def test_accuracies_at_the_end_are_those_on_all_test_data() -> None:
    scenario = small(evaluate={"samples": 10})
    result, (devices,) = run_watched(scenario)
    expected = test_accuracies(scenario, devices)
    assert result.devices["accuracy"].tolist() == pytest.approx(expected)
    assert result.summary["accuracy"] == pytest.approx(
        {"min": min(expected), "mean": np.mean(expected), "max": max(expected)}
    )
    away = params_of(devices) - params_of(devices).mean(axis=0)
    assert result.summary["consensus_distance"] == pytest.approx(np.sqrt((away**2).sum() / 5), rel=1e-4)
    assert result.summary["accuracy_trained"].keys() == {"min", "mean", "max"}


def test_evaluate_every_is_the_time_between_evaluations() -> None:
    for every in (0.5, 2.0):
        result = experiment.run(small(evaluate={"every": f"{every} s"}, stop={"rounds": None, "virtual_time": "9 s"}))
        times = sorted(set(values(result, "consensus_distance")["time_s"]))
        np.testing.assert_allclose(times, np.arange(every, 9 if every == 2 else 8.9, every))


def test_evaluate_auto_looks_about_once_a_round_and_not_too_often() -> None:
    short = experiment.run(small(stop={"rounds": 5}))
    looks = values(short, "consensus_distance")
    assert 3 <= len(looks) <= 40
    long = experiment.run(small(stop={"rounds": None, "virtual_time": "600 s"}, evaluate={"samples": 10}))
    assert 100 <= len(values(long, "consensus_distance")) <= 200


@pytest.mark.parametrize(("samples", "used"), [(7, 7), (100, 100), (0, 360), (10_000, 360)])
def test_evaluate_samples_is_how_many_test_samples_a_look_takes(samples, used) -> None:
    result = experiment.run(small(evaluate={"samples": samples}))
    counts = values(result, "accuracy")["value"] * used
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    if used > 7:
        fewer = values(result, "accuracy")["value"] * 7
        assert np.abs(fewer - fewer.round()).max() > 0.01


def test_metrics_are_tidy_and_have_the_names_that_readers_know() -> None:
    result = experiment.run(small(stop={"rounds": 8}))
    frame = result.metrics
    assert list(frame.columns) == ["time_s", "device", "metric", "value"]
    assert frame["time_s"].is_monotonic_increasing
    of_devices = {
        "accuracy", "accuracy_trained", "loss", "round", "staleness_rounds", "staleness_s", "neighbors_mixed", "sync_s",
    }  # fmt: skip
    of_run = {"consensus_distance", "messages_sent", "messages_delivered", "messages_lost", "lost_loss", "bytes_on_air"}
    for name in of_devices:
        assert set(values(result, name)["device"]) == {0, 1, 2, 3, 4}, name
    for name in of_run:
        assert set(values(result, name)["device"]) == {-1}, name
    rounds = values(result, "round", 2)
    assert rounds["value"].tolist() == list(range(1, 9))
    for name in ("messages_sent", "messages_delivered", "messages_lost", "bytes_on_air"):
        assert values(result, name)["value"].is_monotonic_increasing, name
    assert values(result, "accuracy")["value"].between(0, 1).all()
    assert values(result, "neighbors_mixed")["value"].between(0, 2).all()


def test_the_summary_has_what_readers_need() -> None:
    summary = experiment.run(small(), trace=True).summary
    assert summary.keys() >= SUMMARY
    assert summary["status"] == "complete"
    assert summary["error"] is None
    assert (summary["scenario"], summary["seed"]) == ("small", 5)
    assert len(summary["trace_digest"]) == 64
    assert {"python", "torch", "numpy", "trio"} <= summary["versions"].keys()
    assert sum(summary["wall"].values()) == pytest.approx(summary["wall_seconds"])
    training = summary["training"]
    assert training["jobs"] == 20
    assert training["mean_batch"] == training["jobs"] / training["batches"] > 1
    json.dumps(summary, allow_nan=False)


def test_a_trace_is_kept_unless_there_are_more_messages_than_said(tmp_path: Path) -> None:
    sent = experiment.run(small(), trace=True).summary["messages"]["sent"]
    kept = trace_of(experiment.run(small(), trace=sent))
    assert kept is not None
    assert len(kept) == sent
    result = experiment.run(small(), trace=sent - 1, out=tmp_path / "run")
    assert result.trace is None
    assert list((tmp_path / "run").glob("trace*")) == []


def test_links_devices_and_trace_tell_what_the_counters_tell() -> None:
    result = experiment.run(
        small(
            link={
                "latency": {"kind": "uniform", "low": "100 ms", "high": "2 s"},
                "rate": "24 kbit/s",
                "queue": {"messages": 1},
                "mtu": "1500 B",
                "duplicate": "20 %",
            },
            protocol={"sync": "none"},
            stop={"rounds": None, "virtual_time": "9.87 s"},
        ),
        trace=True,
    )
    messages, links, trace = result.summary["messages"], result.links, trace_of(result)
    assert trace is not None
    # Conservation, counted from the records.
    assert len(trace) == messages["sent"] == links["sent"].sum()
    fates = trace["fate"].value_counts()
    lost = {cause: int(count) for cause, count in fates.items() if cause not in ("delivered", "in flight") and count}
    assert lost == messages["lost"]
    assert {"queue"} < lost.keys()
    assert messages["sent"] == messages["delivered"] + sum(lost.values()) + messages["in_flight"]
    assert links["delivered"].sum() == messages["delivered"]
    assert links["lost"].sum() == sum(lost.values())
    assert messages["in_flight"] > 0
    assert (trace["arrival_s"] < 9.87).sum() == messages["delivered"] == fates["delivered"]
    assert fates["in flight"] == messages["in_flight"]
    assert trace["sent_s"].is_monotonic_increasing
    assert (trace["copy_s"].dropna() <= 9.87).sum() == messages["duplicates"] > 0
    assert trace["arrival_s"].isna().sum() == sum(lost.values())
    for column, total in (
        ("packets", "packets"), ("packets_lost", "packets_lost"), ("air_bytes", "bytes_on_air"),
        ("size_bytes", "payload_bytes"),
    ):  # fmt: skip
        assert trace[column].sum() == messages[total]
    # Each link.
    assert sorted(zip(links.src, links.dst, strict=True)) == sorted(
        {(k, (k + s) % 5) for k in range(5) for s in (1, 4)}
    )
    arrived = trace[trace["arrival_s"] < 9.87]
    delay = (arrived["arrival_s"] - arrived["sent_s"]).groupby([arrived["src"], arrived["dst"]]).mean()
    np.testing.assert_allclose(links.set_index(["src", "dst"])["mean_delay_s"].sort_index(), delay.sort_index())
    # Devices.
    devices = result.devices
    classes = [f"class_{c}" for c in range(10)]
    known = ["device", "group", "x", "y", "n_samples", *classes, "rounds", "accuracy", "sample_weight"]
    assert list(devices.columns) == known
    assert devices["n_samples"].sum() == devices[classes].to_numpy().sum() == 300
    assert devices["x"].isna().all()  # a ring has no positions


def test_devices_of_a_geometric_graph_have_positions() -> None:
    result = experiment.run(small(topology={"kind": "random-geometric", "radius": 0.9}, stop={"rounds": 1}))
    assert result.devices[["x", "y"]].to_numpy().min() >= 0
    assert result.devices[["x", "y"]].to_numpy().max() <= 1


def test_a_trace_is_kept_only_when_asked_for() -> None:
    assert experiment.run(small()).trace is None


def test_staleness_is_summed_up() -> None:
    result = experiment.run(small(link={"latency": "300 ms", "loss": "0 %"}, stop={"rounds": 6}))
    staleness = result.summary["staleness"]
    for name, metric in (("seconds", "staleness_s"), ("rounds", "staleness_rounds")):
        assert staleness[f"{name}_mean"] == pytest.approx(values(result, metric)["value"].mean())
        assert staleness[f"{name}_max"] == values(result, metric)["value"].max()
    assert staleness["seconds_mean"] >= 0.3
    assert experiment.run(small(protocol="local")).summary["staleness"] is None


def test_the_synchronization_is_summed_up() -> None:
    assert experiment.run(small(protocol={"sync": "none"})).summary["sync"] is None
    sync = experiment.run(small()).summary["sync"]
    assert sync["agreed"]
    assert sync["devices"] == 5
    assert sync["joined"] == sync["left_out"] == 0
    assert 0 < sync["completed_s"] < 20
    kinds = experiment.run(small()).summary["messages"]["by_kind"]
    assert sync["messages"] == kinds["norm-key"]["messages"] + kinds["norm-model"]["messages"]
    assert sync["payload_bytes"] > kinds["norm-model"]["payload_bytes"] > 0


def test_a_late_device_joins_whatever_the_norm_of_its_model() -> None:
    for k in range(5):
        scenario = small(
            devices={"group": {"late": {"ids": k, "start": "30 s"}}},
            protocol={"sync": {"kind": "max-norm", "patience": "8 s"}},
            stop={"rounds": 60},
            evaluate={"every": "100 s"},
        )
        sync = experiment.run(scenario).summary["sync"]
        assert sync["agreed"]
        assert sync["joined"] == 1
        assert sync["left_out"] >= 1
        assert 30 <= sync["completed_s"] <= 34


# Baselines


def test_baselines_run_only_when_asked_for() -> None:
    assert experiment.run(small()).baselines == {}
    assert experiment.run(small(baselines={"local": True})).baselines.keys() == {"local"}
    assert experiment.run(small(baselines={"central": True})).baselines.keys() == {"central"}


@pytest.mark.parametrize("stop", [{"rounds": 4}, {"rounds": None, "virtual_time": "10 s"}], ids=["rounds", "time"])
def test_local_is_the_same_devices_without_peers(stop) -> None:
    how = {"model": {"common_init": True}, "stop": stop}
    scenario = small(baselines={"local": True}, protocol={"sync": "none", "epochs": 2}, **how)
    result, (devices, lonely) = run_watched(scenario)
    local = result.baselines["local"]
    assert local.summary["messages"]["sent"] == 0
    assert [device.round for device in lonely] == [device.round for device in devices]
    assert local.devices["n_samples"].tolist() == result.devices["n_samples"].tolist()
    _, (expected,) = run_watched(small(protocol={"kind": "local", "epochs": 2}, **how))
    np.testing.assert_array_equal(params_of(lonely), params_of(expected))


def test_central_is_one_device_with_all_data_that_sees_as_many_samples() -> None:
    scenario = small(baselines={"central": True}, protocol={"epochs": 2}, stop={"rounds": 5})
    result, (_, central) = run_watched(scenario)
    assert len(central) == 1
    assert central[0].n_samples == 300
    assert central[0].round == 5 * 2  # 5 devices x 60 samples x 2 epochs x 5 rounds = 3000
    assert result.baselines["central"].summary["accuracy"]["min"] > 0.8


@pytest.mark.parametrize(
    "protocol",
    [
        {"kind": "dgd"},
        {"kind": "ad-psgd"},
        {"kind": "diging"},
        {"kind": "p2pl", "mode": "fresh", "sync": "none", "steps": 3},
        {"kind": "p2pl", "mode": "fresh", "sync": "max-norm", "epochs": 2},
        {"kind": "fedavg"},
    ],
    ids=lambda protocol: protocol["kind"],
)
def test_baselines_see_as_many_samples_as_the_devices_whatever_the_protocol(protocol: dict[str, Any]) -> None:
    """And no sooner: the first training of a baseline begins when the first one of the run does."""
    stop = {"rounds": None, "virtual_time": "5.5 s"}
    topology = "star" if protocol["kind"] == "fedavg" else "ring"
    scenario = small(
        protocol=protocol,
        topology=topology,
        link={"loss": "none"},
        train={"momentum": 0.0},
        stop=stop,
        baselines={"local": True, "central": True},
    )
    result = experiment.run(scenario)
    seen = result.summary["training"]["samples"]
    assert seen > 0
    assert result.baselines["local"].summary["training"]["samples"] == seen
    assert result.baselines["local"].summary["virtual_seconds"] <= 5.5
    assert abs(result.baselines["central"].summary["training"]["samples"] - seen) <= 10 / 2


def test_local_waits_while_the_devices_synchronize() -> None:
    scenario = small(protocol={"sync": "max-norm"}, baselines={"local": True})
    result = experiment.run(scenario)
    sync = result.summary["sync"]["completed_s"]
    assert sync > 0.5
    first = {name: values(run, "round")["time_s"].min() for name, run in (("p2pl", result), *result.baselines.items())}
    assert first["local"] == first["p2pl"] > sync / 2


def test_baselines_are_in_the_summary() -> None:
    result = experiment.run(small(baselines={"local": True, "central": True}))
    for name in ("local", "central"):
        summed = result.summary["baselines"][name]
        assert summed["accuracy"] == result.baselines[name].summary["accuracy"]
        assert {"virtual_seconds", "messages"} <= summed.keys()


# Devices' speeds


def ends(**devices: Any) -> dict[int, list[float]]:
    """Return when each of four devices ended its rounds, training alone."""
    scenario = small(
        devices={"count": 4, "compute": {"per_epoch": "2 s", "spread": 0.0, "jitter": 0.0}},
        protocol="local",
        stop={"rounds": 5},
        data={"train_samples": 200},
    )
    table = scenario.devices.model_dump(mode="json", by_alias=True)
    table.update(devices)
    result = experiment.run(scenario.model_copy(update={"devices": type(scenario.devices).model_validate(table)}))
    return {k: values(result, "round", k)["time_s"].tolist() for k in range(4)}


def test_per_epoch_and_per_sample_are_what_training_takes() -> None:
    assert ends() == {k: [2.0, 4.0, 6.0, 8.0, 10.0] for k in range(4)}
    assert ends(compute={"per_sample": "10 ms"})[1] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5])  # 50 samples each


def test_spread_makes_devices_differ_and_jitter_trainings() -> None:
    spread = ends(compute={"per_epoch": "2 s", "spread": 0.5})
    assert len({times[0] for times in spread.values()}) == 4
    for times in spread.values():
        np.testing.assert_allclose(np.diff(times), times[0])
    jitter = ends(compute={"per_epoch": "2 s", "jitter": 0.5})
    for times in jitter.values():
        assert len({round(float(step), 6) for step in np.diff(times, prepend=0)}) == 5
    both = ends(compute={"per_epoch": "2 s", "spread": 0.5, "jitter": 0.5})
    for k in range(4):  # each has draws of its own
        assert both[k][0] == pytest.approx(spread[k][0] * jitter[k][0] / 2)


def test_groups_and_starts_move_devices() -> None:
    found = ends(group={"slow": {"ids": [1, 2], "compute": {"per_epoch": "6 s"}, "start": "1 s"}})
    assert found[0] == [2, 4, 6, 8, 10]
    assert found[1] == found[2] == [7, 13, 19, 25, 31]
    late = ends(start={"uniform": "3 s"})
    begins = [times[0] - 2 for times in late.values()]
    assert len(set(begins)) == 4
    assert 0 <= min(begins) <= max(begins) < 3


# A protocol of one's own, and runs without learning


@dataclass(frozen=True, slots=True)
class Number(Message, tag="experiment-number"):
    x: float


class Gossip(Protocol):
    """Averages a number with whoever is heard."""

    kind: str = "gossip-number"
    trains: ClassVar[bool] = False

    async def run(self, device: Device) -> None:
        x = float(device.id)
        while device.running:
            await trio.sleep(1 + float(device.random.random()))
            device.broadcast(Number(x))
            while (heard := device.receive_nowait(Number)) is not None:
                x = (x + heard.x) / 2
            device.record("number", x)
            device.finish_round(np.array([x]))


def test_a_run_without_learning_has_no_accuracy_and_loads_no_data() -> None:
    seen: list[Snapshot] = []
    result = experiment.run(small(protocol=Gossip(), data=None, stop={"rounds": 30}), progress=seen.append, trace=True)
    summary = result.summary
    assert summary["status"] == "complete"
    assert summary["accuracy"] is summary["accuracy_trained"] is summary["training"] is summary["sync"] is None
    assert summary["consensus_distance"] < 1
    assert summary["messages"]["sent"] == 5 * 30 * 2
    assert np.ptp(values(result, "number").groupby("device", observed=True)["value"].last()) < 1
    assert len(values(result, "messages_sent")) > 10
    assert list(result.devices.columns) == ["device", "group", "x", "y", "n_samples", "rounds", "accuracy"]
    assert seen[-1].score is None


MINE = '''
from typing import Literal
from p2pl_async import Protocol

class Mine(Protocol):
    """Trains; says nothing."""
    kind: Literal["mine"] = "mine"
    extra: int = 1

    async def run(self, device):
        w = device.initial_params()
        while device.running:
            w = await device.train(w, epochs=self.extra)
            device.record("mine", self.extra)
            device.finish_round(w)
'''


def test_a_protocol_from_a_file_runs_with_its_settings(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "s.toml").write_text(
        'devices.count = 3\ndata = { dataset = "digits", train_samples = 60 }\n'
        'protocol = { kind = "mine.py:Mine", extra = 2 }\nstop.rounds = 2\n'
    )
    result = experiment.run(load_scenario(tmp_path / "s.toml"))
    assert set(values(result, "mine")["value"]) == {2.0}
    assert result.summary["virtual_seconds"] == 4.0
    assert result.summary["protocol"] == "Mine"


# Progress


def test_progress_tells_how_far_the_run_is() -> None:
    seen: list[Snapshot] = []
    result = experiment.run(small(baselines={"local": True, "central": True}), progress=seen.append)
    assert [label for label in dict.fromkeys(s.label for s in seen)] == ["p2pl", "local", "central"]
    main = [s for s in seen if s.label == "p2pl"]
    assert [s.now for s in main] == sorted(s.now for s in main)
    assert all(s.done is not None and 0 <= s.done <= 1 for s in main)
    assert main[-1].sent > 0
    assert all(s.sent >= s.delivered + s.lost for s in main)
    assert any(s.score is not None and s.score[0] <= s.score[1] <= s.score[2] for s in main)
    assert result.summary["status"] == "complete"


def test_without_an_end_in_time_or_rounds_nobody_knows_how_much_is_done() -> None:
    seen: list[Snapshot] = []
    experiment.run(small(stop={"rounds": None, "accuracy": {"mean": "20 %"}}), progress=seen.append)
    assert {s.done for s in seen} == {None}


# Files, and runs that break off


def test_the_folder_holds_everything(tmp_path) -> None:
    result = experiment.run(small(baselines={"local": True, "central": True}), out=tmp_path / "run", trace=True)
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    own = {"scenario.toml", "summary.json", "metrics.parquet", "devices.parquet", "links.parquet", "trace.parquet"}
    assert files == own | {"mixes.parquet"} | {
        f"baselines/{name}/{file}" for name in ("local", "central") for file in own
    }
    again = load_run(tmp_path / "run")
    assert again.summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in ("metrics", "devices", "links", "trace"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name))
    assert again.summary["baselines"]["local"]["accuracy"] == result.baselines["local"].summary["accuracy"]
    assert again.baselines.keys() == {"local", "central"}
    assert load_scenario(tmp_path / "run" / "scenario.toml").stop.rounds == 4


def test_a_folder_with_a_result_is_left_alone(tmp_path) -> None:
    experiment.run(small(), out=tmp_path)
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(ScenarioError):
        experiment.run(small(), out=tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before


class Breaks(P2PL):
    """P2PL in which device 3 does something else in its third round."""

    kind: Any = "breaks"
    how: str = "raise"

    async def run(self, device: Device) -> None:
        finish = device.finish_round

        def watched(*args: Any, **kwargs: Any) -> None:
            if device.id == 3 and device.round == 2:
                raise KeyboardInterrupt if self.how == "interrupt" else ZeroDivisionError("three")
            finish(*args, **kwargs)

        device.finish_round = watched  # type: ignore[method-assign]
        await super().run(device)


def readable(folder: Path, status: str) -> Run:
    """Return a broken run as it can be read back, and check what it must hold."""
    result = load_run(folder)
    assert result.summary["status"] == status
    assert result.summary["trace_digest"]
    assert values(result, "round", 3)["value"].tolist() == [1, 2]
    assert len(result.devices) == 5
    assert result.links["sent"].sum() == result.summary["messages"]["sent"] == len(trace_of(result)) > 0
    assert not list(folder.glob("*.arrows")) + list(folder.glob("*.part"))
    return result


def test_a_protocol_that_raises_leaves_a_failed_run_that_can_be_read(tmp_path) -> None:
    with pytest.raises(DeviceFailed, match=r"device 3 failed at .* s: ZeroDivisionError: three"):
        experiment.run(small(protocol=Breaks(), baselines={"local": True}), out=tmp_path, trace=True)
    result = readable(tmp_path, "failed")
    assert "ZeroDivisionError: three" in result.summary["error"]
    assert result.baselines == {}


def test_an_interrupted_protocol_leaves_an_interrupted_run_that_can_be_read(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        experiment.run(small(protocol=Breaks(how="interrupt")), out=tmp_path, trace=True)
    readable(tmp_path, "interrupted")


def test_control_c_while_watching_leaves_an_interrupted_run_that_can_be_read(tmp_path) -> None:
    def interrupt(snapshot: Snapshot) -> None:
        if snapshot.rounds > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(small(), out=tmp_path, progress=interrupt)
    result = load_run(tmp_path)
    assert result.summary["status"] == "interrupted"
    assert result.summary["rounds"]["mean"] > 2
    assert len(values(result, "accuracy")) > 0


def test_an_interrupted_baseline_leaves_the_main_run_complete(tmp_path) -> None:
    def interrupt(snapshot: Snapshot) -> None:
        if snapshot.label == "central":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(small(baselines={"local": True, "central": True}), out=tmp_path, progress=interrupt)
    result = load_run(tmp_path)
    assert result.summary["status"] == "complete"
    assert result.baselines["local"].summary["status"] == "complete"
    assert result.baselines["central"].summary["status"] == "interrupted"


def test_a_deadlock_is_a_failed_run(tmp_path) -> None:
    with pytest.raises(Deadlock):
        experiment.run(small(protocol={"mode": "barrier"}, link={"loss": "60 %"}), out=tmp_path)
    result = load_run(tmp_path)
    assert result.summary["status"] == "failed"
    assert "waits for params" in result.summary["error"]


def test_a_bug_in_progress_ends_the_run_and_is_named_in_the_summary(tmp_path) -> None:
    def broken(snapshot: Snapshot) -> None:
        raise ZeroDivisionError("progress")

    with pytest.raises(ZeroDivisionError):
        experiment.run(small(), out=tmp_path, progress=broken)
    summary = load_run(tmp_path).summary
    assert summary["status"] == "failed"
    assert summary["error"] == "ZeroDivisionError: progress"


def test_while_it_goes_the_summary_says_so(tmp_path) -> None:
    seen = set()

    def look(snapshot: Snapshot) -> None:
        seen.add(load_run(tmp_path).summary["status"])

    experiment.run(small(), out=tmp_path, progress=look)
    assert seen == {"running"}
    assert load_run(tmp_path).summary["status"] == "complete"
    assert math.isfinite(load_run(tmp_path).summary["wall_seconds"])


def test_until_a_run_is_complete_its_summary_has_the_score_that_was_last_measured(tmp_path) -> None:
    def stop(snapshot: Snapshot) -> None:
        if snapshot.now > 3 and snapshot.score is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.run(small(evaluate={"every": "1 s"}, stop={"rounds": 20}), out=tmp_path, progress=stop)
    found = load_run(tmp_path)
    assert found.summary["status"] == "interrupted"
    measured = found.metrics.query("metric == 'accuracy'")
    last = measured[measured["time_s"] == measured["time_s"].max()]["value"]
    assert len(last) == 5
    expected = {"min": last.min(), "mean": last.mean(), "max": last.max()}
    assert found.summary["accuracy"] == pytest.approx(expected)
    assert found.summary["scores"] == {"accuracy": found.summary["accuracy"]}


@pytest.mark.parametrize("medium", [{"kind": "dedicated"}, {"kind": "csma-ca"}, {"kind": "tdma", "slot": "100 ms"}])
def test_fates_in_the_trace_are_those_of_the_summary_also_of_what_is_under_way_at_the_end(medium) -> None:
    link = {"rate": "20 kbit/s", "loss": "10 %", "mtu": "200 B"}
    stop = {"rounds": 1000, "virtual_time": "6 s"}
    result = experiment.run(small(link=link, medium=medium, stop=stop), trace=True)
    fates, messages = trace_of(result)["fate"].value_counts(), result.summary["messages"]
    assert fates.get("in flight", 0) == messages["in_flight"] > 0
    assert fates.get("delivered", 0) == messages["delivered"]
    assert {name: count for name, count in fates.items() if name in messages["lost"]} == messages["lost"]
    assert fates.sum() == messages["sent"]
    arrived = trace_of(result)["arrival_s"].notna()
    assert arrived[trace_of(result)["fate"] == "delivered"].all()


class Endless(Protocol):
    """Goes on for ever, whatever the scenario asks for."""

    kind: str = "endless"
    trains: ClassVar[bool] = False

    async def run(self, device: Device) -> None:
        while True:
            await trio.sleep(1 + device.id)
            device.finish_round()


def test_rounds_end_a_run_whose_protocol_never_asks() -> None:
    """The slowest of five devices takes 5 s a round; the run ends when it has done three."""
    result = experiment.run(small(protocol=Endless(), data=None, stop={"rounds": 3, "virtual_time": "99 s"}))
    assert result.summary["stopped_by"] == "rounds"
    assert result.summary["virtual_seconds"] == 15
    assert result.summary["rounds"] == {"min": 3, "mean": (15 + 7 + 5 + 3 + 3) / 5, "max": 15}


def test_the_local_baseline_trains_the_steps_of_the_main_run() -> None:
    scenario = small(baselines={"local": True}, protocol={"sync": "none", "steps": 2}, stop={"rounds": 3})
    _, (_, lonely) = run_watched(scenario)
    _, (expected,) = run_watched(small(protocol={"kind": "local", "steps": 2}, stop={"rounds": 3}))
    np.testing.assert_array_equal(params_of(lonely), params_of(expected))
    _, (epochs,) = run_watched(small(protocol={"kind": "local"}, stop={"rounds": 3}))
    assert (params_of(epochs) != params_of(expected)).any()


def test_compression_is_summed_up_as_papers_count_as_encoded_and_on_air() -> None:
    sparse = {"kind": "sparse-push", "sync": "none", "compressor": {"kind": "top-k", "sparsity": "99 %"}}
    result = experiment.run(small(protocol=sparse, link={"loss": "none", "header": "20 B"}, stop={"rounds": 3}))
    ratios, sent = result.summary["compression"], result.summary["messages"]
    d = 64 * 12 + 12 + 12 * 10 + 10
    kept = 7 + 1 + 1 + 1
    assert ratios["payload_ratio"] == pytest.approx((d + 1) / (2 * kept + 1))
    assert ratios["on_air_ratio"] == pytest.approx(sent["sent"] * 4 * (d + 1) / sent["bytes_on_air"])
    assert ratios["codec_ratio"] > ratios["payload_ratio"] > ratios["on_air_ratio"]
    assert experiment.run(small(stop={"rounds": 1})).summary["compression"] is None
