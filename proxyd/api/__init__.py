"""The REST API, on a port of its own."""
