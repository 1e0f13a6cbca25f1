"""Explanations for people: the radio budget of a link, the medium it shares, and when devices meet."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from p2pl_async.air import BleAdvertising, BleConnections, IdealRates, NrMode2, SharedMedium, Tsch
from p2pl_async.air.advertising import scan_phase
from p2pl_async.air.connections import Connection
from p2pl_async.air.rates import Rates
from p2pl_async.air.settings import BLE_CHANNELS
from p2pl_async.basics.units import show_rate, show_seconds
from p2pl_async.protocols.max_norm import MaxNormSync
from p2pl_async.radio import Propagation, RadioNeighbors
from p2pl_async.radio.settings import NoFading
from p2pl_async.relay import ShortestPaths
from p2pl_async.scenario.building.world import World
from p2pl_async.scenario.reading.plain import leaves, origin_of, without_none
from p2pl_async.scenario.scenario import Scenario
from p2pl_async.topology.contacts import Contacts, meetings
from p2pl_async.topology.diameter import hops_needed
from p2pl_async.topology.neighborhood import Neighborhood


def explain_radio(propagation: Propagation, src: int, dst: int, size: int) -> list[tuple[str, str]]:
    """Return (quantity, value) of a link's radio budget at the beginning of a run.

    Args:
        propagation: of the scenario.
        src: the device that sends.
        dst: the device that hears it.
        size: bytes on the air of the packet whose loss is shown.
    """
    snr = propagation.mean_snr(src, dst, 0.0)
    fades = "" if isinstance(propagation.settings.fading, NoFading) else ", mean over fading"
    return [
        ("distance", f"{propagation.distance(src, dst, 0.0):.4g} m"),
        ("received power", f"{snr + propagation.noise(dst):.1f} dBm"),
        ("noise", f"{propagation.noise(dst):.1f} dBm"),
        ("mean SNR", f"{snr:.1f} dB"),
        (f"loss of {size} B", f"{100 * propagation.mean_error(snr, size):.3g} %{fades}"),
    ]


def explain_rate(world: World, src: int, dst: int, size: int) -> list[tuple[str, str]]:
    """Return (quantity, value) of the rate that a sender who knows the SNR takes at the beginning; none otherwise."""
    air = world.airs.of(src, dst)
    medium = air.medium
    if not isinstance(medium, SharedMedium) or not isinstance(medium.rates, IdealRates):
        return []
    mode = Rates(medium, air.propagation, air.seed).pick(src, [dst], size, 0.0, 0, True, None)
    return [("rate", show_rate(mode.rate))] if mode.rate is not None else []


def explain_interferers(world: World, src: int, dst: int) -> list[tuple[str, str]]:
    """Return (quantity, value) of the power with which the ends of a link receive each interferer at the beginning."""
    rows, air = [], world.airs.of(src, dst)
    for number, one in enumerate(getattr(air.medium, "interferer", ())):
        assert air.propagation is not None
        powers = air.propagation.powers_from(one.position, one.power, 0.0)
        rows.append((f"interferer {number}", f"{powers[src]:.1f} dBm at {src}, {powers[dst]:.1f} dBm at {dst}"))
    return rows


def explain_channel(world: World, src: int, dst: int) -> list[tuple[str, str]]:
    """Return (quantity, value) of when and on which channel a link's receiver listens; none where it always does."""
    air = world.airs.of(src, dst)
    own, medium = world.own_channels(air), air.medium
    if isinstance(medium, BleConnections):
        one = Connection((min(src, dst), max(src, dst)), medium, air.seed)
        times = f"an event every {show_seconds(medium.interval)} from {show_seconds(one.first)} on"
        return [("connection", f"{one.central} is central; {times}, {one.hop} channels of {BLE_CHANNELS} further each")]
    if isinstance(medium, BleAdvertising):
        window = f"{show_seconds(medium.scan_window)} of every {show_seconds(medium.scan_interval)}"
        return [("scans", f"{window} from {show_seconds(scan_phase(medium, air.seed, dst))} on")]
    rows = []
    if isinstance(medium, Tsch):
        rows.append(("cell", f"slot {medium.cell(src, dst)} of {medium.slotframe}"))
    channels = medium.hops if isinstance(medium, Tsch) else getattr(medium, "channels", None)
    if own is None or channels is None or isinstance(medium, NrMode2):
        return rows
    if channels.hopping is None:
        return [("channel", f"{own[dst]}, on which {dst} listens")]
    return [*rows, ("channel", f"hops every {show_seconds(channels.hopping.dwell)}, with the offset {own[dst]}")]


def explain_fading(propagation: Propagation) -> list[tuple[str, str]]:
    """Return (quantity, value) of how long a gain lasts, and on which channels it is the same; none without fading."""
    fading = propagation.settings.fading
    block = fading.block(propagation.settings.carrier)
    if block is None:
        return []
    anew = f"drawn anew every {show_seconds(block)}" if block else "drawn for each frame"
    coherent = getattr(fading, "coherent_channels", None)
    alike = "alike on all channels" if coherent is None else f"alike on {coherent} neighboring channels"
    return [("fading", f"{fading.kind}, {anew}, {'each channel by itself' if coherent == 1 else alike}")]


def explain_currents(world: World, src: int, dst: int) -> list[tuple[str, str, str]]:
    """Return (quantity, value, table) of what the radios at both ends of a link draw; none that isn't measured."""
    scenario, air = world.scenario, world.airs.of(src, dst)
    of_each, rows = scenario.devices.of_each("energy", scenario.energy), []
    for device in (src, dst):
        group, energy = of_each[device]
        if energy is None:
            continue
        draws, table = energy.radio.get(air.name, energy), f"devices.group.{group}.energy" if group else "energy"
        states = ", ".join(f"{state} {1000 * getattr(draws, state):.4g} mA" for state in ("tx", "rx", "idle", "sleep"))
        where = "" if draws is energy else f".radio.{air.name}"
        rows.append((f"currents of {device}", f"{states}, at {draws.voltage:g} V", table + where))
    return rows


def explain_ways(world: World) -> list[str]:
    """Return a sentence on the hops between neighbors, over links that there ever are; none without relays."""
    if world.scenario.relay is None:
        return []
    direct, n = world.direct, world.scenario.devices.count
    paths = ShortestPaths(direct.out_neighbors, n)
    hops = [paths.distance(src, dst) for src, dst in world.graph.edges]
    known = [each for each in hops if each < math.inf]
    if not known:
        return []
    mean = sum(known) / len(known)
    links = direct.graph.number_of_edges()
    return [f"messages go over {links} direct links: {mean:.1f} hops on average, {max(known)} at most"]


_LONGEST_LOOK = 600.0  # s of virtual time that `explain_meetings` looks ahead, unless the run is shorter


def explain_meetings(scenario: Scenario, neighborhood: Neighborhood | None) -> list[str]:
    """Return sentences about links that come and go with time; none if links stay, or follow rounds."""
    if not isinstance(neighborhood, RadioNeighbors | Contacts):
        return []
    end = min(scenario.stop.virtual_time or _LONGEST_LOOK, _LONGEST_LOOK)
    return meetings(neighborhood.snapshots(end), end)


_BEACON = 100  # bytes, about
_BEACONS = 50  # tried on each link
_LINKS = 16  # tried


def explain_sync(world: World) -> list[str]:
    """Return a sentence on how long the max-norm synchronization takes; none without it, on shared air, over relays.

    Beacons are tried on some links, which draws from streams that no run shares.
    """
    sync = getattr(world.scenario.protocol, "sync", None)
    roams = world.neighborhood is not None and world.neighborhood.roams
    pairs = sorted(world.graph.edges)[:: max(1, world.graph.number_of_edges() // _LINKS)]
    apart = world.airs.shared or world.scenario.relay is not None
    if not isinstance(sync, MaxNormSync) or apart or roams or not pairs:
        return []
    tried = []  # (mean delay, share lost) of each link
    for src, dst in pairs:
        link = world.make_link(src, dst)
        delays = [link.judge(_BEACON, at).arrival - at for at in (sync.beacon * number for number in range(_BEACONS))]
        came = [delay for delay in delays if delay < math.inf]
        if came:
            tried.append((sum(came) / len(came), 1 - len(came) / len(delays)))
    if not tried:
        return ["max-norm synchronization: no end, for no beacon gets through"]
    hops = hops_needed(world.out_neighbors)
    usual, worst = (
        show_seconds(float(f"{sync.expected_s(hops, delay, loss, 0.0):.2g}"))
        for delay, loss in (np.mean(tried, axis=0), np.max(tried, axis=0))
    )
    return [
        f"max-norm synchronization: about {usual} after the last device has begun"
        + (f" (were all links as the worst, {worst})" if worst != usual else "")
        + f", and {hops} times what a model takes on a link"
    ]


def explain_medium(world: World, src: int, dst: int, origins: Mapping[str, str]) -> list[tuple[str, object, str]]:
    """Return (key path, value, rule that set it) of the medium that a link is on, if devices share it."""
    air = world.airs.of(src, dst)
    if not air.medium.shared:
        return []
    path = f"air.{air.name}.medium" if air.number else "medium"
    table = without_none(air.medium.model_dump(mode="json"))
    return [(key, value, origin_of(origins, key, path) or "default") for key, value in leaves(table, path)]
