"""Erasure coding: packets sent in addition, so that some may be lost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from p2pl_async.basics.settings import Settings


class Fec(Settings):
    """After each group of `data` packets of a message, `parity` more are sent: any `data` of them give the others.

    The last group of a message may be smaller, with as much parity. Packets of data are sent as
    they are, so that those that arrive are of use even if their group can't be rebuilt.
    """

    data: Annotated[int, Field(strict=True, ge=1, le=65_536, description="packets of a group that carry data")]
    parity: Annotated[int, Field(strict=True, ge=1, le=65_536, description="packets sent in addition")]
