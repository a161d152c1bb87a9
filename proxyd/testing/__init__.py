"""For tests, ours and those of others: the data path in memory and in virtual time, and contracts of the seams."""
