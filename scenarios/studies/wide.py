"""How far is the prediction of a wide network from what devices do? Prints the page's table.

python scenarios/studies/wide.py
"""

import argparse
import time
from pathlib import Path

import numpy as np

from p2pl_async import load_scenario
from p2pl_async.prediction import measure, predict, repeat

BASE = Path(__file__).parents[1] / "dynamics" / "wide-ring.toml"
LOSSY = ['link.loss="30 %"', 'link.latency="10 ms"', 'protocol.mode={kind="fresh", wait="20 ms"}']
LOSSY += ['protocol.on_missing="renormalize"']


def change(outputs: np.ndarray, initial: np.ndarray) -> float:
    """Return the size of a change of outputs at the end, as the root of the sum of squares."""
    return float(np.sqrt(((outputs[-1] - initial) ** 2).sum()))


def main(widths: list[int], rounds: int, seeds: int, runs: int, more: list[str]) -> None:
    print("| hidden units | messages lost | error at the end, % | accuracy predicted, % | emulated, % | CPU, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for lost in ("0 %", "30 %"):
        for width in widths:
            errors, predicted, emulated, begun = [], [], [], time.process_time()
            for seed in range(1, seeds + 1):
                changes = [f"seed={seed}", f"model.hidden=[{width}]", f"stop.rounds={rounds}", *more]
                found = predict(load_scenario(BASE, changes + (LOSSY if lost != "0 %" else [])), rounds=[0, rounds])
                seen = measure(found) if lost == "0 %" else repeat(found, runs)
                initial = found.linearized.initial
                wrong = change(found.outputs - seen.outputs + initial, initial)
                errors.append(100 * wrong / change(seen.outputs, initial))
                predicted.append(100 * found.accuracy[-1].mean())
                emulated.append(100 * seen.accuracy[-1].mean())
            shown = [
                f"{np.mean(x):.3g} ± {np.std(x, ddof=1) if len(x) > 1 else 0:.1g}"
                for x in (errors, predicted, emulated)
            ]
            print(f"| {width} | {lost} | {' | '.join(shown)} | {time.process_time() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=8, help="emulated where messages get lost, for their mean")
    parser.add_argument("--set", action="append", default=[], help="a value of the scenario: key.path=value")
    args = parser.parse_args()
    main(args.widths, args.rounds, args.seeds, args.runs, args.set)
