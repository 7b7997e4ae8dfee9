"""Measures espudp on this machine: `python -m benchmarks`."""
