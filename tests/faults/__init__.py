"""Broken upstreams, exhausted machines and mistakes of ours: what a running proxy makes of them."""
