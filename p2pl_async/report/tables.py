"""Tables for the terminal, from a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pl_async.basics.units import show_bytes, show_joules, show_seconds
from p2pl_async.results.groups import members
from p2pl_async.results.metrics import is_share, words
from p2pl_async.results.run import Run

_NONE = "-"


def final_table(run: Run) -> RenderableType:
    """Return the table at the end of a run: accuracy beside that of the baselines, and costs.

    Facts that the run has no numbers for are left out; it fits 100 columns.
    """
    summary = run.summary
    table = Table(title=_title(summary), title_justify="left", title_style="bold", box=_box(), pad_edge=False)
    table.add_column("", no_wrap=True)
    parts = list(parts_of(run))
    metric = metric_of(summary)
    columns = score_columns(summary) if any(score_of(part, metric) for _, part in parts) else {}
    own = f"own_{metric}" if columns and any(score_of(part, f"own_{metric}") for _, part in parts) else None
    for name in (*columns.values(), *(["mean on own data"] if own else []), "virtual time", "bytes on air"):
        table.add_column(name, justify="right")
    for name, part in parts:
        found = score_of(part, metric)
        on_own = [show_score(metric, score_of(part, own).get("mean"))] if own else []
        table.add_row(
            named(name, part, summary),
            *(show_score(metric, found.get(which)) for which in columns),
            *on_own,
            _shown(part.get("virtual_seconds"), show_seconds),
            _shown(_bytes_on_air(part), show_bytes),
            style="bold" if part is summary else "",
        )
        if part is summary and columns:
            for group, range_ in group_ranges(run):
                shown = [show_score(metric, range_[which]) for which in columns]
                table.add_row(group, *shown, *([""] if own else []), "", "")
    return Group(table, _facts(run))


def _box() -> Any:
    from rich.box import SIMPLE_HEAD

    return SIMPLE_HEAD


def _title(summary: Mapping[str, Any]) -> Text:
    title = Text(f"{summary.get('scenario')}, seed {summary.get('seed')}")
    status = summary.get("status")
    if status != "complete":
        title.append(f"  {status}", style="bold red")
    return title


def parts_of(run: Run) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the summary of the run and of each baseline, with the name to show."""
    yield str(run.summary.get("protocol") or "protocol"), run.summary
    known = dict(run.summary.get("baselines") or {})
    known |= {name: baseline.summary for name, baseline in run.baselines.items()}
    yield from known.items()


def named(name: str, part: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the name of a part of a run, with the status of a baseline that isn't complete."""
    status = part.get("status", "complete")
    return name if status == "complete" or part is summary else f"{name} ({status})"


def _facts(run: Run) -> Table:
    """Return the short lines below the table."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    summary = run.summary
    for name, text in facts_of(summary):
        facts.add_row(f" {name}", Text(text))
    if lost := summary.get("not_finite"):
        text = f"the loss of device {lost['device']} is not finite from {show_seconds(lost['virtual_seconds'])} on"
        facts.add_row(" diverged", Text(f"{text}; lower train.learning_rate, or set train.clip", style="red"))
    for warning in summary.get("warnings") or ():
        facts.add_row(" warning", Text(str(warning), style="yellow"))
    if summary.get("error"):
        facts.add_row(" error", Text(str(summary["error"]), style="red"))
    if run.path is not None:
        facts.add_row(" results", Text(str(run.path)))
        if (page := run.path / "report.html").exists():
            facts.add_row(" page", Text(f"{page}: curves, map, timeline; open it in a browser"))
    return facts


def facts_of(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a run's numbers tell beside accuracy, as (name, text); without those it has no numbers for."""
    told = [(name, tell(summary)) for name, tell in _FACTS.items()]
    return [(name, text) for name, text in told if text]


def _target(summary: Mapping[str, Any]) -> str:
    target = summary.get("target")
    if not target:
        return ""
    who = {"every_device": "every device", "mean": "mean"}.get(target["of"], target["of"])
    metric = target.get("metric", "accuracy")
    value = target["accuracy"] if target.get("value") is None else target["value"]
    bound = "at most" if summary.get("lower_is_better") and metric == metric_of(summary) else "at least"
    what = "" if metric == "accuracy" else f" {words(metric)}"
    goal = f"{who}{what} {bound} {f'{value * 100:g} %' if is_share(metric) else f'{value:g}'}"
    if not target.get("reached"):
        return f"{goal}: not reached"
    cost = f", {show_bytes(target['bytes_on_air'])} on air" if target.get("bytes_on_air") is not None else ""
    cost += f", {show_joules(target['energy_j'])}" if target.get("energy_j") is not None else ""
    return f"{goal}: reached after {show_seconds(target['virtual_seconds'])}{cost}"


def _messages(summary: Mapping[str, Any]) -> str:
    messages = summary.get("messages") or {}
    sent = messages.get("sent")
    if not sent:
        return "" if sent is None else "none sent"
    lost = messages.get("lost") or {}
    n_lost = sum(lost.values())
    text = f"{sent:,} sent, {messages.get('delivered', 0):,} delivered ({_share(messages.get('delivered', 0), sent)})"
    text += f", {n_lost:,} lost ({_share(n_lost, sent)})" if n_lost else ", none lost"
    if messages.get("in_flight"):
        text += f", {messages['in_flight']:,} in flight"
    if n_lost:
        causes = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        text += "\nlost by cause: " + ", ".join(f"{cause} {count:,} ({_share(count, sent)})" for cause, count in causes)
    refused = summary.get("refused") or {}
    n_refused = sum(refused.values())
    if n_refused:
        shown = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in refused.items() if count)
        text += f"\n{n_refused:,} refused by receivers: {shown}"
    influence = summary.get("influence")
    if influence and influence.get("median"):
        ratio = influence["distance"] / influence["median"]
        text += f"\nmodels of device {influence['device']} moved others most: {ratio:.3g} times as far as the median's"
    extras = [f"{messages[key]:,} {name}" for key, name in _EXTRAS.items() if messages.get(key)]
    return text + ("\n" + ", ".join(extras) if extras else "")


def _influence(summary: Mapping[str, Any]) -> str:
    """Return how unequally samples count, if some count twice as much as others."""
    influence = summary.get("influence") or {}
    most, least = influence.get("most_sample"), influence.get("least_sample")
    if most is None or least is None or most < 2 * least:
        return ""
    return (
        f"a sample counts {least:.2g} to {most:.2g} times as much as on average, most on device "
        f"{influence['most_sample_of']}; {100 * influence['from_data']:.0f} % away from all alike"
    )


_EXTRAS = {"duplicates": "duplicates arrived", "unread": "dropped at full inboxes"}


def _packets(summary: Mapping[str, Any]) -> str:
    messages = summary.get("messages") or {}
    packets, lost = messages.get("packets"), messages.get("packets_lost") or 0
    if not packets or packets == messages.get("sent"):
        return ""  # one per message: they say nothing more
    return f"{packets:,} sent, {lost:,} lost ({_share(lost, packets)})"


def _staleness(summary: Mapping[str, Any]) -> str:
    staleness = summary.get("staleness") or {}
    if staleness.get("seconds_mean") is None:
        return ""
    mean, most = (
        [show_seconds(staleness[f"seconds_{which}"])]
        + ([f"{staleness[f'rounds_{which}']:.3g} rounds"] if staleness.get(f"rounds_{which}") is not None else [])
        for which in ("mean", "max")
    )
    return f"mixed messages were {' or '.join(mean)} old on average, {' or '.join(most)} at most"


def _sync(summary: Mapping[str, Any]) -> str:
    sync = summary.get("sync")
    if not sync:
        return ""
    done = sync.get("completed_s")
    text = "not complete" if done is None else f"complete after {show_seconds(done)}"
    text += ", all devices agree" if sync.get("agreed") else ", devices disagree"
    if sync.get("joined"):
        text += f", {sync['joined']:,} joined later"
    if sync.get("left_out"):
        text += f", {sync['left_out']:,} silent neighbors left out"
    if sync.get("messages"):
        text += f"; {sync['messages']:,} messages, {show_bytes(sync['payload_bytes'])}"
    return text


def _compression(summary: Mapping[str, Any]) -> str:
    ratios = summary.get("compression")
    if not ratios:
        return ""
    said = {"payload": "as papers count", "codec": "as encoded", "on_air": "on air, with everything else that is sent"}
    shown = ", ".join(f"{ratios[f'{key}_ratio']:,.4g} times {words}" for key, words in said.items())
    return f"fewer bytes than whole models: {shown}"


def _energy(summary: Mapping[str, Any]) -> str:
    energy = summary.get("energy")
    if not energy:
        return ""
    total, each, empty = energy["joules"], energy["per_device"], energy.get("batteries_empty")
    text = f"{show_joules(total)}, {show_joules(each['min'])} to {show_joules(each['max'])} per device"
    shares = [f"{_STATES[state]} {_share(part, total)}" for state, part in energy["by_state"].items() if part]
    text += f": {', '.join(shares)}" if shares else ""
    return text + (f"\n{empty:,} batteries empty" if empty else "")


_STATES = {"tx": "transmitting", "rx": "receiving", "idle": "listening", "sleep": "asleep", "cpu": "training"}


def _rounds(summary: Mapping[str, Any]) -> str:
    rounds = summary.get("rounds")
    if not rounds or not rounds.get("max"):
        return ""
    return f"{rounds['min']:.6g} to {rounds['max']:.6g}, {rounds['mean']:.6g} on average"


def _wall(summary: Mapping[str, Any]) -> str:
    wall, total = summary.get("wall") or {}, summary.get("wall_seconds")
    if total is None:
        return ""
    text = show_seconds(total)
    if total and any(wall.values()):
        text += ": " + ", ".join(f"{name} {seconds / total * 100:.0f} %" for name, seconds in wall.items())
    batch = (summary.get("training") or {}).get("mean_batch")
    return text + (f"; {batch:.1f} devices trained together" if batch else "")


_FACTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "target": _target,
    "stopped by": lambda summary: summary.get("stopped_by") or "",
    "rounds": _rounds,
    "messages": _messages,
    "packets": _packets,
    "influence": _influence,
    "staleness": _staleness,
    "sync": _sync,
    "compression": _compression,
    "energy": _energy,
    "consensus": lambda summary: _shown(summary.get("consensus_distance"), "distance {:.3g}".format, none=""),
    "wall time": _wall,
    "digest": lambda summary: (summary.get("trace_digest") or "")[:16],
}


def _bytes_on_air(part: Mapping[str, Any]) -> float | None:
    messages = part.get("messages") or part
    value: float | None = messages.get("bytes_on_air")
    return value


def metric_of(summary: Mapping[str, Any]) -> str:
    """Return what the models of a run are scored by first."""
    return str(summary.get("metric") or "accuracy")


def score_columns(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns of a score in a table, "min", "mean" and "max" with their titles, the worst first."""
    worst, best = ("max", "min") if summary.get("lower_is_better") else ("min", "max")
    return {worst: "worst device", "mean": f"mean {words(metric_of(summary))}", best: "best device"}


def score_of(summary: Mapping[str, Any], metric: str) -> Mapping[str, float]:
    """Return the range over devices of a score; empty if there is none."""
    found = (summary.get("scores") or {}).get(metric) or (summary.get("accuracy") if metric == "accuracy" else None)
    return found or {}


def group_ranges(run: Run) -> list[tuple[str, dict[str, float]]]:
    """Return each group of devices, as people read it, and the range of the first score over those that have one."""
    metric, found = metric_of(run.summary), list[tuple[str, dict[str, float]]]()
    if metric not in run.devices.columns:
        return found
    of_devices = run.devices.set_index("device")[metric]
    for name, ids in members(run.devices).items():
        scores = of_devices.loc[ids].dropna()
        if len(scores):
            low, mean, high = float(scores.min()), float(scores.mean()), float(scores.max())
            found.append((f"  {name}, {counted(len(ids), 'device')}", {"min": low, "mean": mean, "max": high}))
    return found


def counted(count: int, what: str) -> str:
    """Return how many there are: "1 device", "4 devices"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def show_score(metric: str, value: float | None) -> str:
    """Return a score for people: shares of 1 in percent."""
    return percent(value) if value is None or is_share(metric) else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Return an accuracy to show; "-" if there is none."""
    return _NONE if value is None else f"{value * 100:.2f} %"


def _share(count: float, total: float) -> str:
    return f"{count / total * 100:.1f} %"


def _shown(value: float | None, show: Callable[[float], str], none: str = _NONE) -> str:
    return none if value is None else show(value)
