"""D4: what is planted as a secret is in nothing that anybody can read afterwards."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.test_life import QUICK, paid
from tests.support import shop
from tests.support.daemon import Sections, paidwatch
from tests.support.postgres import Database
from tests.support.sink import Sink
from tests.support.watched import Start

ANY = pytest.mark.parametrize("shape", ["F"])
CANARIES = {
    name: f"canary{number}Zq{name}7x"
    for number, name in enumerate(
        ("dsn", "slack", "bot", "discord", "hook", "path", "mail", "beat", "token", "provider", "header")
    )
}
PERSON = "canary.person@example.org"
COMMANDS = (
    ("config", "check"),
    ("config", "show"),
    ("config", "show", "--json"),
    ("doctor",),
    ("doctor", "--json"),
    ("check",),
    ("check", "--json"),
    ("watch", "--once"),
    ("watch", "--once", "--json"),
    ("alerts", "list", "--json"),
    ("alerts", "show", "1", "--json"),
    ("deliveries", "list", "--json"),
    ("deliveries", "show", "1", "--json"),
    ("stats", "--json"),
    ("test-alert", "--dry-run"),
    ("test-alert", "--channel", "gone"),
)


@asynccontextmanager
async def login(watched: Database) -> AsyncIterator[str]:
    """Yield an address with a password in it, of a role that may do what the daemon needs."""
    await watched.execute(f"CREATE ROLE canary LOGIN PASSWORD '{CANARIES['dsn']}'")
    try:
        await watched.execute("SELECT paidwatch.grant_runtime('canary')")
        yield watched.dsn_of("canary", CANARIES["dsn"])
    finally:
        await watched.execute("DROP OWNED BY canary; DROP ROLE canary")


def planted(told: Sink) -> Sections:
    """Return channels of every kind, some of which fail in each way there is, with a secret wherever one may stand."""
    nobody = "http://127.0.0.1:1"
    keys = {"secret": "whsec_" + "Y2FuYXJ5" * 4}
    return {
        "channels.slack": {"type": "slack", "url": told.url(f"slack/{CANARIES['slack']}"), "pace": "1ms"},
        "channels.bot": {"type": "slack", "token": f"xoxb-{CANARIES['bot']}", "channel": "C1", "api_url": nobody},
        "channels.gone": {"type": "discord", "url": f"{nobody}/api/webhooks/1/{CANARIES['discord']}"},
        "channels.refusing": {"type": "webhook", "url": told.url(f"no?key={CANARIES['path']}"), **keys},
        "channels.mail": {
            "type": "email",
            "host": "127.0.0.1",
            "port": 1,
            "tls": "none",
            "username": "me",
            "password": CANARIES["mail"],
            "sender": "paidwatch@example.org",
            "recipients": ["ops@example.org"],
        },
        "alerts": {"heartbeat_url": f"{nobody}/{CANARIES['beat']}", "heartbeat_every": "1s"},
        "http": {"listen": "", "token": CANARIES["token"]},
        "providers.nowpayments": {"secret": CANARIES["provider"]},
        "activation.http": {
            "url": f"{nobody}/",
            "headers": {"Authorization": f"Bearer {CANARIES['header']}"},
            "body": {"reason": "{reason}"},
        },
    }


async def rows(watched: Database) -> str:
    """Return everything that paidwatch keeps, as text."""
    tables = await watched.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'paidwatch'")
    found = [
        await watched.fetchval(f'SELECT json_agg(t)::text FROM paidwatch."{table["tablename"]}" t') for table in tables
    ]
    return "\n".join(str(it) for it in found)


@ANY
async def test_d4_planted_secrets_are_in_no_log_message_row_error_json_or_traceback(
    watched: Database, told: Sink, start: Start, tmp_path: Path
) -> None:
    said: list[str] = []
    told.refuse_with["no"] = 500
    user = await shop.add_user(watched, email=PERSON)
    async with login(watched) as dsn:
        async with start(QUICK, planted(told), dsn=dsn) as daemon:
            await daemon.ready()
            await paid(watched, user)
            for channel in ("bot", "gone", "refusing", "mail"):
                await daemon.log("delivery.failed", channel=channel)
            await daemon.log("delivery.sent", channel="ops")
            await daemon.log("heartbeat.failed")
            results = [await paidwatch(*command, config=daemon.config, expect=None) for command in COMMANDS]
            said += [done.stdout + done.stderr for done in results]
            await daemon.kill9()
            said += [json.dumps(daemon.lines), *daemon.noise]
        wrong = tmp_path / "wrong.toml"
        wrong.touch(mode=0o600)
        text = daemon.config.read_text(encoding="utf-8").replace(CANARIES["dsn"], CANARIES["dsn"] + "wrong")
        wrong.write_text(text, encoding="utf-8")
        for command in (("check",), ("run",), ("install",)):
            done = await paidwatch(*command, config=wrong, expect=None)
            assert done.returncode == 2
            said.append(done.stdout + done.stderr)
        said.append(await rows(watched))
    messages = [json.dumps(message.body) for message in told.told]
    assert messages
    assert len(said) > len(COMMANDS)
    for name, canary in CANARIES.items():
        for text in (*said, *messages):
            assert canary not in text, f"the secret of {name}: …{text[max(0, text.find(canary) - 200) :][:400]}"
    for text in messages:
        assert PERSON not in text, "in chat, users are masked"
