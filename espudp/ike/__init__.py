"""The control path, sans-IO. Knows nothing of the host and nothing of ESP."""
