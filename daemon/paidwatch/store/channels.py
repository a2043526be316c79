"""What is known of a channel over restarts: when it may be asked again, whether it is down, and what waits for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from paidwatch.core.story import CHANNEL_DOWN, HELD, MORNING
from paidwatch.store import outbox
from paidwatch.store.pool import Session

FEWEST_HELD: Final = 3
"""So many messages that waited for a repair are told in one; fewer come one by one."""
FEWEST_QUIET: Final = 2
"""The same for the end of the quiet hours."""


class Wait(StrEnum):
    """What a message waits for instead of going out by itself."""

    HELD = "held"
    """The repair of its channel."""
    QUIET = "quiet"
    """The end of the quiet hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What one channel has before it."""

    now: datetime
    wait: timedelta | None
    """Until something may be sent; None: nothing is queued."""
    quiet: bool
    """Something waits for the end of the quiet hours."""
    unheld: bool
    """The channel is down, and what became due since is not yet marked as waiting for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What became of messages that had waited."""

    waited: int
    alert_id: int | None
    """The digest that tells them; None: they go out one by one."""


async def ahead(session: Session, channel: str) -> Ahead:
    """Return what this channel is due to be told next, and when."""
    row = await session.one("next_delivery", channel)
    wait: timedelta | None = max(row["wait"], timedelta()) if row["waiting"] else None
    return Ahead(now=row["now"], wait=wait, quiet=row["quiet"], unheld=row["unheld"])


async def last_request(session: Session, channel: str) -> timedelta | None:
    """Return how long ago this channel was last asked; None: not lately."""
    ago: timedelta | None = await session.value("last_request", channel)
    return ago


async def pause(session: Session, channel: str, wait: timedelta) -> None:
    """Send nothing to this channel for `wait`, also after a restart; a longer pause stands."""
    await session.rows("hold_channel", channel, wait, None)


async def take_down(
    session: Session, channel: str, wait: timedelta, reason: str, *, others: Sequence[Sequence[str]]
) -> bool:
    """Mark a channel as down until it takes something again, ask it next after `wait`; return whether that is news.

    Then other channels are told at once, and everything that is due waits. `others` are lists of channels: those of
    the first list that has one which is not down are told, otherwise those of the first that is not empty.
    """
    known = await session.value("channel_down_since", channel)
    await session.rows("hold_channel", channel, wait, reason)
    await session.rows("hold_waiting", channel)
    if known is not None:
        return False
    told: Sequence[str] = next((names for names in others if names), ())
    for names in others:
        living = [row["name"] for row in await session.rows("living_channels", list(names))]
        if living:
            told = living
            break
    await outbox.open_note(session, kind=CHANNEL_DOWN, cause=reason, channels=told, channel=channel)
    await session.rows("ring_outbox")
    return True


async def hold_waiting(session: Session, channel: str) -> None:
    """Mark what is due on a channel that is down as waiting for its repair."""
    await session.rows("hold_waiting", channel)


async def restore(session: Session, channel: str) -> Gathered | None:
    """A message was taken: end the story of the broken channel and have told what waited; None if it was not down."""
    await session.rows("hold_waiting", channel)
    if await session.row("channels_over", [channel], True, "") is None:  # noqa: FBT003  a statement's argument
        return None
    gathered = await gather(session, channel, Wait.HELD)
    await session.rows("ring_outbox")
    return gathered


async def gather(session: Session, channel: str, wait: Wait) -> Gathered:
    """Make one digest of what waited, due now; what is too little for one is due message by message."""
    kind, fewest = (HELD, FEWEST_HELD) if wait is Wait.HELD else (MORNING, FEWEST_QUIET)
    row = await session.one("gather", channel, wait.value, kind, fewest)
    return Gathered(waited=row["waited"], alert_id=row["alert_id"])
