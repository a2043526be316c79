"""What people see, kept as files: `PAIDWATCH_GOLDEN=write` writes them anew, and the change is read in the diff."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paidwatch.channels import apprise, discord, slack, webhook
from paidwatch.channels.letter import compose
from paidwatch.ports import Message
from tests.channels.stories import CASES, Reach, message, notice_of

GOLDEN = Path(__file__).parent / "golden"


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _mail(told: Message) -> str:
    """Headers, text and HTML as a person with an editor would read them."""
    mail = compose(told, sender="paidwatch@example.org", recipients=("ops@example.org",)).mail
    headers = "".join(f"{name}: {value}\n" for name, value in mail.items())
    return "\n".join([headers, *(part.get_content() for part in mail.iter_parts())])


def _apprise(told: Message) -> str:
    """Title and text as a chat of ordinary size and as a short message show them."""
    chat, brief = (apprise.shorten(told.notice, reach) for reach in (Reach(250, 32_768), Reach(0, 160)))
    return "\n---\n".join(["\n\n".join(chat), "\n\n".join(brief)]) + "\n"


MADE: dict[str, tuple[str, Callable[[Message], str]]] = {
    "slack": ("json", lambda told: _pretty(slack.payload(told.notice))),
    "slack_plain": ("json", lambda told: _pretty(slack.plain_payload(told.notice))),
    "slack_reply": ("json", lambda told: _pretty(slack.reply_payload(told.notice))),
    "discord": ("json", lambda told: _pretty(discord.payload(told.notice))),
    "webhook": ("json", lambda told: _pretty(json.loads(webhook.body_of(told)))),
    "email": ("txt", _mail),
    "apprise": ("txt", _apprise),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channel", MADE)
def test_a_message_looks_as_it_was_last_looked_at(channel: str, case: str) -> None:
    ending, make = MADE[channel]
    earlier = {"message_id": "<first@example.org>"} if CASES[case][0].announced else {}
    made = make(message(notice_of(case), key=f"a.41.{case}", earlier=earlier))
    path = GOLDEN / channel / f"{case}.{ending}"
    if os.environ.get("PAIDWATCH_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made, encoding="utf-8")

    assert made == path.read_text(encoding="utf-8")


def test_there_is_no_file_that_nothing_makes() -> None:
    kept = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.*")}

    assert kept == {f"{channel}/{case}.{ending}" for channel, (ending, _) in MADE.items() for case in CASES}
