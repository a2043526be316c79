"""paidwatch: tells you, in real time, which customer paid and was never activated."""

__version__ = "0.1.0"
