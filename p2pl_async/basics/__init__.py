"""The base of all other folders: units, settings, random streams, plug-ins, distributions, files of measurements."""
