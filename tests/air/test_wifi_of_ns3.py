"""Wi-Fi against ns-3 3.37: contention, hidden terminals with and without RTS, A-MPDU, rates by SNR.

The numbers are frames per second at node 0, over 6 s after a second, of senders that always have a frame (Debian's
libns3-dev; AdhocWifiMac, YansWifiPhy, PacketSocketClient, MatrixPropagationLossModel, all 60 dB above the noise).
802.11a: 1458 B and everything else at 24 Mbit/s, 100 retries; hidden: two halves of the senders 300 dB apart. 802.11n:
20 MHz, one sender, control frames at 24 Mbit/s; A-MPDU: HtMcs7, 1500 B, of 0, 8000, 16000 and 65535 B at most; rates:
IdealWifiManager, 1458 B.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.powers import FixedPowers

from p2pl_async.radio.phy import Wifi
from p2pl_async.testing import Cell

ACK = {"size": "14 B", "airtime": "28 us", "delay": "16 us"}
BLOCK_ACK = {"size": "32 B", "airtime": "32 us", "delay": "16 us"}
RTS = {"size": "20 B", "airtime": "28 us", "clearance": ACK}


def saturated(senders: int, *, hidden: bool = False, rts: bool = False, seconds: float = 1.5) -> tuple[float, float]:
    """Return frames per second, and the share of transmissions that fail."""
    medium: dict[str, Any] = {"kind": "dcf", "airtime": {"kind": "ofdm", "preamble": "20 us"}, "ack": ACK}
    medium["rts"] = RTS if rts else "none"
    hears = [[j for j in range(senders + 1) if j != k] for k in range(senders + 1)]
    if hidden:
        hears[1:] = [[j for j in one if j == 0 or (j - k) % 2 == 0] for k, one in enumerate(hears[1:], 1)]
    link = {"rate": "24 Mbit/s", "arq": {"retries": 100}}
    cell = Cell(medium, senders + 1, link=link, out_neighbors=hears, seed=2)
    for sender in range(1, senders + 1):
        for _ in range(int(2200 * seconds / senders) + 50):
            cell.offer(0.0, sender, [0], 1458)
    cell.run(seconds)
    sent = sum(end - start > 3e-4 for start, end, device in cell.on_air if device)
    arrived = sum(not outcome.verdict.cause for outcome in cell.outcomes)
    return arrived / seconds, 1 - arrived / sent


@pytest.mark.parametrize(("senders", "how", "frames", "failed"), [
    (2, {}, 1500, 0.113), (5, {}, 1424, 0.249), (10, {}, 1319, 0.366),
    (2, {"hidden": True}, 1213, 0.268), (2, {"hidden": True, "rts": True}, 1317, 0.012),
])  # fmt: skip
def test_saturated_senders_deliver_what_those_of_ns3_do(senders, how, frames, failed) -> None:
    rate, share = saturated(senders, **how)
    assert rate == pytest.approx(frames, rel=0.035)
    assert share == pytest.approx(failed, abs=0.025)


@pytest.mark.parametrize(("together", "frames"), [(None, 2643), (5, 4450), (10, 4885), (43, 5211)])
def test_frames_sent_together_carry_what_those_of_ns3_do(together, frames) -> None:
    medium: dict[str, Any] = {"kind": "dcf", "difs": "43 us", "airtime": "ofdm", "ack": ACK}
    if together is not None:
        medium.update(ack=BLOCK_ACK, aggregate={"frames": together})
    link = {"rate": "65 Mbit/s", "mtu": "1500 B", "header": "38 B", "arq": {"retries": 7}}
    cell = Cell(medium, 2, link=link, seed=5)
    cell.offer(0.0, 0, [1], 2150 * 1462)
    cell.run()
    assert 2150 / cell.clock.now == pytest.approx(frames, rel=0.01)


@pytest.mark.parametrize(("snr", "frames"), [(14.0, 2031), (18.0, 2360), (22.0, 2699)])
def test_ideal_rates_carry_what_those_of_ns3_do(snr, frames) -> None:
    medium = {"kind": "dcf", "difs": "43 us", "airtime": "ofdm", "rates": "ideal", "ack": ACK}
    waves = FixedPowers(np.full((2, 2), snr - 101.0), phy=Wifi())
    cell = Cell(medium, 2, link={"arq": {"retries": 7}}, propagation=waves, seed=3)
    for _ in range(2000):
        cell.offer(0.0, 0, [1], 1458)
    cell.run(0.6)
    assert sum(not outcome.verdict.cause for outcome in cell.outcomes) / 0.6 == pytest.approx(frames, rel=0.015)
