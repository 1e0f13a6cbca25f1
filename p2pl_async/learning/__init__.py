"""Learning: data, how devices share it, models, and a trainer for all devices at once. Knows no network."""

from __future__ import annotations

import os

# torch's threads spin while they wait for each other. On busy cores that made the quick start take 186 s instead
# of 9 s, and on idle ones it gains nothing measurable. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
