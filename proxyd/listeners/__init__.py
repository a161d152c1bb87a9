"""Sockets that take traffic, by kind."""
