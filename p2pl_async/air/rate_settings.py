"""Settings of rate adaptation, `[medium] rates`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2pl_async.basics.settings import OneOf, Settings
from p2pl_async.basics.units import PositiveSeconds, Probability, SpreadDecibels


class RateControl(Settings):
    """Base of every rate adaptation: which modulation and coding of `[radio] phy` a frame is sent with.

    A message to several devices goes at `broadcast_rate`, or as the slowest of them needs it.
    """

    kind: str


class IdealRates(RateControl):
    """The sender knows each neighbor's SNR, and takes the fastest rate that loses few enough frames.

    It knows the SNR of the moment at which it asks for the channel; if fading is drawn for each frame, only the mean.
    With a margin of 10 dB on LoRa this is LoRaWAN's adaptive data rate, by spreading factor.
    """

    kind: Literal["ideal"] = "ideal"
    most_loss: Probability = Field(default=0.1, description="frames that may be lost to noise, as a share")
    margin: SpreadDecibels = Field(default=0.0, description="SNR kept in reserve; 10 dB in LoRaWAN")


class Minstrel(RateControl):
    """The sender learns from acknowledgments which rate carries most: Minstrel, as in Linux.

    It averages, for each neighbor and rate, the share of frames that are acknowledged. A frame is tried first at
    the rate of the largest throughput, then at that of the second largest, then at the most reliable one, then at
    the slowest. Some frames sample another rate: at once and before the best if it is faster, else in the second try,
    where it costs little. Without acknowledgments (`arq`) it takes the slowest.

    Source: D. Xia, J. Hart, Q. Fu, "Evaluation of the Minstrel rate adaptation algorithm in IEEE 802.11g WLANs", 2013.
    """

    kind: Literal["minstrel"] = "minstrel"
    sample: Probability = Field(default=0.1, description="share of frames that sample a rate")
    every: PositiveSeconds = Field(default=0.1, description="time between two updates of the averages")
    weight: Probability = Field(default=0.25, description="weight of the latest share in the average")


AnyRateControl = Annotated[RateControl, OneOf("rate adaptation", IdealRates, Minstrel)]
