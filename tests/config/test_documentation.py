"""docs/configuration.md and the models say the same; the example file is a configuration."""

import re
from pathlib import Path

import pytest

from paidwatch.config import load
from paidwatch.config.keys import ANY_NAME, Key, all_keys
from paidwatch.config.shown import plain, toml

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "systemd" / "paidwatch.toml"


def expected_row(key: Key) -> str:
    """The row of the documentation that says what the model says."""
    choices = ", ".join(f"`{choice}`" for choice in key.choices)
    if key.choices:
        kind = f"{'list' if key.items else 'one'} of {choices}"
    else:
        kind = f"{key.kind} of {key.items}" if key.items else str(key.kind)
    if key.required:
        default = "required"
    elif key.computed:
        default = "computed"
    else:
        default = "not set" if key.default is None else f"`{toml(plain(key.default))}`"
    return f"| `{key.path[-1]}` | {kind} | {default} | {key.meaning} |"


def expected_heading(key: Key) -> str:
    section = f"[{'.'.join(key.path[:-1]).replace(ANY_NAME, 'NAME')}]"
    if key.repeated:
        return f"## `[{section}]`"
    return f'### `{section} type = "{key.variant}"`' if key.variant else f"## `{section}`"


def documented() -> list[tuple[str, str]]:
    heading = ""
    rows: list[tuple[str, str]] = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line
        elif line.startswith("| `"):
            rows.append((heading, line))
    return rows


def test_every_key_is_documented_as_it_is_and_nothing_else_is() -> None:
    modelled = [(expected_heading(key), expected_row(key)) for key in all_keys()]
    assert len(modelled) > 100
    assert all(key.meaning for key in all_keys())
    assert documented() == modelled


def test_every_section_has_a_heading() -> None:
    headings = set(re.findall(r"^#+ `(\[+[\w.]+\]+)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == {expected_heading(key).split("`")[1].split(" ")[0] for key in all_keys()}


@pytest.mark.parametrize("everything", [False, True], ids=["as it is", "with every example"])
def test_the_example_is_a_configuration(tmp_path: Path, *, everything: bool) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    if everything:
        text = re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    settings = load(file, environ={})
    assert settings.activation.mode == "off"
    assert set(settings.channels) == ({"ops", "team", "mail"} if everything else set())


def test_what_the_example_calls_a_default_is_one(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    shown, bare = (
        load(file, environ={}),
        load(None, {"database.dsn": "postgresql://x"}, environ={}, default_file=tmp_path / "x"),
    )
    different = {"runtime_role", "dsn", "by_method", "max_amount", "channels"}
    different |= {"quiet_hours", "heartbeat_url", "routes", "escalations"}
    for name in type(shown).model_fields:
        if name not in different:
            ours, default = getattr(shown, name), getattr(bare, name)
            fields = set(getattr(type(ours), "model_fields", {})) - different
            assert {f: getattr(ours, f) for f in fields} == {f: getattr(default, f) for f in fields}


PROMISED = """
[database]
dsn = "postgresql://paidwatch@db1,db2/shop?target_session_attrs=read-write"
[grace]
default = "2m"
[grace.by_method]
nowpayments = "10m"
[payments]
table = "public.payment_transactions"
paid = ["completed", "confirmed", "finished", "paid"]
[users]
table = "public.users"
[plans]
table = "public.subscription_plans"
[events]
table = "public.subscription_events"
[webhooks]
table = "public.webhook_logs"
[activation]
mode = "off"
strategy = "sql"
require_corroboration = true
max_per_hour = 5
max_per_day = 20
[activation.http]
url = "http://localhost:8001/api/admin/subscriptions/activate-manual"
body = { user_id = "{user_id}", subscription_tier = "{plan_id}", duration_days = "{days}", reason = "{reason}" }
headers = { Authorization = "Bearer x" }
[channels.ops]
type = "slack"
url = "https://hooks.slack.com/services/x"
[channels.mail]
type = "email"
host = "smtp.example.org"
port = 587
tls = "starttls"
sender = "paidwatch@example.org"
recipients = ["ops@example.org"]
[channels.team]
type = "discord"
url = "https://discord.com/api/webhooks/x"
[channels.hook]
type = "webhook"
url = "https://hook.example.org/x"
[channels.more]
type = "apprise"
urls = ["ntfy://x"]
[alerts]
reminders = ["30m", "1h", "2h", "4h"]
storm_threshold = 5
storm_window = "1m"
[http]
listen = "127.0.0.1:8787"
public_url = ""
[providers.nowpayments]
secret = "x"
api_key = "x"
api_url = "https://api.example.org"
forward_to = "http://localhost:8000/webhooks/nowpayments"
[log]
format = "auto"
"""
"""What users, packages and checks rely on; no key of it may get another name or another default."""


def test_the_promised_keys_are_there_with_the_promised_defaults(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text(PROMISED)
    promised = load(file, environ={})
    bare = load(None, {"database.dsn": "postgresql://x"}, environ={}, default_file=tmp_path / "absent.toml")
    for name in ("payments", "users", "plans", "events", "webhooks", "alerts", "http", "log", "verdict"):
        assert getattr(promised, name) == getattr(bare, name)
    keys = {"mode", "strategy", "require_corroboration", "max_per_hour", "max_per_day"}
    assert promised.activation.model_dump(include=keys) == bare.activation.model_dump(include=keys)
    assert promised.grace.default == bare.grace.default
    for mode in ("off", "shadow", "supervised", "auto"):
        for strategy in ("sql", "http"):
            text = PROMISED.replace('"off"', f'"{mode}"').replace('strategy = "sql"', f'strategy = "{strategy}"')
            file.write_text(text)
            chosen = load(file, environ={}).activation
            assert (chosen.mode, chosen.strategy) == (mode, strategy)
