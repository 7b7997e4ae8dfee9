"""IKEv2 messages (RFC 7296 section 3): one dataclass a payload, parse and emit side by side."""
