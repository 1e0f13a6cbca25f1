"""Digests of every shipped scenario and of every protocol, shortened; what changed since they were recorded.

    tools/goldens.py            # compare with tests/goldens.json and print what differs; exit code 1 if anything does
    tools/goldens.py --write    # record them anew, after a change that is meant to change them
    tools/goldens.py --only weather

Network counts and times hold on any machine. Digests of parameters, and whatever follows from
learned numbers (max-norm keys, top-k choices), hold where the products of matrices give the same
bits: the table says on which machine it was recorded. `tests/test_goldens.py` compares the quick ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from p2pl_async.protocols import Protocol
    from p2pl_async.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

TABLE = ROOT / "tests" / "goldens.json"
QUICK = 'stop.virtual_time="20 s"'
SHORTER: dict[str, list[str]] = {
    "quickstart": ['stop.virtual_time="1 min"'],
    "p2pl-mnist-100": ['stop.virtual_time="8 s"', 'data.dataset="digits"', "evaluate.samples=100"],
    "fedavg-mnist-100": ['stop.virtual_time="8 s"', 'data.dataset="digits"', "evaluate.samples=100"],
    "dynamics/wide-ring": ["stop.rounds=5", "model.hidden=[64]"],
    "dynamics/affine-ring": ["stop.rounds=20"],
    "dynamics/lossy-ring": ["stop.rounds=20"],
    "resnet-20": ["stop.rounds=1"],
    "walkers": ['stop.virtual_time="2 min"'],
    "one-way": ['stop.virtual_time="15 s"'],
    "gossip": ["devices.count=200", 'stop.virtual_time="10 s"'],
    "weather": ['stop.virtual_time="110 s"'],
    "reproductions/r4-consensus": ["stop.rounds=2", 'data.dataset="digits"', "data.train_samples=1000"],
    "reproductions/r5-max-norm": ["stop.rounds=2", 'data.dataset="digits"', "data.train_samples=1000"],
    "reproductions/r6-size-weights": ["stop.rounds=2", 'data.dataset="digits"', "data.train_samples=1200"],
    "reproductions/r7-label-skew": ["stop.rounds=2", 'data.dataset="digits"', "data.train_samples=1000"],
    "reproductions/r8-affinity": [
        "stop.rounds=2", 'data.dataset="digits"', "data.train_samples=400", "evaluate.samples=200",
    ],
    "activity/har": [
        'data.dataset="digits"', 'data.partition="iid"', 'model={kind="softmax"}', "evaluate.samples=100",
        "stop.rounds=3",
    ],
    "p2pl-cifar10": ['data.dataset="digits"', "stop.rounds=2", 'model={kind="lenet"}', "evaluate.samples=100"],
    "reproductions/sparse-push-mnist": [
        "stop.rounds=40", 'data.dataset="digits"', 'evaluate.every="1 s"', "protocol.averaging_rate=0.01",
        'protocol.compensation={after=20, pause="10 s"}',
    ],
    "reproductions/sparse-push-loss": ['stop.virtual_time="2 s"'],
    "radios/wifi-rates": ['stop.virtual_time="20 s"'],
    "radios/lora-sf12": ['stop.virtual_time="20 min"'],
    "radios/lora-sf7": ['stop.virtual_time="10 min"'],
}  # fmt: skip
"""What makes each scenario run for about a second, on data that every machine has."""


def scenarios() -> list[str]:
    """Return the name of every shipped scenario but the bases of studies, as a path without ".toml"."""
    found = (path.relative_to(ROOT / "scenarios") for path in (ROOT / "scenarios").rglob("*.toml"))
    return sorted(path.with_suffix("").as_posix() for path in found if "studies" not in path.parts)


def load(name: str) -> Scenario:
    """Return a shipped scenario, shortened."""
    from p2pl_async import load_scenario

    changes = SHORTER.get(name, ['stop.virtual_time="2 min"' if name.startswith("radios/") else QUICK])
    return load_scenario(ROOT / "scenarios" / f"{name}.toml", changes)


def observe_scenario(name: str) -> dict[str, Any]:
    """Run a shipped scenario, shortened, with its baselines; return what is to stay the same."""
    from p2pl_async import run

    result = run(load(name))
    baselines = {label: _of(one.summary) for label, one in result.baselines.items()}
    columns = hashlib.blake2b(digest_size=8)
    for metric, part in sorted(result.metrics.groupby("metric"), key=lambda item: str(item[0])):
        columns.update(f"{metric}:{len(part)};".encode())
    return {**_of(result.summary), "metrics": columns.hexdigest(), **baselines}


def _of(summary: dict[str, Any]) -> dict[str, Any]:
    lost = {f"lost: {cause}": count for cause, count in summary["messages"]["lost"].items()}
    energy = {} if not summary["energy"] else {"joules": _rounded(summary["energy"]["joules"])}
    return {
        "trace": summary["trace_digest"],
        "params": summary["params_digest"],
        "seconds": _rounded(summary["virtual_seconds"]),
        "sent": summary["messages"]["sent"],
        "delivered": summary["messages"]["delivered"],
        **lost,
        "bytes": summary["messages"]["bytes_on_air"],
        **energy,
        "keys": hashlib.blake2b(json.dumps(_keys(summary)).encode(), digest_size=8).hexdigest(),
    }


def _keys(value: Any) -> Any:
    """Return the names in a summary, without numbers and without what versions are called."""
    if not isinstance(value, dict):
        return None
    return {key: _keys(item) for key, item in sorted(value.items()) if key not in ("versions", "lost")}


def observe_protocol(cls: type[Protocol], *, backwards: bool = False) -> dict[str, Any]:
    """Run a protocol in the worlds of its contract; return a digest of its outcomes over all topologies.

    Args:
        cls: the protocol.
        backwards: whether tasks start in the opposite order, which is to change nothing.
    """
    from helpers.contract_worlds import CASES, LOSSLESS, LOSSY, observed

    trace, params, sent, delivered = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16), 0, 0
    for topology in (topology for case, topology in CASES if case is cls):
        for link in (LOSSLESS, LOSSY):
            seen = observed(cls, topology, link, backwards=backwards)
            digest, now, models = seen.outcome
            trace.update(f"{digest}{now!r}".encode())
            params.update("".join(hashlib.blake2b(one).hexdigest() for one in models).encode())
            sent += seen.sent
            delivered += seen.delivered
    return {"trace": trace.hexdigest(), "params": params.hexdigest(), "sent": sent, "delivered": delivered}


def _rounded(value: float) -> float:
    return float(f"{value:.9g}") if math.isfinite(value) else value


def machine() -> dict[str, str]:
    """Return what decides the bits of a product of matrices here."""
    import torch

    probe = np.random.default_rng(0).standard_normal((64, 784)).astype(np.float32)
    a = torch.from_numpy(probe)
    bits = (a @ a.T).numpy().tobytes() + torch.softmax(a, 1).numpy().tobytes() + np.exp(probe).tobytes()
    bits += (probe @ probe.T).tobytes() + np.linalg.norm(probe, axis=1).tobytes()
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
        "torch": torch.__version__.partition("+")[0],
        "arithmetic": hashlib.blake2b(bits, digest_size=8).hexdigest(),
    }


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a line for every value that isn't as recorded, with both."""
    lines = []
    for name in sorted(recorded.keys() | found.keys()):
        old, new = recorded.get(name), found.get(name)
        if old is None or new is None:
            lines.append(f"{name}: {'is new' if old is None else 'is gone'}")
            continue
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key):
                lines.extend(_told(f"{name}: {key}", old.get(key), new.get(key)))
    return lines


def _told(what: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
                for line in _told(f"{what}.{key}", old.get(key), new.get(key))]  # fmt: skip
    return [f"{what}: {old} -> {new}"]


def main() -> None:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record what is found")
    parser.add_argument("--only", default="", help="names that contain this")
    arguments = parser.parse_args()
    found = {}
    for name in scenarios():
        if arguments.only in name:
            print(f"  {name}", flush=True)
            found[name] = observe_scenario(name)
    if arguments.only in "protocol":
        from p2pl_async.basics.settings import kind_of
        from p2pl_async.protocols import PROTOCOLS

        print("  protocols", flush=True)
        found |= {f"protocol {kind_of(cls)}": observe_protocol(cls) for cls in PROTOCOLS}
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {"machine": {}, "goldens": {}}
    recorded = {name: row for name, row in table["goldens"].items() if not arguments.only or name in found}
    lines = differences(recorded, found)
    print("\n".join(lines) or f"{len(found)} as recorded")
    if table["machine"] not in ({}, machine()):
        print(f"recorded on another machine ({table['machine']}, this one: {machine()}): learned numbers may differ")
    if arguments.write:
        whole = {"machine": machine(), "goldens": {**table["goldens"], **found} if arguments.only else found}
        TABLE.write_text(json.dumps(whole, indent=1, sort_keys=False) + "\n")
    elif lines:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
