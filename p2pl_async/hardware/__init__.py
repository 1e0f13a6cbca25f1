"""Hardware of devices besides their radios: processor, clock, battery, and downtime."""
