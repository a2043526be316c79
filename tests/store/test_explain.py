"""What the client library finds wrong with an address is no lost connection: trying again would not help."""

import asyncpg

from paidwatch.errors import Rejected, Unreachable
from paidwatch.store.explain import explain


def test_an_address_that_cannot_be_used_is_not_tried_for_ever() -> None:
    found = explain(asyncpg.ClientConfigurationError("`sslmode` parameter must be one of: disable"))
    assert isinstance(found, Rejected)
    assert "cannot be used: `sslmode`" in found.message
    assert "[database] dsn" in found.remedy
    assert "PGSSLMODE" in found.remedy
    assert isinstance(explain(asyncpg.InterfaceError("connection is closed")), Unreachable)
