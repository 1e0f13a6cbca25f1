"""One page per run: curves, a map with a replay of its messages, a timeline, matrices; one file that opens anywhere."""
