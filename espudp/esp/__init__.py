"""The data path (RFC 4303, RFC 3948). Knows nothing of IKE."""
