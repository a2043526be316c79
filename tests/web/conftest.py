"""This tier runs against an installed database; see tests/support/watched.py."""

from tests.support.watched import start, told, watched

__all__ = ["start", "told", "watched"]
