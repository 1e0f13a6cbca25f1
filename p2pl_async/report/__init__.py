"""Reports of a run: the line while it goes, the table at its end, and plots.

Everything here reads recorded runs and nothing else.
"""
