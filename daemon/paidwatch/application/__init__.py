"""The application's own HTTP side: what paidwatch asks of it instead of writing to its tables."""
