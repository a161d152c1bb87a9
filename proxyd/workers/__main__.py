"""A worker, as its controller starts it; what is on its command line is for people only."""

from __future__ import annotations

from proxyd.workers.worker import run

if __name__ == "__main__":
    run()
