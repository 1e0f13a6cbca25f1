"""Links: one direction between two devices; packets go in, a `Verdict` comes out.

    LinkSettings   the `[link]` table of a scenario; one per link once overrides are resolved
    Link.judge     the fate of one message: when it arrives, or why it doesn't

One impairment per file: latency, loss, outage, queue, arq, fec. `sending` puts the packets of a message on the air,
`channel` decides their fates there, and `link` puts all in order. `over_time` and `rate_over_time` are numbers and
rates that change during a run, and `changes` follows a link whose settings do.
"""

from p2pl_async.link.arq import Arq
from p2pl_async.link.channel import Down, FrameErrors
from p2pl_async.link.fec import Fec
from p2pl_async.link.latency import AnyLatency, Latency
from p2pl_async.link.link import Link
from p2pl_async.link.loss.base import LossModel
from p2pl_async.link.loss.kinds import AnyLoss
from p2pl_async.link.outage import AnyOutage, Outage
from p2pl_async.link.queue import Queue
from p2pl_async.link.settings import LinkSettings
from p2pl_async.link.verdict import Ranges, Signal, Verdict, missing_ranges

__all__ = [
    "AnyLatency",
    "AnyLoss",
    "AnyOutage",
    "Arq",
    "Down",
    "Fec",
    "FrameErrors",
    "Latency",
    "Link",
    "LinkSettings",
    "LossModel",
    "Outage",
    "Queue",
    "Ranges",
    "Signal",
    "Verdict",
    "missing_ranges",
]  # fmt: skip
