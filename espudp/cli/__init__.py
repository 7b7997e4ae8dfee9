"""The command line: parses, builds a configuration, calls one function."""
