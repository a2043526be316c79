"""The daemon, with a place at which it kills itself: `python -m tests.support.crash_main POINT run --config FILE`.

The points are numbered in the order in which a payment passes them; docs and tests refer to these names. `kill -9` at a
point means: everything the database had committed by then is there, and nothing else.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from paidwatch.channels.webhook import Webhook
from paidwatch.cli.root import main
from paidwatch.flow import settle
from paidwatch.flow.activate import Activate
from paidwatch.flow.call import Call
from paidwatch.flow.calls import Calls
from paidwatch.flow.claim import Claimant
from paidwatch.flow.decide import Decide
from paidwatch.flow.deliver import Deliver
from paidwatch.flow.forward import Forward
from paidwatch.flow.intake import Intake
from paidwatch.flow.listen import Ears, Locks
from paidwatch.flow.receive import Receive
from paidwatch.flow.reconcile import Reconcile
from paidwatch.store import calls, forwards, ledger, outbox, watches
from paidwatch.store.inbox import Inbox
from paidwatch.store.pool import Session

When = Callable[[Any], bool]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def always(_result: Any) -> bool:
    return True


def replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    fixed = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(function) if fixed else function)


def before(owner: Any, name: str, when: When = always) -> None:
    """Die on entering a function, if `when` says so of its arguments."""
    real = getattr(owner, name)

    async def crashing(*arguments: Any, **named: Any) -> Any:
        if when((arguments, named)):
            die()
        return await real(*arguments, **named)

    replace(owner, name, crashing)


def after(owner: Any, name: str, when: When = always) -> None:
    """Die on leaving a function, if `when` says so of its result."""
    real = getattr(owner, name)

    async def crashing(*arguments: Any, **named: Any) -> Any:
        result = await real(*arguments, **named)
        if when(result):
            die()
        return result

    replace(owner, name, crashing)


def something(result: Any) -> bool:
    return bool(result)


POINTS: dict[str, Callable[[], None]] = {
    # starting
    "01 listening": lambda: after(Ears, "open"),
    "02 leading": lambda: after(Locks, "lead", something),
    "03 caught up": lambda: after(Reconcile, "catch_up"),
    # intake
    "04 rung, before the drain": lambda: before(Intake, "_wake_up"),
    "05 drained": lambda: after(Inbox, "drain", lambda drained: drained.taken > 0),
    # decide
    "06 due claimed, not committed": lambda: after(watches, "claim_due", lambda claimed: bool(claimed.open)),
    "07 activation claimed, not committed": lambda: after(Claimant, "consider", lambda claims: claims.count > 0),
    "08 alerts written, not committed": lambda: after(watches, "open_gaps", something),
    "09 watches closed, not committed": lambda: after(
        watches, "close_watches", lambda closed: any(watch.outcome != "fixed" for watch in closed)
    ),
    "10 decided": lambda: after(Decide, "tick", lambda ticked: ticked.told > 0),
    # activate
    "11 activation claimed": lambda: after(Decide, "tick", lambda ticked: ticked.activations > 0),
    "12 activation locked": lambda: after(ledger, "lock_subscriber"),
    "13 activation written, not committed": lambda: after(ledger, "write_grant"),
    "14 activation audited, not committed": lambda: after(ledger, "audit"),
    "15 activated": lambda: after(Activate, "_handle"),
    # deliver
    "16 leased": lambda: before(Deliver, "_tell"),
    "17 accepted": lambda: after(Webhook, "send"),
    "18 recorded, not committed": lambda: after(outbox, "record_attempt"),
    "19 told": lambda: after(Deliver, "_tell"),
}
FIRST_RUN: dict[str, Callable[[], None]] = {
    "20 history found": lambda: before(Reconcile, "_baseline"),
    "21 history judged, not committed": lambda: after(Reconcile, "_judge_history", something),
    "22 digest queued, not committed": lambda: before(Session, "rows", lambda call: call[0][1] == "baseline_done"),
    "23 first run done": lambda: after(Reconcile, "_baseline"),
}
"""The same for the first run over a past full of gaps."""
CALLS: dict[str, Callable[[], None]] = {
    "call claimed": lambda: before(Call, "advance"),
    "call planned, not committed": lambda: after(calls, "plan", something),
    "call planned": lambda: before(Call, "speak"),
    "answer came": lambda: before(Call, "_answered"),
    "read back, not committed": lambda: after(calls, "end", something),
    "call done": lambda: after(Calls, "follow"),
}
"""The same for an activation that the application is asked for over HTTP; they stand between 11 and 16."""
WEBHOOKS: dict[str, Callable[[], None]] = {
    "webhook kept": lambda: before(Receive, "_settle_batch"),
    "webhook settled, not committed": lambda: after(settle, "settle"),
    "webhook settled": lambda: after(Receive, "_settle_batch"),
    "forward answered": lambda: before(Forward, "_taken"),
    "forward recorded, not committed": lambda: after(forwards, "record_passed"),
}
"""The same for a webhook, from its receipt to the application's handler."""


if __name__ == "__main__":
    (POINTS | FIRST_RUN | CALLS | WEBHOOKS)[sys.argv.pop(1)]()
    main()
