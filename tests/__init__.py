"""The tests, one folder per tier."""
