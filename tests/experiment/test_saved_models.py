"""Trained models: kept by a run, read back, loaded into torch, and started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from p2pl_async.errors import ScenarioError
from p2pl_async.experiment.running import run
from p2pl_async.learning.digits import Digits
from p2pl_async.learning.models import Mlp
from p2pl_async.results.run import load_run
from p2pl_async.scenario.reading.load import load_scenario
from p2pl_async.scenario.scenario import Scenario

OWN = '''
from torch import nn
from p2pl_async import Model

class Normalized(Model):
    """A network with batch normalization and a frozen layer."""
    kind: str = "normalized"

    def build(self, shape, n_classes):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, n_classes))
        module[1].requires_grad_(False)
        return module
'''


def scenario(model: Any, rounds: int = 1, devices: int = 3, **more: Any) -> Scenario:
    protocol = {"kind": "p2pl", "sync": "none"}
    tables: dict[str, Any] = {"devices": {"count": devices}, "protocol": protocol, "stop": {"rounds": rounds}}
    return Scenario.model_validate({**tables, "model": model, "evaluate": {"every": "100 s"}, **more})


def test_a_run_keeps_its_models_in_memory_or_in_files(tmp_path: Path) -> None:
    local: dict[str, Any] = {"baselines": {"local": True}}
    kept = run(scenario("softmax", 4, **local), save_models=True)
    written = run(scenario("softmax", 4, **local), save_models=True, out=tmp_path / "run")
    read = load_run(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "models").iterdir()) == [
        f"device-{device}.safetensors" for device in range(3)
    ]
    assert kept.params(0)["1.weight"].shape == (10, 64)
    for device in range(3):
        for one in (written, read):
            for name, values in kept.params(device).items():
                np.testing.assert_array_equal(one.params(device)[name], values)
    alone, together = read.baselines["local"].params(0), read.params(0)
    assert not np.array_equal(alone["1.weight"], together["1.weight"])


def test_torch_loads_a_saved_model_and_finds_the_accuracy_of_the_run(tmp_path: Path) -> None:
    table = {"kind": "mlp", "hidden": [7]}
    result = run(scenario(table, 2), save_models=True, out=tmp_path / "run")
    module = Mlp(hidden=(7,)).build((8, 8), 10)
    data = Digits().load()
    for device, told in enumerate(result.devices["accuracy"]):
        tensors = load_file(tmp_path / "run" / "models" / f"device-{device}.safetensors")
        module.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
        found = module(torch.tensor(data.x_test)).argmax(1).numpy() == data.y_test
        assert found.mean() == pytest.approx(told)


def test_models_are_only_kept_if_asked_for(tmp_path: Path) -> None:
    result = run(scenario("softmax"), out=tmp_path / "run")
    assert not (tmp_path / "run" / "models").exists()
    with pytest.raises(ScenarioError, match="has no models; run with --save-models"):
        result.params(0)
    with pytest.raises(ScenarioError, match=r"no model of device 7; it has those of 3, 0 to 2"):
        run(scenario("softmax"), save_models=True).params(7)


def test_replacing_a_result_replaces_its_models(tmp_path: Path) -> None:
    run(scenario("softmax", devices=4), save_models=True, out=tmp_path / "run")
    run(scenario("softmax"), save_models=True, out=tmp_path / "run", force=True)
    assert len(list((tmp_path / "run" / "models").iterdir())) == 3
    run(scenario("softmax"), out=tmp_path / "run", force=True)
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_a_second_phase_starts_where_the_first_ended_device_by_device(tmp_path: Path, buffers: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    model = {"kind": f"{tmp_path}/own.py:Normalized", "buffers": buffers}
    first = run(scenario(model, 2), save_models=True, out=tmp_path / "first")
    # A step so small that it changes nothing leaves what the second phase has started from.
    still: dict[str, Any] = {"train": {"learning_rate": 1e-30, "batch_size": "all"}, "protocol": "local"}
    second = run(scenario({**model, "init": str(tmp_path / "first")}, **still), save_models=True)
    for device in range(3):
        end = first.params(device)
        for name in ("1.weight", "2.weight", "3.bias"):
            np.testing.assert_array_equal(second.params(device)[name], end[name])
        # One more batch has entered the running statistics: they went on from those of the file.
        before, after = end["2.num_batches_tracked"], second.params(device)["2.num_batches_tracked"]
        assert after == before + 1
        rows = second.params(device)["2.running_mean"] - 0.9 * end["2.running_mean"]
        assert np.abs(rows).max() < 0.2
    assert not np.array_equal(first.params(0)["3.bias"], first.params(1)["3.bias"])


def test_one_file_starts_every_device(tmp_path: Path) -> None:
    run(scenario("softmax"), save_models=True, out=tmp_path / "run")
    file = tmp_path / "run" / "models" / "device-1.safetensors"
    (tmp_path / "s.toml").write_text(
        'devices.count = 5\nprotocol.kind = "local"\nstop.rounds = 1\ntrain.learning_rate = 1e-30\n'
        'model = { kind = "softmax", init = "run/models/device-1.safetensors" }\n'
    )
    result = run(load_scenario(tmp_path / "s.toml"), save_models=True)
    for device in range(5):
        np.testing.assert_array_equal(result.params(device)["1.weight"], load_file(file)["1.weight"])


def refused(model: dict[str, Any], match: str, devices: int = 3) -> None:
    with pytest.raises(ScenarioError, match=match):
        run(scenario(model, devices=devices))


def test_models_that_do_not_fit_are_refused_with_their_numbers(tmp_path: Path) -> None:
    run(scenario({"kind": "mlp", "hidden": [7]}), save_models=True, out=tmp_path / "run")
    path = str(tmp_path / "run")
    refused({"kind": "mlp", "hidden": [6], "init": path}, r"1.weight is \(7, 64\) there, the model has \(6, 64\); 1.b")
    refused({"kind": "softmax", "init": path}, r"\(10, 64\); .*3.bias \(10,\) is there, the model has none")
    refused({"kind": "mlp", "hidden": [7, 10], "init": path}, r"5.weight \(10, 10\) is missing there")
    refused({"kind": "mlp", "hidden": [7], "init": path}, "models of 3 devices, 0 to 2; none of device 3", devices=4)


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\x08\0\0\0\0\0\0\0{}      tail"])
def test_a_file_that_is_no_model_is_one_message(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    refused({"kind": "softmax", "init": str(file)}, r"model\.init = .*\n.*isn't a safetensors file")


def test_a_tensor_of_another_type_becomes_the_run_s(tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    save_file({"1.weight": np.ones((10, 64), np.float16), "1.bias": np.ones(10, np.float64)}, file)
    still: dict[str, Any] = {"train": {"learning_rate": 1e-30}, "protocol": "local"}
    result = run(scenario({"kind": "softmax", "init": str(file)}, **still), save_models=True)
    assert result.params(0)["1.weight"].dtype == np.float32
    assert (result.params(0)["1.weight"] == 1).all()


@pytest.mark.parametrize(("init", "text"), [("hee", 'is no file or folder; else write "default"'), (".", "no models")])
def test_a_start_that_is_not_there_is_a_mistake_in_the_file(tmp_path: Path, init: str, text: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'devices.count = 5\nprotocol.kind = "local"\nstop.rounds = 1\nmodel = {{ kind = "mlp", init = "{init}" }}\n'
    )
    with pytest.raises(ScenarioError, match=text):
        load_scenario(path)
    path.write_text(path.read_text().replace(f'"{init}"', '"he"'))
    assert load_scenario(path).model.init == "he"
