"""One proxy for data-science platforms."""

__version__ = "0.1.0"
