"""Authenticators: who a client is, and whether it may go on."""
