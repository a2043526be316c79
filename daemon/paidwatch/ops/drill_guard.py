"""A program that removes what a drill made once the drill is over, however it ends.

    python -m paidwatch.ops.drill_guard

Its standard input is a pipe: one line of JSON says what is to be removed (`dsn`, `database`, `folder`), and the drill
then holds it open and writes nothing more. The kernel closes it when the drill ends, also by being killed. What could
not be removed is said on standard output.
"""

import json
import shutil
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Final

import anyio

from paidwatch.errors import DatabaseError
from paidwatch.store import throwaway
from paidwatch.store.connect import Target

READY: Final = "ready\n"
LIMIT: Final = timedelta(seconds=10)
"""How long removing may take."""
_PAUSE: Final = 0.5
"""Seconds between two tries."""


async def clean_up(dsn: str, database: str) -> str:
    """Remove the database, trying for a while; return why it is still there, or ""."""
    target = Target(dsn=dsn, connect_timeout=LIMIT / 2, statement_timeout=LIMIT / 2)
    why = "it took too long"
    with anyio.move_on_after(LIMIT.total_seconds()):
        while True:
            try:
                await throwaway.remove(target, database)
            except DatabaseError as error:
                why = error.message
            else:
                return ""
            await anyio.sleep(_PAUSE)
    return why


def main() -> int:
    """Wait for the end of the drill, then remove what it made; 1 if something is left."""
    order = json.loads(sys.stdin.readline())
    sys.stdout.write(READY)
    sys.stdout.flush()
    while sys.stdin.read(1):
        pass
    shutil.rmtree(order["folder"], ignore_errors=True)
    why = anyio.run(clean_up, order["dsn"], order["database"])
    with suppress(OSError):  # the drill was killed: nobody listens
        sys.stdout.write(why)
        sys.stdout.flush()
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
