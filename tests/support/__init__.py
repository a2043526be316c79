"""What several test tiers share: a server, a database per test, and a shop that behaves like the application."""
