"""A bell inside the process: rung from anywhere in the loop, waited for by one task."""

from datetime import timedelta

import anyio


class Signal:
    """Remembers that it was rung until somebody has waited for it."""

    def __init__(self) -> None:
        """Start silent."""
        self._event = anyio.Event()

    def ring(self) -> None:
        """Ring; ringing twice is ringing once."""
        self._event.set()

    async def wait(self, span: timedelta | None = None) -> bool:
        """Wait until rung, at most for `span` (None: for ever), and be silent again; False if the time was up."""
        with anyio.move_on_after(None if span is None else max(span.total_seconds(), 0)):
            await self._event.wait()
        rung = self._event.is_set()
        if rung:
            self._event = anyio.Event()
        return rung
