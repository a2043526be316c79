"""Everything that is wrong is said at once, where it stands, with a remedy, and without a secret."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from paidwatch.config import ConfigProblems, Problem, Settings, load
from paidwatch.config.keys import all_keys
from paidwatch.config.layers import PREFIX
from paidwatch.errors import ConfigError

DSN = "postgresql://paidwatch@localhost/shop"
CANARY = "c4n4ry-5ecret"


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    with pytest.raises(ConfigProblems) as caught:
        load(file, {"database.dsn": DSN}, environ=environ or {})
    return list(caught.value.problems)


def told(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[tuple[int | None, str, str]]:
    return [(it.origin.line, it.key, it.what) for it in problems(tmp_path, text, environ)]


def test_all_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """
[grace]
default = 90
by_method.stripe = "soon"
[payments]
paid = ["completed",
  "sending"]
auto = ["completed", "granted"]
piad = 3
[activation]
mode = "supervised"
strategy = "http"
max_per_hour = -1
require_corroboration = "perhaps"
[channels.ops]
type = "slack"
url = "http://chat.example.org/x"
[channels.Ops]
type = "webhook"
url = "https://chat.example.org/x"
[channels.other]
type = "apprise"
[channels.nothing]
[channels.mail]
type = "email"
host = "smtp.example.org"
tls = "none"
recipients = []
[log]
level = "loud"
[daemon]
workers = "many"
linger = true
[alerts]
reminders = "30m"
"""
    assert told(tmp_path, text) == [
        (3, "grace.default", "is a number without a unit"),
        (4, "grace.by_method.stripe", "is not a duration"),
        (6, "payments.pending", 'and paid both name "sending"'),
        (8, "payments.auto", 'names "granted", which payments.paid does not'),
        (9, "payments.piad", "is not a known key"),
        (12, "activation.http", "has no url, and activation.strategy is http"),
        (13, "activation.max_per_hour", "must be at least 0"),
        (14, "activation.require_corroboration", "must be true or false"),
        (17, "channels.ops.url", "would send in clear text over the internet"),
        (18, "channels.Ops", "is not a usable name"),
        (21, "channels.other.urls", "is missing"),
        (23, "channels.nothing.type", "is missing; it is one of slack, discord, email, webhook, apprise"),
        (24, "channels.mail.sender", "is missing"),
        (27, "channels.mail.tls", '"none" would send in clear text over the network'),
        (28, "channels.mail.recipients", "must not be empty"),
        (30, "log.level", "must be one of debug, info, warning, error"),
        (32, "daemon.workers", "must be a whole number"),
        (33, "daemon.linger", "is not a duration"),
        (35, "alerts.reminders", "must be a list"),
    ]


def test_one_problem_is_told_in_one_line_with_its_remedy(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text("[grace]\ndefault = 5\n")
    with pytest.raises(ConfigProblems) as caught:
        load(file, {"database.dsn": DSN}, environ={})
    assert caught.value.message == f"{file}:2: grace.default is a number without a unit"
    assert caught.value.remedy.startswith("write it like")


def test_several_problems_are_told_as_a_list(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text("[grace]\ndefault = 5\n[lgo]\n")
    with pytest.raises(ConfigProblems) as caught:
        load(file, environ={})
    assert caught.value.message.splitlines() == [
        "the configuration has 3 problems",
        "  database.dsn is missing: there is no address of a database",
        f"    → write [database] dsn in {file}, set PAIDWATCH_DATABASE__DSN or PGHOST, or give --dsn",
        f"  {file}:2: grace.default is a number without a unit",
        '    → write it like "90s", "5m", "1h30m", "180d" or "50ms"',
        f"  {file}:3: lgo is not a known key",
        "    → did you mean log?",
    ]
    assert "paidwatch config check" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[log]\nformt = 'json'", "did you mean log.format?"),
        ("[paymets]\ntable = 'x'", "did you mean payments?"),
        ("[database]\nlinger = '1s'", "did you mean daemon.linger?"),
        ("[retention]\nxyz = 1", "known here: attempts, closed, webhooks"),
        (
            "[channels.ops]\ntype = 'discord'\nurl = 'https://a.example/b'\nthred_id = '1'",
            "did you mean channels.ops.thread_id?",
        ),
        (
            "[channels.ops]\ntype = 'slack'\nurl = 'https://a.example/b'\nthread_id = '1'",
            "it is for discord; this channel's type is slack",
        ),
        (
            "[channels.ops]\ntype = 'webhook'\nurl = 'https://a.example/b'\nto = '1'",
            "known here: pace, secret, secrets, type, url",
        ),
        ("[providers.stripe]\nwebhook_secret = 'x'", "did you mean providers.stripe.secret?"),
        ("[channels.ops]\ntype = 'slack'\ntoken = 'xoxb-1-2'\nchannel = 'C1'\ndsn = 'x'", "did you mean database.dsn?"),
        ("[log]\nalerts = 'x'", "is the section meant? Write [alerts] on a line of its own"),
        ("[activation.http]\nheadres = {}", "did you mean activation.http.headers?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(tmp_path: Path, text: str, remedy: str) -> None:
    assert [it.remedy for it in problems(tmp_path, text)] == [remedy]


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            ["PAIDWATCH_DATABSE__DSN", "PAIDWATCH_DATABSE__TIME_ZONE"],
            [
                (
                    "environment PAIDWATCH_DATABSE__DSN: is not a known variable",
                    "did you mean PAIDWATCH_DATABASE__DSN?",
                ),
                (
                    "environment PAIDWATCH_DATABSE__TIME_ZONE: is not a known variable",
                    "did you mean PAIDWATCH_DATABASE__TIME_ZONE?",
                ),
            ],
        ),
        (
            ["PAIDWATCH_GRACE__DEFALT"],
            [
                (
                    "environment PAIDWATCH_GRACE__DEFALT: is not a known variable",
                    "did you mean PAIDWATCH_GRACE__DEFAULT?",
                )
            ],
        ),
        (
            ["PAIDWATCH_DSN"],
            [("environment PAIDWATCH_DSN: is not a known variable", "did you mean PAIDWATCH_DATABASE__DSN?")],
        ),
        (
            ["PAIDWATCH_FOO"],
            [
                (
                    "environment PAIDWATCH_FOO: is not a known variable",
                    f"write PAIDWATCH_SECTION__KEY; sections: {', '.join(sorted(Settings.model_fields))}",
                )
            ],
        ),
        (["PAIDWATCH_"], None),
        (
            ["PAIDWATCH_GRACE"],
            [
                (
                    "environment PAIDWATCH_GRACE: grace must be a table",
                    "name the key as well, like PAIDWATCH_GRACE__DEFAULT",
                )
            ],
        ),
        (
            ["PAIDWATCH_CHANNELS"],
            [
                (
                    "environment PAIDWATCH_CHANNELS: channels must be a table",
                    "name the key as well, like PAIDWATCH_CHANNELS__NAME",
                )
            ],
        ),
        (
            ["PAIDWATCH_DATABASE_DSN", "PAIDWATCH_ACTIVATION_MAX_PER_HOUR", "PAIDWATCH_ACTIVATION__HTTP_URL"],
            [
                (
                    f"environment PAIDWATCH_{short}: is not a known variable",
                    f"did you mean PAIDWATCH_{meant}? Two underscores stand for each step down",
                )
                for short, meant in (
                    ("ACTIVATION_MAX_PER_HOUR", "ACTIVATION__MAX_PER_HOUR"),
                    ("ACTIVATION__HTTP_URL", "ACTIVATION__HTTP__URL"),
                    ("DATABASE_DSN", "DATABASE__DSN"),
                )
            ],
        ),
        (["PAIDWATCH_TESTS"], None),
    ],
)
def test_an_unknown_variable_is_an_error(
    tmp_path: Path, variables: list[str], told: list[tuple[str, str]] | None
) -> None:
    found = [(str(it), it.remedy) for it in problems(tmp_path, "", dict.fromkeys(variables, "postgresql://x"))]
    if told is None:
        assert all("is not a known variable" in sentence for sentence, _remedy in found)
        assert found
    else:
        assert found == told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[retention]\nclosed = "1d"\n', 2),
        ('[log]\n[reconcile]\nlook_back = "200d"\n', 3),
        ('[retention]\nclosed = "9d"\n[reconcile]\nlook_back = "10d"\n', 2),
    ],
)
def test_what_is_looked_for_is_not_forgotten_before(tmp_path: Path, text: str, line: int) -> None:
    (found,) = problems(tmp_path, text)
    assert (found.origin.line, found.key) == (line, "retention.closed")
    assert "is shorter than reconcile.look_back" in found.what
    assert found.remedy


def test_a_mistake_in_a_stronger_source_is_told_there(tmp_path: Path) -> None:
    found = problems(tmp_path, '[grace]\ndefault = "1m"\n', {"PAIDWATCH_GRACE__DEFAULT": "soon"})
    assert [str(it) for it in found] == ["environment PAIDWATCH_GRACE__DEFAULT: grace.default is not a duration"]


def test_a_mistake_in_a_list_is_told_where_the_list_was_written_last(tmp_path: Path) -> None:
    found = problems(tmp_path, '[alerts]\nreminders = ["1h", "2h"]\n', {"PAIDWATCH_ALERTS__REMINDERS": "soon,2h"})
    assert [str(it) for it in found] == [
        "environment PAIDWATCH_ALERTS__REMINDERS: alerts.reminders[0] is not a duration"
    ]


def test_a_good_value_in_a_stronger_source_mends_the_file(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text(f'[database]\ndsn = "{DSN}"\n[grace]\ndefault = 5\n')
    assert load(file, environ={"PAIDWATCH_GRACE__DEFAULT": "5m"}).shown().count("environment") == 1


NEEDED = {
    "slack": {"type": "slack", "url": "https://chat.example.org/x"},
    "discord": {"type": "discord", "url": "https://chat.example.org/x"},
    "email": {"type": "email", "host": "smtp.example.org", "sender": "a@example.org", "recipients": "a@example.org"},
    "webhook": {"type": "webhook", "url": "https://chat.example.org/x"},
    "apprise": {"type": "apprise", "urls": "ntfy://chat.example.org/x"},
}
EVERY_KEY = sorted({(".".join(key.path).replace("*", "ops"), key.variant) for key in all_keys()})
REPEATED = {".".join(key.path) for key in all_keys() if key.repeated}
WORDS = ("paid", "auto", "pending", "failed", "reversed", "activated", "deliberate")


@pytest.mark.parametrize(("dotted", "variant"), EVERY_KEY)
def test_no_error_repeats_a_value(tmp_path: Path, dotted: str, variant: str) -> None:
    """A secret pasted at the wrong place, in any form, is not shown; only status words are."""
    section, _dot, name = dotted.rpartition(".")
    table = f"[[{section}]]\n" if dotted in REPEATED else ""
    head = table + "".join(
        f"{section}.{key} = {[value] if key in {'recipients', 'urls'} else repr(value)}\n"
        for key, value in NEEDED.get(variant, {}).items()
        if key != name
    )
    forms = (
        f'"{CANARY}"',
        f'"postgres://a:{CANARY}@[h/x"',
        f'"https://{CANARY}:x@[::1/x y"',
        f'["{CANARY}"]',
        f'{{ a = "{CANARY}" }}',
        f'[{{ a = "{CANARY}" }}]',
        f'"  {CANARY} "',
    )
    file = tmp_path / "paidwatch.toml"
    errors: list[ConfigError] = []
    for form in forms:
        file.write_text(f"{head}{name if table else dotted} = {form}\n")
        try:
            load(file, environ={"PGHOST": "localhost"})
        except ConfigError as caught:
            errors.append(caught)
    assert errors, "no form was wrong, so nothing was tested"
    for error in errors:
        assert error.__suppress_context__ or error.__context__ is None
        said = f"{error} {error.message} {error.remedy} {error!r} {error.__cause__}"
        assert CANARY not in said or name in WORDS


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,20}", fullmatch=True), st.text(max_size=8), min_size=1, max_size=3))
def test_any_unknown_variables_are_all_told(tmp_path: Path, variables: dict[str, str]) -> None:
    environ = {f"{PREFIX}X{name}": value for name, value in variables.items()}
    with pytest.raises(ConfigProblems) as caught:
        load(None, {"database.dsn": DSN}, environ=environ, default_file=tmp_path / "absent.toml")
    assert {it.origin.name for it in caught.value.problems} == set(environ)
