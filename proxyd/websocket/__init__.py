"""What carries WebSockets once both handshakes are done."""
