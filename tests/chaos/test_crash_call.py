"""kill -9 at every step of an activation over HTTP, then a normal start: one activation at most, and the truth told."""

import json
import signal

import pytest

from tests.support import shop
from tests.support.admin import OWN, TOKEN, admin
from tests.support.crash_main import CALLS
from tests.support.daemon import Sections, told_and_done
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.watched import Start


def asking(url: str) -> Sections:
    return {
        "grace": {"default": "300ms"},
        "activation": {"mode": "auto", "strategy": "http", "require_corroboration": False},
        "activation.http": {
            "url": url,
            "body": OWN,
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "timeout": "2s",
            "retry_after": "1s",
        },
    }


@pytest.mark.parametrize("point", CALLS)
async def test_a_kill_gives_nothing_twice_and_loses_nothing(
    watched: Database, told: Sink, start: Start, point: str
) -> None:
    who = await shop.add_user(watched)
    async with admin(watched) as application:
        async with start(asking(application.url), crash=point) as doomed:
            await doomed.until(lambda: bool(doomed.events("listen.ready")))
            payment = await shop.add_payment(watched, who)
            await shop.complete(watched, payment)
            assert await doomed.ended() == -signal.SIGKILL
        asked_before = len(application.asked)
        # The lease of the one that died is over, and so is the pause.
        await watched.execute(
            "UPDATE paidwatch.activation SET due_at = now(), again_at = now() WHERE due_at IS NOT NULL"
        )
        async with start(asking(application.url)) as daemon:
            await daemon.ready()
            await daemon.closed(watched, payment, "fixed")
            await told.until_told([str(payment)], word="FIXED")
            await daemon.database(
                watched,
                "SELECT NOT EXISTS (SELECT FROM paidwatch.delivery WHERE due_at IS NOT NULL OR lease IS NOT NULL)",
            )
        assert TOKEN not in json.dumps([*doomed.lines, *daemon.lines]) + " ".join(doomed.noise + daemon.noise)
    answered = point in {"answer came", "read back, not committed", "call done"}
    assert (asked_before, application.activations) == (int(answered), 1)
    (event,) = await watched.fetch("SELECT event_type FROM subscription_events WHERE user_id = $1", who)
    assert event["event_type"] == "manual_activation"
    (row,) = await watched.fetch("SELECT * FROM paidwatch.activation")
    assert (row["state"], row["calls"]) == ("done", 2 if point == "call planned" else 1)
    assert await watched.fetchval("SELECT count(*) FROM paidwatch.audit WHERE act = 'activate'") == 1
    assert await told_and_done(watched)
    assert {message.word for message in told.told} <= {"NEW", "FIXED"}
