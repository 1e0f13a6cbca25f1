"""Summary: the numbers of a run that `summary.json` holds."""

from __future__ import annotations

import functools
import platform
import statistics
from collections.abc import Sequence
from typing import Any

from p2pl_async.experiment import influence
from p2pl_async.experiment.evaluation import Evaluation
from p2pl_async.experiment.measures import ScoreLookup, consensus_distance, params_digest, value_range
from p2pl_async.experiment.rig import Rig
from p2pl_async.messages import DeviceId, Vector
from p2pl_async.protocols.norm_keys import SYNC_TAGS
from p2pl_async.results.metrics import COSTS


def summarize(
    rig: Rig,
    evaluation: Evaluation,
    *,
    status: str,
    error: str,
    stopped_by: str,
    wall: tuple[float, float],
    digest: str | None,
    scores: ScoreLookup | None,
) -> dict[str, Any]:
    """Return the summary of a run as it is now.

    Args:
        rig: of the run.
        evaluation: of the run.
        status: "running", "complete", "interrupted" or "failed".
        error: why it isn't complete; "" if there is no error.
        stopped_by: the condition that ended it.
        wall: seconds of setting up, and from then to now.
        digest: of the network's records; None while it goes.
        scores: of all models on all test data; None where nothing learns, and while it goes: the first score is then as
            last measured.
    """
    scenario = rig.world.scenario
    complete = status == "complete"
    setup, elapsed = wall
    training = 0.0 if rig.trainer is None else rig.trainer.training_seconds
    models = [(device.id, device.params) for device in rig.present if device.params is not None]
    params = [w for _, w in models]
    found = _ranges(scores, models) if scores is not None else _last_measured(rig, evaluation)
    trained = [(device.id, device.trained) for device in rig.present if device.trained is not None]
    return {
        "status": status,
        "error": error or None,
        "scenario": scenario.name,
        "protocol": rig.plan.label,
        "seed": scenario.seed,
        "versions": dict(_versions()),
        "trace_digest": digest,
        "params_digest": params_digest(params) if params and complete else None,
        "virtual_seconds": rig.clock.now,
        "wall_seconds": setup + elapsed,
        "wall": {
            "setup": setup,  # torch, data, the trainer
            "training": training,
            "evaluation": evaluation.seconds,
            "other": elapsed - training - evaluation.seconds,  # the emulation itself
        },
        "stopped_by": stopped_by if complete else None,
        "metric": rig.trainer and rig.trainer.scores[0].name,
        "lower_is_better": rig.trainer and rig.trainer.scores[0].lower_is_better,
        "accuracy": found.get("accuracy"),
        "accuracy_trained": _ranges(scores, trained).get("accuracy"),
        "scores": found or None,
        "not_finite": evaluation.diverged
        and {"device": evaluation.diverged[0], "virtual_seconds": evaluation.diverged[1]},
        "target": _target(rig, evaluation),
        "rounds": value_range([device.round for device in rig.devices]),
        "messages": _messages(rig),
        "refused": _refused(rig),
        "influence": _influence(rig),
        "staleness": _staleness(rig),
        "sync": _sync(rig),
        "compression": _compression(rig),
        "energy": _energy(rig),
        "consensus_distance": consensus_distance(params) if params and complete else None,
        "training": _training(rig),
        "warnings": rig.world.warnings,
        "baselines": {},
    }


def _messages(rig: Rig) -> dict[str, Any]:
    """Return what became of the messages of all links, and what they took."""
    trace, counts = rig.emulation.trace, rig.emulation.trace.counts
    return {
        "sent": trace.sent,
        "delivered": trace.delivered,
        "partial": trace.partial,
        "corrupted": trace.corrupted,
        "in_flight": len(rig.emulation.transport.in_flight()),
        "lost": dict(sorted(counts.lost.items())),
        "duplicates": trace.duplicates,
        "malformed": trace.malformed,
        **({} if rig.world.scenario.devices.inbox is None else {"unread": trace.unread}),
        "packets": counts.packets,
        "packets_lost": counts.packets_lost,
        "payload_bytes": counts.payload_bytes,
        "by_kind": {
            kind: {"messages": counts.kinds[kind], "payload_bytes": counts.kind_bytes[kind]}
            for kind in sorted(counts.kinds)
        },
        "bytes_on_air": counts.air_bytes,
        "seconds_on_air": counts.air_seconds,
        "acknowledged": counts.acknowledged,
    }


def _ranges(scores: ScoreLookup | None, models: Sequence[tuple[DeviceId, Vector]]) -> dict[str, Any]:
    """Return the range over devices of each score; of no models, nothing."""
    if scores is None or not models:
        return {}
    return {name: value_range([scores.score(name, *model) for model in models]) for name in scores.names}


def _last_measured(rig: Rig, evaluation: Evaluation) -> dict[str, Any]:
    """Return the range over devices of the first score at the last look; nothing before any."""
    if rig.trainer is None or evaluation.level is None:
        return {}
    return {rig.trainer.scores[0].name: dict(zip(("min", "mean", "max"), evaluation.level, strict=True))}


def _target(rig: Rig, evaluation: Evaluation) -> dict[str, Any] | None:
    goal = evaluation.goal
    if goal is None:
        return None
    reached = evaluation.reached or {}
    return {
        "metric": goal.score.name,
        "value": goal.value,
        "accuracy": goal.value if goal.score.name == "accuracy" else None,
        "of": goal.of,
        "reached": evaluation.reached is not None,
        "virtual_seconds": reached.get("virtual_seconds"),
        **{cost: reached.get(cost) for cost in COSTS},
    }


def _refused(rig: Rig) -> dict[str, int]:
    """Return how many messages receivers refused, by cause: unreadable, with too large a model, of no use otherwise."""
    totals = rig.recording.totals
    refused, large = int(totals["refused"].sum), int(totals["too_large"].sum)
    return {"unreadable": rig.emulation.trace.malformed, "too_large": large, "unusable": max(0, refused - large)}


def _influence(rig: Rig) -> dict[str, float] | None:
    """Return whose messages moved others most, on average, how far the median device's did, and whose samples count.

    Moved means: the distance of a mixed model from the receiver's, or, of a message that is part of a model, how far
    it moved the receiver's; as the root of the mean square of entries.
    """
    found: dict[str, float] = {}
    far: dict[int, list[float]] = {}
    for device in rig.devices:
        for j, (distance, count) in device.pulls.items():
            total = far.setdefault(j, [0.0, 0.0])
            total[0] += distance
            total[1] += count
    means = {j: distance / count for j, (distance, count) in sorted(far.items())}
    if len(means) >= 2:
        most = max(means, key=lambda j: means[j])
        found = {"device": most, "distance": means[most], "median": statistics.median(means.values())}
    return {**found, **influence.summary_of(influence.sample_weights(rig), rig)} or None


def _staleness(rig: Rig) -> dict[str, float] | None:
    seconds, rounds = rig.recording.totals["staleness_s"], rig.recording.totals["staleness_rounds"]
    if not seconds.count:
        return None
    return {
        "seconds_mean": seconds.mean,
        "seconds_max": seconds.max,
        "rounds_mean": rounds.mean,
        "rounds_max": rounds.max,
    }


def _sync(rig: Rig) -> dict[str, Any] | None:
    totals = rig.recording.totals
    done, counts = totals["sync_norm"], rig.emulation.trace.counts
    if not done.count:
        return None
    return {
        "completed_s": totals["sync_s"].max,
        "devices": done.count,
        "agreed": done.count >= len(rig.devices) and done.min == done.max,
        "joined": int(totals["sync_joined"].sum),
        "left_out": int(totals["sync_left_out"].sum),
        "messages": sum(counts.kinds[tag] for tag in SYNC_TAGS),
        "payload_bytes": sum(counts.kind_bytes[tag] for tag in SYNC_TAGS),
    }


def _compression(rig: Rig) -> dict[str, float] | None:
    """Return how many times fewer bytes were sent than uncompressed float32 models take.

    The bytes are counted as in papers (4 bytes for a value or an index), as encoded, and as sent on
    air: with headers, confirmations, retries, and whatever else the protocol sends.
    """
    dense, paper, encoded = (rig.recording.totals[f"bytes_{how}"] for how in ("dense", "paper", "encoded"))
    air_bytes = rig.emulation.trace.counts.air_bytes
    if not dense.count or not air_bytes:
        return None
    return {
        "payload_ratio": dense.sum / paper.sum,
        "codec_ratio": dense.sum / encoded.sum,
        "on_air_ratio": dense.sum / air_bytes,
    }


def _energy(rig: Rig) -> dict[str, Any] | None:
    """Return the joules of all devices, by state, their range, and how many batteries are empty."""
    if rig.meter is None:
        return None
    drawn = [ledger.joules() for ledger in rig.meter.ledgers.values()]
    return {
        "joules": rig.meter.joules(),
        "by_state": {state: sum(one[state] for one in drawn) for state in drawn[0]},
        "per_device": value_range([sum(one.values()) for one in drawn]),
        "batteries_empty": len(rig.meter.died),
    }


def _training(rig: Rig) -> dict[str, Any] | None:
    if rig.trainer is None:
        return None
    jobs, batches = rig.trainer.jobs, rig.trainer.batches
    mean_batch = jobs / batches if batches else None
    return {"jobs": jobs, "batches": batches, "mean_batch": mean_batch, "samples": rig.samples_trained}


@functools.cache  # reading what is installed takes 5 ms a package
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("p2pl-async", "trio", "numpy", "torch", "msgpack"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
