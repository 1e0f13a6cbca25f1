"""Topologies: who can hear whom, as directed graphs on the devices 0..n-1."""
