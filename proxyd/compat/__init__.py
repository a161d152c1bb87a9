"""The command lines of the programs that proxyd replaces, turned into a `Config`."""
