"""One connection for one command."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from paidwatch.config import Settings
from paidwatch.store.connect import connect, translated
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements
from paidwatch.wiring import target_of


@asynccontextmanager
async def asking(
    settings: Settings, statements: Statements, purpose: str, session_settings: Mapping[str, str] | None = None
) -> AsyncGenerator[Session]:
    """Connect for as long as the body runs. Raises DatabaseError, for what the body asks as well."""
    connection = await connect(target_of(settings), purpose=purpose, settings=session_settings)
    try:
        with translated():
            yield Session(connection, statements)
    finally:
        connection.terminate()
