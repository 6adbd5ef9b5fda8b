"""`streamctr init`: from the beginning of a log to a commented run file."""

from jobs.init.command import init

__all__ = ["init"]
