"""What everything stands on: units, settings, random streams, plug-ins, distributions, files of measurements."""
