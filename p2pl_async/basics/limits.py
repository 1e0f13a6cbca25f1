"""Limits: what is counted or estimated before memory is taken for it.

Each stands well above what fits a machine, or what a person means, so that a slip of the hand (a count with three zeros
too many) or a hostile file is answered at once instead of by the kernel.
"""

from __future__ import annotations

import os

MOST_DEVICES = 1_000_000
MOST_LINKS = 20_000_000
MOST_ITEMS = 2_000  # of lists of tables, such as [[link.override]]; each is checked by itself
MOST_NESTED = 20  # tables in tables; a scenario has six
MOST_EXTENDED = 20  # files that extend one another
MOST_SCENARIO_BYTES = 16 << 20
MOST_TRACE_BYTES = 256 << 20  # of a file of measurements, unpacked
MOST_UNPACKED = 200  # times the size of an archive, from `FREE_UNPACKED` bytes on; pictures reach 10, a bomb 1,000
FREE_UNPACKED = 256 << 20


def spare_bytes() -> int:
    """Return half of this machine's memory, in bytes: more is not taken for one file."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def refuse_unpacked(packed: int, unpacked: int) -> str:
    """Return why an archive of so many bytes is not unpacked to so many; "" if it may be."""
    if unpacked > spare_bytes():
        return f"unpacks to {unpacked} bytes, more than half of this machine's memory, {spare_bytes()}"
    if unpacked > max(FREE_UNPACKED, MOST_UNPACKED * packed):
        return f"unpacks {packed} bytes to {unpacked}, more than {MOST_UNPACKED} times as many, as no real data do"
    return ""
