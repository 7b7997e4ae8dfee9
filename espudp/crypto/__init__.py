"""Algorithms, all of them from `cryptography`, which nothing outside this package imports."""
