"""Strategies for `[link]` tables: every model of a link, and every kind of repetition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from p2pl_async.testing.draws import DURATIONS, Table, Tables, over_time, seconds_of, shares, some_of, table_of


def _latencies() -> Tables:
    own: Mapping[str, Any] = {"base": seconds_of(0, 0.2)}
    drawn = {**own, "correlation": seconds_of(0, 2)}
    return st.one_of(
        some_of("constant", mean=seconds_of(0, 0.5), **own),
        some_of("constant", always={"mean": over_time(seconds_of(0, 0.5))}),
        some_of("uniform", always={"low": seconds_of(0, 0.1), "high": seconds_of(0.1, 1)}, **drawn),
        some_of("normal", always={"mean": seconds_of(0, 0.3), "sd": seconds_of(0, 0.2)}, **drawn),
        some_of("lognormal", always={"mean": seconds_of(0.001, 0.5), "sd": seconds_of(0, 1)}, **drawn),
        some_of("gamma", always={"mean": seconds_of(0.05, 0.5), "sd": seconds_of(0, 1)}, **drawn),
        some_of(
            "pareto", always={"least": seconds_of(0.01, 0.1), "most": seconds_of(1, 5), "alpha": st.just(1.5)}, **drawn
        ),
        table_of("empirical", samples=st.lists(seconds_of(0, 0.5), min_size=1, max_size=5)),
    )


def _losses(most: float) -> Tables:
    share, stay = shares(most), seconds_of(0.1, 3)
    return st.one_of(
        table_of("bernoulli", p=share),
        table_of("bernoulli", p=over_time(share)),
        some_of(
            "gilbert-elliott", always={"good": seconds_of(0.1, 3), "bad": seconds_of(0.05, 1)}, loss_good=shares(0.2)
        ),
        table_of("gilbert-elliott", good=over_time(stay), bad=seconds_of(0.05, 1)),
        table_of("gilbert-packets", p=shares(0.3), r=st.sampled_from(["20 %", "100 %"])),
        some_of("gilbert-packets", always={"p": over_time(shares(0.3)), "r": st.just("30 %")}, h=shares(0.5)),
        table_of(
            "four-state", p13=shares(0.2), p31=st.just("40 %"), p32=shares(0.3), p23=st.just("50 %"), p14=shares(0.2)
        ),
        some_of("burst-error", always={"rate": shares(0.2)}, most=st.integers(1, 6)),
    )


def _outages(drop: bool) -> Tables:
    either = {"when_off": st.sampled_from(["drop"] if drop else ["drop", "hold"])}
    of = {"of": st.sampled_from(["link", "pair", "sender", "receiver", "device", "storm"])}
    return st.one_of(
        some_of("on-off", always={"up": DURATIONS, "down": DURATIONS}, **either, **of),
        some_of("slotted", always={"p": shares(), "slot": seconds_of(0.01, 2)}, **either, **of),
        some_of(
            "duty-cycle", always={"awake": seconds_of(0.01, 0.5), "period": seconds_of(0.6, 3)}, **either,
            of=st.sampled_from(["receiver", "sender", "device"]), phase=seconds_of(0, 2),
        ),
        some_of("contacts", always={"up": _contacts()}, **either),
        some_of("contacts", always={"up": _contacts(), "period": seconds_of(10, 12)}, **either),
    )  # fmt: skip


@st.composite
def _contacts(draw: st.DrawFn) -> list[list[str]]:
    instants = sorted(draw(st.sets(st.integers(0, 10_000), min_size=2, max_size=6)))
    return [[f"{a} ms", f"{b} ms"] for a, b in zip(instants[::2], instants[1::2], strict=False)]


def _arqs(shared: bool) -> Tables:
    retries = st.one_of(st.integers(0, 7), st.just("unlimited"))
    if shared:
        tries = {"retries": st.integers(0, 7)}
        rest = {"turnaround": seconds_of(0, 0.05), "timeout": seconds_of(0.01, 5)}
        backoff = {"backoff": seconds_of(0.001, 0.2), "growth": st.sampled_from([1.0, 2.0])}
        return st.one_of(some_of("stop-and-wait", always=tries, **rest), table_of("stop-and-wait", **tries, **backoff))
    turnaround, window = seconds_of(0.001, 0.2), st.integers(2, 64)
    rest = {"ack_loss": shares(0.9), "timeout": seconds_of(0.01, 5)}
    waits = {"backoff": seconds_of(0.001, 0.2)}
    return st.one_of(
        some_of("stop-and-wait", always={"retries": retries, "turnaround": turnaround}, **waits, **rest),
        some_of(
            "stop-and-wait", always={"retries": st.integers(0, 7), **waits, "growth": st.just(2.0)}, **rest
        ),
        some_of("go-back-n", always={"retries": retries, "turnaround": turnaround, "window": window}, **waits, **rest),
        some_of("selective-repeat", always={"retries": retries, "turnaround": turnaround, "window": window}, **rest),
    )  # fmt: skip


RATES = st.sampled_from(["1 Mbit/s", "50 kbit/s", "250 kbit/s", "10 Mbit/s", "5 kbit/s"])


@st.composite
def links(
    draw: st.DrawFn,
    *,
    loss: float = 0.6,
    repeat: bool = True,
    reorder: bool = True,
    shared: bool = False,
    down: bool = True,
) -> Table:
    """`[link]` tables: latency, loss, rate, queue, fragments, ARQ or FEC, outages, order, copies.

    Args:
        draw: given by Hypothesis.
        loss: largest share of packets that a link loses; 0: it loses nothing, by whatever cause.
        repeat: whether a message may arrive twice.
        reorder: whether a message may overtake another.
        shared: whether they are for a medium that devices share.
        down: whether there are outages.
    """
    table: Table = {}

    def maybe(key: str, values: st.SearchStrategy[Any]) -> None:
        if draw(st.booleans()):
            table[key] = draw(values)

    if shared:
        table["rate"] = draw(st.one_of(RATES, over_time(RATES)))
    else:
        maybe("rate", st.one_of(RATES, over_time(st.one_of(RATES, st.just("0 bit/s")))) if loss else RATES)
    maybe("latency", _latencies())
    maybe("mtu", st.sampled_from(["100 B", "250 B", "1500 B"]))
    if draw(st.booleans()):
        table["header"] = draw(st.sampled_from(["0 B", "20 B"]))
    if reorder:
        maybe("order", st.sampled_from(["fifo", "free"]))
    if repeat and not shared:
        maybe("duplicate", shares(0.5))
    if not loss:
        return table
    maybe("loss", _losses(loss))
    maybe("corrupt", shares(0.2))
    protection = draw(st.sampled_from(["none", "arq", "fec"]))
    if protection == "arq":
        table["arq"] = draw(_arqs(shared))
    elif protection == "fec":
        table["fec"] = draw(table_of(data=st.integers(1, 20), parity=st.integers(1, 10)))
    if down:
        maybe("outage", _outages(table.get("arq", {}).get("kind") == "selective-repeat"))
    if not shared:
        maybe("deliver_corrupted", st.booleans())
        if "rate" in table:
            limits = {
                "messages": st.integers(1, 8), "packets": st.integers(1, 100), "lifetime": seconds_of(0.01, 3),
            }  # fmt: skip
            queues = st.one_of(*(some_of(always={key: value}, drop=_DROPS) for key, value in limits.items()))
            maybe("queue", queues)
    return table


_DROPS = st.sampled_from(["tail", "head"])
