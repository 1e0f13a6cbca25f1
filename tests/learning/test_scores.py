"""Losses and scores: those of plain torch and scikit-learn, on labels, numbers and yes-or-no questions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from numpy.typing import NDArray
from torch import nn

from p2pl_async import ScenarioError, load_run, load_scenario, run
from p2pl_async.basics.randomness import stream
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Mlp, Model, Softmax
from p2pl_async.learning.partition import Dirichlet, Iid
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer
from p2pl_async.report.plots import write_plots
from p2pl_async.report.tables import final_table
from p2pl_async.results.run import Snapshot

SHAPE, N = (6,), 200
TORCH: dict[str, Any] = {
    "cross-entropy": nn.functional.cross_entropy,
    "squared": lambda outputs, y: 0.5 * (outputs - y).square().sum(1).mean(),
    "binary-cross-entropy": nn.functional.binary_cross_entropy_with_logits,
}
EVERY_METRIC = {"labels": ["accuracy", "balanced-accuracy", "f1"], "answers": ["accuracy", "f1"], "numbers": ["rmse"]}


def make_data(what: str, n: int = N) -> Dataset:
    random = np.random.default_rng(0)
    x = random.normal(size=(n, *SHAPE)).astype(np.float32)
    outputs = x @ random.normal(size=(6, 3)) + 0.3 * random.normal(size=(n, 3)) + [0.0, 0.0, 1.0]
    y: NDArray[Any] = outputs.argmax(1) if what == "labels" else outputs if what == "numbers" else outputs > 0
    return Dataset(what, x[60:], y[60:], x[:60], y[:60], 3)


def make(data: Dataset, parts: list[NDArray[np.int64]], model: Model | None = None, **how: Any) -> Trainer:
    train = {"learning_rate": 0.1, "batch_size": 5, "precision": "float64", **how.pop("train", {})}
    return Trainer(data, parts, model or Mlp(hidden=(7,)), TrainSettings(**train), 1, **how)


def trained(trainer: Trainer, device: int) -> NDArray[Any]:
    job = trainer.job(device, trainer.initial_params(device), epochs=2)
    trainer.compute([job])
    assert job.result is not None
    return job.result


def filled(model: Model, w: NDArray[Any]) -> nn.Module:
    module = model.build(SHAPE, 3).double()
    nn.utils.vector_to_parameters(torch.tensor(w), module.parameters())
    return module


class Lstm(Model):
    """A module computed one device at a time."""

    kind: str = "lstm"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn, self.out = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, n_classes)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                found: torch.Tensor = self.out(self.rnn(x.unsqueeze(2))[0][:, -1])
                return found

        return Net()


class Tanh(Model):
    """A module that is batched over devices by vmap."""

    kind: str = "tanh"

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, n_classes))


@pytest.mark.parametrize("model", [Mlp(hidden=(7,)), Tanh(), Lstm()], ids=lambda model: model.kind)
@pytest.mark.parametrize(
    ("loss", "what"),
    [("cross-entropy", "labels"), ("squared", "numbers"), ("binary-cross-entropy", "answers")],
)
def test_training_is_that_of_torch(model: Model, loss: str, what: str) -> None:
    data = make_data(what)
    parts = Iid().split(np.zeros(140, np.int64), 3, stream(0, "p"))
    trainer = make(data, parts, model, train={"loss": loss})
    for device, part in enumerate(parts[:2]):
        module = filled(model, np.asarray(trainer.initial_params(device)))
        optimizer, random = torch.optim.SGD(module.parameters(), lr=0.1), stream(1, "batches", device)
        for _ in range(2):
            order = random.permutation(part)
            for start in range(0, len(order), 5):
                rows = order[start : start + 5]
                optimizer.zero_grad()
                y = torch.tensor(data.y_train[rows])
                y = y if what == "labels" else y.double()
                TORCH[loss](module(torch.tensor(data.x_train[rows]).double()), y).backward()
                optimizer.step()
        expected = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
        np.testing.assert_allclose(trained(trainer, device), expected, rtol=1e-9, atol=1e-12)


def scikit(metric: str, outputs: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """What scikit-learn says."""
    found = outputs.argmax(1) if y.ndim == 1 else outputs > 0
    if metric == "rmse":
        return float(np.sqrt(sk.mean_squared_error(y, outputs, sample_weight=weights)))
    if metric == "accuracy":
        return float(np.average((found == y).reshape(len(y), -1).mean(1), weights=weights))
    if metric == "f1":
        return float(sk.f1_score(y, found, average="macro", sample_weight=weights))
    return float(sk.balanced_accuracy_score(y, found, sample_weight=weights))


@pytest.mark.parametrize("what", EVERY_METRIC)
def test_scores_are_those_of_scikit_learn(what: str) -> None:
    data = make_data(what)
    parts = [np.arange(70), np.arange(70, 140)]
    loss = {"labels": "cross-entropy", "answers": "binary-cross-entropy", "numbers": "squared"}[what]
    scenario = load_metrics(EVERY_METRIC[what])
    trainer = make(data, parts, train={"loss": loss}, metrics=scenario)
    trainer.engine._rows = 17  # several pieces of the test set
    params = [trained(trainer, device) for device in range(2)]
    scores = trainer.evaluate(params)
    for k, w in enumerate(params):
        outputs = filled(Mlp(hidden=(7,)), w)(torch.tensor(data.x_test).double()).detach().numpy()
        for metric in EVERY_METRIC[what]:
            found = scores.values[metric.replace("-", "_")][k]
            assert found == pytest.approx(scikit(metric, outputs, data.y_test, None), rel=1e-12)
            (score,) = (one for one in scenario if one.kind == metric)
            assert score.of(outputs, data.y_test, np.full(60, 1 / 60)) == pytest.approx(found, rel=1e-12)


def load_metrics(kinds: list[str]) -> Any:
    from p2pl_async.scenario.tables import Evaluate

    return Evaluate.model_validate({"metrics": kinds}).metrics


def test_own_scores_weigh_test_samples_as_the_device_holds_classes() -> None:
    data = make_data("labels")
    parts = Dirichlet(alpha=0.5).split(data.y_train, 4, stream(3, "p"))
    trainer = make(data, parts, metrics=load_metrics(["accuracy", "f1"]), own=True)
    w = trained(trainer, 0)
    scores = trainer.evaluate([w] * 4, devices=range(4))
    outputs = filled(Mlp(hidden=(7,)), w)(torch.tensor(data.x_test).double()).detach().numpy()
    hits = outputs.argmax(1) == data.y_test
    recall = np.array([hits[data.y_test == c].mean() for c in range(3)])
    for device, part in enumerate(parts):
        shares = np.bincount(data.y_train[part], minlength=3) / len(part)
        assert scores.values["own_accuracy"][device] == pytest.approx(shares @ recall)
        weights = (shares / np.bincount(data.y_test, minlength=3))[data.y_test]
        assert scores.values["own_f1"][device] == pytest.approx(scikit("f1", outputs, data.y_test, weights))
    assert len(set(scores.values["accuracy"])) == 1
    assert len(set(scores.values["own_accuracy"])) == 4


def test_own_scores_are_on_the_owners_of_the_device_where_data_have_owners() -> None:
    data = make_data("numbers")
    owned = Dataset(
        "owned", data.x_train, data.y_train, data.x_test, data.y_test, 3, np.arange(140) // 70, np.arange(60) // 20
    )
    trainer = make(owned, [np.arange(70), np.arange(70, 140)], train={"loss": "squared"}, own=True)
    w = trained(trainer, 0)
    outputs = filled(Mlp(hidden=(7,)), w)(torch.tensor(data.x_test).double()).detach().numpy()
    scores = trainer.evaluate([w, w], devices=[0, 1])
    for device in range(2):
        rows = slice(20 * device, 20 * device + 20)
        expected = np.sqrt(np.square(outputs[rows] - data.y_test[rows]).mean())
        assert scores.values["own_rmse"][device] == pytest.approx(expected)
    with pytest.raises(ScenarioError, match="needs labels, or the owners of training and test samples"):
        make(data, [np.arange(140)], train={"loss": "squared"}, own=True)
    lonely = Dataset(
        "lonely", *(owned.x_train, owned.y_train, owned.x_test, owned.y_test), 3, owned.owner, np.ones(60, int)
    )
    with pytest.raises(ScenarioError, match="of the owners of device 0 there is none"):
        make(lonely, [np.arange(70), np.arange(70, 140)], train={"loss": "squared"}, own=True)


@pytest.mark.parametrize(
    ("what", "loss", "metrics", "text"),
    [
        ("numbers", "cross-entropy", [], 'needs labels, and y of numbers are numbers; use "squared"'),
        ("numbers", "binary-cross-entropy", [], "needs y from 0 to 1, those of numbers reach from -"),
        ("numbers", "squared", ["accuracy"], "needs labels, or y of 0 and 1"),
        ("answers", "squared", ["balanced-accuracy"], "needs labels, and y of answers are numbers"),
        ("labels", "squared", ["rmse"], 'needs numbers to predict, and y of labels are labels; use "accuracy"'),
        ("labels", "squared", ["f1", "f1"], "must have names of their own, other than loss, has f1, f1"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(what: str, loss: str, metrics: list[str], text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        make(make_data(what), [np.arange(140)], train={"loss": loss}, metrics=load_metrics(metrics))


def test_labels_count_as_one_hot_for_losses_of_numbers() -> None:
    data = make_data("labels")
    hot = Dataset("hot", data.x_train, np.eye(3)[data.y_train], data.x_test, np.eye(3)[data.y_test], 3)
    for loss in ("squared", "binary-cross-entropy"):
        one, other = (trained(make(each, [np.arange(140)], Softmax(), train={"loss": loss}), 0) for each in (data, hot))
        np.testing.assert_allclose(one, other, rtol=1e-12)


SCENARIO = """
name = "numbers"
devices.count = 3
topology = "complete"
protocol.kind = "p2pl"
data.dataset = {{ kind = "npz", path = "d.npz" }}
model = {{ kind = "mlp", hidden = [8] }}
train = {{ learning_rate = 0.05, loss = "squared" }}
baselines = {{ local = true, central = true }}
stop = {stop}
evaluate = {evaluate}
"""


def write(folder: Path, stop: str, evaluate: str = "{}") -> Path:
    data = make_data("numbers")
    y_train, y_test = data.y_train[:, 0], data.y_test[:, 0]
    np.savez(folder / "d.npz", x_train=data.x_train, y_train=y_train, x_test=data.x_test, y_test=y_test)
    path = folder / "s.toml"
    path.write_text(SCENARIO.format(stop=stop, evaluate=evaluate))
    return path


def test_a_regression_runs_to_its_target_and_is_shown(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, "{ rounds = 60, metric = { mean = 0.75 } }"))
    seen: list[Snapshot] = []
    found = run(scenario, out=tmp_path / "out", progress=seen.append)
    summary = found.summary
    assert (summary["metric"], summary["stopped_by"], summary["accuracy"]) == ("rmse", "rmse", None)
    assert summary["target"]["reached"]
    assert summary["scores"]["rmse"]["mean"] <= 0.75
    assert {"accuracy", "accuracy_trained", "own_rmse"}.isdisjoint(found.metrics["metric"].unique())
    assert {"rmse", "rmse_trained", "loss"} <= set(found.metrics["metric"].unique())
    assert found.devices["rmse"].mean() == pytest.approx(summary["scores"]["rmse"]["mean"])
    assert found.devices["n_samples"].sum() == 140
    assert summary["baselines"]["central"]["scores"]["rmse"]["mean"] > 0
    assert any(snapshot.metric == "rmse" and snapshot.score for snapshot in seen)
    again = load_run(tmp_path / "out")
    text = shown(final_table(again))
    assert "mean rmse" in text
    assert "mean rmse at most 0.75: reached after" in text
    assert "accuracy" not in text
    assert write_plots(again)


def shown(renderable: Any) -> str:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_a_score_of_ones_own_and_a_loss_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, "{ rounds = 2 }", '{ metrics = ["rmse", "mine.py:Worst"], samples = 0 }')
    (tmp_path / "mine.py").write_text(
        "from p2pl_async import Score, TrainingLoss\n\n"
        "class Worst(Score):\n    lower_is_better = True\n    def of(self, outputs, y, weights):\n"
        "        return abs(outputs - y).max()\n\n"
        "class Huber(TrainingLoss):\n    delta: float = 1.0\n    def of_each(self, outputs, y):\n"
        "        from torch.nn.functional import huber_loss\n"
        "        return huber_loss(outputs, y, reduction='none', delta=self.delta).sum(1)\n\n"
        "class Mean(TrainingLoss):\n    def of_each(self, outputs, y):\n        return (outputs - y).mean()\n"
    )
    off = ["baselines.local=false", "baselines.central=false"]
    found = run(load_scenario(path, [*off, f'train.loss={{kind="{tmp_path}/mine.py:Huber",delta=1e6}}']))
    squared = run(load_scenario(path, off))
    assert set(found.summary["scores"]) == {"rmse", "Worst"}
    assert found.summary["scores"]["Worst"]["min"] > found.summary["scores"]["rmse"]["max"]
    assert found.summary["scores"]["rmse"]["mean"] == pytest.approx(squared.summary["scores"]["rmse"]["mean"], rel=1e-5)
    with pytest.raises(ScenarioError, match=r"is not among evaluate\.metrics"):
        load_scenario(path, ['stop.accuracy="90 %"'])
    with pytest.raises(ScenarioError, match=r"must return the loss of each sample.*mine\.py, line 15, returned shape"):
        run(load_scenario(path, [*off, f'train.loss="{tmp_path}/mine.py:Mean"']))


def test_a_run_whose_models_diverge_says_where_and_when(tmp_path: Path) -> None:
    path = write(tmp_path, "{ rounds = 8 }", '{ every = "1 s" }')
    off = ["baselines.local=false", "baselines.central=false"]
    seen: list[Snapshot] = []
    found = run(load_scenario(path, [*off, "train.learning_rate=1e9"]), progress=seen.append)
    first = found.metrics[(found.metrics["metric"] == "loss") & ~np.isfinite(found.metrics["value"])].iloc[0]
    lost = found.summary["not_finite"]
    assert (lost["device"], lost["virtual_seconds"]) == (first["device"], first["time_s"])
    assert seen[-1].diverged == (lost["device"], lost["virtual_seconds"])
    assert f"the loss of device {lost['device']} is not finite from" in shown(final_table(found))
    assert run(load_scenario(path, off)).summary["not_finite"] is None
