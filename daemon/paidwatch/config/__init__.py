"""Configuration: read, checked and explained. `load` makes `Settings`; nothing else reads the environment."""

from paidwatch.config.duration import format_duration, parse_duration
from paidwatch.config.load import DEFAULT_FILE, load
from paidwatch.config.problems import ConfigProblems, Problem
from paidwatch.config.settings import Settings, schema

__all__ = [
    "DEFAULT_FILE",
    "ConfigProblems",
    "Problem",
    "Settings",
    "format_duration",
    "load",
    "parse_duration",
    "schema",
]
