"""A worker, as its controller starts it; what is on its command line is for people only."""

from __future__ import annotations

from proxyd.garbage import start_without_looking

if __name__ == "__main__":
    start_without_looking()
    from proxyd.workers.worker import run

    run()
