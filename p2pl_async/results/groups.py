"""Groups of devices in a run's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

OTHERS = "others"
"""The devices in no group, where there are groups. A scenario's group of this name has them beside its own."""


def members(devices: pd.DataFrame) -> dict[str, list[int]]:
    """Return group -> ids of its devices, in order; {} if the run has no groups. A device may be in several.

    Args:
        devices: the table of a run, a row per device.
    """
    found: dict[str, list[int]] = {}
    if "group" not in devices.columns:  # an older version wrote it
        return found
    for device, names in zip(devices["device"].tolist(), devices["group"].tolist(), strict=True):
        for name in names.split(",") if names else [OTHERS]:
            found.setdefault(name, []).append(device)
    return {} if found.keys() <= {OTHERS} else dict(sorted(found.items(), key=lambda item: item[0] == OTHERS))
