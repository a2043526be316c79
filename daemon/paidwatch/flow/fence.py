"""Fence: which server may be served; an old primary that was fenced off and still answers passes every other check."""

from collections.abc import Awaitable, Callable

from paidwatch.errors import Unfit
from paidwatch.store import installation
from paidwatch.store.connect import Connection
from paidwatch.store.installation import Server
from paidwatch.store.pool import Session
from paidwatch.store.statements import Statements


class Fence:
    """Remembers which cluster was served: a fenced-off old primary that still answers must not be served again."""

    def __init__(self) -> None:
        """Start without a memory."""
        self._known: Server | None = None

    def greet(self, statements: Statements) -> Callable[[Connection], Awaitable[None]]:
        """Return what looks at each new connection of a pool that outlives terms. It raises Unfit and DatabaseError."""

        async def look(connection: Connection) -> None:
            self.check(await installation.server(Session(connection, statements)))

        return look

    def check(self, found: Server) -> None:
        """Raise Unfit for a standby, another cluster, or a timeline that is behind the one served before."""
        if found.standby:
            message = "the server is a standby (read-only)"
            raise Unfit(message, remedy="Name all hosts in [database] dsn and add ?target_session_attrs=read-write.")
        known = self._known
        if known is not None and known.system_identifier != found.system_identifier:
            message = "the server that answers belongs to another cluster than before"
            raise Unfit(message, remedy="If that is meant, restart paidwatch; if not, correct the address.")
        if known is not None and found.timeline < known.timeline:
            message = "the server that answers is an old primary: its timeline is behind the one served before"
            raise Unfit(message, remedy="Take the old primary away, or correct the order of hosts in [database] dsn.")
        self._known = found


class Gate:
    """Lets the connections of one term in: they all lead to one server, and the fence lets it be served.

    With several hosts in the address every connection looks for its host anew, and finds an old primary that came back
    meanwhile; work on two servers at once would be told and booked on either.
    """

    def __init__(self, fence: Fence, statements: Statements) -> None:
        """Start open to any server; the first connection decides."""
        self._fence = fence
        self._statements = statements
        self._served: tuple[str, str] | None = None

    async def greet(self, connection: Connection) -> None:
        """Look at a new connection's server. Raises Unfit and DatabaseError."""
        found = await installation.server(Session(connection, self._statements))
        self._fence.check(found)
        this = (found.system_identifier, found.timeline)
        if self._served not in (None, this):
            message = "a new connection leads to another server than the ones before"
            raise Unfit(message, remedy="It is tried again by itself; see that only one of the hosts takes writes.")
        self._served = this
