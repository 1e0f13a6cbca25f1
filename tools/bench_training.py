"""How fast devices train, as ratios to what one would write without this package.

    python tools/bench_training.py

Everything runs on the same synthetic data of MNIST's size, in one process, the candidates
interleaved and the best of several repetitions kept, since other programs only ever make one
slower. Targets: at least 3 x a DataLoader loop over devices, at least 0.5 x a hand-batched
bmm loop (both with 784-200-200-10, batches of 10, 100 devices).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from p2pl_async.basics.randomness import stream
from p2pl_async.learning.data import Dataset
from p2pl_async.learning.models import Mlp
from p2pl_async.learning.partition import Iid
from p2pl_async.learning.settings import TrainSettings
from p2pl_async.learning.trainer import Trainer

DEVICES = 100
RATE = 0.05


def make_data(samples: int) -> Dataset:
    """Return random samples of MNIST's shape."""
    random = np.random.default_rng(0)
    x = random.random((samples, 28, 28), np.float32)
    y = random.integers(10, size=samples)
    return Dataset("random", x, y, x[:1000], y[:1000], 10)


def best_of(candidates: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the least seconds of each candidate, taken in turn."""
    seconds = dict.fromkeys(candidates, float("inf"))
    for name, run in [*candidates.items()] * repetitions:
        started = time.perf_counter()
        run()
        seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def network(hidden: Sequence[int]) -> nn.Module:
    """Return the model of one device."""
    return Mlp(hidden=tuple(hidden)).build((28, 28), 10)


def dataloader_loop(
    data: Dataset, parts: Sequence[np.ndarray], hidden: Sequence[int], batch: int
) -> Callable[[], None]:
    """One epoch of each device with a DataLoader and torch.optim.SGD: what federated-learning code does."""
    loaders = []
    for part in parts:
        x, y = torch.tensor(data.x_train[part]), torch.tensor(data.y_train[part])
        loaders.append(DataLoader(TensorDataset(x, y), batch, shuffle=True))
    modules = [network(hidden) for _ in parts]

    def run() -> None:
        for loader, module in zip(loaders, modules, strict=True):
            optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
            for x, y in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    return run


def lean_loop(
    data: Dataset, parts: Sequence[np.ndarray], hidden: Sequence[int], batch: int, steps: int
) -> Callable[[], None]:
    """So many steps of each device in a plain torch loop: batches by indexing, no DataLoader."""
    x_train, y_train = torch.tensor(data.x_train), torch.tensor(data.y_train)
    modules = [network(hidden) for _ in parts]
    optimizers = [torch.optim.SGD(module.parameters(), lr=RATE) for module in modules]

    def run() -> None:
        for part, module, optimizer in zip(parts, modules, optimizers, strict=True):
            order = torch.tensor(np.random.default_rng().permutation(part))
            for step in range(steps):
                rows = order[step * batch : (step + 1) * batch]
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(x_train[rows]), y_train[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    return run


def bmm_loop(
    data: Dataset, parts: Sequence[np.ndarray], hidden: Sequence[int], batch: int, steps: int, group: int
) -> Callable[[], None]:
    """The same steps with stacked weights and a backward pass by hand: what batching can reach at all."""
    x_train, y_train = torch.tensor(data.x_train).flatten(1), torch.tensor(data.y_train)
    widths = [784, *hidden, 10]
    n = len(parts)
    weights = [torch.randn(n, b, a) / a**0.5 for a, b in itertools.pairwise(widths)]
    biases = [torch.zeros(n, 1, b) for b in widths[1:]]

    def train(w: list[Tensor], b: list[Tensor], rows: Tensor) -> None:
        k = len(rows)
        for step in range(steps):
            chosen = rows[:, step * batch : (step + 1) * batch].reshape(-1)
            h = x_train.index_select(0, chosen).view(k, batch, -1)
            inputs = []
            for i in range(len(w)):
                inputs.append(h)
                h = torch.baddbmm(b[i], h, w[i].transpose(1, 2))
                if i < len(w) - 1:
                    h.relu_()
            d = torch.softmax(h, 2)
            d.view(-1, 10)[torch.arange(k * batch), y_train[chosen]] -= 1
            d /= batch
            for i in reversed(range(len(w))):
                below = torch.bmm(d, w[i]).mul_(inputs[i] > 0) if i else d
                w[i].baddbmm_(d.transpose(1, 2), inputs[i], alpha=-RATE)
                b[i].sub_(d.sum(1, keepdim=True), alpha=RATE)
                d = below

    def run() -> None:
        order = torch.tensor(np.stack([np.random.default_rng().permutation(part)[: steps * batch] for part in parts]))
        for start in range(0, n, group):
            some = slice(start, start + group)
            train([w[some] for w in weights], [b[some] for b in biases], order[some])

    return run


def trainer_loop(trainer: Trainer, *, epochs: int | None = None, steps: int | None = None) -> Callable[[], None]:
    """The same through `Trainer`, registering jobs and reading their results included."""
    w = [trainer.initial_params(device) for device in range(DEVICES)]

    def run() -> None:
        jobs = [trainer.job(device, w[device], epochs=epochs, steps=steps) for device in range(DEVICES)]
        trainer.compute(jobs)
        for job in jobs:
            assert job.result is not None
            w[job.device] = job.result

    return run


def show(title: str, seconds: Mapping[str, float], unit: float, per: str) -> None:
    """Print the seconds of each candidate and their ratio to the trainer's."""
    print(f"\n{title}")
    for name, value in seconds.items():
        ratio = value / seconds["trainer"]
        print(f"  {name:<28}{1e3 * value / unit:9.3f} ms per {per}   {ratio:6.2f} x the trainer's time")


def main() -> None:
    """Print every ratio."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {DEVICES} devices")
    data = make_data(12_000)
    parts = Iid().split(data.y_train, DEVICES, stream(1, "partition"))
    for hidden, batch in (([200, 200], 10), ([50], 10)):
        steps = len(parts[0]) // batch
        settings = {"learning_rate": RATE, "batch_size": batch}
        plain = Trainer(data, parts, Mlp(hidden=tuple(hidden)), TrainSettings.model_validate(settings), 1)
        momentum = TrainSettings.model_validate(settings | {"momentum": 0.5})
        candidates = {
            "trainer": trainer_loop(plain, epochs=1),
            "trainer, momentum": trainer_loop(Trainer(data, parts, Mlp(hidden=tuple(hidden)), momentum, 1), epochs=1),
            "DataLoader loop": dataloader_loop(data, parts, hidden, batch),
            "plain torch loop": lean_loop(data, parts, hidden, batch, steps),
            "bmm by hand, all at once": bmm_loop(data, parts, hidden, batch, steps, DEVICES),
            "bmm by hand, in groups": bmm_loop(data, parts, hidden, batch, steps, 20),
        }
        name = "-".join(map(str, [784, *hidden, 10]))
        title = f"{name}, batch {batch}, {steps} steps, {plain.n_params:,} parameters, groups of {plain.group}"
        show(title, best_of(candidates, 3), DEVICES * steps, "device-step")
        vectors = [plain.initial_params(device) for device in range(DEVICES)]
        evaluated = best_of({"evaluate": lambda t=plain, v=vectors: t.evaluate(v)}, 3)["evaluate"]  # type: ignore[misc]
        print(f"  evaluation: {1e6 * evaluated / DEVICES / 1000:.2f} us per device and sample")

    hidden, batch, steps = [64], 32, 5
    data = make_data(DEVICES * batch * steps)
    parts = Iid().split(data.y_train, DEVICES, stream(1, "partition"))
    options = TrainSettings(learning_rate=RATE, batch_size=batch)
    trainer = Trainer(data, parts, Mlp(hidden=tuple(hidden)), options, 1)
    compute = trainer_loop(trainer, steps=steps)
    loop = lean_loop(data, parts, hidden, batch, steps)
    vectors = [np.array(trainer.initial_params(device)) for device in range(DEVICES)]

    def average() -> None:
        for device in range(DEVICES):
            np.mean([vectors[device - 1], vectors[device], vectors[(device + 1) % DEVICES]], axis=0)

    def round_of(train: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            train()
            average()

        return run

    candidates = {"trainer": round_of(compute), "plain torch loop": round_of(loop)}
    title = "common comparison job: 784-64-10, 5 steps of 32, then averaging with two neighbors (no network)"
    seconds = best_of(candidates, 10)
    show(title, seconds, DEVICES, "device-round")
    print(f"  {DEVICES / seconds['trainer']:,.0f} device-rounds per second; groups of {trainer.group}")


if __name__ == "__main__":
    main()
