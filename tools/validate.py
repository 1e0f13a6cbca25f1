"""Draw every link model against its closed form, and write scenarios/VALIDATION.md.

    python tools/validate.py                 # a few minutes
    python tools/validate.py loss air        # only these parts

Points come from links and radios as a run uses them, lines from formulas; where ns-3 3.37 was run on
the same setting, its numbers are drawn too. Error bars are 3 standard errors.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from p2pl_async import Device, Message, Protocol
from p2pl_async.air.hearing import PowerHearing
from p2pl_async.link import Link, LinkSettings
from p2pl_async.radio import AnyMobility, Motion, Propagation, RadioSettings, Track
from p2pl_async.radio.phy import AnyPhy
from p2pl_async.radio.settings import Shadowing
from p2pl_async.radio.shadowing import FieldShadows
from p2pl_async.relay import Flood, Routes, ShortestPaths
from p2pl_async.testing import Cell, emulate
from p2pl_async.trace import Record
from p2pl_async.transport.relaying import Relaying

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "scenarios" / "VALIDATION.md"
PICTURES = ROOT / "scenarios" / "pictures" / "validation"
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#E69F00", "#009E73", "#6b6b6b"
CURVE: dict[str, Any] = {"color": GRAY, "linewidth": 1.2}
POINTS: dict[str, Any] = {"fmt": "o", "markersize": 4, "capsize": 2, "linewidth": 1}

# 802.15.4 unslotted CSMA/CA, 500 frames of 80 bytes per sender, Poisson; mean of two runs of ns-3 3.37:
# offered load -> delivery ratio, mean delay in ms. "hidden": two halves that don't hear each other.
NS3_CLIQUE = {0.0248: (0.9981, 4.67), 0.1242: (0.9904, 5.16), 0.2483: (0.9776, 6.05), 0.4966: (0.9166, 8.33)}
NS3_HIDDEN = {0.0248: (0.9845, 4.60), 0.1242: (0.9326, 4.83), 0.2483: (0.8708, 5.16), 0.4966: (0.7581, 6.09)}
# Saturated 802.11a stations that send 1458 B at 24 Mbit/s to one, 6 s of ns-3 3.37: (stations, whether halves of them
# are hidden from each other, whether they ask) -> frames per second, share of transmissions that fail.
NS3_WIFI = {
    (2, False, "none"): (1499.8, 0.113), (5, False, "none"): (1423.5, 0.249), (10, False, "none"): (1319.2, 0.366),
    (20, False, "none"): (1228.0, 0.455), (2, True, "none"): (1212.7, 0.268), (4, True, "none"): (983.3, 0.470),
    (2, True, "rts"): (1316.7, 0.012), (4, True, "rts"): (1337.8, 0.017),
}  # fmt: skip
# Goodput of ns-3 3.37's MinstrelHt over that of the best constant rate, 802.11n at 20 MHz without aggregation,
# saturated: SNR in dB -> mean of three runs of 20 s, the first half left out.
NS3_MINSTREL = {
    2: 0.984, 4: 0.954, 5: 0.934, 6: 0.887, 8: 0.950, 10: 0.964, 12: 0.883, 14: 0.943, 16: 0.916, 18: 0.860, 20: 1.002,
    22: 1.001, 25: 1.001,
}  # fmt: skip
# Error rate of 127 bytes over the SNR in dB, of ns-3's 802.15.4; and 1458 bytes at HT20 MCS 0, 3 and 7 (table model).
NS3_154 = {-1.0: 0.689011, 0.0: 0.151364, 1.0: 0.0130329, 2.0: 0.000521214}

Part = Callable[["list[Axes]"], str]
PARTS: dict[str, tuple[str, int, Part]] = {}


def part(name: str, title: str, plots: int) -> Callable[[Part], Part]:
    """Have a function draw `plots` plots and return what to say about them."""

    def add(draw: Part) -> Part:
        PARTS[name] = (title, plots, draw)
        return draw

    return add


def link(seed: int = 1, **table: Any) -> Link:
    """Return a link with these settings."""
    return Link(0, 1, LinkSettings.model_validate(table), seed)


def latencies(count: int, every: float = 1.0, **table: Any) -> Floats:
    """Return the delays of so many small messages."""
    one = link(latency=table, order="free")
    return np.array([one.judge(10, k * every).arrival - k * every for k in range(count)])


def fates(count: int, every: float = 1.0, seed: int = 1, **table: Any) -> NDArray[np.bool_]:
    """Return which of so many packets are lost."""
    one = link(seed, loss=table)
    return np.array([bool(one.judge(10, k * every).cause) for k in range(count)])


@part("delay", "Delay (link-level latency)", 2)
def delay(axes: list[Axes]) -> str:
    """Distribution functions of latencies; correlation in time."""
    from scipy import stats

    a, b = axes
    variance = math.log(1.25)
    laws: list[tuple[str, dict[str, Any], Any]] = [
        ("lognormal", {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms"},
         stats.lognorm(math.sqrt(variance), scale=20 * math.exp(-variance / 2))),
        ("gamma", {"kind": "gamma", "mean": "20 ms", "sd": "20 ms"}, stats.gamma(1, scale=20)),
        ("normal, cut at 0", {"kind": "normal", "mean": "20 ms", "sd": "15 ms"}, stats.truncnorm(-4 / 3, 99, 20, 15)),
    ]  # fmt: skip
    worst = 0.0
    for (name, table, law), color in zip(laws, (BLUE, ORANGE, GREEN), strict=True):
        found = np.sort(1e3 * latencies(4000, **table))
        at = np.linspace(0, 70, 200)
        a.plot(at, law.cdf(at), **CURVE)
        shares = np.arange(0.025, 1, 0.05)
        a.plot(np.quantile(found, shares), shares, "o", color=color, markersize=4, label=name)
        worst = max(worst, float(stats.kstest(found, law.cdf).statistic) * math.sqrt(4000))
    a.set(xlabel="delay (ms)", ylabel="share of messages below", title="distribution", xlim=(0, 70))
    a.legend(frameon=False, fontsize=8)
    tau, gaps = 0.5, np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    table = {"kind": "lognormal", "mean": "20 ms", "sd": "10 ms", "correlation": "500 ms"}
    found_r = []
    for gap in gaps:
        z = np.log(latencies(6000, float(gap), **table))
        found_r.append(np.corrcoef(z[:-1], z[1:])[0, 1])
    at = np.linspace(0.01, 1.7, 100)
    b.plot(at, np.exp(-at / tau), **CURVE)
    b.errorbar(gaps, found_r, 3 / math.sqrt(6000), color=BLUE, **POINTS)
    b.set(xlabel="time between two messages (s)", ylabel="correlation of the normal score", title="correlation 500 ms")
    return f"Largest Kolmogorov distance times sqrt(n): {worst:.2f} (1 % limit: 1.63)."


@part("loss", "Loss: Gilbert-Elliott", 2)
def loss(axes: list[Axes]) -> str:
    """Length of bursts; loss and correlation of bursts in time."""
    a, b = axes
    p, r, count = 0.02, 0.25, 40_000
    lost = fates(count, kind="gilbert-packets", p=p, r=r)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    runs = edges[1::2] - edges[::2]
    lengths = np.arange(1, 16)
    a.semilogy(lengths, r * (1 - r) ** (lengths - 1), **CURVE)
    shares = np.array([(runs == n).mean() for n in lengths])
    a.errorbar(lengths, shares, 3 * np.sqrt(shares * (1 - shares) / len(runs)), color=BLUE, **POINTS)
    a.set(xlabel="packets lost in a row", ylabel="share of bursts", title="per packet: p = 2 %, r = 25 %")
    good, bad = 1.0, 0.25
    gaps = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    found, rates = [], []
    for gap in gaps:
        state = fates(30_000, float(gap), kind="gilbert-elliott", good="1 s", bad="250 ms").astype(float)
        found.append(np.corrcoef(state[:-1], state[1:])[0, 1])
        rates.append(state.mean())
    at = np.linspace(0.01, 1.7, 100)
    b.plot(at, np.exp(-at * (1 / good + 1 / bad)), **CURVE)
    b.plot(gaps, found, "o", color=BLUE, markersize=4, label="correlation of two packets")
    b.axhline(bad / (good + bad), **CURVE)
    b.plot(gaps, rates, "s", color=ORANGE, markersize=4, label="loss: the same at every rate")
    b.legend(frameon=False, fontsize=8)
    b.set(xlabel="time between two packets (s)", title="in time: good 1 s, bad 250 ms", ylim=(-0.05, 1))
    theory = p / (p + r)
    return f"Loss per packet {lost.mean():.4f} (closed form {theory:.4f}), mean burst {runs.mean():.2f} ({1 / r:.2f})."


@part("radio", "Radio: error rate over signal and noise", 2)
def radio(axes: list[Axes]) -> str:
    """Error rates of frames on links with a fixed SNR, against formulas and ns-3."""
    a, b = axes
    oqpsk = phy("802.15.4")
    snrs = np.linspace(-3, 3, 100)
    for size, color in ((20, ORANGE), (127, BLUE)):
        a.semilogy(snrs, oqpsk.error(snrs, size), **CURVE)
        at = np.arange(-2.5, 2.0, 0.5)
        rates = np.array([observed(oqpsk, float(snr), size, 6000) for snr in at])
        errors = 3 * np.sqrt(np.maximum(rates, 1e-4) * (1 - rates) / 6000)
        a.errorbar(at, rates, errors, color=color, label=f"{size} B", **POINTS)
    a.semilogy(list(NS3_154), list(NS3_154.values()), "kx", label="ns-3, 127 B")
    a.set(xlabel="SNR (dB)", ylabel="frame error rate", title="802.15.4", ylim=(2e-4, 1.3))
    a.legend(frameon=False, fontsize=8)
    for mcs, color in ((0, BLUE), (3, ORANGE), (7, GREEN)):
        wifi = phy("wifi", mcs=mcs)
        middle = {0: 0.31, 3: 8.93, 7: 18.8}[mcs]
        snrs = middle + np.linspace(-2, 2, 80)
        b.plot(snrs, 1 / (1 + np.exp(-(middle - snrs) / {0: 0.26, 3: 0.325, 7: 0.363}[mcs])), **CURVE)
        at = middle + np.linspace(-1.2, 1.2, 9)
        rates = np.array([observed(wifi, float(snr), 1458, 1500) for snr in at])
        b.errorbar(at, rates, 3 * np.sqrt(rates * (1 - rates) / 1500), color=color, label=f"MCS {mcs}", **POINTS)
    b.set(xlabel="SNR (dB)", ylabel="frame error rate", title="802.11n, 20 MHz, 1458 B")
    b.legend(frameon=False, fontsize=8)
    gap = max(abs(float(oqpsk.error(snr, 127)) - rate) for snr, rate in NS3_154.items())
    return f"802.15.4 against ns-3: largest difference {gap:.1e} (its numbers are printed to 6 digits)."


def phy(kind: str, **more: Any) -> Any:
    """Return a modulation."""
    return TypeAdapter(AnyPhy).validate_python({"kind": kind, **more})


def observed(modulation: Any, snr: float, size: int, count: int) -> float:
    """Return the share of frames that a link with this SNR loses."""

    class Fixed:
        def error_rate(self, at: float, size: int) -> float:
            return float(modulation.error(snr, size))

        def error_rates(self, at: Floats, size: int) -> Floats:
            return np.full(at.shape, self.error_rate(0.0, size))

        def lost_until(self, at: float, size: int) -> float:
            return at

        def delay(self, at: float) -> float:
            return 0.0

        def error_at(self, sinr: float, size: int, phy: Any = None) -> float:
            return float(modulation.error(sinr, size))

        def heard(self, at: float) -> tuple[float, float, float]:
            return math.nan, snr, math.nan

    one = Link(0, 1, LinkSettings(), 1, radio=Fixed())
    return float(np.mean([bool(one.judge(size, float(k)).cause) for k in range(count)]))


@part("waves", "Radio: shadowing and fading", 2)
def waves(axes: list[Axes]) -> str:
    """Share of links below a margin; correlation of shadowing over the way that devices have gone."""
    from scipy import stats

    a, b = axes
    n = 20_000
    others = [Track.still((50.0, 0.001 * k)) for k in range(n)]
    motion = Motion([Track.still((0.0, 0.0)), *others])
    rician, nakagami = {"kind": "rician", "k": "6 dB"}, {"kind": "nakagami", "m": 3.0}
    plain, shadowed, faded, sighted, milder = (
        Propagation(RadioSettings.model_validate(table), motion, 1).powers(0, 1.0)[1:]
        for table in (
            {"shadowing": "none"},
            {"shadowing": "6 dB"},
            *({"shadowing": "none", "fading": fading} for fading in ("rayleigh", rician, nakagami)),
        )
    )
    margins, at = np.arange(0.0, 21.0, 2.5), np.linspace(0, 20, 100)
    a.semilogy(at, -np.expm1(-(10 ** (-at / 10))), **CURVE)
    a.semilogy(at, stats.norm.sf(at / 6), **CURVE)
    k = 10**0.6
    a.semilogy(at, stats.ncx2.cdf(2 * (1 + k) * 10 ** (-at / 10), 2, 2 * k), **CURVE)
    a.semilogy(at, stats.gamma.cdf(3 * 10 ** (-at / 10), 3), **CURVE)
    for name, powers, color in (
        ("Rayleigh", faded, BLUE),
        ("shadowing 6 dB", shadowed, ORANGE),
        ("Rician 6 dB", sighted, GREEN),
        ("Nakagami 3", milder, "k"),
    ):
        shares = np.array([np.mean(powers - plain < -margin) for margin in margins])
        a.errorbar(margins, shares, 3 * np.sqrt(shares * (1 - shares) / n), color=color, label=name, **POINTS)
    a.set(xlabel="margin (dB)", ylabel="share of links too weak", title="outage", ylim=(2e-4, 1))
    a.legend(frameon=False, fontsize=8)
    n, length = 4000, 20.0
    pace = Track([(0.5 * k, 2.5 * (k % 2), 0.0, 0.0) for k in range(120)])  # there and back, 5 m a second
    far = [Track.still((1000.0, 3.0 * k)) for k in range(n)]
    made = Propagation(RadioSettings.model_validate({"shadowing": "4 dB"}), Motion([pace, *far]), 1)
    values = np.array([made.powers(0, float(t))[1:] for t in range(14)])
    values -= Propagation(RadioSettings.model_validate({"shadowing": "none"}), made.motion, 1).powers(0, 0.0)[1:]
    ways = 5.0 * np.arange(1, 14)
    found = np.array([np.corrcoef(values[0], row)[0, 1] for row in values[1:]])
    at = np.linspace(0, 66, 100)
    b.plot(at, np.exp(-at / length), **CURVE)
    b.errorbar(ways, found, 3 * (1 - found**2) / math.sqrt(n), color=BLUE, **POINTS)
    b.set(xlabel="way gone by both (m)", ylabel="correlation of shadowing", title="decorrelation 20 m")
    return f"Largest difference of the correlation: {np.max(np.abs(found - np.exp(-ways / length))):.3f}."


@part("shadows", "Radio: shadowing that follows from places", 2)
def shadows(axes: list[Axes]) -> str:
    """Correlation of links over the distance of their ends, in many fields; and its law."""
    from scipy import stats

    a, b = axes
    decorrelation, fields = 20.0, 3000
    settings = Shadowing.model_validate({"decorrelation": f"{decorrelation} m", "correlated": True})
    steps = np.arange(0.0, 70.0, 10.0)
    # Links from (0, 0) to (200, 0), and to ends farther and farther up; and those whose both ends are farther up.
    ends = [(0.0, step, 0.0) for step in steps] + [(200.0, step, 0.0) for step in steps]
    points, k = np.array(ends), len(steps)
    low, high = np.triu_indices(2 * k, 1)
    pairs = {pair: place for place, pair in enumerate(zip(low.tolist(), high.tolist(), strict=True))}
    still = np.zeros(2 * k)
    drawn = np.array([FieldShadows(settings, 2 * k, seed).table(points, still) for seed in range(fields)])
    worst = 0.0
    for factor, color, name in ((1, BLUE, "one end moves"), (2, ORANGE, "both ends move")):
        chosen = [pairs[0 if factor == 1 else place, k + place] for place in range(k)]
        found = np.array([np.mean(drawn[:, chosen[0]] * drawn[:, other]) for other in chosen])
        law = np.exp(-factor * steps / decorrelation)
        at = np.linspace(0, 60, 100)
        a.plot(at, np.exp(-factor * at / decorrelation), **CURVE)
        a.errorbar(steps, found, 3 * np.sqrt((1 + law**2) / fields), color=color, label=name, **POINTS)
        worst = max(worst, float(np.max(np.abs(found - law))))
    a.set(xlabel="distance between the ends of two links (m)", ylabel="correlation", title="decorrelation 20 m")
    a.legend(frameon=False, fontsize=8)
    values = np.sort(drawn[:, pairs[0, k]])
    at = np.linspace(-3.5, 3.5, 100)
    b.plot(at, stats.norm.cdf(at), **CURVE)
    shares = np.arange(0.02, 1, 0.04)
    b.plot(np.quantile(values, shares), shares, "o", color=BLUE, markersize=4)
    b.set(xlabel="shadowing of one link, in standard deviations", ylabel="share of fields below", title="256 waves")
    kolmogorov = float(stats.kstest(values, "norm").statistic) * math.sqrt(fields)
    return f"Largest difference of the correlation: {worst:.3f}; Kolmogorov distance times sqrt(n): {kolmogorov:.2f}."


@part("movement", "Movement", 2)
def movement(axes: list[Axes]) -> str:
    """Speed of random waypoint devices from the start on; what a Gauss-Markov step keeps."""
    a, b = axes
    n = 1500
    table = {"kind": "random-waypoint", "speed": ["0.5 m/s", "2 m/s"]}
    tracks = TypeAdapter(AnyMobility).validate_python(table).tracks(n, (100.0, 100.0), 1)
    times = np.array([0.0, 5, 10, 20, 40, 80, 160, 320])
    speeds = np.array([[track.along(np.array([t, t + 1e-3]))[1] for track in tracks.values()] for t in times])
    speeds = np.diff(speeds, axis=2)[:, :, 0] / 1e-3
    expected = 1.5 / math.log(4)
    a.axhline(expected, **CURVE)
    a.axhline(1.25, linestyle=":", **CURVE)
    means = speeds.mean(axis=1)
    a.errorbar(times, means, 3 * speeds.std(axis=1) / math.sqrt(n), color=BLUE, **POINTS)
    a.set(xlabel="time (s)", ylabel="mean speed (m/s)", title="random waypoint, 0.5 to 2 m/s", ylim=(1.0, 1.3))
    a.text(20, 1.255, "of a start that is not stationary", fontsize=8, color=GRAY)
    steps = 40_000
    for memory, color in ((0.5, ORANGE), (0.9, BLUE)):
        drift: dict[str, Any] = {"kind": "gauss-markov", "speed": "100 m/s", "speed_sd": "5 m/s", "memory": memory}
        (track,) = TypeAdapter(AnyMobility).validate_python(drift).tracks(1, (1e9, 1e9), 1).values()
        corners = np.array(track.corners_until(steps))[1:-1, 1:3]
        speed = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        lags = np.arange(1, 21, 2)
        found = np.array([np.corrcoef(speed[lag:], speed[:-lag])[0, 1] for lag in lags])
        at = np.linspace(1, 20, 100)
        b.plot(at, memory**at, **CURVE)
        error = 3 * math.sqrt((1 + memory) / (1 - memory) / steps)
        b.errorbar(lags, found, error, color=color, label=f"a = {memory}", **POINTS)
    b.set(xlabel="steps between", ylabel="correlation of the speed", title="Gauss-Markov")
    b.legend(frameon=False, fontsize=8)
    return f"Time-averaged speed (v1 - v0) / ln(v1 / v0) = {expected:.3f} m/s; found at 0 s: {means[0]:.3f} m/s."


@part("queue", "Queue: M/D/1 and tail drop", 2)
def queue(axes: list[Axes]) -> str:
    """Mean wait over load, against the formula; drops of a full queue."""
    a, b = axes
    random, airtime = np.random.default_rng(3), 8e-3
    loads = np.array([0.2, 0.4, 0.6, 0.8, 0.9])
    waits = []
    for load in loads:
        one = link(rate="1 Mbit/s")
        instants = np.cumsum(random.exponential(airtime / load, 600_000)).tolist()
        waits.append(np.mean([one.judge(1000, at).arrival - at for at in instants]) - airtime)
    at = np.linspace(0.01, 0.93, 100)
    a.plot(at, at * 1e3 * airtime / (2 * (1 - at)), **CURVE)
    a.plot(loads, 1e3 * np.array(waits), "o", color=BLUE, markersize=4)
    a.set(xlabel="offered load", ylabel="mean wait (ms)", title="M/D/1, frames of 8 ms")
    loads = np.array([1.1, 1.25, 1.5, 2.0, 3.0])
    drops = []
    for load in loads:
        one = link(rate="1 Mbit/s", queue={"messages": 20})
        instants = np.cumsum(random.exponential(airtime / load, 40_000)).tolist()
        drops.append(np.mean([one.judge(1000, at).cause == "queue" for at in instants]))
    at = np.linspace(1.01, 3.1, 100)
    b.plot(at, 1 - 1 / at, **CURVE)
    b.plot(loads, drops, "o", color=BLUE, markersize=4)
    b.set(xlabel="offered load", ylabel="share dropped", title="saturated, room for 20: 1 - 1/load")
    expected = 0.9 * airtime / 0.2
    return f"Mean wait at a load of 0.9: {1e3 * waits[-1]:.2f} ms (closed form {1e3 * expected:.2f} ms)."


class Waves:
    """Everybody at -60 dBm, but for pairs that don't hear each other; 802.15.4."""

    def __init__(self, n: int, hidden: bool, power: float = -60.0, modulation: str = "802.15.4") -> None:
        self._table = np.full((n, n), power)
        self._foreseen: list[float] | None = None
        self._noise = -101.0
        if hidden:
            ids = np.arange(n)
            self._table[(ids[:, None] % 2 != ids % 2) & (ids[:, None] > 0) & (ids > 0)] = -200.0
        self.phy = phy(modulation)

    def powers(self, src: int, at: float, channel: int = 0) -> Floats:
        """Return dBm at each device."""
        row: Floats = self._table[src]
        return row

    is_constant = True
    is_selective = False

    def distance(self, src: int, dst: int, at: float) -> float:
        """Return meters: there are no places."""
        return math.nan

    def noise(self, dst: int) -> float:
        """Return dBm."""
        return self._noise

    def foreseen_snr(self, src: int, dst: int, at: float, channel: int = 0) -> tuple[float, None]:
        """Return dB; nothing fades."""
        snr = float(self._table[src, dst]) - self._noise if self._foreseen is None else self._foreseen[src]
        return snr, None

    def set_powers(self, powers: list[float], foreseen: list[float]) -> None:
        """Give each sender a power everywhere, and an SNR by which it chooses its rate; noise is low."""
        self._table[:] = np.array(powers)[:, None]
        self._foreseen, self._noise = foreseen, -150.0


@part("csma", "Shared air: 802.15.4 CSMA/CA against ns-3", 2)
def csma(axes: list[Axes]) -> str:
    """Delivery ratio and delay over the offered load, everybody in range and with hidden halves."""
    a, b = axes
    frame = {"mtu": "133 B", "header": "17 B", "rate": "250 kbit/s"}
    worst, slowest = 0.0, 0.0
    for hidden, golden, color, name in (
        (False, NS3_CLIQUE, BLUE, "all in range"),
        (True, NS3_HIDDEN, ORANGE, "hidden"),
    ):
        ratios, delays = [], []
        for load in golden:
            waves = Waves(9, hidden)
            medium = {"kind": "csma-ca", "collision": "sinr"}
            cell = Cell(medium, 9, link=frame, hearing=PowerHearing(waves, -85.0), propagation=waves, seed=7)
            for sender in range(1, 9):
                cell.poisson(load / 8 / 3.104e-3, sender, [0], 80, 1500)
            cell.run()
            ratios.append(cell.share())
            delays.append(1e3 * cell.delays().mean())
        theirs = np.array(list(golden.values()))
        worst = max(worst, float(np.abs(theirs[:, 0] - ratios).max()))
        slowest = max(slowest, float(np.abs(theirs[:, 1] - delays).max()))
        for ax, ours, column in ((a, ratios, 0), (b, delays, 1)):
            ax.plot(list(golden), theirs[:, column], "x-", color=color, linewidth=0.8, label=f"ns-3, {name}")
            ax.plot(list(golden), ours, "o", color=color, markersize=5, markerfacecolor="none", label=f"here, {name}")
    a.set(xlabel="offered load", ylabel="delivery ratio", title="8 senders, one sink")
    b.set(xlabel="offered load", ylabel="mean delay (ms)", title="from sending to arrival")
    a.legend(frameon=False, fontsize=8)
    return f"Largest differences: {worst:.3f} in the delivery ratio, {slowest:.2f} ms in the mean delay."


@part("wifi", "Shared air: Wi-Fi against ns-3", 2)
def wifi(axes: list[Axes]) -> str:
    """Frames per second and failures of saturated stations, in range and hidden, with and without RTS."""
    ack = {"size": "14 B", "airtime": "28 us", "delay": "16 us"}
    worst, most = 0.0, 0.0
    kinds = (
        (False, "none", BLUE, "all in range"),
        (True, "none", ORANGE, "hidden"),
        (True, "rts", GREEN, "hidden, RTS"),
    )
    for hidden, asks, color, name in kinds:
        golden = {key[0]: value for key, value in NS3_WIFI.items() if key[1:] == (hidden, asks)}
        found = []
        for stations in golden:
            rts = {"size": "20 B", "airtime": "28 us", "clearance": ack} if asks == "rts" else "none"
            medium = {"kind": "dcf", "airtime": {"kind": "ofdm", "preamble": "20 us"}, "ack": ack, "rts": rts}
            n = stations + 1
            hears = [[j for j in range(n) if j != k and not (hidden and j * k and (j - k) % 2)] for k in range(n)]
            link = {"rate": "24 Mbit/s", "arq": {"retries": 100}}
            cell = Cell(medium, n, link=link, out_neighbors=hears, seed=2)
            for station in range(1, n):
                for _ in range(5000 // stations):
                    cell.offer(0.0, station, [0], 1458)
            cell.run(3.0)
            arrived = sum(not outcome.verdict.cause for outcome in cell.outcomes)
            sent = sum(end - start > 3e-4 for start, end, device in cell.on_air if device)
            found.append((arrived / 3.0, 1 - arrived / sent))
        theirs, ours = np.array(list(golden.values())), np.array(found)
        worst = max(worst, float(np.abs(ours[:, 0] / theirs[:, 0] - 1).max()))
        most = max(most, float(np.abs(ours[:, 1] - theirs[:, 1]).max()))
        for column, ax in enumerate(axes):
            ax.plot(list(golden), theirs[:, column], "x-", color=color, linewidth=0.8, label=f"ns-3, {name}")
            ax.plot(list(golden), ours[:, column], "o", color=color, markersize=5, markerfacecolor="none")
    axes[0].set(xlabel="stations", ylabel="frames per second", title="1458 B at 24 Mbit/s")
    axes[1].set(xlabel="stations", ylabel="share", title="transmissions that fail")
    axes[0].legend(frameon=False, fontsize=8)
    return f"Largest differences: {100 * worst:.1f} % of the frames, {most:.3f} of the transmissions (circles: here)."


@part("air", "Shared air: ALOHA and DCF", 2)
def air(axes: list[Axes]) -> str:
    """Throughput of ALOHA over the load; collisions of saturated DCF over the number of stations."""
    a, b = axes
    airtime = 8e-3
    for slot, color, name, power in ((None, BLUE, "pure", 2.0), ("8 ms", ORANGE, "slotted", 1.0)):
        loads = np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.5])
        medium = {"kind": "aloha", "slot": slot} if slot else {"kind": "aloha"}
        found = []
        for load in loads:
            cell = Cell(medium, 201, link={"rate": "1 Mbit/s"}, seed=4)
            for sender in range(1, 201):
                cell.poisson(load / airtime / 200, sender, [0], 1000, 60)
            found.append(load * cell.run(0.8 * 60 * 200 * airtime / load).share())
        at = np.linspace(0, 1.6, 100)
        a.plot(at, at * np.exp(-power * at), **CURVE)
        a.plot(loads, found, "o", color=color, markersize=4, label=name)
    a.set(xlabel="offered load G", ylabel="throughput", title="ALOHA: G exp(-2G), slotted G exp(-G)")
    a.legend(frameon=False, fontsize=8)
    stations, shares = [2, 3, 5, 7, 10, 15, 20, 30, 50], []
    ack = {"size": "14 B", "airtime": "44 us", "delay": "16 us"}
    for n in stations:
        cell = Cell({"kind": "dcf", "ack": ack}, n + 1, link={"rate": "6 Mbit/s", "arq": {"retries": 100}}, seed=2)
        for sender in range(1, n + 1):
            for _ in range(9000 // n):
                cell.offer(0.0, sender, [0], 1000)
        cell.run(8.0 if n <= 20 else 3.0)
        starts = np.array([start for start, _, device in cell.on_air if device])
        _, counts = np.unique(np.round(starts, 8), return_counts=True)
        shares.append(counts[counts > 1].sum() / len(starts))
    theory = [bianchi(n) for n in stations]
    b.plot(stations, theory, **CURVE)
    b.plot(stations, shares, "o", color=BLUE, markersize=4)
    b.set(xlabel="saturated stations", ylabel="share of frames that collide", title="DCF against Bianchi")
    worst = max(abs(ours - his) for ours, his in zip(shares, theory, strict=True))
    each = ", ".join(f"{n}: {x:.3f} / {y:.3f}" for n, x, y in zip(stations, shares, theory, strict=True))
    return (
        f"Share of frames that collide, here and by Bianchi's model, of so many stations: {each}; largest difference "
        f"{worst:.3f}. After a busy period the standard leaves the "
        "first slot to who has just sent; the model does not."
    )


@part("bursts", "Shared air: A-MPDU, and neighbors that sleep", 2)
def bursts(axes: list[Axes]) -> str:
    """Goodput of one 802.11n sender over the frames of a burst; the wait for a sleeping neighbor."""
    a, b = axes
    counts, worst = [2, 4, 8, 16, 32, 64], 0.0

    def cycle(n: int) -> float:  # DIFS, 7.5 slots on average, n frames of 1536 B with delimiters, SIFS, block ack
        return 34e-6 + 7.5 * 9e-6 + 36e-6 + 4e-6 * math.ceil((22 + 8 * 1540 * n) / 260) + 16e-6 + 32e-6

    for loss, color in ((0.0, BLUE), (0.1, ORANGE)):
        found = []
        for n in counts:
            medium = {
                "kind": "dcf", "airtime": "ofdm", "aggregate": {"frames": n, "longest": "20 ms"},
                "ack": {"size": "32 B", "airtime": "32 us", "delay": "16 us"},
            }  # fmt: skip
            table = {"rate": "65 Mbit/s", "mtu": "1536 B", "header": "36 B", "loss": loss, "arq": {"retries": 20}}
            cell = Cell(medium, 2, link=table, seed=7)
            cell.set_link(1, 0, {})  # no block acknowledgment is lost
            for k in range(2):
                cell.offer(0.001 * k, 0, [1], 1500 * 1280)
            last = max(outcome.verdict.arrival for outcome in cell.run().outcomes)
            found.append(8e-6 * 1500 * 1280 * 2 / last)
        law = [8e-6 * 1500 * n * (1 - loss) / cycle(n) for n in counts]
        a.plot(counts, law, **CURVE)
        a.plot(counts, found, "o", color=color, markersize=4, label=f"loss {100 * loss:.0f} %")
        worst = max(worst, *(abs(ours / his - 1) for ours, his in zip(found, law, strict=True)))
    a.set(xlabel="frames of a burst", ylabel="goodput (Mbit/s)", title="A-MPDU at 65 Mbit/s", xscale="log")
    a.legend(frameon=False, fontsize=8)
    awake, waits = np.arange(0.1, 1.0, 0.1), []
    for share in awake:
        outage = {"kind": "duty-cycle", "awake": f"{share:.3f} s", "period": "1 s", "when_off": "hold"}
        cell = Cell({"kind": "half-duplex"}, 2, link={"rate": "80 Mbit/s", "outage": outage})
        for k in range(1500):
            cell.offer(20.0 * k + float(cell.random.uniform(0, 1)), 0, [1], 10)
        waits.append(float(np.mean(cell.run().delays())))
    at = np.linspace(0, 1, 100)
    b.plot(at, (1 - at) ** 2 / 2, **CURVE)
    b.plot(awake, waits, "o", color=BLUE, markersize=4)
    b.set(xlabel="awake (s) of every second", ylabel="mean wait (s)", title="sleeping neighbor: (T - w)^2 / 2T")
    gap = float(np.max(np.abs(np.array(waits) - (1 - awake) ** 2 / 2)))
    return f"Goodput: largest difference {100 * worst:.1f} %. Mean wait: largest difference {1e3 * gap:.0f} ms."


@part("rates", "Shared air: rates by SNR", 3)
def rates(axes: list[Axes]) -> str:
    """Goodput of 802.11n over the SNR, known or learned; LoRa frames that meet one of another spreading factor."""
    a, b, c = axes
    modes, size, most = phy("wifi").modes, 1458, 0.1
    seconds = [36e-6 + 4e-6 * math.ceil((22 + 8 * size) / (4e-6 * mode.bit_rate)) for mode in modes]
    ack = {"size": "14 B", "airtime": "44 us", "delay": "16 us"}

    def law(snr: float) -> float:
        errors = [float(mode.error(snr, size)) for mode in modes]
        best = max((k for k, error in enumerate(errors) if error <= most), default=0)
        return float(8e-6 * size * (1 - errors[best]) / seconds[best])

    snrs, worst = np.arange(1.0, 26.0, 1.5), 0.0
    at = np.linspace(0, 26, 300)
    a.plot(at, [law(float(snr)) for snr in at], **CURVE)
    for kind, color in (("ideal", BLUE), ("minstrel", ORANGE)):
        found = []
        for snr in snrs:
            medium = {"kind": "half-duplex", "airtime": "ofdm", "rates": kind, "ack": ack}
            waves = Waves(2, hidden=False, power=float(snr) - 101, modulation="wifi")
            cell = Cell(medium, 2, link={"arq": {"retries": 7}}, propagation=waves)
            for k in range(1500):
                cell.offer(0.01 * k, 0, [1], size)
            late = [outcome.verdict for outcome in cell.run().outcomes[500:]]
            found.append(8e-6 * size * sum(not one.cause for one in late) / sum(one.air_seconds for one in late))
            if kind == "ideal":
                worst = max(worst, abs(found[-1] / law(float(snr)) - 1))
        a.plot(snrs, found, "o", color=color, markersize=4, label=kind)
    a.set(xlabel="SNR (dB)", ylabel="goodput over air time (Mbit/s)", title="802.11n, 1458 B")
    a.legend(frameon=False, fontsize=8)
    step = 0.0
    for (mine, other), color in (((7, 12), BLUE), ((9, 8), ORANGE), ((12, 7), GREEN)):
        limit = phy("lora", sf=mine).rejects(phy("lora", sf=other))
        ratios = np.arange(-45.0, 0.0, 1.0) + 0.5
        kept = np.array([lora_survives(mine, other, float(ratio)) for ratio in ratios])
        b.plot(ratios, kept, "o", color=color, markersize=3, label=f"SF{mine} under SF{other}")
        b.axvline(limit, **CURVE)
        step = max(step, abs(float(ratios[kept > 0].min()) - 0.5 - limit))
    b.set(xlabel="signal over interferer (dB)", ylabel="received", title="LoRa: rejection of other factors")
    b.legend(frameon=False, fontsize=8)
    ours = [saturated("minstrel", snr) / saturated("ideal", snr) for snr in NS3_MINSTREL]
    theirs = list(NS3_MINSTREL.values())
    c.plot(list(NS3_MINSTREL), theirs, "x", color=GRAY, label="ns-3 (Minstrel-HT)")
    c.plot(list(NS3_MINSTREL), ours, "o", color=ORANGE, markersize=4, label="here")
    c.set(
        xlabel="SNR (dB)", ylabel="share of the best rate's goodput", title="Minstrel, saturated DCF", ylim=(0.8, 1.05)
    )
    c.legend(frameon=False, fontsize=8)
    apart = [100 * (one - other) for one, other in zip(ours, theirs, strict=True)]
    return (
        f"802.11n with known SNR against the closed form: largest difference {100 * worst:.1f} %; what Minstrel "
        f"loses to it is sampling. Minstrel keeps {100 * min(ours):.0f} to {100 * max(ours):.0f} % of the best rate's "
        f"goodput, ns-3's Minstrel-HT {100 * min(theirs):.0f} to {100 * max(theirs):.0f} %: from {min(apart):+.0f} to "
        f"{max(apart):+.0f} points. Ours is the older Minstrel of 802.11g; Minstrel-HT samples by rules of its own. "
        f"LoRa: the least ratio that survives is that of the table to {step:.1f} dB."
    )


def saturated(rates: str, snr: float) -> float:
    """Return the frames per second of a pair on DCF that always has one to send, 10 s after its beginning."""
    ack = {"size": "14 B", "airtime": "28 us", "delay": "16 us"}
    waves = Waves(2, hidden=False, power=snr - 101, modulation="wifi")
    medium = {"kind": "dcf", "airtime": "ofdm", "rates": rates, "ack": ack}
    cell = Cell(medium, 2, link={"arq": {"retries": 7}}, propagation=waves)
    for _ in range(30_000):
        cell.offer(0.0, 0, [1], 1460)
    late = [one for one in cell.run(10.0).outcomes if one.decided > 2]
    return sum(not one.verdict.cause for one in late) / (late[-1].decided - 2)


def lora_survives(mine: int, other: int, ratio: float) -> bool:
    """Return whether a receiver keeps a frame, so many dB above one of another spreading factor."""
    snrs = {7: -6.0, 8: -9.0, 9: -12.0, 12: -19.5}  # at which these factors are the fastest that gets through
    waves = Waves(3, hidden=False, power=-60.0, modulation="lora")
    waves.set_powers([-60.0, -100.0, -100.0 - ratio], [0.0, snrs[mine], snrs[other]])
    cell = Cell({"kind": "aloha", "collision": "sinr", "airtime": "lora", "rates": "ideal"}, 3, propagation=waves)
    cell.offer(0.0, 1, [0], 20)
    cell.offer(0.01, 2, [0], 20)
    return any(outcome.src == 1 and not outcome.verdict.cause for outcome in cell.run().outcomes)


def bianchi(n: int) -> float:
    """Return the probability that a frame of one of n saturated stations collides (Bianchi, 2000)."""
    from scipy.optimize import brentq

    def gap(p: float) -> float:
        tau = 2 / (17 + p * 16 * sum((2 * p) ** k for k in range(6)))
        return float(p - 1 + (1 - tau) ** (n - 1))

    return float(brentq(gap, 1e-6, 0.99))


@part("interference", "Shared air: outside interference", 2)
def interference(axes: list[Axes]) -> str:
    """Frames that bursts of an interferer spoil, and channels that they make busy, over how long it is silent."""
    a, b = axes
    on, size, count = 4e-3, 100, 1500
    settings = RadioSettings.model_validate({"phy": "802.15.4", "shadowing": "none"})
    places = Propagation(settings, Motion([Track.still((0.0, 0.0)), Track.still((10.0, 0.0))]), 1)
    silences, worst = np.array([2e-3, 5e-3, 10e-3, 20e-3, 50e-3]), 0.0
    for ax, medium, cause, window, title in (
        (a, {"kind": "aloha"}, "interference", 8 * size / 250e3, "frames of 3.2 ms that meet a burst"),
        (b, {"kind": "csma-ca", "max_backoffs": 0, "sense": "-85 dBm"}, "access", 128e-6, "busy in 128 us"),
    ):
        shares = []
        for off in silences:
            activity = {"kind": "bursts", "on": f"{on} s", "off": f"{off} s"}
            source = {"position": ["10 m", "1 m"], "power": "20 dBm", "activity": activity}
            table = {**medium, "collision": "sinr", "interferer": [source]}
            hearing = PowerHearing(places, -85.0)
            cell = Cell(table, 2, link={"rate": "250 kbit/s"}, hearing=hearing, propagation=places, seed=3)
            cell.poisson(1.0, 0, [1], size, count)
            shares.append(cell.run().share(cause))
        at = np.linspace(silences[0], silences[-1], 100)
        law = 1 - silences / (on + silences) * np.exp(-window / silences)
        ax.plot(1e3 * at, 1 - at / (on + at) * np.exp(-window / at), **CURVE)
        r = np.array(shares)
        ax.errorbar(1e3 * silences, r, 3 * np.sqrt(r * (1 - r) / count), color=BLUE, **POINTS)
        ax.set(xlabel="mean silence (ms) after bursts of 4 ms", ylabel="share", title=title)
        worst = max(worst, float(np.abs(r - law).max()))
    return f"Against 1 - off / (on + off) exp(-window / off): largest difference {worst:.3f}."


@part("channels", "Shared air: channels", 2)
def channels(axes: list[Axes]) -> str:
    """Success of ALOHA over the number of channels; loss to an interferer on some of those that radios hop over."""
    a, b = axes
    n, load, count, counts = 32, 0.8, 60, np.array([1, 2, 4, 8, 16])
    shares = []
    for each in counts.tolist():
        cell = Cell({"kind": "aloha", "channels": {"count": each, "own": "by-id"}}, 2 * n, link={"rate": "8 Mbit/s"})
        for k in range(n):
            cell.poisson(load / n / 1e-3, k, [n + k], 1000, count)
        shares.append(cell.run().share())
    law, r = np.exp(-2 * load * (1 / counts - 1 / n)), np.array(shares)
    a.plot(counts, law, **CURVE)
    a.errorbar(counts, r, 3 * np.sqrt(2 * r * (1 - r) / (n * count)), color=BLUE, **POINTS)
    a.set(xlabel="channels C", ylabel="share", title="ALOHA, G = 0.8: exp(-2 G (1/C - 1/n))", xscale="log")
    worst = float(np.abs(r - law).max())
    settings = RadioSettings.model_validate({"phy": "802.15.4", "shadowing": "none"})
    places = Propagation(settings, Motion([Track.still((0.0, 0.0)), Track.still((10.0, 0.0))]), 1)
    covered, count = np.array([1, 2, 4, 8]), 1000
    for tries, color in ((1, BLUE), (2, ORANGE)):
        lost = []
        for k in covered.tolist():
            plan = {"kind": "bursts", "on": "1e9 s", "off": "1 us"}
            source = {"position": ["10 m", "1 m"], "power": "20 dBm", "activity": plan, "channels": list(range(k))}
            table = {
                "kind": "aloha", "collision": "sinr", "interferer": [source], "backoff": "40 s",
                "channels": {"count": 16, "hopping": {"dwell": "100 ms"}},
            }  # fmt: skip
            how = {"rate": "250 kbit/s", "arq": {"retries": tries - 1}}
            cell = Cell(table, 2, link=how, propagation=places, seed=3)
            cell.poisson(1e-3, 0, [1], 100, count)
            lost.append(1 - cell.run().share())
        law, r = (covered / 16) ** tries, np.array(lost)
        b.plot(covered, law, **CURVE)
        b.errorbar(covered, r, 3 * np.sqrt(r * (1 - r) / count), color=color, **POINTS, label=f"tries {tries}")
        worst = max(worst, float(np.abs(r - law).max()))
    b.set(xlabel="channels of 16 that an interferer covers", ylabel="lost", title="hopping: (k / 16)^tries")
    b.legend(frameon=False, fontsize=8)
    return f"Largest difference {worst:.3f}."


@part("hops", "Shared air: channels that fade apart", 1)
def hops(axes: list[Axes]) -> str:
    """Messages that TSCH loses to Rayleigh fading over its tries, on channels that fade apart or alike."""
    (a,) = axes
    margins, count, worst = np.array([3.0, 6.0, 10.0, 15.0]), 1500, 0.0
    still = Motion([Track.still((0.0, 0.0)), Track.still((50.0, 0.0))])
    for coherent, tries, color in ((16, 4, ORANGE), (1, 1, GREEN), (1, 2, BLUE), (1, 3, GRAY)):
        lost = []
        for margin in margins.tolist():
            fading = {"kind": "rayleigh", "coherence": "30 s", "coherent_channels": coherent}
            table = {"shadowing": "none", "fading": fading, "phy": {"kind": "threshold", "snr": "0 dB"}}
            snr = Propagation(RadioSettings.model_validate(table), still, 1).mean_snr(0, 1, 0.0)
            table["phy"] = {"kind": "threshold", "snr": f"{snr - margin} dB"}
            places = Propagation(RadioSettings.model_validate(table), still, 1)
            how = {"rate": "250 kbit/s", "arq": {"retries": tries - 1}}
            cell = Cell({"kind": "tsch"}, 2, link=how, propagation=places)
            for k in range(count):
                cell.offer(60.0 * k + 1, 0, [1], 50)
            lost.append(1 - cell.run().share())
        law, r = -np.expm1(-(10 ** (-margins / 10))), np.array(lost)
        law = law if coherent > 1 else law**tries
        a.plot(margins, law, **CURVE)
        name = f"tries {tries}, {'apart' if coherent == 1 else 'alike'}"
        a.errorbar(margins, r, 3 * np.sqrt(r * (1 - r) / count), color=color, **POINTS, label=name)
        worst = max(worst, float(np.abs(r - law).max()))
    a.set(xlabel="mean SNR above the threshold (dB)", ylabel="lost", title="p^tries apart, p alike", yscale="log")
    a.legend(frameon=False, fontsize=8)
    return f"Largest difference {worst:.3f}."


@part("tsch", "Shared air: TSCH", 2)
def tsch(axes: list[Axes]) -> str:
    """Success in a shared cell over its load, and tries of two frames that met in one, against numpy alone."""
    a, b = axes
    n, count, frame = 40, 60, 3 * 10e-3
    loads, shares = np.array([0.1, 0.3, 0.5, 0.8, 1.2]), []
    for load in loads:
        cell = Cell({"kind": "tsch", "slotframe": 3}, 2 * n, link={"rate": "250 kbit/s"})
        for k in range(n):
            cell.poisson(load / n / frame, k, [n + k], 100, count)
        shares.append(cell.run().share())
    law, r = np.exp(-loads * (1 - 1 / n)), np.array(shares)
    a.plot(loads, law, **CURVE)
    a.errorbar(loads, r, 3 * np.sqrt(2 * r * (1 - r) / (n * count)), color=BLUE, **POINTS)
    a.set(xlabel="load G of a cell", ylabel="share", title="no acknowledgments: exp(-G (1 - 1/n))")
    worst = float(np.abs(r - law).max())
    cell = Cell({"kind": "tsch"}, 4, link={"rate": "250 kbit/s", "arq": {"retries": 7}})
    for k in range(1500):
        for src in (0, 1):
            cell.offer(20.0 * k, src, [src + 2], 100)
    met = sorted((outcome.sent, outcome.verdict.packets) for outcome in cell.run().outcomes)
    ours = np.bincount([max(one[1], two[1]) for one, two in zip(met[::2], met[1::2], strict=True)], minlength=9) / 1500
    random, simulated = np.random.default_rng(3), np.zeros(9)
    for _ in range(20_000):
        tries, due, open_ = [0, 0], [0, 0], {0, 1}
        while open_:
            now = min(due[k] for k in open_)
            sending = [k for k in open_ if due[k] == now]
            for k in sending:
                tries[k] += 1
                if len(sending) == 1 or tries[k] == 8:
                    open_.discard(k)
                else:
                    due[k] = now + 1 + int(random.integers(2 ** min(tries[k], 7)))
        simulated[max(tries)] += 1 / 20_000
    at = np.arange(2, 8)
    b.plot(at, simulated[2:8], **CURVE)
    b.errorbar(at, ours[2:8], 3 * np.sqrt(ours[2:8] * (1 - ours[2:8]) / 1500), color=BLUE, **POINTS)
    b.set(xlabel="tries of the later of two that met", ylabel="share", title="backoff in a shared cell")
    worst = max(worst, float(np.abs(ours[2:8] - simulated[2:8]).max()))
    return f"Largest difference {worst:.3f}."


@part("connections", "Shared air: Bluetooth LE connections", 2)
def connections(axes: list[Axes]) -> str:
    """Mean delay of one packet over the loss, and goodput over the connection interval, of two LE devices."""
    a, b = axes
    table = {"rate": "2 Mbit/s", "mtu": "262 B", "header": "18 B", "arq": {"retries": "unlimited"}}
    full, empty, gap, worst, unlike = 262 * 4e-6, 44e-6, 150e-6, 0.0, 0.0
    losses, count = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]), 800
    for interval, color in ((30e-3, BLUE), (100e-3, ORANGE)):
        means = []
        for loss in losses:
            medium = {"kind": "ble-connections", "interval": f"{1e3 * interval} ms", "supervision": "1 h"}
            cell = Cell(medium, 2, link={**table, "loss": float(loss)}, seed=2)
            cell.set_link(1, 0, {**table, "loss": 0.0})
            for k in range(count):
                cell.offer(10.0 * k + float(cell.random.uniform(0, 1)), 0, [1], 244)
            means.append(float(np.mean(cell.run().delays())))
        first = (cell.on_air[0][1] - cell.on_air[0][0]) < 2 * empty  # device 0 is the peripheral
        wait = interval / 2 + full + (empty + gap if first else 0.0)
        law = wait + interval * losses / (1 - losses)
        a.plot(losses, 1e3 * law, **CURVE)
        a.plot(losses, 1e3 * np.array(means), "o", color=color, markersize=4, label=f"interval {1e3 * interval:.0f} ms")
        worst = max(worst, float(np.abs(np.array(means) / law - 1).max()))
    a.set(xlabel="loss", ylabel="mean delay (ms)", title="wait for an event, and repetitions")
    a.legend(frameon=False, fontsize=8)
    intervals, found, packets = np.array([7.5e-3, 10e-3, 15e-3, 30e-3, 60e-3, 120e-3, 240e-3]), [], 1000
    for interval in intervals:
        cell = Cell({"kind": "ble-connections", "interval": f"{1e3 * interval} ms"}, 2, link=table, seed=2)
        cell.offer(0.0, 0, [1], 244 * packets)
        last = cell.run().outcomes[0].verdict.arrival
        found.append(8e-6 * 244 * packets / (last - cell.on_air[0][0]))
    pair = full + empty + 2 * gap
    limit = 8e-6 * 244 * np.floor(intervals / pair) / intervals
    b.plot(1e3 * intervals, limit, **CURVE)
    b.plot(1e3 * intervals, found, "o", color=BLUE, markersize=4)
    b.set(xlabel="connection interval (ms)", ylabel="goodput (Mbit/s)", title="packets that fit an event", xscale="log")
    unlike = float(np.abs(np.array(found) / limit - 1).max())
    return f"Mean delay: largest difference {100 * worst:.1f} %. Goodput: {100 * unlike:.1f} %."


@part("advertising", "Shared air: Bluetooth LE advertising", 2)
def advertising(axes: list[Axes]) -> str:
    """Packets that a scanner hears: in one event over its window, and over the number of events."""
    a, b = axes
    table, count, scan, worst = {"rate": "1 Mbit/s", "mtu": "47 B", "header": "16 B"}, 800, 0.13, 0.0

    def share(events: int, window: float) -> float:
        medium = {
            "kind": "ble-advertising", "interval": "50 ms", "events": events, "window": f"{window} s",
            "scan_interval": f"{scan} s",
        }  # fmt: skip
        cell = Cell(medium, 2, link=table, seed=4)
        for k in range(count):
            cell.offer(5.0 * k + float(cell.random.uniform(0, 3)), 0, [1], 20)
        return cell.run().share()

    def simulated(events: int, window: float) -> float:  # with numpy alone
        random = np.random.default_rng(7)
        delays = random.uniform(0, 10e-3, (50_000, events)) + 50e-3 * (np.arange(events) > 0)
        starts = random.uniform(0, 1000 * scan, 50_000)[:, None] + np.cumsum(delays, axis=1)
        windows, within = np.divmod(starts[:, :, None] + 36 * 8e-6 * np.arange(3), scan)
        return float(np.mean(np.any((windows % 3 == np.arange(3)) & (within < window), axis=(1, 2))))

    windows, events = np.array([0.01, 0.03, 0.06, 0.09, 0.12]), np.array([1, 2, 4, 8, 16])
    for ax, at, found, law in (
        (a, windows / scan, [share(1, w) for w in windows], windows / scan),
        (b, events, [share(int(e), 0.03) for e in events], np.array([simulated(int(e), 0.03) for e in events])),
    ):
        r = np.array(found)
        ax.plot(at, law, **CURVE)
        ax.errorbar(at, r, 3 * np.sqrt(r * (1 - r) / count), color=BLUE, **POINTS)
        worst = max(worst, float(np.abs(r - law).max()))
    a.set(xlabel="window / scan interval", ylabel="heard", title="one event: window / interval")
    b.set(
        xlabel="events, 50 to 60 ms apart", ylabel="heard", title="window 30 ms of 130 ms, against numpy", xscale="log"
    )
    return f"Largest difference {worst:.3f}."


@dataclass(frozen=True, slots=True)
class Note(Message, tag="validate-note"):
    """A small message."""

    body: bytes


class Tell(Protocol):
    """Device 0 tells its neighbors something, every 10 s."""

    kind: str = "validate-tell"
    trains = False
    count: int

    async def run(self, device: Device) -> None:
        """Run the protocol on one device."""
        for _ in range(self.count if device.id == 0 else 0):
            device.broadcast(Note(bytes(50)))
            await device.sleep(10.0)


def relayed(routes: Routes, direct: list[list[int]], to: int, count: int, **how: Any) -> list[Record]:
    """Return what becomes of messages from device 0 to another over relays."""
    records: list[Record] = []
    neighbors = [[to], *[[] for _ in direct[1:]]]
    relaying = Relaying(direct, routes, 5)
    emulate(Tell(count=count), neighbors, relaying=relaying, sink=records.append, seed=3, **how)
    return records


@part("sidelink", "Shared air: NR sidelink, mode 2", 2)
def sidelink(axes: list[Axes]) -> str:
    """Two devices that choose at once; the collisions of devices that always have something to send."""
    a, b = axes
    table = {"kind": "nr-mode2", "slot": "1 ms", "period": "20 ms"}
    windows, times, found = np.arange(5, 19), 1500, []
    for long in map(int, windows):
        both = Cell({**table, "channels": 2, "window": f"{long} ms"}, 3, link={"rate": "8 Mbit/s"})
        for k in range(times):
            for device in (0, 1):
                both.offer(0.2 * k + 0.0101, device, [2], 900)
        found.append(both.run().share("collision"))
    choices = 2 * (windows - 1)
    a.plot(choices, 1 / choices, **CURVE)
    shares = np.array(found)
    a.errorbar(choices, shares, 3 * np.sqrt(shares * (1 - shares) / times), color=BLUE, **POINTS)
    a.set(xlabel="resources to choose from", ylabel="share of collisions", title="two devices choose at once")
    frames, low, high, period, window = 3000, 4, 8, 20, 18
    counters = range(low, high + 1)
    mean, least = (low + high) / 2, float(np.mean([min(one, other) for one in counters for other in counters]))
    worst = 0.0
    for channels, color in ((1, BLUE), (4, ORANGE)):
        counts = np.array([2, 4, 6, 8] if channels == 1 else [4, 8, 12, 16, 20])
        ours = []
        for n in map(int, counts):
            medium = {**table, "channels": channels, "counter": [low, high]}
            cell = Cell(medium, n + 1, link={"rate": "8 Mbit/s", "mtu": "900 B"})
            for device in range(n):
                cell.offer(0.0, device, [n], 900 * frames, needed=0)
            ours.append(sum(one.verdict.packets_lost for one in cell.run().outcomes) / (n * frames))
        free = (window - 1) * (channels - (counts - 1) / period)
        law = 2 * (counts - 1) * (2 + window) / 2 / (mean * period * free) * least / mean
        b.plot(counts, law, **CURVE)
        b.plot(counts, ours, "o", color=color, markersize=4, label=f"{channels} subchannels")
        worst = max(worst, float(np.max(np.abs(np.array(ours) - law))))
    b.set(xlabel="devices that always send", ylabel="share of frames that collide", title="counter of 4 to 8")
    b.legend(frameon=False, fontsize=8)
    return (
        f"Two devices: largest difference {float(np.max(np.abs(shares - 1 / choices))):.3f}. Always sending: "
        f"{worst:.3f} from 2 (n - 1) w / (c P F) x E[min] / c, with the mean wait w for a chosen slot, the mean "
        "counter c, the smaller of two counters on average, the period P, and F free resources."
    )


@part("relay", "Relays", 2)
def relay(axes: list[Axes]) -> str:
    """Messages that arrive over so many hops; floods of a grid against percolation; the delay of a hop on 802.15.4."""
    import networkx as nx

    a, b = axes
    hops, count = [1, 2, 4, 6, 8], 1500
    for loss, color in ((0.05, BLUE), (0.2, ORANGE)):
        shares = []
        for h in hops:
            line = [[k + 1] if k < h else [] for k in range(h + 1)]
            found = relayed(ShortestPaths(line, 16), line, h, count, link={"loss": loss})
            shares.append(sum(not one.verdict.cause for one in found) / count)
        r, at = np.array(shares), np.linspace(1, 8, 50)
        a.plot(at, (1 - loss) ** at, **CURVE)
        a.errorbar(hops, r, 3 * np.sqrt(r * (1 - r) / count), color=color, label=f"loss {100 * loss:.0f} %", **POINTS)
    a.set(xlabel="hops", ylabel="share that arrives", title="shortest paths: (1 - p)^h")
    a.legend(frameon=False, fontsize=8)
    grid = nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4))
    direct = [sorted(grid.adj[k]) for k in range(16)]
    losses, floods, count = [0.2, 0.35, 0.5, 0.65], [], 400
    for loss in losses:
        found = relayed(Flood(direct, 16, None), direct, 15, count, link={"loss": loss})
        floods.append(sum(not one.verdict.cause for one in found) / count)
    random, law = np.random.default_rng(1), []
    pairs = [(src, dst) for src in range(16) for dst in direct[src]]
    for loss in losses:
        reached = 0
        for _ in range(4000):
            kept = random.random(len(pairs)) >= loss
            whole = nx.DiGraph([pair for pair, there in zip(pairs, kept, strict=True) if there])
            reached += 0 in whole and 15 in whole and nx.has_path(whole, 0, 15)
        law.append(reached / 4000)
    r = np.array(floods)
    b.plot(losses, law, **CURVE)
    b.errorbar(losses, r, 3 * np.sqrt(r * (1 - r) / count), color=BLUE, **POINTS)
    b.set(xlabel="loss of a link", ylabel="share that arrives", title="flood of a 4 x 4 grid, corner to corner")
    line = [[1], [0, 2], [1, 3], [2]]
    csma = {"medium": {"kind": "csma-ca"}, "link": {"rate": "250 kbit/s", "mtu": "133 B", "header": "17 B"}}
    found = relayed(ShortestPaths(line, 16), line, 3, 1000, **csma)
    hop = float(np.mean([one.verdict.arrival - one.sent for one in found])) / 3
    size = float(np.mean([one.size for one in found]))  # a larger number of a message takes more bytes
    closed = 1.12e-3 + 0.128e-3 + 0.192e-3 + 8 * (size + 5 + 17) / 250e3
    gap = max(abs(ours - his) for ours, his in zip(floods, law, strict=True))
    return (
        f"Floods against percolation of directed links, simulated apart: largest difference {gap:.3f}. A hop of three "
        f"on 802.15.4: {1e3 * hop:.2f} ms on average (closed form {1e3 * closed:.2f} ms)."
    )


@part("broadcast", "Broadcast and fragments", 2)
def broadcast(axes: list[Axes]) -> str:
    """Broadcasts until all have it; whether a fragmented message arrives."""
    a, b = axes
    ks, p = [1, 2, 4, 6, 8, 10], 0.3
    found = []
    for k in ks:
        cell = Cell({"kind": "half-duplex"}, k + 1, link={"rate": "1 Mbit/s", "loss": p})
        for number in range(3000):
            cell.offer(10.0 * number, 0, list(range(1, k + 1)), 1000)
        heard = np.array([not one.verdict.cause for one in cell.run().outcomes]).reshape(-1, k)
        rounds, missing, waited = [], np.ones(k, bool), 0
        for row in heard:
            waited += 1
            missing &= ~row
            if not missing.any():
                rounds.append(waited)
                missing, waited = np.ones(k, bool), 0
        found.append(np.mean(rounds))
    theory = [sum((-1) ** (j + 1) * math.comb(k, j) / (1 - p**j) for j in range(1, k + 1)) for k in ks]
    a.plot(ks, theory, **CURVE)
    a.plot(ks, found, "o", color=BLUE, markersize=4)
    a.set(xlabel="receivers", ylabel="broadcasts until all have it", title="loss 30 %")
    for retries, color in ((0, BLUE), (3, ORANGE)):
        fragments = np.array([1, 10, 100, 1000, 9804])
        losses, count = {0: 0.001, 3: 0.1}[retries], 400
        rates = []
        for n in fragments:
            arq: dict[str, Any] = {"arq": {"retries": retries}} if retries else {}
            one = link(1, loss=losses, mtu="133 B", header="31 B", **arq)
            rates.append(np.mean([not one.judge(int(102 * n), float(k)).cause for k in range(count)]))
        residual = losses ** (retries + 1)
        at = np.logspace(0, 4, 100)
        b.semilogx(at, (1 - residual) ** at, **CURVE)
        r = np.array(rates)
        b.errorbar(fragments, r, 3 * np.sqrt(np.maximum(r * (1 - r), 1e-4) / count), color=color,
                   label=f"{100 * losses:g} %, {retries} retries", **POINTS)  # fmt: skip
    b.set(xlabel="fragments of the message", ylabel="share that arrives", title="all fragments must")
    b.legend(frameon=False, fontsize=8)
    worst = max(abs(ours / law - 1) for ours, law in zip(found, theory, strict=True))
    return f"Broadcasts until all have it: largest difference {100 * worst:.1f} %."


@part("arq", "Retries", 2)
def arq(axes: list[Axes]) -> str:
    """Transmissions per packet over the loss; goodput of the three kinds of ARQ."""
    a, b = axes
    losses = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
    for retries, color in ((1, ORANGE), (3, BLUE), (7, GREEN)):
        found = []
        for p in losses:
            one = link(1, loss=float(p), rate="1 Mbit/s", arq={"retries": retries})
            found.append(float(np.mean([one.judge(100, float(k)).packets for k in range(4000)])))
        at = np.linspace(0.01, 0.5, 100)
        a.plot(at, (1 - at ** (retries + 1)) / (1 - at), **CURVE)
        a.plot(losses, found, "o", color=color, markersize=4, label=f"{retries} retries")
    a.set(xlabel="loss of a packet", ylabel="transmissions per packet", title="(1 - p^(m+1)) / (1 - p)")
    a.legend(frameon=False, fontsize=8)
    window, packets, airtime, worst = 8, 4000, 8e-3, 0.0
    kinds: list[tuple[str, dict[str, Any], Callable[[Floats], Floats]]] = [
        ("stop-and-wait", {}, lambda p: (1 - p) / 4),
        ("go-back-n", {"kind": "go-back-n", "window": window}, lambda p: (1 - p) / (1 - p + p * window)),
        ("selective-repeat", {"kind": "selective-repeat", "window": window}, lambda p: 1 - p),
    ]
    for (name, more, law), color in zip(kinds, (BLUE, ORANGE, GREEN), strict=True):
        found = []
        for p in losses:
            table = {"retries": "unlimited", "turnaround": "24 ms", **more}
            one = link(1, loss=float(p), rate="1 Mbit/s", mtu="1 kB", arq=table)
            found.append(packets * airtime / one.judge(1000 * packets, 0.0).arrival)
        at = np.linspace(0.0, 0.5, 100)
        b.plot(at, law(at), **CURVE)
        b.plot(losses, found, "o", color=color, markersize=4, label=name)
        worst = max(worst, float(np.abs(np.array(found) / law(losses) - 1).max()))
    b.set(xlabel="loss of a packet", ylabel="goodput / rate", title="ACK after 4 packets' time, window 8")
    b.legend(frameon=False, fontsize=8)
    return f"Goodput: largest difference {100 * worst:.1f} %."


@part("availability", "Links that come and go", 2)
def availability(axes: list[Axes]) -> str:
    """Share of packets lost to outages; wait for a receiver that sleeps."""
    a, b = axes
    ups, found = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0], []
    for up in ups:
        one = link(1, outage={"kind": "on-off", "up": f"{up} s", "down": "2 s"})
        found.append(np.mean([not one.judge(10, 0.5 * k).cause for k in range(40_000)]))
    at = np.linspace(0.3, 21, 100)
    a.plot(at, at / (at + 2), **CURVE)
    a.plot(ups, found, "o", color=BLUE, markersize=4)
    a.set(xlabel="mean time up (s)", ylabel="share delivered", title="on-off, mean time down 2 s")
    random, shares, waits = np.random.default_rng(5), [0.05, 0.1, 0.2, 0.4, 0.6, 0.8], []
    for share in shares:
        table = {"kind": "duty-cycle", "awake": f"{share} s", "period": "1 s", "when_off": "hold"}
        one = link(1, outage=table)
        instants = np.cumsum(random.uniform(0.5, 7.5, 6000)).tolist()
        waits.append(np.mean([one.judge(10, now).arrival - now for now in instants]))
    at = np.linspace(0.01, 0.95, 100)
    b.plot(at, (1 - at) ** 2 / 2, **CURVE)
    b.plot(shares, waits, "o", color=BLUE, markersize=4)
    b.set(xlabel="awake (s) of every second", ylabel="mean wait (s)", title="sleeping receiver: (T - w)^2 / 2T")
    worst = max(abs(ours - up / (up + 2)) for ours, up in zip(found, ups, strict=True))
    return f"Availability: largest difference {worst:.3f}."


def main() -> None:
    """Draw the parts asked for, all by default, and write the page."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    said = _read()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, (title, plots, draw) in PARTS.items():
        if arguments.parts and name not in arguments.parts:
            continue
        figure = Figure(figsize=(4.6 * plots, 3.4), layout="constrained")
        axes = list(np.atleast_1d(figure.subplots(1, plots)))
        for ax in axes:
            ax.grid(color="0.9", linewidth=0.8)
            ax.set_axisbelow(True)
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
        said[name] = draw(axes)
        figure.savefig(PICTURES / f"{name}.png", dpi=90)
        print(f"{title}: {said[name]}")
    lines = ["# Validation", "", "Link models against closed forms (gray lines) and ns-3 3.37, made by", "",
             "    python tools/validate.py", ""]  # fmt: skip
    for name, (title, _, _) in PARTS.items():
        if name in said:
            lines += [f"## {title}", "", f"![{title}](pictures/validation/{name}.png)", "", said[name], ""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def _read() -> dict[str, str]:
    """Return what the page says of each part so far."""
    if not PAGE.exists():
        return {}
    titles = {title: name for name, (title, _, _) in PARTS.items()}
    said = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *rest = section.strip().split("\n")
        if title in titles:
            said[titles[title]] = rest[-1]
    return said


if __name__ == "__main__":
    main()
