"""From a file to a `Config`: places of all errors, units, environment; and the documents made from the options."""
