"""Every decision, without input or output: no Twisted, no sockets, no clock."""
