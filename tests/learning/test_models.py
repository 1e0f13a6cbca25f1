"""Models: their shapes, and how their parameters start."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from p2pl_async.errors import ScenarioError
from p2pl_async.learning.models import (
    AnyModel,
    Cnn,
    LeNet,
    Lstm,
    Mlp,
    Model,
    ResNet18,
    ResNet20,
    Softmax,
    Transformer,
    Vgg11,
)

ADAPTER: TypeAdapter[Model] = TypeAdapter(AnyModel)
KINDS = ["softmax", "mlp", "lenet", "cnn", "vgg-11", "resnet-20", "resnet-18", "lstm", "transformer"]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("hidden", [(), (5,), (7, 6, 5)])
@pytest.mark.parametrize("shape", [(9,), (3, 3), (1, 3, 3)])
def test_an_mlp_has_the_layers_asked_for(hidden: tuple[int, ...], shape: tuple[int, ...]) -> None:
    module = Mlp(hidden=hidden).build(shape, 4)
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [*hidden, 4]
    assert sum(isinstance(layer, nn.ReLU) for layer in module.modules()) == len(hidden)
    assert module(torch.zeros(2, *shape)).shape == (2, 4)


def test_the_paper_s_perceptron_has_199210_parameters() -> None:
    assert count(Mlp(hidden=(200, 200)).build((28, 28), 10)) == 199_210


def test_an_mlp_takes_tanh() -> None:
    module = Mlp(hidden=(5,), activation="tanh").build((9,), 4)
    assert sum(isinstance(layer, nn.Tanh) for layer in module.modules()) == 1
    assert not any(isinstance(layer, nn.ReLU) for layer in module.modules())


def test_softmax_regression_is_one_linear_layer() -> None:
    assert count(Softmax().build((8, 8), 10)) == 650


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (1, 28, 28), (3, 9, 7)])
def test_lenet_takes_images(shape: tuple[int, ...]) -> None:
    assert LeNet().build(shape, 10)(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(64,), (3, 3), (1, 1, 28, 28)])
def test_lenet_takes_nothing_else(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScenarioError, match=r'images of at least 4 x 4 pixels.*use kind = "mlp"'):
        LeNet().build(shape, 10)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(
    ("kind", "parameters"), [("resnet-20", 269_722), ("resnet-18", 11_173_962), ("vgg-11", 9_228_362)]
)
def test_a_published_network_has_its_published_size(kind: str, parameters: int, norm: str) -> None:
    module = ADAPTER.validate_python({"kind": kind, "norm": norm}).build((3, 32, 32), 10)
    assert count(module) == parameters
    assert any(isinstance(part, nn.GroupNorm) for part in module.modules()) == (norm == "group")
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules()) == (norm == "batch")


def test_the_cnn_of_the_fedavg_paper_has_1663370_parameters() -> None:
    assert count(Cnn().build((28, 28), 10)) == 1_663_370


@pytest.mark.parametrize("kind", ["resnet-20", "resnet-18", "vgg-11", "cnn"])
def test_without_normalization_convolutions_have_biases(kind: str) -> None:
    parts = list(ADAPTER.validate_python({"kind": kind, "norm": "none"}).build((3, 32, 32), 10).modules())
    assert not any(isinstance(part, nn.GroupNorm | nn.BatchNorm2d) for part in parts)
    assert all(part.bias is not None for part in parts if isinstance(part, nn.Conv2d))


@pytest.mark.parametrize("channels", [6, 16, 24, 40, 64])
def test_groups_of_channels_have_sixteen_or_a_few_more(channels: int) -> None:
    [norm] = [
        part
        for part in Cnn(channels=(channels,), norm="group").build((8, 8), 2).modules()
        if isinstance(part, nn.GroupNorm)
    ]
    assert channels / norm.num_groups in {6, 16, 24, 20}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Cnn(), (28, 28)),
        (Cnn(channels=(3, 4, 5), kernel=3, pooling="average", hidden=(), norm="batch"), (3, 9, 11)),
        (Cnn(channels=(4,), pooling="none", norm="group"), (8, 8)),
        (Cnn(dimensions=1, norm="batch"), (6, 128)),
        (ResNet20(), (28, 28)),
        (Vgg11(), (1, 32, 64)),
        (Lstm(), (28, 28)),
        (Lstm(layers=2), (50,)),
        (Lstm(), (3, 5, 7)),
        (Lstm(time="last"), (6, 128)),
        (Lstm(vocabulary=9, embedding=3), (12,)),
        (Transformer(), (28, 28)),
        (Transformer(time="last", width=6, heads=3), (6, 16)),
        (Transformer(patch=4, dropout=0.1), (3, 8, 12)),
        (Transformer(patch=7), (28, 28)),
        (Transformer(vocabulary=9), (12,)),
    ],
)
def test_a_model_takes_samples_of_its_shape(model: Model, shape: tuple[int, ...]) -> None:
    assert model.module(shape, 4, 1).eval()(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("model", [Cnn(), ResNet20(), Vgg11()])
def test_a_convolutional_network_computes_channels_last(model: Model) -> None:
    module = model.build((3, 32, 32), 10)
    seen: list[Tensor] = []
    conv = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    conv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    module(torch.zeros(2, 3, 32, 32))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_an_lstm_takes_the_steps_of_a_signal_in_their_order() -> None:
    steps = Lstm(time="last").build((2, 3), 4)[0]  # type: ignore[index]
    assert torch.equal(steps(torch.arange(6.0).view(1, 2, 3)), torch.tensor([[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]]))
    steps = Lstm().build((2, 2, 2), 4)[0]  # type: ignore[index]
    assert torch.equal(steps(torch.arange(8.0).view(1, 2, 2, 2)), torch.tensor([[[0.0, 1, 4, 5], [2.0, 3, 6, 7]]]))


def test_patches_are_squares_of_the_image() -> None:
    patches = Transformer(patch=2).build((4, 4), 2)[1]  # type: ignore[index]
    squares = patches(torch.arange(16.0).view(1, 1, 4, 4))
    assert squares[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@pytest.mark.parametrize(
    ("model", "shape", "text"),
    [
        (Cnn(), (64,), r"images of at least 4 x 4 pixels.*\(64,\)"),
        (Cnn(channels=(4,) * 4), (8, 8), "images of at least 16 x 16 pixels"),
        (Cnn(dimensions=1), (3, 32, 32), r"signals .channels, length. .*leave out model\.dimensions"),
        (ResNet18(), (3, 4, 4), "at least 8 x 8"),
        (Vgg11(), (28, 28), "at least 32 x 32"),
        (Transformer(patch=5), (28, 28), "must divide the sides of the images, 28 x 28"),
    ],
)
def test_samples_that_do_not_fit_are_refused(model: Model, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        model.build(shape, 10)


def test_a_word_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(ValueError, match="words 2 to 9, vocabulary allows 0 to 8"):
        Lstm(vocabulary=9).build((2,), 4)(torch.tensor([[9.0, 2.0]]))


@pytest.mark.parametrize(("init", "variance"), [("he", 2 / 400), ("xavier", 2 / (400 + 300))])
def test_weights_start_with_the_variance_of_their_init(init: Literal["he", "xavier"], variance: float) -> None:
    module = Mlp(hidden=(300,), init=init).module((400,), 10, 1)
    weight, bias = list(module.parameters())[:2]
    # 120,000 normal draws: the variance is off by 0.4 % (one sigma).
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    assert not bias.any()


def test_the_default_init_is_pytorch_s() -> None:
    module = Softmax().module((400,), 10, 7)
    torch.manual_seed(7)
    expected = nn.Linear(400, 10)
    assert torch.equal(next(module.parameters()), expected.weight)


@pytest.mark.parametrize("init", ["default", "he", "xavier"])
def test_a_seed_gives_the_same_parameters_whatever_torch_drew_before(init: Any) -> None:
    ends = []
    for seed in (1, 1, 2):
        torch.rand(3)
        ends.append(nn.utils.parameters_to_vector(Mlp(init=init).module((9,), 4, seed).parameters()))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("init", ["default", "he", "xavier"])
def test_the_random_state_of_torch_is_left_alone(init: Any) -> None:
    state = torch.random.get_rng_state()
    Mlp(init=init).module((9,), 4, 1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("table", [*KINDS, {"kind": "mlp", "hidden": [3, 2], "activation": "tanh"}])
def test_a_scenario_chooses_a_model_by_its_kind(table: Any) -> None:
    model = ADAPTER.validate_python(table)
    assert ADAPTER.validate_python(model.model_dump(mode="json")) == model
    assert (type(model).__doc__ or "").strip()


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "cnn", "kernel": 4},
        {"kind": "cnn", "channels": []},
        {"kind": "transformer", "width": 10, "heads": 4},
        {"kind": "transformer", "patch": 4, "vocabulary": 10},
        "mpl",
        {"kind": "mlp", "hidden": [0]},
        {"kind": "mlp", "activation": "gelu"},
        {"kind": "lenet", "x": 1},
    ],
)
def test_a_wrong_table_is_an_error(table: Any) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(table)


OWN = '''
import math
from p2pl_async.learning.models import Model

class Wide(Model):
    """A model of a user's own."""
    width: int = 3

    def build(self, shape, n_classes):
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), self.width), nn.GELU(),
                             nn.Linear(self.width, n_classes))
'''


def test_a_model_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    model = ADAPTER.validate_python({"kind": f"{file}:Wide", "width": 7, "init": "he"})
    module = model.module((2, 2), 3, 1)
    assert count(module) == 4 * 7 + 7 + 7 * 3 + 3
    assert ADAPTER.validate_python(model.model_dump(mode="json")) == model
    with pytest.raises(ValidationError, match="wide"):
        ADAPTER.validate_python({"kind": f"{file}:Wide", "wide": 7})


def test_settings_do_not_import_torch_or_sklearn() -> None:
    modules = ["data", "partition", "models", "trainer"]
    heavy = ["torch", "sklearn", "scipy", "pandas", "pooch"]
    code = "import sys; " + "; ".join(f"import p2pl_async.learning.{module}" for module in modules)
    code += f"; assert not [name for name in {heavy} if name in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_mlp_initialised_with_he_keeps_the_size_of_its_signal() -> None:
    module = Mlp(hidden=(500, 500), init="he").module((500,), 500, 3)
    assert isinstance(module, nn.Sequential)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 500))).float()
    sizes = []
    for layer in module:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            sizes.append(x.var().item())
    # The first input is normal and not rectified, so everything after has twice its variance.
    assert all(a == pytest.approx(b, rel=0.15) for a, b in itertools.pairwise(sizes))
    assert math.isclose(sizes[0], 2.0, rel_tol=0.1)
