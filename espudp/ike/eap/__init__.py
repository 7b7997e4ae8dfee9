"""EAP (RFC 3748) inside IKE_AUTH (RFC 7296 section 2.16): both sides, sans-IO, packets in, packets out."""
