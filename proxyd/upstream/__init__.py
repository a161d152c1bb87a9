"""Connections to upstreams: how they are made, kept and used."""
