"""JupyterHub as we ask it: who somebody is, and telling it that somebody is at work."""
