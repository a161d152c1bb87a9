"""The nouns, and everything that a user may write, declared once."""
