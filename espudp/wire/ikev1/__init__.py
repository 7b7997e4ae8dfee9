"""IKEv1 messages (RFC 2407, 2408, 2409): one dataclass a payload, parse and emit side by side."""
