"""Random graphs, links, faults and whole worlds for Hypothesis, which `pip install 'p2pl-async[testing]'` installs.

Each strategy draws tables as a scenario has them, the plainest first: a failing world shrinks to few tables. Numbers
are of the size that runs of seconds need, not extreme: a link of 1 bit/s is right, and nothing happens on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pl_async.messages import DeviceId
from p2pl_async.protocols.base import Protocol
from p2pl_async.testing.chatter import Chatter
from p2pl_async.testing.draws import DURATIONS, Table, Tables, seconds_of, shares, some_of, table_of
from p2pl_async.testing.link_tables import RATES, links
from p2pl_async.testing.medium_tables import fitted, media, tuned
from p2pl_async.testing.radio_tables import mobilities, radios
from p2pl_async.testing.random_world import RandomWorld

__all__ = ["faults", "graphs", "links", "worlds"]

# Graphs


@st.composite
def graphs(draw: st.DrawFn, min_size: int = 2, max_size: int = 7, *, directed: bool = True) -> list[list[DeviceId]]:
    """Connected graphs, as the out-neighbors of each device; what `emulate` takes.

    Args:
        draw: given by Hypothesis.
        min_size: fewest devices.
        max_size: most devices.
        directed: whether there may be links without a link back; the graph is then strongly connected.
    """
    n = draw(st.integers(min_size, max_size))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    if directed:
        order = draw(st.permutations(range(n)))
        edges = {(order[i], order[(i + 1) % n]) for i in range(n)} | draw(st.sets(pairs, max_size=2 * n))
    else:
        tree = {(draw(st.integers(0, k - 1)), k) for k in range(1, n)} | draw(st.sets(pairs, max_size=n))
        edges = tree | {(b, a) for a, b in tree}
    return [sorted(k for j, k in edges if j == i and k != i) for i in range(n)]


_TOPOLOGIES: dict[str, Tables] = {
    "ring": table_of("ring"),
    "complete": table_of("complete"),
    "path": table_of("path"),
    "star": table_of("star"),
    "grid": table_of("grid"),
    "directed-ring": table_of("directed-ring"),
    "exponential": table_of("exponential"),
    "random-geometric": table_of("random-geometric", radius=st.sampled_from([0.5, 1.0])),
    "erdos-renyi": table_of("erdos-renyi", p=st.sampled_from([0.5, 0.9])),
    "barabasi-albert": table_of("barabasi-albert", attach=st.just(1)),
    "one-peer-exponential": some_of("one-peer-exponential", every=seconds_of(0.2, 3)),
    "random-matchings": some_of("random-matchings", every=seconds_of(0.2, 3)),
}
_ONE_WAY = ("directed-ring", "exponential", "one-peer-exponential")
_TURNS = ("one-peer-exponential", "random-matchings")
_PLACED = ("random-geometric", "in-range")
_LASTING = ("ring", "path", "star", "directed-ring", "grid", "random-geometric", "erdos-renyi", "complete")


# Faults


@st.composite
def faults(draw: st.DrawFn, n: int, *, seconds: int = 10, cut: bool = True, crash: bool = True) -> Table:
    """Tables of what happens to devices and links meanwhile: churn, scripted events, batteries, clocks, late starts.

    Args:
        draw: given by Hypothesis.
        n: number of devices.
        seconds: length of the run.
        cut: whether links go down.
        crash: whether devices crash, leave, or empty their batteries.
    """
    table: Table = {}
    devices: Table = {}

    def maybe(into: Table, key: str, values: st.SearchStrategy[Any]) -> None:
        if draw(st.booleans()) and draw(st.booleans()):
            into[key] = draw(values)

    instant = seconds_of(0, seconds)
    maybe(devices, "start", st.one_of(table_of(at=instant), table_of(uniform=seconds_of(0.1, seconds))))
    maybe(
        devices, "compute",
        some_of(always={"per_epoch": seconds_of(0.05, 2)}, spread=st.sampled_from([0.4, 1.0]), jitter=st.just(0.3)),
    )  # fmt: skip
    drift = st.one_of(st.just("100 ppm"), st.just("-90000 ppm"), table_of("normal", sd=st.just("50 ppm")))
    maybe(table, "clocks", some_of(drift=drift, walk=st.just("20 ppm"), offset=table_of(uniform=seconds_of(1, 100))))
    if crash:
        maybe(devices, "join", table_of(uniform=seconds_of(0.1, seconds / 2)))
        maybe(devices, "leave", st.one_of(table_of(at=seconds_of(seconds / 2 + 0.1, seconds))))
        keep = {"on_crash": st.sampled_from(["lose_ram", "keep_state"]), "restart": seconds_of(0, 1)}
        shared = {"shared": st.booleans()}
        churn = some_of(always={"up": DURATIONS, "down": DURATIONS}, **keep, **shared)
        maybe(table, "churn", churn)
        if n > 1:
            group = some_of(
                always={"ids": st.integers(0, n - 1)}, churn=churn, energy=_energies(),
                leave=table_of(at=seconds_of(seconds / 2 + 0.1, seconds)),
            )  # fmt: skip
            maybe(devices, "group", table_of(odd=group))
        maybe(table, "energy", _energies())
    scripted = draw(st.booleans())
    events = draw(_events(n, seconds, cut, crash)) if scripted else []
    if events:
        table["event"] = events
    if devices:
        table["devices"] = devices
    return table


def _energies() -> Tables:
    presets = st.sampled_from(["nrf52840", "cc2420", "esp32-s2", "sx1276"])
    battery = st.integers(1, 2000).map(lambda mj: f"{mj / 1000:g} J")
    return some_of(always={"preset": presets}, battery=battery, cpu=st.just("50 mW"), sleep=st.just("1 mW"))


@st.composite
def _events(draw: st.DrawFn, n: int, seconds: int, cut: bool, crash: bool) -> list[Table]:
    """Events in order of time that follow from each other: what is cut heals, what has crashed may restart."""
    instants = sorted(draw(st.sets(st.integers(0, 1000 * seconds), min_size=1, max_size=5)))
    kinds = (["link-down", "partition"] if cut and n > 1 else []) + (["crash"] if crash else [])
    found: list[Table] = []
    open_: list[Table] = []
    for instant in instants if kinds else []:
        event: Table = {"at": f"{instant} ms"}
        ends: bool = draw(st.booleans())
        if open_ and ends:
            event |= open_.pop(draw(st.integers(0, len(open_) - 1)))
            found.append(event)
            continue
        kind = draw(st.sampled_from(kinds))
        device = draw(st.integers(0, n - 1))
        if any(other.get("from") == device or other.get("devices") == device for other in open_):
            continue
        if kind == "link-down":
            links_cut = {"from": device, "both": draw(st.booleans())}
            event |= {"kind": kind, **links_cut}
            open_.append({"kind": "link-up", **links_cut})
        elif kind == "crash":
            event |= {"kind": kind, "devices": device}
            open_.append({"kind": "restart", "devices": device})
        elif not any(other["kind"] == "heal" for other in open_):
            event |= {"kind": kind, "groups": [device]}
            open_.append({"kind": "heal"})
        else:
            continue
        found.append(event)
    return found


def _changes(shared: bool, lossy: bool, reorder: bool) -> Tables:
    """Keys of `[link]` for an override or an event, one at a time."""
    changes: list[Tables] = [table_of(latency=table_of("constant", mean=seconds_of(0, 1)))]
    if lossy:
        changes += [table_of(loss=table_of("bernoulli", p=shares())), table_of(corrupt=shares(0.5))]
    if not shared:
        changes += [table_of(rate=RATES)]
    if reorder:
        changes += [table_of(order=st.sampled_from(["fifo", "free"]))]
    return st.one_of(changes)


@st.composite
def _scripted(draw: st.DrawFn, n: int, seconds: int, changes: Tables, ramps: bool, moves: bool) -> list[Table]:
    """Events that change links, at once or step by step, or move devices, if they have places."""
    ids = st.integers(0, n - 1)
    ends: Tables = st.fixed_dictionaries({"from": ids, "both": st.booleans()})
    ramp = table_of(latency=table_of("constant", mean=seconds_of(0.1, 1)))
    kinds: list[Tables] = [table_of("set", link=changes)]
    if ramps:
        kinds.append(table_of("ramp", link=ramp, over=seconds_of(0.1, 5)))
    kinds = [st.tuples(kind, ends).map(lambda parts: parts[0] | parts[1]) for kind in kinds]
    if moves:
        to = st.sampled_from([["0 m", "0 m"], ["30 m", "5 m"], ["2 km", "0 m"]])
        kinds.append(some_of("move", always={"devices": ids, "to": to}, speed=st.just("10 m/s")))
    instants = sorted(draw(st.sets(st.integers(0, 1000 * seconds), min_size=1, max_size=3)))
    return [{"at": f"{instant} ms", **draw(st.one_of(kinds))} for instant in instants]


# Worlds


@st.composite
def worlds(
    draw: st.DrawFn,
    protocol: Protocol | None = None,
    *,
    min_size: int = 2,
    max_size: int = 5,
    seconds: int = 10,
    rounds: int | None = None,
    loss: float = 0.6,
    repeat: bool = True,
    reorder: bool = True,
    directed: bool = True,
    turns: bool = True,
    topologies: Collection[str] = (*_TOPOLOGIES, "in-range"),
    down: bool = True,
    crash: bool = True,
    shared: bool = True,
    relays: bool = True,
    airs: bool = True,
) -> RandomWorld:
    """Whole scenarios without a protocol: graph, links, media, radios, movement, faults, clocks, energy, seed.

    Training takes its time and moves nothing, so that laws of averaging hold. Narrow a world by what a protocol
    doesn't tolerate.

    Args:
        draw: given by Hypothesis.
        protocol: that will run, so that worlds it can't live in are left out; any by default.
        min_size: fewest devices.
        max_size: most devices.
        seconds: virtual seconds of the run.
        rounds: or rounds of each device, if it does so many before.
        loss: largest share of packets that a link loses; 0: no message is ever lost.
        repeat: whether a message may arrive twice.
        reorder: whether a message may overtake another.
        directed: whether there may be links without a link back.
        turns: whether the graph may change.
        topologies: kinds of graph to choose from.
        down: whether links may go down.
        crash: whether devices may crash, leave, or empty their batteries.
        shared: whether devices may share the air.
        relays: whether devices may pass messages on; never where no message may be lost.
        airs: whether groups of devices may have radios of their own, and no link to those that have others.
    """
    n = draw(st.integers(min_size, max_size))
    table: Table = {"seed": draw(st.integers(0, 1000))}
    on_air = shared and loss > 0 and draw(st.booleans())
    radio = on_air and any(kind in topologies for kind in _PLACED) and draw(st.booleans())
    some_links = functools.partial(links, loss=loss, repeat=repeat, reorder=reorder, down=down)
    link = draw(some_links(shared=on_air))
    changes = _changes(on_air or airs, loss > 0, reorder)
    overrides = draw(st.lists(changes, max_size=1))
    if overrides:
        link["override"] = [{"from": draw(st.integers(0, n - 1)), "both": draw(st.booleans()), **overrides[0]}]
    fate = draw(faults(n, seconds=seconds, cut=down and loss > 0, crash=crash and loss > 0))
    table["devices"] = {"count": n, **fate.pop("devices", {})}
    table |= fate
    if radio:
        table |= draw(_places(topologies, directed))
    else:
        kinds = [kind for kind in topologies if kind in _TOPOLOGIES]
        kinds = [kind for kind in kinds if (directed or kind not in _ONE_WAY) and (turns or kind not in _TURNS)]
        kinds = [kind for kind in kinds if n in (4, 6) or kind != "grid"]
        table["topology"] = draw(st.one_of([_TOPOLOGIES[kind] for kind in kinds]))
    if relays and loss > 0 and draw(st.booleans()) and draw(st.booleans()):
        over = table["topology"] if radio else draw(st.one_of([_TOPOLOGIES[kind] for kind in _LASTING]))
        table["relay"] = draw(_relays(over, flood=reorder))
        if radio:
            kinds = [kind for kind in _LASTING if kind in topologies and (directed or kind not in _ONE_WAY)]
            table["topology"] = draw(st.one_of([_TOPOLOGIES[kind] for kind in kinds or ["ring"]]))
    if on_air:
        table["medium"] = draw(media(table.get("radio"), "arq" in link))
        link = fitted(link, table["medium"])
        if radio:
            table["radio"] = draw(tuned(table["radio"], table["medium"]))
    table["link"] = link
    if airs and draw(st.booleans()) and draw(st.booleans()):
        table["air"] = draw(_airs(some_links, radio, on_air))
        ids = {"both": f"0-{n - 1}", "away": n - 1} if draw(st.booleans()) else {"both": draw(st.integers(0, n - 1))}
        kept = {"both": ["main", *table["air"]], "away": [*table["air"]][:1]}
        groups = table["devices"].setdefault("group", {})
        groups.update({name: {"ids": each, "airs": kept[name]} for name, each in ids.items()})
        if "channels" in table.get("medium", {}) and table["medium"]["kind"] in ("csma-ca", "dcf", "aloha", "tdma"):
            groups["both"]["channel"] = {"main": 0}
        if "energy" in table and draw(st.booleans()):
            table["energy"]["radio"] = {"other": {"preset": "nrf52840"}}
    if draw(st.booleans()) and draw(st.booleans()):
        table["event"] = [*table.get("event", []), *draw(_scripted(n, seconds, changes, "latency" not in link, radio))]
    table["stop"] = {"virtual_time": f"{seconds} s"} | ({} if rounds is None else {"rounds": rounds})
    world = RandomWorld(table)
    try:
        world.scenario(protocol or Chatter())
    except ValidationError:
        reject()
    return world


@st.composite
def _airs(draw: st.DrawFn, some_links: Callable[..., Tables], radio: bool, shared: bool) -> Table:
    """One or two `[air.NAME]`, shared or not, with radios or without."""
    found: Table = {}
    for name in draw(st.sampled_from([["other"], ["other", "third"]])):
        on_it = shared and draw(st.booleans())
        link, air = draw(some_links(shared=on_it)), {}
        if radio and draw(st.booleans()):
            air["radio"] = draw(radios(places=False))
        if on_it:
            air["medium"] = draw(media(air.get("radio"), "arq" in link))
            link = fitted(link, air["medium"])
            if "radio" in air:
                air["radio"] = draw(tuned(air["radio"], air["medium"]))
        found[name] = {**air, "link": link}
    return found


def _relays(over: Table, *, flood: bool) -> Tables:
    """Tables of relays over such links; by a flood, messages may overtake each other."""
    kinds = ["shortest-path", *(["flooding"] if flood else [])]
    return table_of(
        kind=st.sampled_from(kinds), over=st.just(over), hops=st.sampled_from([16, 1, 2]), header=st.just("5 B")
    )


@st.composite
def _places(draw: st.DrawFn, topologies: Collection[str], directed: bool) -> Table:
    """Tables of radios with places, and who hears whom; radios of unequal strength make links of one way."""
    kinds = [table_of("in-range", loss=shares(0.5)), table_of("random-geometric", radius=st.just(1.0))]
    allowed = [kind for kind, name in zip(kinds, ("in-range", "random-geometric"), strict=True) if name in topologies]
    table = {"topology": draw(st.one_of(allowed)), "radio": draw(radios())}
    if not directed:
        table["radio"].pop("asymmetry", None)
    if draw(st.booleans()):
        table["mobility"] = draw(mobilities())
    return table
