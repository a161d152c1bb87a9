"""The processes that move bytes."""
