"""Checks of the tables of a scenario with each other; each `check_*` yields problems."""
