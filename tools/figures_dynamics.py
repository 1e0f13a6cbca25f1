"""Figures of the learning dynamics, as the paper has them: predicted and measured on cycle, star and complete graph.

    python tools/figures_dynamics.py [affine] [lossy] [wide] [width]      # all by default; some minutes

They go to scenarios/dynamics/pictures.

- affine.png, wide.png    training loss of `affine-ring.toml` and `wide-ring.toml` on the three graphs: predicted by the
                          recursion (lines) and the gradient flow (dotted), emulated (rings)
- width.png               error of the predicted change of test outputs against the width of the network
- lossy.png               consensus distance of `lossy-ring.toml`: predicted over runs, mean of 200 emulated runs, and
                          what would be predicted without losses; prints how many standard errors the mean outputs are
                          from either prediction
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from p2pl_async import load_scenario
from p2pl_async.prediction import measure, predict, repeat
from p2pl_async.report.drawing import LEGEND, PALETTE, plain_axes
from p2pl_async.report.predictions import plain_log_axis

SCENARIOS = Path(__file__).parents[1] / "scenarios" / "dynamics"
GRAPHS = {"ring": "cycle", "star": "star", "complete": "complete"}
WIDTHS = (64, 256, 1024, 4096)
RUNS = 200


def save(figure: Any, path: Path) -> None:
    """Write a small PNG."""
    figure.savefig(path, dpi=80)
    print(path)


def graphs(name: str, changes: list[str], folder: Path, title: str) -> None:
    """Draw the training loss on cycle, star and complete graph."""
    figure, ax = plain_axes(title, f"{name}.toml")
    for color, (kind, label) in zip(PALETTE, GRAPHS.items(), strict=False):
        scenario = load_scenario(SCENARIOS / f"{name}.toml", [f'topology.kind="{kind}"', *changes])
        found = predict(scenario)
        flow = predict(scenario, time="flow")
        measured = measure(found)
        x = found.rounds
        error = float(np.nanmax(measured.relative_error(found)))
        shown = "equal to rounding" if error < 1e-9 else f"off by {100 * error:.2g} %"
        ax.plot(x, found.train_loss.mean(1), color=color, linewidth=1.8, label=f"{label}, {shown}")
        ax.plot(x, flow.train_loss.mean(1), color=color, linestyle=":", linewidth=1.2)
        every = max(1, len(x) // 14)
        ax.plot(x[::every], measured.train_loss.mean(1)[::every], "o", color=color, markersize=5, mfc="none")
    ax.plot([], [], color="black", label="predicted")
    ax.plot([], [], ":", color="black", label="predicted, gradient flow")
    ax.plot([], [], "o", color="black", mfc="none", markersize=5, label="emulated")
    ax.set_xlabel("round")
    ax.set_ylabel("mean training loss of the devices")
    plain_log_axis(ax)
    ax.legend(**LEGEND)
    save(figure, folder / f"{name.partition('-')[0]}.png")


def widths(folder: Path) -> None:
    """Draw the error of the prediction against the width."""
    errors = []
    for width in WIDTHS:
        changes = [f"model.hidden=[{width}]", f"train.learning_rate={4 / width}", "data.train_samples=150"]
        found = predict(load_scenario(SCENARIOS / "wide-ring.toml", changes), rounds=range(0, 61, 10))
        errors.append(100 * float(np.nanmax(measure(found).relative_error(found))))
        print(f"width {width}: at most {errors[-1]:.3g} %")
    figure, ax = plain_axes("error of the prediction", "wide-ring.toml, 60 rounds")
    ax.plot(WIDTHS, errors, "o-", color=PALETTE[0])
    ax.plot(WIDTHS, errors[0] * WIDTHS[0] / np.array(WIDTHS), "--", color="0.6", label="1 / width")
    ax.set_xscale("log", base=2)
    ax.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    ax.set_yscale("log")
    ax.set_xlabel("hidden units")
    ax.set_ylabel("largest error of the change of test outputs (%)")
    ax.legend(**LEGEND)
    save(figure, folder / "width.png")


def lossy(folder: Path) -> None:
    """Draw the mean over lossy runs."""
    path = SCENARIOS / "lossy-ring.toml"
    found, lossless = predict(load_scenario(path)), predict(load_scenario(path, ['link.loss="0 %"']))
    runs = repeat(found, RUNS)
    deviation = runs.deviation(found)
    print(f"{RUNS} runs: {np.nanmax(deviation):.2f} standard errors from the prediction at most")
    print(f"from the one without losses: {np.nanmin(runs.deviation(lossless)[2:]):.1f} at least, after round 1")
    # Losses differ little; the consensus distance shows what losing messages does.
    figure, ax = plain_axes("a third of the messages lost", f"lossy-ring.toml, {RUNS} runs")
    x = found.rounds
    moments = found.moments
    assert moments is not None
    ax.plot(x, np.sqrt(moments.consensus_square), color=PALETTE[0], label="predicted, root mean square over runs")
    ax.plot(x, lossless.consensus_distance, color=PALETTE[3], label="predicted without losses")
    ax.plot(x, runs.consensus_distance, "o", color=PALETTE[0], mfc="none", markersize=5, label="mean of the runs")
    ax.set_xlabel("round")
    ax.set_ylabel("consensus distance")
    ax.legend(**LEGEND)
    save(figure, folder / "lossy.png")


def main() -> None:
    """Draw the figures that are named, or all."""
    folder = SCENARIOS / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    narrower = ["model.hidden=[1024]", "train.learning_rate=0.006", "data.train_samples=150", "stop.rounds=120"]
    parts: dict[str, Callable[[], None]] = {
        "affine": lambda: graphs("affine-ring", [], folder, "linear model, DGD"),
        "lossy": lambda: lossy(folder),
        "wide": lambda: graphs("wide-ring", narrower, folder, "1,024 tanh units, DGD"),
        "width": lambda: widths(folder),
    }
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
