"""Packaging; the metadata is in pyproject.toml."""

from setuptools import Extension, setup

# Without a compiler there is none of it: Python does the same.
setup(
    ext_modules=[
        Extension("proxyd.core._scan", ["proxyd/core/_scan.c"], optional=True),
        Extension("proxyd.net._round", ["proxyd/net/_round.c"], optional=True),
    ]
)
