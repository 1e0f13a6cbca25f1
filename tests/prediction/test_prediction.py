"""Predictions against emulated runs: affine models, networks, lossy links; and what `p2pl predict` says and writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.small_worlds import merged
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from p2pl_async import PredictionError, ScenarioError, load_scenario
from p2pl_async.cli.main import app
from p2pl_async.dynamics.linearized import ParameterForm
from p2pl_async.prediction import compare, measure, predict, repeat
from p2pl_async.prediction.measuring import round_seconds
from p2pl_async.scenario.scenario import Scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios" / "dynamics"


def linear(**changes: Any) -> Scenario:
    """Return a scenario of four devices that learn a linear model of some digits, with tables changed."""
    base = {
        "name": "linear",
        "seed": 3,
        "devices": {"count": 4, "compute": "1 s"},
        "topology": {"kind": "ring"},
        "data": {"dataset": "digits", "train_samples": 60, "partition": {"kind": "dirichlet", "alpha": 1.0}},
        "model": {"kind": "softmax", "common_init": True},
        "train": {"loss": "squared", "batch_size": "all", "learning_rate": 0.02, "precision": "float64"},
        "protocol": {"kind": "dgd", "sync": "none"},
        "evaluate": {"samples": 50},
        "stop": {"rounds": 12},
    }
    return Scenario.model_validate(merged(base, changes))


def agree(scenario: Scenario, tolerance: float = 1e-10) -> None:
    """Check everything that is recorded of a prediction against the emulated run."""
    predicted = predict(scenario)
    found = measure(predicted)
    assert predicted.exact
    np.testing.assert_array_equal(found.rounds, predicted.rounds)
    assert found.run.summary["status"] == "complete"
    for name in ("outputs", "loss", "train_loss", "consensus_distance"):
        np.testing.assert_allclose(getattr(predicted, name), getattr(found, name), rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(predicted.accuracy, found.accuracy)
    assert np.nanmax(found.relative_error(predicted)) < tolerance
    assert np.abs(predicted.outputs[-1] - predicted.outputs[0]).max() > 0.05


@settings(max_examples=12)
@given(
    st.sampled_from(["dgd", "cta", "atc"]),
    st.sampled_from(["ring", "star", "complete", {"kind": "erdos-renyi", "p": 0.7}]),
    st.sampled_from(["metropolis", "uniform", "size", "metropolis-size", "relative-size"]),
    st.integers(0, 20),
)
def test_an_affine_model_does_what_is_predicted(rule, topology, weights, seed) -> None:
    agree(linear(protocol={"kind": rule, "weights": weights}, topology=topology, seed=seed, stop={"rounds": 5}))


@pytest.mark.parametrize("mix_first", [False, True])
def test_p2pl_with_one_local_step_is_atc_or_cta(mix_first) -> None:
    scenario = linear(protocol={"kind": "p2pl", "sync": "none", "mode": "barrier", "mix_first": mix_first})
    agree(scenario)
    other = linear(protocol={"kind": "cta" if mix_first else "atc", "weights": "size", "on_missing": "renormalize"})
    np.testing.assert_allclose(predict(scenario).outputs, predict(other).outputs)


def test_affine_devices_may_begin_apart_or_agree_first() -> None:
    apart = linear(model={"common_init": False})
    assert predict(apart).consensus_distance[0] > 0.1
    agree(apart)
    for scope in ("model", "layer"):
        agree(linear(model={"common_init": False}, protocol={"sync": {"kind": "max-norm", "scope": scope}}))


def test_with_more_features_than_samples_the_kernel_form_is_taken() -> None:
    scenario = linear(data={"train_samples": 30, "partition": "iid"})
    predicted = predict(scenario)
    assert predicted.states.shape == (13, 4, 30, 10)
    agree(scenario)
    found = measure(predicted)
    np.testing.assert_allclose(predicted.outputs, found.outputs, atol=1e-12)


@pytest.mark.parametrize("samples", [30, 100], ids=["kernel form", "parameter form"])
def test_parameters_are_those_of_the_run(samples) -> None:
    scenario = linear(data={"train_samples": samples, "partition": "iid"})
    predicted = predict(scenario, rounds=[0, 3, 12])
    seen: dict[Any, Any] = {}
    from p2pl_async import run

    run(scenario, watch=lambda device, now: seen.__setitem__((device.round, device.id), device.params))
    whole = predicted.parameters()
    assert whole.shape == (3, 4, 650)
    for i, k in ((1, 3), (2, 12)):
        for device in range(4):
            np.testing.assert_allclose(whole[i, device], seen[k, device], atol=1e-12)
    np.testing.assert_allclose(predicted.parameters([7, 649]), whole[..., [7, 649]], atol=1e-13)


def wide(width: int, **changes: Any) -> Scenario:
    """Return a scenario of a two-layer network of that width on a ring."""
    base = {
        "data": {"train_samples": 40},
        "model": {"kind": "mlp", "hidden": [width], "activation": "tanh", "common_init": True},
        "train": {"learning_rate": 2.0 / width},
        "evaluate": {"samples": 30},
        "stop": {"rounds": 30},
    }
    return linear(**merged(base, changes))


def test_the_wider_a_network_the_better_it_is_predicted() -> None:
    errors = []
    for width in (32, 128, 1024):
        predicted = predict(wide(width), rounds=[0, 15, 30])
        assert not predicted.exact
        found = measure(predicted)
        errors.append(float(np.nanmax(found.relative_error(predicted))))
        if width >= 1024:
            assert errors[-1] < 0.01
            assert np.abs(predicted.accuracy - found.accuracy).max() < 0.04  # one of 30 samples
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("classes", [2, 10])
def test_accuracy_curves_of_digits_overlap(classes, tmp_path) -> None:
    """Differences below one point at every recorded round, for two classes and for ten."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    some = digits.target < classes
    np.savez(tmp_path / "digits.npz", x=digits.images[some] / 16, y=digits.target[some])
    scenario = wide(
        1024,
        data={"dataset": {"kind": "npz", "path": tmp_path / "digits.npz"}, "partition": "iid", "train_samples": 100},
        evaluate={"samples": 0},
        train={"learning_rate": 0.003},
    )
    predicted = predict(scenario, rounds=range(0, 31, 5))
    found = measure(predicted)
    assert np.nanmax(found.relative_error(predicted)) < 0.01
    assert np.abs(predicted.accuracy - found.accuracy).max() < 0.01
    assert found.accuracy[-1].mean() > found.accuracy[0].mean() + 0.2


@pytest.mark.slow
@pytest.mark.skipif("P2PL_DATA" not in os.environ, reason="needs MNIST: set P2PL_DATA")
def test_mnist_curves_overlap(tmp_path) -> None:
    from p2pl_async.learning.data import Mnist

    mnist = Mnist().load()
    some: dict[str, Any] = {"x_train": mnist.x_train[:2000], "y_train": mnist.y_train[:2000]}
    np.savez(tmp_path / "mnist.npz", x_test=mnist.x_test[:200], y_test=mnist.y_test[:200], **some)
    scenario = wide(
        1024,
        data={"dataset": {"kind": "npz", "path": tmp_path / "mnist.npz"}, "train_samples": 200},
        train={"learning_rate": 0.012},
        evaluate={"samples": 0},
        stop={"rounds": 80},
    )
    predicted = predict(scenario, rounds=range(0, 81, 8))
    found = measure(predicted)
    assert np.nanmax(found.relative_error(predicted)) < 0.01
    assert np.abs(predicted.accuracy - found.accuracy).max() < 0.01
    assert found.accuracy[-1].mean() > 0.6


def test_parameters_of_a_network_move_as_predicted() -> None:
    predicted = predict(wide(1024), rounds=[0, 10])
    whole = predicted.parameters()
    np.testing.assert_allclose(predicted.parameters([5, 70_000])[1], whole[1][:, [5, 70_000]], atol=1e-12)
    np.testing.assert_array_equal(whole[0], predicted.initial_parameters())


LOSSY = {"link": {"loss": "40 %", "latency": "10 ms"}, "protocol": {"mode": {"kind": "fresh", "wait": "20 ms"}}}


@pytest.mark.parametrize("on_missing", ["self", "renormalize"])
def test_the_mean_over_lossy_runs_is_as_predicted_and_not_as_without_losses(on_missing) -> None:
    """200 runs: 3 standard errors, for the means over devices and samples whose true deviation is 0."""
    changes = merged(LOSSY, {"protocol": {"on_missing": on_missing}, "data": {"train_samples": 80}})
    scenario = linear(**changes, evaluate={"samples": 10}, stop={"rounds": 8})
    predicted = predict(scenario, rounds=[4, 8])
    lossless = predict(linear(data={"train_samples": 80}, evaluate={"samples": 10}), rounds=[4, 8])
    assert predicted.lossy
    assert not lossless.lossy
    runs = repeat(predicted, 200)
    away = np.abs(predicted.outputs - runs.outputs) / runs.outputs_error
    assert (away < 3).mean() > 0.985  # each within 3 standard errors: 99.7 % of them if all were independent
    assert runs.deviation(predicted).max() < 1.5
    assert runs.deviation(lossless).min() > 3
    for mean, error, expected in ((runs.loss, runs.loss_error, predicted.expected_loss),):
        np.testing.assert_array_less(np.abs(mean - expected), 3.5 * error)
    # The mean loss is larger than the loss of the mean outputs, by more than chance.
    assert (predicted.expected_loss > predicted.loss).all()
    assert ((runs.loss - predicted.loss)[-1] > 3 * runs.loss_error[-1]).any()


def test_the_expected_loss_of_a_kernel_form_is_that_of_the_parameter_form() -> None:
    scenario = linear(**LOSSY, data={"train_samples": 100})
    parameters = predict(scenario, rounds=[0, 6])
    from dataclasses import replace

    from p2pl_async.dynamics.linearized import KernelForm
    from p2pl_async.prediction.predicting import predict_linearized

    own = parameters.linearized
    assert isinstance(own.form, ParameterForm)
    form = KernelForm(own.form.task, own.form.kernel)
    other = replace(own, form=form, start=form.zeros(), test=own.test @ own.form.features.T)
    kernel = predict_linearized(parameters.world, other, parameters.method, parameters.mixing, [0, 6])
    np.testing.assert_allclose(kernel.loss, parameters.loss, rtol=1e-10)
    np.testing.assert_allclose(kernel.expected_loss, parameters.expected_loss, rtol=1e-8)


def test_overrides_of_links_lose_on_their_own() -> None:
    override = {"link": {"override": [{"from": 1, "to": 2, "loss": "50 %"}]}}
    predicted = predict(linear(**merged(override, {"protocol": {"mode": {"kind": "barrier", "timeout": "2 s"}}})))
    expected = np.zeros((4, 4))
    expected[2, 1] = 0.5
    np.testing.assert_array_equal(predicted.mixing.loss, expected)


def test_the_flow_and_the_limit() -> None:
    scenario = linear(stop={"rounds": 200_000}, data={"train_samples": 30, "partition": "iid"})
    steps, flow = (predict(scenario, rounds=[0, 5, 200_000], time=time) for time in ("recursion", "flow"))
    early = np.abs(steps.outputs - flow.outputs)[1].max()
    assert early > 1e-3
    np.testing.assert_allclose(steps.outputs[-1], flow.outputs[-1], atol=1e-3 * early)
    np.testing.assert_allclose(steps.limit, steps.outputs[-1], atol=1e-3)


def test_a_frame_has_every_value() -> None:
    predicted = predict(linear())
    frame = predicted.frame()
    assert sorted(frame["metric"].unique()) == ["accuracy", "consensus_distance", "loss", "train_loss"]
    one = frame.query("metric == 'loss' and device == 2 and round == 7")["value"]
    assert one.item() == predicted.loss[7, 2]
    assert len(frame) == 13 * (3 * 4 + 1)


def test_recorded_rounds_are_spread_evenly_unless_named() -> None:
    assert len(predict(linear(stop={"rounds": 5000})).rounds) == 101
    assert predict(linear(), rounds=[3, 9]).rounds.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"protocol": {"kind": "fedavg"}}, "protocol.kind"),
        ({"protocol": {"kind": "p2pl", "mode": "cache"}}, "protocol.mode.kind"),
        (
            {"protocol": {"mode": "fresh"}, "devices": {"compute": {"per_epoch": "1 s", "jitter": 0.1}}},
            "protocol.mode.kind",
        ),
        ({"protocol": {"mode": "fresh"}, "devices": {"start": {"uniform": "1 s"}}}, "protocol.mode.kind"),
        ({"protocol": {"mode": "fresh"}}, "link.latency"),  # it must be above 0
        ({"protocol": {"mode": {"kind": "fresh", "wait": "1 s"}}, "link": {"latency": "3 s"}}, "link.latency"),
        ({"protocol": {"on_missing": "cache"}}, "protocol.on_missing"),
        ({"protocol": {"kind": "p2pl", "mode": "barrier", "epochs": 2}}, "protocol"),
        ({"protocol": {"kind": "p2pl", "mode": "barrier", "consensus_steps": 2}}, "protocol.consensus_steps"),
        ({"train": {"loss": "cross-entropy"}}, "train.loss"),
        ({"train": {"batch_size": 10}}, "train.batch_size"),
        ({"train": {"momentum": 0.5}}, "train.momentum"),
        ({"train": {"weight_decay": 0.1}}, "train.weight_decay"),
        ({"train": {"clip": 1.0}}, "train.clip"),
        ({"train": {"schedule": {"kind": "inverse", "decay": 0.1}}}, "train.schedule.kind"),
        ({"stop": {"rounds": None, "virtual_time": "5 s"}}, "stop.rounds"),
        ({"link": {"loss": {"kind": "gilbert-elliott", "good": "1 s", "bad": "1 s"}}}, "link.loss.kind"),
        ({"link": {"mtu": "100 B"}}, "link.mtu"),
        ({"link": {"loss": "10 %", "arq": {"retries": 2}}}, "link.arq"),
        ({"link": {"rate": "1 Mbit/s", "queue": {"size": "1 MB"}}}, "link.queue"),
        ({"model": {"kind": "mlp", "hidden": [4], "common_init": False}}, "model.common_init"),
        ({"topology": {"kind": "random-matchings"}}, "topology.kind"),
        ({"medium": {"kind": "ideal"}, "link": {"rate": "1 Mbit/s"}}, "medium"),
        ({"relay": {"kind": "shortest-path", "over": {"kind": "path"}}}, "relay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_theory_does_not_cover_is_refused_by_name(changes, path) -> None:
    barrier = {"protocol": {"mode": {"kind": "barrier", "timeout": "5 s"}}} if "protocol" not in changes else {}
    with pytest.raises(ScenarioError) as caught:
        predict(linear(**merged(barrier, changes)))
    assert path in [problem.path for problem in caught.value.problems]
    assert "relay" not in changes or "lose it together" in str(caught.value)


def test_an_unstable_step_size_is_refused_and_the_bound_is_right() -> None:
    with pytest.raises(PredictionError, match=r"learning_rate=1 is unstable .*must be below") as caught:
        predict(linear(train={"learning_rate": 1.0}))
    bound = float(str(caught.value).rpartition(" ")[2])
    below = predict(linear(train={"learning_rate": 0.99 * bound}, stop={"rounds": 400}))
    assert below.train_loss[-1].max() < below.train_loss[0].max()
    assert below.steps is not None
    assert below.steps.largest == pytest.approx(bound, rel=1e-3)


def test_too_little_memory_is_refused_with_what_it_takes() -> None:
    with pytest.raises(PredictionError, match=r"kernel of 400 x 400 needs .* more memory"):
        predict(wide(64), most_bytes=1e5)
    with pytest.raises(PredictionError, match=r"recording 13 rounds needs .*rounds=\["):
        predict(linear(), most_bytes=1e5)


def test_topologies_are_compared_in_rounds_and_seconds() -> None:
    scenario = linear(link={"latency": "300 ms"}, protocol={"kind": "atc", "sync": "none"}, stop={"rounds": 150})
    predicted = predict(scenario)
    report = compare(predicted)
    rows: Any = report.topologies.set_index("topology")
    assert list(rows.index)[:3] == ["ring (scenario)", "star", "complete"]
    rows = rows.rename(index={"ring (scenario)": "ring"})
    assert report.of == "loss"
    for name in ("ring", "star", "complete"):
        other = predict(linear(protocol={"kind": "atc", "sync": "none"}, stop={"rounds": 150}, topology=name))
        first = int(np.argmax(other.loss.max(1) <= report.target))
        reached = rows.loc[name, "rounds"]
        assert other.rounds[first - 1] < reached <= other.rounds[first]  # in between by a straight line
        assert rows.loc[name, "seconds_per_round"] == pytest.approx(1.3)
        assert rows.loc[name, "seconds"] == pytest.approx(1.3 * reached)
    assert rows.loc["complete", "slem"] == pytest.approx(0, abs=1e-12)
    assert rows.loc["complete", "rounds"] <= rows.loc["ring", "rounds"]
    accuracy = compare(predicted, target=0.3, timed=False)
    assert accuracy.of == "accuracy"
    first = int(np.argmax(predicted.accuracy.min(1) >= 0.3))
    assert accuracy.topologies["rounds"][0] == predicted.rounds[first]
    never = compare(predicted, target=1.0, timed=False)
    assert never.topologies["rounds"].isna().all()
    asked = compare(predict(linear(stop={"rounds": 5, "accuracy": "20 %"})), timed=False)
    assert (asked.target, asked.of) == (0.2, "accuracy")


def test_links_are_ranked_by_what_their_loss_does_to_the_dominant_mode() -> None:
    predicted = predict(linear(data={"train_samples": 100}))
    report = compare(predicted, timed=False)
    assert len(report.links) == 8
    assert report.links["slope"].is_monotonic_decreasing
    first = report.links.iloc[0]
    index = predicted.modes.dominant()
    from p2pl_async.dynamics import spectrum
    from p2pl_async.dynamics.failures import LossyMixing

    loss = np.zeros((4, 4))
    loss[int(first["dst"]), int(first["src"])] = 1e-4
    worse = LossyMixing(predicted.mixing.weights, loss, on_missing="self")
    matrix, _ = spectrum.system(predicted.reduced, "dgd", worse.mean, predicted.method.eta)
    value = predicted.modes.values[index]
    moved = np.linalg.eigvals(matrix).real
    nearest = moved[np.argmin(np.abs(moved - value))]
    assert (nearest - value) / 1e-4 == pytest.approx(first["slope"], rel=0.01)
    slower = np.log(value) / np.log(value + 0.1 * first["slope"]) - 1
    assert first["slower"] == pytest.approx(slower, rel=0.2)
    assert report.loss["p"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.5]
    assert report.loss["time_constant"].is_monotonic_increasing


def test_lossy_rounds_take_the_timeouts_they_cost() -> None:
    start, each = round_seconds(linear())
    assert (start, each) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    waiting = {"link": {"loss": "40 %"}, "protocol": {"mode": {"kind": "barrier", "timeout": "2 s"}}}
    _, lossy = round_seconds(linear(**waiting, stop={"rounds": 100}))
    assert 2 < lossy < 3


# The command


@pytest.mark.parametrize(("weights", "alike"), [("size", False), ("metropolis-size", True)])
def test_how_much_samples_count_is_predicted_and_the_factor_by_which_devices_agree(weights, alike) -> None:
    prediction = predict(linear(topology={"kind": "path"}, protocol={"weights": weights}))
    assert prediction.sample_weight is not None
    assert (np.ptp(prediction.sample_weight) < 1e-9) == alike
    assert measure(prediction).run.devices["sample_weight"].to_numpy() == pytest.approx(prediction.sample_weight)
    assert prediction.agreement is not None
    assert 0 < prediction.agreement.mean == prediction.agreement.mean_square < 1


def run_cli(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'extends = "{SCENARIOS / "affine-ring.toml"}"\ndevices.count = 3\ndata.train_samples = 40\n'
        "evaluate.samples = 40\nstop.rounds = 6\n",
        encoding="utf-8",
    )
    return path


def test_the_command_predicts_emulates_and_writes(file, tmp_path) -> None:
    out = tmp_path / "out"
    result = run_cli(file, "--run", "--out", out)
    assert result.exit_code == 0, result.output
    for word in ("predicted", "emulated", "star", "links that count most", "the prediction is exact"):
        assert word in result.output
    assert "predicted" in (out / "report.txt").read_text()
    assert "In what devices minimize together a sample counts" in (out / "report.txt").read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["relative_error"]["largest"] < 1e-10
    assert summary["predicted"]["loss"] == pytest.approx(summary["measured"]["loss"])
    frame = pd.read_parquet(out / "predicted.parquet")
    expected = predict(load_scenario(file)).frame()
    pd.testing.assert_frame_equal(frame, expected)
    assert len(pd.read_parquet(out / "measured.parquet")) == len(frame)
    plots = {path.name for path in (out / "plots").iterdir()}
    names = ("predicted_loss", "predicted_accuracy", "predicted_consensus", "relative_error")
    assert plots == {f"{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert load_scenario(out / "scenario.toml") == load_scenario(file)
    again = run_cli(file, "--out", out)
    assert again.exit_code == 2
    assert "--force" in again.output
    assert run_cli(file, "--out", out, "--force", "--no-plots", "--no-compare", "--quiet").output == ""
    assert not (out / "plots").exists()
    assert not (out / "measured.parquet").exists()
    assert not (out / "topologies.parquet").exists()


def test_options_of_the_command(file, tmp_path) -> None:
    common = (file, "--no-plots", "--out", tmp_path / "x", "--force")
    assert "gradient flow" in run_cli(*common, "--no-compare", "--flow").output
    assert "50 % accuracy" in run_cli(*common, "--target", "50 %").output
    lossy = ("--set", 'link.loss="30 %"', "--set", 'protocol.mode={ kind = "barrier", timeout = "2 s" }')
    assert "Warning: who has waited" in run_cli(*common, "--no-compare", *lossy).output
    several = run_cli(*common, "--no-compare", *lossy, "--runs", 5)
    assert "mean of 5 runs" in several.output, several.output
    assert "standard errors" in several.output
    assert json.loads((tmp_path / "x" / "summary.json").read_text())["mean_over_losses"] is True
    seeds = [run_cli(*common, "--no-compare", "--seed", seed).output for seed in (1, 2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--target", "150 %"], "--target = "),
        (["--memory", "4"], "--memory = "),
        (["--memory", "1 KiB"], "more than the"),
        (["--set", "train.learning_rate=9"], "must be below"),
        (["--set", "train.momentum=0.5"], "train.momentum = 0.5"),
    ],
)
def test_the_command_says_what_is_wrong(file, arguments, text) -> None:
    result = run_cli(file, *arguments)
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_of_dynamics_can_be_predicted(path) -> None:
    from p2pl_async.prediction.linearizing import method

    assert method(load_scenario(path)).rule in ("dgd", "cta", "atc")
