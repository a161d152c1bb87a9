"""Managed servers: processes that are started when they are needed, kept going, and leave nothing behind."""
