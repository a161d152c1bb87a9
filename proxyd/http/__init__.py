"""The client's side of the data path, and the Resource tree."""
