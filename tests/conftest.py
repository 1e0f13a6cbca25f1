"""Shared settings of the tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# On busy cores two threads for a tiny matrix take longer than one; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Reproducible and without a database or deadlines: a slow machine fails no test.
settings.register_profile(
    "p2pl", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("p2pl")
