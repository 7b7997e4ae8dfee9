"""espudp: a userspace IPsec peer. ESP in UDP (RFC 3948) over a TUN device, keyed by IKEv2 (RFC 7296)."""

__version__ = "0.1.0"
