"""Learning: data, its partition among devices, models, and a trainer for all devices at once. Knows no network."""

from __future__ import annotations

import os

# torch's threads spin while they wait for each other, by default so long that the quick start took 186 s on busy
# cores instead of 9 s. Without spinning, training of 784-200-200-10 on idle cores took 1.7 times as long. This many
# turns (some 10 us) avoid both. OpenMP reads the variable when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
