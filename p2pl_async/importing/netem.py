"""Links from a line of Linux' traffic control: `tc qdisc add dev eth0 root netem delay 100ms 10ms loss 1%`.

Reads commands as typed, and the output of `tc qdisc show`. An option with another meaning than ours
becomes the nearest setting, and a warning says how the two differ.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from statistics import NormalDist
from typing import Any

from p2pl_async.basics.tracefiles import lines_of
from p2pl_async.importing.part import Part

_NUMBER = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)(.*)")
_TIMES = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "ms": 1e-3, "msec": 1e-3, "msecs": 1e-3,
    "": 1e-6, "us": 1e-6, "usec": 1e-6, "usecs": 1e-6, "ns": 1e-9, "nsec": 1e-9, "nsecs": 1e-9,
}  # fmt: skip
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30}
_LABELS = frozenset({"p", "r", "1-h", "1-k", "p13", "p31", "p32", "p23", "p14", "random"})  # as tc prints them


def netem(path: Path) -> Part:
    """Return the link that the netem line of a file describes.

    Raises:
        ValueError: if there is none, or more than one, or it can't be understood.
    """
    text = "\n".join(line.partition("#")[0] for _, line in lines_of(path)).replace("\\\n", " ")
    found = [line.strip() for line in text.splitlines() if re.search(r"\bnetem\b", line)]
    if len(found) != 1:
        what = "no line with netem, such as: tc qdisc add dev eth0 root netem delay 100ms loss 1%"
        raise ValueError(f"{path} has {what if not found else f'{len(found)} lines with netem; keep one of them'}")
    words = shlex.split(found[0])
    reader = _Reader(words[words.index("netem") + 1 :])
    link = reader.link()
    part = Part(f"As netem: {found[0]}", lambda beside, elsewhere: {"link": link}, warnings=reader.warnings)
    if reader.delays is not None:
        part.beside[".delays.csv"] = "delay\n" + "".join(f"{1000 * delay:.6g}\n" for delay in reader.delays)
        table = {"kind": "empirical", "column": "delay", "unit": "ms"}
        part.make = lambda beside, elsewhere: {
            "link": {**link, "latency": {**table, "path": beside(".delays.csv")}},
        }
    return part


class _Reader:
    """Reads the words of a line, one option after the other."""

    def __init__(self, words: list[str]) -> None:
        if words and re.fullmatch(r"[0-9a-f]*:", words[0]):  # tc prints its own number first
            words = [word for word in words[1:] if word != "root"]
            for name in ("dev", "parent", "refcnt"):
                if name in words:
                    place = words.index(name)
                    del words[place : place + 2]
        self._words = words
        self._link: dict[str, Any] = {"order": "free"}  # in netem packets overtake each other, unless there is a rate
        self._reorders = False
        self._delay_and_jitter: tuple[float, float] | None = None
        self._shape = "uniform"
        self._most: int | None = None
        self.warnings: list[str] = []
        self.delays: list[float] | None = None  # in seconds, for a distribution given as a table

    def link(self) -> dict[str, Any]:
        """Return the `[link]` table."""
        if not self._words:
            raise ValueError("netem has no options; it delays and loses nothing")
        while self._words:
            option = self._words.pop(0)
            read = getattr(self, _OPTIONS.get(option, ""), None)
            if read is None:
                raise ValueError(f'netem has no option "{option}"; known: {", ".join(_OPTIONS)}')
            read()
        if self._delay_and_jitter is not None:
            self._link["latency"] = self._latency(*self._delay_and_jitter, self._shape)
        if "rate" in self._link:
            self._link["order"] = "fifo"
        if self._reorders:
            order = self._link["order"]
            then = (
                "and overtake each other if their latencies differ"
                if order == "free"
                else "and keep their order, as those of netem do behind a rate"
            )
            self._warn(
                f"reorder: netem sends some packets at once and delays the others; here all are delayed, {then} "
                f'(order = "{order}")'
            )
        if self._most is not None:
            self._queue(self._most)
        return self._link

    # --- Options, in the order of netem's manual page

    def _limit(self) -> None:
        self._most = self._whole("limit")

    def _delay(self) -> None:
        mean = self._time()
        self._delay_and_jitter = (mean, self._time() if self._is_number() else 0.0)
        share = self._share() if self._is_number() else 0.0
        if share:
            self._warn(
                f"delay: with a correlation of {_percent(share)} netem mixes uniform values, so its delays have "
                "another distribution, and the correlation is by packets, not by time; left out here, for one by time "
                'add correlation = "500 ms" to the latency'
            )

    def _distribution(self) -> None:
        self._shape = self._words.pop(0) if self._words else ""

    def _loss(self) -> None:
        model = self._words.pop(0) if self._words[:1] in (["state"], ["gemodel"]) else "random"
        self._link["loss"] = {"state": self._states, "gemodel": self._gilbert, "random": self._random}[model]()

    def _random(self) -> dict[str, Any]:
        p = self._share()
        share = self._share() if self._is_number() else 0.0
        if share:
            self._warn(
                f"loss: with a correlation of {_percent(share)} netem mixes uniform values, so it doesn't lose "
                f"{_percent(p)} (10 % with a correlation of 25 % loses 1.75 %); left out here, for bursts write "
                'loss = { kind = "gilbert-packets", loss = "10 %", burst = 3 }'
            )
        return {"kind": "bernoulli", "p": _percent(p)}

    def _states(self) -> dict[str, Any]:
        p13 = self._share()
        chain = [p13, 1 - p13, 0.0, 1.0, 0.0]
        for i in range(1, 5):
            if self._is_number():
                chain[i] = self._share()
        names = ("p13", "p31", "p32", "p23", "p14")
        return {"kind": "four-state", **{name: _percent(p) for name, p in zip(names, chain, strict=True)}}

    def _gilbert(self) -> dict[str, Any]:
        p = self._share()
        r = self._share() if self._is_number() else 1 - p
        bad = self._share() if self._is_number() else 1.0
        good = self._share() if self._is_number() else 0.0
        letters = {"p": p, "r": r, "h": 1 - bad, "k": 1 - good}
        return {"kind": "gilbert-packets", **{name: _percent(share) for name, share in letters.items()}}

    def _ecn(self) -> None:
        self._warn("ecn: left out, as messages are never marked here")

    def _corrupt(self) -> None:
        self._link["corrupt"] = _percent(self._share())
        self._warn("corrupt: netem flips a bit of a packet, which a checksum detects; here the packet is lost")
        self._skip_correlation("corrupt")

    def _duplicate(self) -> None:
        self._link["duplicate"] = _percent(self._share())
        self._warn(
            "duplicate: netem repeats packets before it delays them; here a message that arrives is delivered twice"
        )
        self._skip_correlation("duplicate")

    def _reorder(self) -> None:
        self._share()
        self._reorders = True
        self._skip_correlation("reorder")

    def _gap(self) -> None:
        self._whole("gap")  # which packets `reorder` takes

    def _seed(self) -> None:
        self._words = self._words[1:]
        self._warn("seed: left out; the scenario's own seed is used")

    def _slot(self) -> None:
        while self._words and (self._is_number() or self._words[0] in ("distribution", "packets", "bytes")):
            if self._words.pop(0) == "distribution":
                self._words = self._words[1:]
        self._warn('slot: left out; for a link that opens at times write outage = { kind = "duty-cycle", ... }')

    def _rate(self) -> None:
        word = self._words.pop(0) if self._words else ""
        match = _NUMBER.fullmatch(word)
        unit = match[2].lower() if match else ""
        kind = re.fullmatch(r"([kmgt]i?)?(bit|bps)?", unit)
        if match is None or kind is None:
            raise ValueError(f'rate "{word}" must be like 1mbit (bits per second) or 1mbps (bytes per second)')
        bits = float(match[1]) * _PREFIXES[kind[1] or ""] * (8 if kind[2] == "bps" else 1)
        if bits <= 0:
            raise ValueError(f"rate {word} must be above 0")
        self._link["rate"] = f"{bits:.15g} bit/s"
        if self._words[:1] == ["packetoverhead"]:
            self._words.pop(0)
        if self._is_number():
            overhead = self._whole("packet overhead")
            if overhead > 0:
                self._link["header"] = f"{overhead} B"
            elif overhead < 0:
                self._warn("rate: a negative packet overhead is left out, as headers are never negative")
        for name in ("cellsize", "celloverhead"):
            if self._words[:1] == [name]:
                self._words.pop(0)
            if self._is_number() and self._whole(name):
                self._warn(f"rate: {name} is left out, as packets are not cut into cells here")

    # --- Settings that several options make together

    def _latency(self, mean: float, sd: float, shape: str) -> Any:
        if sd == 0:
            return _seconds(mean)
        if shape == "uniform":
            if mean < sd:
                self._warn("delay: netem sends packets with a delay below 0 s at once; here the shortest delay is 0 s")
            return {"kind": "uniform", "low": _seconds(max(mean - sd, 0.0)), "high": _seconds(mean + sd)}
        if shape == "normal":
            if mean < 4 * sd:
                self._warn(
                    "delay: netem sends packets with a delay below 0 s at once; here the normal distribution is "
                    "cut off at 0 s, which raises its mean"
                )
            return {"kind": "normal", "mean": _seconds(mean), "sd": _seconds(sd)}
        if shape not in _SHAPES:
            raise ValueError(
                f'distribution "{shape}" is not one of netem\'s own tables; measure some delays and write latency = '
                '{ kind = "empirical", path = "delays.csv", column = "delay", unit = "ms" }'
            )
        # Delays below 0 s become 0 s, as netem sends such packets at once.
        self.delays = [max(mean + sd * value, 0.0) for value in _SHAPES[shape]()]
        return None

    def _queue(self, limit: int) -> None:
        if "rate" not in self._link:
            self._warn("limit: left out, as without a rate no message waits here; netem counts delayed packets, too")
            return
        self._link["queue"] = {"messages": limit}
        self._warn(
            f"limit: netem drops when it holds {limit} packets, delayed ones included; here the queue holds "
            f"{limit} messages that wait for the transmitter, whatever their number of packets"
        )

    # --- Words

    def _is_number(self) -> bool:
        if self._words and self._words[0] in _LABELS and len(self._words) > 1:
            return _NUMBER.match(self._words[1]) is not None
        return bool(self._words) and _NUMBER.match(self._words[0]) is not None

    def _number(self, what: str) -> tuple[float, str]:
        while self._words and self._words[0] in _LABELS:
            self._words.pop(0)
        word = self._words.pop(0) if self._words else ""
        match = _NUMBER.fullmatch(word)
        if match is None:
            raise ValueError(f'"{word}" must be {what}' if word else f"the line ends before {what}")
        return float(match[1]), match[2].lower()

    def _time(self) -> float:
        number, unit = self._number("a time such as 100ms")
        if unit not in _TIMES or number < 0:
            raise ValueError(f'"{number:g}{unit}" must be a time such as 100ms; units: s, ms, us, ns')
        return number * _TIMES[unit]

    def _share(self) -> float:
        number, unit = self._number("a share such as 5%")
        if unit not in ("", "%") or not 0 <= number <= 100:
            raise ValueError(f'"{number:g}{unit}" must be a share from 0% to 100%')
        return number / 100

    def _whole(self, what: str) -> int:
        number, unit = self._number("a whole number")
        if unit or not number.is_integer():
            raise ValueError(f'{what} "{number:g}{unit}" must be a whole number')
        return int(number)

    def _skip_correlation(self, option: str) -> None:
        if self._is_number() and self._share():
            self._warn(f"{option}: its correlation is left out; here messages are independent")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)


_OPTIONS = {
    "limit": "_limit", "delay": "_delay", "latency": "_delay", "distribution": "_distribution", "loss": "_loss",
    "drop": "_loss", "ecn": "_ecn", "corrupt": "_corrupt", "duplicate": "_duplicate", "reorder": "_reorder",
    "gap": "_gap", "rate": "_rate", "seed": "_seed", "slot": "_slot",
}  # fmt: skip


def _pareto() -> list[float]:
    """Return the 4096 values of netem's pareto table: shape 3, shifted and scaled, cut at 4.

    Their mean is -0.03 and their deviation 0.82; only without the cut would they be 0 and 1.
    """
    return [min(4 / 3 * ((k / 4096) ** (-1 / 3) - 1.5), _HIGHEST) for k in range(4096, 0, -1)]


def _paretonormal() -> list[float]:
    """Return the 4096 values of netem's paretonormal table: a quarter normal and three quarters Pareto."""
    normal = NormalDist()
    bells = [normal.inv_cdf((k + 0.125) / 4096) for k in range(4096)]
    return [min((bell + 3 * tail) / 4, _HIGHEST) for bell, tail in zip(bells, _pareto(), strict=True)]


_HIGHEST = 32767 / 8192  # the largest entry of a table: 16 bits, with 8192 for one deviation
_SHAPES = {"pareto": _pareto, "paretonormal": _paretonormal}


def _percent(share: float) -> str:
    return f"{100 * share:.12g} %"


def _seconds(value: float) -> str:
    return f"{1000 * value:.12g} ms"
