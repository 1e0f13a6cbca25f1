"""How far is the prediction of a wide network from what devices do? Prints the page's table.

python scenarios/studies/wide.py

The first two cases are what `p2pl predict` covers. It refuses sleeping radios and messages that come late; the other
two compare what devices do then with the nearest scenario that it covers.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2pl_async import load_scenario
from p2pl_async.prediction import Prediction, measure, predict, repeat
from p2pl_async.scenario.building.world import build_world

BASE = Path(__file__).parents[1] / "dynamics" / "wide-ring.toml"
NO_WAITING = ('link.latency="10 ms"', 'protocol.mode={kind="fresh", wait="20 ms"}', 'protocol.on_missing="renormalize"')


class Case(NamedTuple):
    """What is predicted, and what is emulated.

    Attributes:
        name: in the table.
        predicted: changes of the base.
        emulated: further changes, which the prediction doesn't know of.
        random: whether runs differ, so that the mean of several is compared.
    """

    name: str
    predicted: Sequence[str] = ()
    emulated: Sequence[str] = ()
    random: bool = True


CASES = (
    Case("no loss", random=False),
    Case("30 % of messages lost", [*NO_WAITING, 'link.loss="30 %"']),
    Case(
        "30 % of devices asleep in a round, predicted as 30 % lost",
        [*NO_WAITING, 'link.loss="30 %"'],
        ['link.loss="0 %"', 'link.outage={kind="slotted", p="30 %", slot="1.02 s", of="receiver"}'],
    ),
    Case("messages two rounds late, predicted as in time", NO_WAITING, ['link.latency="2.5 s"'], random=False),
)


def emulated(found: Prediction, changes: Sequence[str]) -> Prediction:
    """Return a prediction whose emulation has other links."""
    if not changes:
        return found
    scenario = load_scenario(BASE, changes)
    return dataclasses.replace(found, scenario=scenario, world=build_world(scenario))


def change(outputs: np.ndarray, initial: np.ndarray) -> float:
    """Return the size of a change of outputs at the end, as the root of the sum of squares."""
    return float(np.sqrt(((outputs[-1] - initial) ** 2).sum()))


def main(cases: Sequence[Case], widths: list[int], rounds: int, seeds: int, runs: int, more: list[str]) -> None:
    print("| hidden units | what happens | error at the end, % | accuracy predicted, % | emulated, % | CPU, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        for width in widths:
            errors, predicted, seen_accuracy, begun = [], [], [], time.process_time()
            for seed in range(1, seeds + 1):
                changes = [f"seed={seed}", f"model.hidden=[{width}]", f"stop.rounds={rounds}", *more, *case.predicted]
                found = predict(load_scenario(BASE, changes), rounds=[0, rounds])
                other = emulated(found, [*changes, *case.emulated] if case.emulated else [])
                seen = repeat(other, runs) if case.random else measure(other)
                initial = found.linearized.initial
                wrong = change(found.outputs - seen.outputs + initial, initial)
                errors.append(100 * wrong / change(seen.outputs, initial))
                predicted.append(100 * found.accuracy[-1].mean())
                seen_accuracy.append(100 * seen.accuracy[-1].mean())
            shown = [
                f"{np.mean(x):.3g} ± {np.std(x, ddof=1) if len(x) > 1 else 0:.1g}"
                for x in (errors, predicted, seen_accuracy)
            ]
            print(f"| {width} | {case.name} | {' | '.join(shown)} | {time.process_time() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))), help="of the table, from 0")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=8, help="emulated where runs differ, for their mean")
    parser.add_argument("--set", action="append", default=[], help="a value of the scenario: key.path=value")
    args = parser.parse_args()
    main([CASES[i] for i in args.cases], args.widths, args.rounds, args.seeds, args.runs, args.set)
