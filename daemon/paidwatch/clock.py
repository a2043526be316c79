"""Time: aware UTC for what is said, the monotonic clock for how long to sleep."""

from datetime import UTC, datetime, timedelta
from time import monotonic

import anyio


class SystemClock:
    """The real clock. Decisions use the database's `now`, which arrives with the rows; this one is for sleeping."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        return datetime.now(UTC)

    def monotonic(self) -> timedelta:
        """Return a reading that only ever grows, for measuring spans."""
        return timedelta(seconds=monotonic())

    async def sleep(self, span: timedelta) -> None:
        """Sleep for `span`; nothing or less returns at the next turn of the loop."""
        await anyio.sleep(max(span.total_seconds(), 0))
