"""Topologies: which device hears which, as directed graphs on the devices 0..n-1."""
