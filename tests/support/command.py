"""What the tests of the commands share: an installed database with its configuration, and watches to write by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemon import Sections, configuration, installed
from tests.support.postgres import Database, Server


@pytest.fixture
async def watched(server: Server, shape: str) -> AsyncIterator[Database]:
    """A fresh database of the shape, with paidwatch installed and no daemon."""
    fresh = await installed(server, shape)
    yield fresh
    await server.drop(fresh)


@pytest.fixture
def config(watched: Database, tmp_path: Path) -> Path:
    return written(tmp_path, watched)


def written(folder: Path, database: Database, *extra: Sections, dsn: str | None = None) -> Path:
    """Write a configuration and return where it is."""
    file = folder / "command.toml"
    file.touch(mode=0o600)
    file.write_text(configuration(database, None, *extra, dsn=dsn))
    return file


async def write_watch(db: Database, *, of: str = "true", **columns: str) -> None:
    """Write watches for the payments of which `of` is true: `paid_at="now()"`; what is not given is of the payment."""
    usual = {
        "payment_id": "payment_id",
        "user_id": "user_id",
        "state": "'closed'",
        "source": "'trigger'",
        "paid_at": "settled_at",
        "noticed_at": "settled_at",
        "grace_until": "settled_at",
    }
    values = usual | columns
    await db.execute(
        f"INSERT INTO paidwatch.watch ({', '.join(values)}) SELECT {', '.join(values.values())}"
        f" FROM paidwatch.payments WHERE {of}"
    )


async def age(db: Database, span: str = "1 hour") -> None:
    """Let what was noted and is not read yet have happened `span` earlier."""
    await db.execute(f"UPDATE paidwatch.inbox SET at = at - interval '{span}'")


async def everything(db: Database) -> dict[str, list[str]]:
    """Return every row of every table, and the state of every sequence."""
    tables = await db.fetch(
        "SELECT c.oid::regclass::text AS name, c.relkind::text AS kind FROM pg_class c WHERE c.relkind IN ('r', 'S')"
        " AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    )
    return {
        table["name"]: sorted(
            row["row"]
            for row in await db.fetch(
                f"SELECT last_value::text || is_called::text AS row FROM {table['name']}"
                if table["kind"] == "S"
                else f"SELECT t::text AS row FROM {table['name']} t"
            )
        )
        for table in tables
    }
