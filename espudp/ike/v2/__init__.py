"""IKEv2 (RFC 7296): one class per state."""
