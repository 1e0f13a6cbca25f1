"""Learning: data, how devices share it, models, and a trainer for all devices at once. Knows no network."""

from __future__ import annotations

import os

# torch's threads spin while they wait for each other, by default so long that on busy cores the quick start took
# 186 s instead of 9 s. Not spinning at all made training of 784-200-200-10 on idle cores 1.7 times slower. So many
# turns (some 10 us) cost neither. OpenMP reads this when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
