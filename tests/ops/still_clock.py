"""A clock for tests whose other parts are in memory too."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class StillClock:
    """Stands still until `passed` is moved."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def now(self) -> datetime:
        return START + self.passed

    def monotonic(self) -> timedelta:
        return timedelta(days=9) + self.passed

    async def sleep(self, span: timedelta) -> None:
        self.passed += span
