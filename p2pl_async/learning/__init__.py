"""Learning: data, its partition among devices, models, and a trainer for all devices at once. Knows no network."""
