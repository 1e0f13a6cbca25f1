"""The table of goldens, and whether it was recorded on a machine like this one."""

from __future__ import annotations

import json
from typing import Any

from goldens import TABLE, machine

_RECORDED = json.loads(TABLE.read_text())
GOLDENS: dict[str, Any] = _RECORDED["goldens"]
SAME_MACHINE = machine() == _RECORDED["machine"]
ELSEWHERE = f"recorded on another machine: {_RECORDED['machine']}, this one is {machine()}"
