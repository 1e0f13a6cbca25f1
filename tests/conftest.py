"""Shared settings of the tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Reproducible and without a database or deadlines: a slow machine fails no test.
settings.register_profile(
    "p2pl", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("p2pl")
