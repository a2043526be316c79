"""The commands: each reads its options, does one thing, and says what came of it in words or in JSON."""
