"""Octets to values and back. No I/O, no clock, no randomness, no keys."""
