"""Links: one direction between two devices; packets go in, a `Verdict` comes out.

    LinkSettings   the `[link]` table of a scenario; one per link once overrides are resolved
    Link.judge     what happens to one message: when it arrives, or why it doesn't

One impairment per file: latency, loss, outage, queue, arq, fec; `channel` has what becomes of packets,
`transmitter` how they are sent, and `link` puts all in order. `varying` and `varying_rate` are what a number or
a rate can be instead where it changes in time.
"""

from p2pl_async.link.arq import Arq
from p2pl_async.link.channel import Down, Radio
from p2pl_async.link.fec import Fec
from p2pl_async.link.latency import AnyLatency, Latency
from p2pl_async.link.link import Link
from p2pl_async.link.loss.base import LossModel
from p2pl_async.link.loss.kinds import AnyLoss
from p2pl_async.link.outage import AnyOutage, Outage
from p2pl_async.link.queue import Queue
from p2pl_async.link.settings import LinkSettings
from p2pl_async.link.verdict import Ranges, Verdict, missing_ranges

__all__ = [
    "AnyLatency", "AnyLoss", "AnyOutage", "Arq", "Down", "Fec", "Latency", "Link", "LinkSettings", "LossModel",
    "Outage", "Queue", "Radio", "Ranges", "Verdict", "missing_ranges",
]  # fmt: skip
