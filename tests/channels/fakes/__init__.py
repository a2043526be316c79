"""The services as their documentation describes them, on loopback, with every limit enforced."""
