"""Learning: data, how devices share it, models, and a trainer for all devices at once. Knows no network."""
