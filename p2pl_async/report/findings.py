"""What held the worst device back: the strongest findings about a run, in plain sentences with numbers.

A finding has a rule, a threshold, and a strength: how far the number is beyond its threshold. Rules look at the
tables and the summary of a finished run; one that lacks its numbers finds nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pl_async.basics.units import show_seconds
from p2pl_async.report.tables import metric_of
from p2pl_async.results.metrics import is_share, words
from p2pl_async.results.run import Run

if TYPE_CHECKING:
    import pandas as pd

_MOST = 6  # findings told
_BEHIND = 0.01  # accuracy below the mean at which a device counts as held back
_FARTHER = 1.05  # times the mean error at which one does, of models that predict numbers
_FEW = 0.6  # of the median number of neighbors mixed
_LOST = 0.3  # share of messages
_LATE = 20  # rounds
_OFTEN = 0.25  # share of mixing steps
_UNUSED = 0.5  # share of the bytes that arrived
_SLOW = 0.6  # of the median number of rounds
_WAITING = 0.5  # share of the time up
_LITTLE = 0.5  # of the median number of samples
_SYNC = 0.2  # share of the run
_DOWN = 0.1  # share of the run
_MESSAGES = 1_000_000  # looked at for causes; of more, so many are chosen at random


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that held devices back.

    Attributes:
        rule: the name of its rule.
        text: one sentence with numbers.
        strength: how far beyond its threshold, 1 at the threshold; the strongest are told first.
        plot: the part of the page that shows it.
        devices: those it is about.
    """

    rule: str
    text: str
    strength: float
    plot: str
    devices: tuple[int, ...] = ()


def findings(run: Run) -> list[Finding]:
    """Return the strongest findings about a run, strongest first; none if nothing held it back."""
    found = [one for rule in RULES for one in rule(run)]
    return sorted(found, key=lambda one: -one.strength)[:_MOST]


def disagreement(run: Run) -> Iterator[Finding]:
    """Devices began from different models."""
    sync = run.summary.get("sync") or {}
    if sync.get("completed_s") is not None and sync.get("agreed") is False:
        text = "Devices began to train from different models: the synchronization ended without agreement"
        yield Finding("disagreement", f"{text}.", 10.0, "timeline")


def cut_off(run: Run) -> Iterator[Finding]:
    """A device has heard nothing."""
    links = run.links
    if links.empty or not links["delivered"].any():
        return
    into = links.groupby("dst")[["sent", "delivered"]].sum()
    deaf = into.index[(into["delivered"] == 0) & (into["sent"] > 0)].tolist()
    if deaf:
        text = f"{_who(deaf)} heard nothing: none of {int(into.loc[deaf, 'sent'].sum()):,} messages arrived there"
        yield Finding("cut_off", f"{text}.", 8.0, "map", tuple(deaf))


def few_neighbors(run: Run) -> Iterator[Finding]:
    """The worst device mixes with fewer neighbors than others."""
    worst = _worst(run)
    mixed = _of_devices(run, "neighbors_mixed")
    if worst is None or worst.device not in mixed.index:
        return
    own, median = float(mixed[worst.device]), float(mixed.median())
    if median <= 0 or own > _FEW * median:
        return
    text = f"Device {worst.device} heard {own:.1f} neighbors per round (median {median:.1f}) and is {worst.text}"
    links = run.links
    into = links[links["dst"] == worst.device].sort_values("lost", ascending=False, kind="stable")
    if into["lost"].sum() > 0:
        src, lost, delivered = (int(into[name].iloc[0]) for name in ("src", "lost", "delivered"))
        cause = _by_cause(run, src, worst.device)
        text += f": {100 * lost / (lost + delivered):.0f} % of what {src} sent it was lost{cause}"
    yield Finding("few_neighbors", f"{text}.", 2 * _FEW * median / max(own, 0.01 * median), "map", (worst.device,))


def little_data(run: Run) -> Iterator[Finding]:
    """The worst device has few samples of its own."""
    worst, held = _worst(run), run.devices.set_index("device")["n_samples"]
    if worst is None or not held.median() or held[worst.device] > _LITTLE * held.median():
        return
    text = f"Device {worst.device} has {held[worst.device]:,} training samples (median {held.median():,.0f})"
    strength = _LITTLE * held.median() / max(held[worst.device], 1)
    yield Finding("little_data", f"{text} and is {worst.text}.", strength, "matrices", (worst.device,))


def losses(run: Run) -> Iterator[Finding]:
    """Many messages are lost."""
    messages = run.summary.get("messages") or {}
    lost, sent = messages.get("lost") or {}, messages.get("sent") or 0
    share = sum(lost.values()) / sent if sent else 0.0
    if share >= _LOST:
        cause = max(lost, key=lambda name: lost[name])
        of_lost = lost[cause] / sum(lost.values())
        text = f"{100 * share:.0f} % of {sent:,} messages were lost, {100 * of_lost:.0f} % of those by {cause}"
        yield Finding("losses", f"{text}.", share / _LOST, "messages")


def slow_devices(run: Run) -> Iterator[Finding]:
    """Some devices do far fewer rounds than others."""
    rounds = run.devices.set_index("device")["rounds"]
    usual = rounds.median()
    if len(rounds) < 2 or usual < 4 or rounds.min() > _SLOW * usual:
        return
    slow = rounds.index[rounds <= _SLOW * usual].tolist()
    text = f"{_who(slow)} did {rounds[slow].median():.0f} rounds where the median device did {usual:.0f}"
    strength = min(float(_SLOW * usual / max(rounds.min(), 1)), 6.0)
    yield Finding("slow_devices", f"{text}.", strength, "timeline", tuple(slow))


def old_models(run: Run) -> Iterator[Finding]:
    """Mixing steps use models that are many rounds old."""
    metrics = run.metrics
    ages = metrics.loc[metrics["metric"] == "staleness_rounds", "value"]
    if not len(ages):
        return
    share = float((ages > _LATE).mean())
    if share >= _OFTEN:
        text = f"In {100 * share:.0f} % of mixing steps the models were on average more than {_LATE} rounds behind"
        yield Finding("old_models", f"{text}.", share / _OFTEN, "staleness_s")


def unused(run: Run) -> Iterator[Finding]:
    """Many models arrive and enter no mix, as newer ones of the same senders come first."""
    kept = run.messages(("src", "dst", "number", "kind", "size_bytes", "arrival_s"), _MESSAGES)
    mixed = None if kept is None else run.first_mixed(kept[0])
    if kept is None or mixed is None:
        return
    trace, used = kept[0], mixed == mixed  # not nan
    models = trace["kind"].isin(set(trace["kind"][used])) & trace["arrival_s"].notna()
    arrived = trace["size_bytes"][models].sum()
    share = float(trace["size_bytes"][models & ~used].sum() / arrived) if arrived else 0.0
    if share >= _UNUSED:
        text = f"{100 * share:.0f} % of the bytes of models that arrived entered no mix: newer ones came before it"
        yield Finding("unused", f"{text}.", share / _UNUSED, "timeline")


def waiting(run: Run) -> Iterator[Finding]:
    """Devices neither train nor are down, but wait."""
    metrics, end = run.metrics, run.summary.get("virtual_seconds") or 0.0
    trained = metrics[metrics["metric"] == "training_s"]
    if not len(trained) or not end:
        return
    busy = trained.groupby("device")["value"].sum()
    share = (1 - busy / (end - _down_seconds(run).reindex(busy.index, fill_value=0.0)).clip(lower=1e-9)).clip(0, 1)
    # A device that paces itself waits as it likes; held back are those whose neighbors make them wait.
    slowest = busy.index.tolist()[int(busy.argmax())]
    if share.median() >= _WAITING and share[slowest] < 0.5 * share.median():
        median, least = 100 * share.median(), 100 * share[slowest]
        text = f"Devices waited {median:.0f} % of the time (median), device {slowest} only {least:.0f} %"
        yield Finding(
            "waiting", f"{text}: the others waited for it.", share.median() / _WAITING, "timeline", (slowest,)
        )


def long_sync(run: Run) -> Iterator[Finding]:
    """The synchronization takes much of the run."""
    sync, end = run.summary.get("sync") or {}, run.summary.get("virtual_seconds")
    done = sync.get("completed_s")
    if done is not None and end and done >= _SYNC * end:
        text = f"The synchronization of initial models took {show_seconds(done)}, {100 * done / end:.0f} % of the run"
        yield Finding("long_sync", f"{text}.", done / end / _SYNC, "timeline")


def batteries(run: Run) -> Iterator[Finding]:
    """Batteries run empty."""
    if "battery_empty_s" not in run.devices.columns:
        return
    empty = run.devices.set_index("device")["battery_empty_s"].dropna().sort_values()
    if len(empty):
        share = len(empty) / len(run.devices)
        text = f"{_batteries(empty.index.tolist())} after {show_seconds(float(empty.iloc[0]))}"
        text += f" (last: {show_seconds(float(empty.iloc[-1]))})" if len(empty) > 1 else ""
        yield Finding("batteries", f"{text}.", 1.5 + 4 * share, "map", tuple(empty.index.tolist()))


def down(run: Run) -> Iterator[Finding]:
    """Devices are down for a good part of the run."""
    end = run.summary.get("virtual_seconds")
    if not end:
        return
    share = _down_seconds(run) / end
    long = share[share >= _DOWN].sort_values(ascending=False)
    if len(long):
        text = f"{_who(long.index.tolist())} {_were(len(long))} down {100 * long.iloc[0]:.0f} % of the time"
        text += " at most" if len(long) > 1 else ""
        yield Finding("down", f"{text}.", float(long.iloc[0]) / _DOWN, "timeline", tuple(long.index.tolist()))


def refused(run: Run) -> Iterator[Finding]:
    """Messages are refused: their parameters have another shape, or are not finite."""
    metrics = run.metrics
    rows = metrics[(metrics["metric"] == "refused") & (metrics["value"] > 0)]
    if len(rows):
        by = rows.groupby("device")["value"].sum()
        text = f"{_who(by.index.tolist())} refused {by.sum():,.0f} messages that could not be used"
        yield Finding("refused", f"{text}.", 3.0, "messages", tuple(by.index.tolist()))


RULES: tuple[Callable[[Run], Iterator[Finding]], ...] = (
    disagreement, cut_off, few_neighbors, little_data, losses, slow_devices, old_models, unused, waiting, long_sync,
    batteries, down, refused,
)  # fmt: skip
"""All rules; each yields a finding or none."""


# What rules look at


@dataclass(frozen=True, slots=True)
class _Worst:
    """The device with the worst model, if it is behind."""

    device: int
    text: str


def _worst(run: Run) -> _Worst | None:
    """Return the worst device; None if it isn't behind the mean."""
    metric, falls = metric_of(run.summary), bool(run.summary.get("lower_is_better"))
    if metric not in run.devices.columns:
        return None
    known = run.devices[run.devices[metric].notna()]
    if len(known) < 2:
        return None
    score, mean = known[metric], float(known[metric].mean())
    worst = int(known["device"].iloc[score.argmax() if falls else score.argmin()])
    gap = abs(float(score.max() if falls else score.min()) - mean)
    side = "above" if falls else "below"
    if is_share(metric):
        return _Worst(worst, f"{100 * gap:.1f} points {side} the mean") if gap >= _BEHIND else None
    text = f"{gap:.3g} {side} the mean {words(metric)} of {mean:.3g}"
    return _Worst(worst, text) if gap >= (_FARTHER - 1) * abs(mean) else None


def _of_devices(run: Run, metric: str) -> pd.Series[float]:
    """Return each device's mean of a metric."""
    metrics = run.metrics
    return metrics[(metrics["metric"] == metric) & (metrics["device"] >= 0)].groupby("device")["value"].mean()


def _down_seconds(run: Run) -> pd.Series[float]:
    """Return how long each device that was ever down was so, in seconds."""
    import pandas as pd

    metrics, end = run.metrics, float(run.summary.get("virtual_seconds") or 0.0)
    rows = metrics[metrics["metric"].isin(("crash", "up"))].sort_values(["device", "time_s"], kind="stable")
    found: dict[int, float] = defaultdict(float)
    since: dict[int, float] = {}
    for device, metric, at in zip(*(rows[name].tolist() for name in ("device", "metric", "time_s")), strict=True):
        if metric == "crash":
            since[device] = at
        elif device in since or device not in found:  # one that comes up first began late
            found[device] += at - since.pop(device, 0.0)
    for device, at in since.items():
        found[device] += end - at
    return pd.Series(found, dtype=float)


def _by_cause(run: Run, src: int, dst: int) -> str:
    """Return what most losses on a link were caused by; "" if the run kept no trace."""
    kept = run.messages(("src", "dst", "arrival_s", "fate"), _MESSAGES)
    if kept is None:
        return ""
    trace, _ = kept
    lost = trace[(trace["src"] == src) & (trace["dst"] == dst) & trace["arrival_s"].isna()]["fate"].astype(str)
    lost = lost[lost != "in flight"]
    return f", mostly by {lost.mode().iloc[0]}" if len(lost) else ""


def _who(devices: list[int]) -> str:
    """Return the subject of a sentence."""
    if len(devices) == 1:
        return f"Device {devices[0]}"
    if len(devices) <= 4:
        return f"Devices {', '.join(map(str, devices[:-1]))} and {devices[-1]}"
    return f"{len(devices)} devices ({', '.join(map(str, devices[:3]))}, ...)"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _batteries(devices: list[int]) -> str:
    if len(devices) == 1:
        return f"The battery of device {devices[0]} ran empty"
    return f"The batteries of {len(devices)} devices ran empty, the first"
