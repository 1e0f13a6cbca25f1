"""Radios: powers and error rates between antennas, and the places of the devices that carry them.

RadioSettings   the `[radio]` table: phy, power, path loss, shadowing, fading
Mobility        the `[mobility]` table: how devices move
Area            a part of the plane that a group's devices are in
Motion          where all devices are at an instant
Propagation     received power, noise, SNR and error rates between all devices
RadioNeighbors  which devices are in range of each other
"""

from p2pl_async.radio.area import Area
from p2pl_async.radio.mobility import AnyMobility, Mobility, Static
from p2pl_async.radio.motion import Motion, Track
from p2pl_async.radio.neighbors import RadioNeighbors
from p2pl_async.radio.propagation import Propagation, RadioLink, Transceivers
from p2pl_async.radio.settings import RadioModel, RadioSettings

__all__ = [
    "AnyMobility",
    "Area",
    "Mobility",
    "Motion",
    "Propagation",
    "RadioLink",
    "RadioModel",
    "RadioNeighbors",
    "RadioSettings",
    "Static",
    "Track",
    "Transceivers",
]  # fmt: skip
