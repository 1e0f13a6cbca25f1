"""Models of many kinds, trained by the trainer and by a plain torch loop on the same batches: the same parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2pl_async.basics.randomness import stream
from p2pl_async.errors import ProtocolError, ScenarioError
from p2pl_async.learning import networks
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.dense import DenseNetwork
from p2pl_async.learning.job import Job
from p2pl_async.learning.models import Cnn, LeNet, Lstm, Mlp, Model, ResNet18, ResNet20, Transformer, Vgg11
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer

SEED, RATE, BATCH, CLASSES, SHAPE = 5, 0.1, 4, 3, (3, 8, 8)
SIZES = [11, 6, 14]  # samples of each device: their last batches are short
Make = Callable[[], nn.Module]


def make_data(shape: tuple[int, ...] = SHAPE) -> Dataset:
    random = np.random.default_rng(1)
    n = sum(SIZES)
    x = random.normal(size=(n + 20, *shape)).astype(np.float32)
    y = random.integers(CLASSES, size=n + 20)
    return Dataset("noise", x[:n], y[:n], x[n:], y[n:], CLASSES)


DATA = make_data()
PARTS = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


class Any_(Model):
    """A model whose module the test gives."""

    kind: str = "any"
    name: str
    makers: ClassVar[dict[str, Make]] = {}

    def build(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return self.makers[self.name]()


def a_model(make: Make, **options: Any) -> Model:
    name = str(len(Any_.makers))
    Any_.makers[name] = make
    return Any_(name=name, **options)


def make_trainer(
    model: Model, precision: Literal["float32", "float64"] = "float64", data: Dataset = DATA, **options: Any
) -> Trainer:
    options = {"learning_rate": RATE, "batch_size": BATCH, "precision": precision} | options
    return Trainer(data, PARTS, model, TrainSettings(**options), SEED)


def trained(trainer: Trainer, epochs: int = 2, rounds: int = 1) -> list[NDArray[Any]]:
    """Return each device's parameters after some rounds of training, all devices computed together."""
    params = [trainer.initial_params(device) for device in range(len(SIZES))]
    for _ in range(rounds):
        jobs = [trainer.job(device, w, epochs=epochs) for device, w in enumerate(params)]
        trainer.compute(jobs)
        for job in jobs:
            trainer.land(job)
        params = [result_of(job) for job in jobs]
    return params


def result_of(job: Job) -> NDArray[Any]:
    assert job.result is not None
    return job.result


def module_of(model: Model, device: int, data: Dataset = DATA) -> nn.Module:
    return model.module(data.x_train.shape[1:], CLASSES, int(stream(SEED, "init", device).integers(2**63)))


def by_torch(model: Model, device: int, epochs: int = 2, jobs: int = 1, **options: Any) -> nn.Module:
    """Return a device's module after training it as everybody writes it.

    What isn't sent is at first that of device 0; each job of `epochs` seeds torch's generator.
    """
    module = module_of(model, device).to(torch.float64)
    shared = module_of(model, 0).to(torch.float64)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad and not model.send_frozen:
            parameter.data = shared.get_parameter(name).data
    for name, buffer in module.named_buffers():
        buffer.data = shared.get_buffer(name).data
    module.train()
    random = stream(SEED, "batches", device)
    for job in range(jobs):
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=RATE, **options)
        torch.manual_seed(int(stream(SEED, "dropout", device, job).integers(2**63)))
        for _ in range(epochs):
            order = random.permutation(PARTS[device])
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                optimizer.zero_grad()
                x, y = torch.tensor(DATA.x_train[rows], dtype=torch.float64), torch.tensor(DATA.y_train[rows])
                nn.functional.cross_entropy(module(x), y).backward()
                optimizer.step()
    return module


def flat(module: nn.Module, names: Any = None) -> NDArray[Any]:
    values = [p for _, p in module.named_parameters() if p.requires_grad] if names is None else names(module)
    return np.concatenate([value.detach().numpy().ravel() for value in values])


@pytest.fixture(autouse=True)
def _torch_is_left_alone() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WIDTH = math.prod(SHAPE)


def shared_activation() -> nn.Module:
    act = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 7), act, nn.Linear(7, 6), act, nn.Linear(6, CLASSES))


def shared_linear() -> nn.Module:
    layer = nn.Linear(7, 7)
    parts = [nn.Linear(WIDTH, 7), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(7, CLASSES)]
    return nn.Sequential(nn.Flatten(), *parts)


def tied_weights() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 7))
    module[5].weight = module[3].weight
    return nn.Sequential(*module, nn.Tanh(), nn.Linear(7, CLASSES))


def frozen_backbone() -> nn.Module:
    module = shared_activation()
    assert isinstance(module, nn.Sequential)
    for parameter in module[1].parameters():
        parameter.requires_grad = False
    return module


def hooked() -> nn.Module:
    """A dense network whose first layer's output a hook doubles."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    module[1].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return module


def pictures(*layers: nn.Module, outputs: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), *layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
    )


class Recurrent(nn.Module):
    """An image read row by row."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(24, 5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.rnn(x.transpose(1, 2).flatten(2))
        logits: Tensor = self.head(outputs[:, -1])
        return logits


class Attention(nn.Module):
    """torch's own transformer layer, with a constant buffer of positions."""

    positions: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.register_buffer("positions", torch.randn(8, 24))
        self.layer = nn.TransformerEncoderLayer(24, 2, 16, dropout, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.transpose(1, 2).flatten(2) + self.positions)
        logits: Tensor = self.head(h.mean(1))
        return logits


class Embedded(nn.Module):
    """Features as words of a small vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(x.flatten(1).abs().long().clamp(max=4)).mean(1))
        return logits


class Mixing(nn.Module):
    """Takes the batch's mean from each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1) - x.flatten(1).mean(0))
        return logits


class Branching(nn.Module):
    """Decides by the values that it gets, which vmap can't."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.first(row) if row.sum() > 0 else self.second(row) for row in x.flatten(1)]
        return torch.stack(rows)


class Centered(nn.Module):
    """Keeps a running mean in a buffer that it replaces instead of changing it."""

    center: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.center = 0.9 * self.center + 0.1 * x.flatten(1).mean(0)
        logits: Tensor = self.head(x.flatten(1) - self.center)
        return logits


class SummedBiases(nn.Module):
    """Two biases whose gradients autograd returns as one tensor, and one that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.a, self.b = nn.Parameter(torch.zeros(CLASSES)), nn.Parameter(torch.ones(CLASSES))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1)) + (self.a + self.b)
        return logits


def dense(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 7), *layers, nn.ReLU(), nn.Linear(7, CLASSES))


def shipped(model: Model) -> Make:
    return lambda: model.build(SHAPE, CLASSES)


SMALL = {"channels": (4, 6), "kernel": 3, "hidden": (5,)}
DENSE, VMAPPED, ITSELF = DenseNetwork, networks.Vmapped, networks.ModuleItself
KINDS: dict[str, tuple[Make, type[Any]]] = {
    "dense": (dense, DENSE),
    "shared activation": (shared_activation, DENSE),
    "without biases": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, CLASSES, bias=False)), DENSE),
    "shared linear layer": (shared_linear, VMAPPED),
    "tied weights": (tied_weights, VMAPPED),
    "frozen backbone": (frozen_backbone, VMAPPED),
    "hook": (hooked, VMAPPED),
    "summed biases": (SummedBiases, VMAPPED),
    "weight norm": (
        lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, CLASSES))),
        ITSELF,
    ),
    "layer norm": (lambda: dense(nn.LayerNorm(7)), VMAPPED),
    "dropout of nothing": (lambda: dense(nn.Dropout(0.0)), VMAPPED),
    "dropout": (lambda: dense(nn.Dropout(0.3)), ITSELF),
    "batch norm": (lambda: dense(nn.BatchNorm1d(7)), ITSELF),
    "convolution": (pictures, VMAPPED),
    "convolution, group norm": (lambda: pictures(nn.GroupNorm(2, 4)), VMAPPED),
    "convolution, instance norm": (lambda: pictures(nn.InstanceNorm2d(4, affine=True)), ITSELF),
    "convolution, batch norm": (lambda: pictures(nn.BatchNorm2d(4)), ITSELF),
    "convolution, dropout": (lambda: pictures(nn.Dropout2d(0.2)), ITSELF),
    "spectral norm": (
        lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, CLASSES))),
        ITSELF,
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), ITSELF),
    "gru": (lambda: Recurrent(nn.GRU), ITSELF),
    "rnn": (lambda: Recurrent(nn.RNN), ITSELF),
    "transformer": (lambda: Attention(0.0), ITSELF),
    "transformer, dropout": (lambda: Attention(0.1), ITSELF),
    "embedding": (Embedded, VMAPPED),
    "samples mixed": (Mixing, ITSELF),
    "branches": (Branching, ITSELF),
    "replaced buffer": (Centered, ITSELF),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(7), nn.ReLU(), nn.LazyLinear(CLASSES)), DENSE),
    "the cnn": (shipped(Cnn(**SMALL)), VMAPPED),
    "the cnn, average pooling, group norm": (shipped(Cnn(**SMALL, pooling="average", norm="group")), VMAPPED),
    "the cnn, no pooling, batch norm": (shipped(Cnn(**SMALL, pooling="none", norm="batch")), ITSELF),
    "the resnet-20, group norm": (shipped(ResNet20()), ITSELF),
    "the resnet-20, batch norm": (shipped(ResNet20(norm="batch")), ITSELF),
    "the lstm": (shipped(Lstm(hidden=5, layers=2)), ITSELF),
    "the transformer": (shipped(Transformer(width=8, heads=2, layers=1)), ITSELF),
    "the transformer of patches, dropout": (
        shipped(Transformer(width=8, heads=2, layers=1, patch=4, dropout=0.1)),
        ITSELF,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_trained_as_by_torch(name: str) -> None:
    make, network = KINDS[name]
    model = a_model(make, buffers="local")
    trainer = make_trainer(model, momentum=0.9, weight_decay=0.1)
    assert type(trainer.engine.network) is network
    for device, w in enumerate(trained(trainer)):
        expected = flat(by_torch(model, device, momentum=0.9, weight_decay=0.1))
        np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("model", [ResNet18(norm="batch", buffers="local"), Vgg11(norm="none")])
def test_a_step_of_a_large_model_is_that_of_torch(model: Model) -> None:
    data = make_data((3, 32, 32)) if isinstance(model, Vgg11) else DATA
    trainer = make_trainer(model, "float32", data)
    job = trainer.job(1, trainer.initial_params(1), steps=1)
    trainer.compute([job])
    module = module_of(model, 1, data)
    rows = stream(SEED, "batches", 1).permutation(PARTS[1])[:BATCH]
    x, y = torch.tensor(data.x_train[rows]), torch.tensor(data.y_train[rows])
    nn.functional.cross_entropy(module(x), y).backward()
    torch.optim.SGD(module.parameters(), lr=RATE).step()
    np.testing.assert_allclose(result_of(job), flat(module), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["dense", "layer norm", "convolution, batch norm", "lstm", "transformer, dropout"])
def test_float32_differs_by_rounding_alone(name: str) -> None:
    model = a_model(KINDS[name][0], buffers="local")
    for device, w in enumerate(trained(make_trainer(model, "float32"))):
        expected = flat(by_torch(model, device))
        if name != "transformer, dropout":  # in float32 dropout draws other masks than in float64
            np.testing.assert_allclose(w, expected, atol=2e-6)
        assert w.dtype == np.float32


@pytest.mark.parametrize("name", ["batch norm", "convolution, batch norm", "replaced buffer", "spectral norm"])
@pytest.mark.parametrize("buffers", ["average", "local"])
def test_buffers_are_trained_as_by_torch_and_used_in_tests(name: str, buffers: Literal["average", "local"]) -> None:
    model = a_model(KINDS[name][0], buffers=buffers)
    trainer = make_trainer(model)
    params = trained(trainer, epochs=1, rounds=2)
    scores = trainer.evaluate(params, devices=range(len(SIZES)))
    assert trainer.by_device == (buffers == "local" or name == "batch norm" or name == "convolution, batch norm")
    for device, w in enumerate(params):
        if buffers == "average" and name == "spectral norm":
            continue  # its buffers are drawn, and those that are sent are each device's own
        module = by_torch(model, device, jobs=2, epochs=1).eval()
        expected = flat(module)
        if buffers == "average":
            values = [value for value in module.buffers() if value.is_floating_point()]
            expected = np.concatenate([expected, *(value.detach().numpy().ravel() for value in values)])
        np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)
        x, y = torch.tensor(DATA.x_test, dtype=torch.float64), torch.tensor(DATA.y_test)
        loss = nn.functional.cross_entropy(module(x), y).item()
        assert scores.loss[device] == pytest.approx(loss, rel=1e-6)


def test_momentum_decay_and_clipping_leave_averaged_buffers_alone() -> None:
    model = a_model(KINDS["batch norm"][0], buffers="average")
    trainer = make_trainer(model, momentum=0.9, weight_decay=0.5)
    module = by_torch(model, 1, momentum=0.9, weight_decay=0.5)
    expected = flat(module, lambda module: [*module.parameters(), module[2].running_mean, module[2].running_var])
    np.testing.assert_allclose(trained(trainer)[1], expected, rtol=1e-6, atol=1e-9)


def test_local_buffers_are_seen_when_the_job_has_landed() -> None:
    trainer = make_trainer(a_model(KINDS["batch norm"][0], buffers="local"))
    w = trainer.initial_params(0)
    before = trainer.evaluate([w], devices=[0]).loss[0]
    job = trainer.job(0, w, epochs=1)
    trainer.compute([job])
    assert trainer.evaluate([w], devices=[0]).loss[0] == before
    trainer.land(job)
    after = trainer.evaluate([w], devices=[0]).loss[0]
    assert after != before
    assert trainer.evaluate([w], devices=[1]).loss[0] == before
    trainer.forget(0)
    assert trainer.evaluate([w], devices=[0]).loss[0] == before


def test_a_gradient_of_averaged_buffers_is_refused() -> None:
    trainer = make_trainer(a_model(KINDS["batch norm"][0], buffers="average"))
    with pytest.raises(ProtocolError, match=r'set model\.buffers = "local"'):
        trainer.gradient_job(0, trainer.initial_params(0))


def test_frozen_parameters_stay_and_are_sent_if_asked() -> None:
    kept, sent = (make_trainer(a_model(frozen_backbone, send_frozen=asked)) for asked in (False, True))
    frozen = 7 * WIDTH + 7
    assert sent.n_params == kept.n_params + frozen
    start = sent.initial_params(1)
    after = trained(sent)[1]
    np.testing.assert_array_equal(after[-frozen:], start[-frozen:])
    assert np.abs(after[:-frozen] - start[:-frozen]).max() > 0
    model = a_model(frozen_backbone, send_frozen=True)
    np.testing.assert_allclose(after[:-frozen], flat(by_torch(model, 1)), rtol=1e-6, atol=1e-9)
    job = sent.gradient_job(1, start)
    sent.compute([job])
    assert not result_of(job)[-frozen:].any()


def test_he_leaves_frozen_parameters_and_scales_of_normalizations_alone() -> None:
    def make() -> nn.Module:
        module = dense(nn.BatchNorm1d(7))
        nn.init.constant_(module.get_parameter("1.weight"), 0.25).requires_grad_(False)
        return module

    module = module_of(a_model(make, init="he"), 0)
    assert (module.get_parameter("1.weight") == 0.25).all()
    assert (module.get_parameter("2.weight") == 1).all()
    assert not module.get_parameter("4.bias").any()


def test_dropout_differs_by_device_and_job_and_leaves_torch_alone() -> None:
    model = a_model(KINDS["dropout"][0], common_init=True)
    state = torch.random.get_rng_state()
    trainer, again = make_trainer(model, batch_size="all"), make_trainer(model, batch_size="all")
    w = trainer.initial_params(0)
    jobs = [trainer.gradient_job(0, w) for _ in range(2)]
    trainer.compute(jobs)
    assert not np.array_equal(result_of(jobs[0]), result_of(jobs[1]))
    later = [again.gradient_job(0, w) for _ in range(2)]
    again.compute(later[1:])  # in another order, alone
    np.testing.assert_array_equal(result_of(later[1]), result_of(jobs[1]))
    assert torch.equal(torch.random.get_rng_state(), state)
    one, other = trainer.evaluate([w]), trainer.evaluate([w])
    assert one.loss == other.loss


@pytest.mark.parametrize(
    "model",
    [
        Mlp(hidden=(200, 200)),
        LeNet(),
        a_model(lambda: dense(nn.LayerNorm(7))),
        a_model(lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 36, CLASSES))),
        a_model(KINDS["transformer, dropout"][0]),
    ],
    ids=["mlp", "lenet", "layer norm", "64 channels", "dropout"],
)
def test_bits_do_not_depend_on_the_number_of_threads(model: Model) -> None:
    ends = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        trainer = make_trainer(model, "float32", batch_size=14)
        assert trainer._crew.size == (1 if trainer.engine.findings.draws else threads)
        params = trained(trainer, epochs=2)
        assert torch.get_num_threads() == threads
        scores = trainer.evaluate(params)
        ends.append([*params, scores.accuracy, scores.loss])
    for other in ends[1:]:
        for a, b in zip(ends[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_evaluation_counts_feature_maps() -> None:
    """Two convolutions of 16 channels on 100 devices: the stacked feature maps of 500 images would take GiBs."""

    def make() -> nn.Module:
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, CLASSES))

    trainer = make_trainer(a_model(make), "float32")
    engine = trainer.engine
    maps = 2 * 16 * 64  # values that the activations of one sample have, which the gradient needs
    assert maps <= engine.findings.saved_values <= 2 * maps
    assert engine.group * engine._rows * 4 * maps < 256 * 2**20
    assert engine.group * BATCH * 4 * maps < 256 * 2**20


def returns(value: object) -> Make:
    return lambda: value  # type: ignore[return-value]


def fails() -> nn.Module:
    raise KeyError("layers")


class Asserting(nn.Module):
    """Wrong: it expects other samples."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 1
        logits: Tensor = self.head(x.flatten(1))
        return logits


class Unrepeatable(nn.Module):
    """Wrong: it draws from numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        noise = np.random.default_rng().normal()
        logits: Tensor = self.head(x.flatten(1)) + noise
        return logits


class Tuple_(nn.Module):
    """Wrong: it returns a tuple, as nn.LSTM does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.head(x.flatten(1)), None


class Detached(nn.Module):
    """Wrong: its outputs have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1)).detach()
        return logits


def frozen() -> nn.Module:
    return dense().requires_grad_(False)


HERE = r"test_against_torch\.py, line \d+"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (returns(None), f"build.* must return a torch.nn.Module; that of .*{HERE} returned NoneType"),
        (fails, f"build.* must return a torch.nn.Module; .*{HERE}, in fails: KeyError: 'layers'"),
        (Asserting, f"samples .batch, 3, 8, 8. .*{HERE}, in forward: AssertionError: assert"),
        (Unrepeatable, "other outputs a second time; random numbers must be torch's"),
        (Tuple_, "give .batch, 3.; it gives a tuple, not a tensor"),
        (Detached, "don't depend on a parameter to train"),
        (frozen, "no parameters to train; set requires_grad"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, CLASSES)), "mat1 and mat2 shapes"),
    ],
)
def test_a_mistake_in_a_model_names_its_place_and_what_was_expected(make: Make, text: str) -> None:
    with pytest.raises(ScenarioError, match=text):
        make_trainer(a_model(make))


def test_a_batch_too_small_for_batch_normalization_is_found_at_once() -> None:
    with pytest.raises(ScenarioError, match=r"batch of 1, which device 0 has.*more than 1 value.*train\.batch_size"):
        make_trainer(a_model(KINDS["batch norm"][0]), batch_size=5)
