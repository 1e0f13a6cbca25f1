"""Recorded runs: the folder of a run, its tables, and reading them back."""
