"""Radios: what happens between two antennas, and where the devices that have them are.

RadioSettings   the `[radio]` table: phy, power, path loss, shadowing, fading
Mobility        the `[mobility]` table: how devices move
Motion          where everybody is at an instant
Propagation     received power, noise, SNR and error rates between all devices
"""

from p2pl_async.radio.mobility import AnyMobility, Mobility, Static
from p2pl_async.radio.motion import Motion, Track
from p2pl_async.radio.neighbors import InRange
from p2pl_async.radio.propagation import Propagation, RadioLink, Transceivers
from p2pl_async.radio.settings import RadioSettings

__all__ = [
    "AnyMobility", "InRange", "Mobility", "Motion", "Propagation", "RadioLink", "RadioSettings", "Static", "Track",
    "Transceivers",
]  # fmt: skip
