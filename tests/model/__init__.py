"""Tests of the nouns, the options and the errors."""
