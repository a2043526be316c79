"""Decisions, pure: standard library only; no await, clock, log or randomness."""
