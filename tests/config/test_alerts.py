"""[alerts]: who is told what, what is refused, and what becomes of it inside."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.config.alerts import Gap, Rated, Routable
from paidwatch.core import story
from paidwatch.core.model import GapKind
from paidwatch.core.routing import About, Escalation, Route, Routing, Severity
from paidwatch.core.schedule import QuietHours
from paidwatch.wiring import policy_of, routing_of

CHANNELS = """
[channels.ops]
type = "slack"
url = "https://chat.example.org/ops"
[channels.mail]
type = "webhook"
url = "https://chat.example.org/mail"
[channels.oncall]
type = "discord"
url = "https://chat.example.org/oncall"
"""
SHIFT = len(CHANNELS.splitlines())


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(CHANNELS + text)
    return load(file, {"database.dsn": "postgresql://x"}, environ=environ or {})


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[tuple[int, str, str, str]]:
    """Line after the channels, key, sentence and remedy of everything that is wrong."""
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, text, environ)
    return [((it.origin.line or SHIFT) - SHIFT, it.key, it.what, it.remedy) for it in caught.value.problems]


def test_every_gap_and_the_daily_digest_can_be_routed() -> None:
    assert set(get_args(Gap)) == set(GapKind)
    assert set(get_args(Rated)) == {*GapKind, story.DOUBLE, story.FORWARD, story.BREAKER}
    assert set(get_args(Routable)) == {*get_args(Rated), story.DAILY}


def test_the_defaults(tmp_path: Path) -> None:
    policy = policy_of(read(tmp_path, ""))

    assert policy.routing == Routing(
        usual=("ops", "mail", "oncall"), low=frozenset({"amount_mismatch"}), routes=(), escalations=()
    )
    assert (policy.storm_threshold, policy.storm_window) == (5, timedelta(minutes=1))
    assert (policy.quiet, policy.digest_at, policy.zone) == (None, time(9, 0), ZoneInfo("UTC"))
    assert policy.expire == timedelta(days=30)
    assert (policy.heartbeat_url, policy.heartbeat_every) == ("", timedelta(minutes=1))
    assert policy.channels == ("ops", "mail", "oncall")


FULL = """
[alerts]
channels = ["ops", "mail"]
low = ["amount_mismatch", "reversed_but_active"]
storm_threshold = 3
storm_window = "2m"
quiet_hours = "22:00-07:00"
time_zone = "Europe/Berlin"
digest_at = ""
expire = "10d"
heartbeat_url = "https://beat.example.org/canary"
heartbeat_every = "5m"

[[alerts.routes]]
channels = ["oncall", "ops"]
kinds = ["paid_not_active", "daily"]
severity = "high"
methods = ["NOWPayments"]
min_amount = 99.90
[[alerts.routes]]
channels = ["mail"]
severity = "low"

[[alerts.escalations]]
after = "30m"
channels = ["mail"]
[[alerts.escalations]]
after = "30m"
channels = ["oncall"]
min_amount = "1000"
severity = "high"
"""


def test_what_is_written_becomes_the_policy(tmp_path: Path) -> None:
    policy = policy_of(read(tmp_path, FULL))

    assert policy.routing == Routing(
        usual=("ops", "mail"),
        low=frozenset({"amount_mismatch", "reversed_but_active"}),
        routes=(
            Route(
                channels=("oncall", "ops"),
                kinds=frozenset({"paid_not_active", "daily"}),
                severity=Severity.HIGH,
                methods=frozenset({"nowpayments"}),
                min_amount=Decimal("99.90"),
            ),
            Route(channels=("mail",), severity=Severity.LOW),
        ),
        escalations=(
            Escalation(after=timedelta(minutes=30), channels=("mail",)),
            Escalation(
                after=timedelta(minutes=30),
                channels=("oncall",),
                min_amount=Decimal(1000),
                severity=Severity.HIGH,
            ),
        ),
    )
    assert policy.quiet == QuietHours(start=time(22, 0), end=time(7, 0), zone=ZoneInfo("Europe/Berlin"))
    assert (policy.digest_at, policy.zone) == (None, ZoneInfo("Europe/Berlin"))
    assert (policy.storm_threshold, policy.storm_window) == (3, timedelta(minutes=2))
    assert (policy.expire, policy.heartbeat_every) == (timedelta(days=10), timedelta(minutes=5))
    assert policy.heartbeat_url == "https://beat.example.org/canary"
    assert "canary" not in repr(policy)


def test_what_is_shown_means_the_same(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    shown = settings.shown()
    assert "canary" not in shown

    file = tmp_path / "again.toml"
    file.write_text(shown.replace('"********"', '"https://a.example/"').replace("dsn = ", "dsn = 'postgresql://x' #"))
    again = load(file, environ={})

    assert routing_of(again) == routing_of(settings)
    assert again.alerts.model_copy(update={"heartbeat_url": settings.alerts.heartbeat_url}) == settings.alerts
    assert f'severity = "low"  # {tmp_path}/paidwatch.toml:{SHIFT + 22}' in shown.splitlines()
    assert shown.count("[[alerts.routes]]") == 2


def about(amount: int) -> About:
    return About(kind="paid_not_active", severity=Severity.HIGH, method=None, amount=Decimal(amount))


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("", ("ops", "mail", "oncall")),
        ('[[alerts.escalations]]\nafter = "1h"\nchannels = ["oncall"]', ("ops", "mail")),
        (
            (
                '[[alerts.routes]]\nmin_amount = 5\nchannels = ["oncall"]\n'
                '[[alerts.escalations]]\nafter = "1h"\nchannels = ["oncall", "mail"]'
            ),
            ("ops", "oncall"),
        ),
        ('[[alerts.escalations]]\nafter = "1h"\nchannels = ["oncall", "mail", "ops"]', ("ops", "mail", "oncall")),
        (
            '[alerts]\nchannels = ["oncall"]\n[[alerts.escalations]]\nafter = "1h"\nchannels = ["oncall"]',
            ("oncall",),
        ),
    ],
    ids=["all", "not those of escalations", "but those of routes", "never nobody", "as the owner says"],
)
def test_who_is_told_where_no_route_fits(tmp_path: Path, text: str, usual: tuple[str, ...]) -> None:
    assert routing_of(read(tmp_path, text)).channels(about(1)) == usual


def test_without_channels_nobody_is_told(tmp_path: Path) -> None:
    settings = load(None, {"database.dsn": "postgresql://x"}, environ={}, default_file=tmp_path / "absent.toml")
    assert routing_of(settings).channels(about(1)) == ()


NOT_A_CHANNEL = "is not the name of a channel"
LIST_OF_GAPS = f"must be one of {', '.join(get_args(Rated))}"
LIST_OF_KINDS = f"must be one of {', '.join(get_args(Routable))}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[alerts]\nchannels = ["osp"]', (2, "alerts.channels[0]", NOT_A_CHANNEL, "did you mean ops?")),
        (
            '[alerts]\nchannels = [\n"ops",\n"pager",\n]',
            (4, "alerts.channels[1]", NOT_A_CHANNEL, "known: mail, oncall, ops"),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\n[[alerts.routes]]\nchannels = ["mial"]',
            (4, "alerts.routes[1].channels[0]", NOT_A_CHANNEL, "did you mean mail?"),
        ),
        (
            '[[alerts.escalations]]\nafter = "1h"\nchannels = ["Ops"]',
            (3, "alerts.escalations[0].channels[0]", NOT_A_CHANNEL, "did you mean ops?"),
        ),
        (
            "[[alerts.routes]]\nchannels = []",
            (2, "alerts.routes[0].channels", "must not be empty", "name at least one"),
        ),
        (
            '[[alerts.routes]]\nkinds = ["daily"]',
            (1, "alerts.routes[0].channels", "is missing", "Names of the channels that are told."),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops",\n"mail", "ops"]',
            (3, "alerts.routes[0].channels[2]", "stands in the list twice", "keep one of them"),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nkinds = ["paid_not_activ"]',
            (3, "alerts.routes[0].kinds[0]", LIST_OF_KINDS, ""),
        ),
        ('[alerts]\nlow = ["daily"]', (2, "alerts.low[0]", LIST_OF_GAPS, "")),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nseverity = "medium"',
            (3, "alerts.routes[0].severity", "must be one of high, low", ""),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nmethods = ["Stripe", "stripe"]',
            (3, "alerts.routes[0].methods[1]", "stands in the list twice", "keep one of them"),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nmethods = [""]',
            (
                3,
                "alerts.routes[0].methods[0]",
                "is empty or has blanks around it",
                "write the method as it stands in the payments table",
            ),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nmin_amount = 0',
            (3, "alerts.routes[0].min_amount", "must be more than 0", ""),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nmin_amount = "much"',
            (3, "alerts.routes[0].min_amount", "must be a number", ""),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nmethod = "stripe"',
            (3, "alerts.routes[0].method", "is not a known key", "did you mean methods?"),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nquiet_hours = "22:00-07:00"',
            (3, "alerts.routes[0].quiet_hours", "is not a known key", "did you mean alerts.quiet_hours?"),
        ),
        (
            '[alerts.routes]\nchannels = ["ops"]',
            (1, "alerts.routes", "must be a list", "write [[alerts.routes]], once for each"),
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\nkinds = ["daily",\n"incident"]',
            (4, "alerts.routes[0].kinds[1]", LIST_OF_KINDS, ""),
        ),
        (
            (
                '[[alerts.escalations]]\nafter = "2h"\nchannels = ["ops"]\n'
                '[[alerts.escalations]]\nchannels = ["ops"]\nafter = "1h"'
            ),
            (
                6,
                "alerts.escalations[1].after",
                "is shorter than that of the escalation before it",
                "write the escalations in ascending order of after",
            ),
        ),
        (
            '[[alerts.escalations]]\nafter = "0s"\nchannels = ["ops"]',
            (2, "alerts.escalations[0].after", "is zero", "it must be longer than nothing"),
        ),
        (
            '[[alerts.escalations]]\nchannels = ["ops"]',
            (1, "alerts.escalations[0].after", "is missing", "Age of the alert."),
        ),
        (
            '[alerts]\nquiet_hours = "22 to 7"',
            (
                2,
                "alerts.quiet_hours",
                "does not name two times of day",
                'write them like "22:00-07:00", or "" for none',
            ),
        ),
        ("[alerts]\nquiet_hours = 22:00:00", (2, "alerts.quiet_hours", "must be text", "put it in quotes")),
        ('[alerts]\ntime_zone = "Berlin"', (2, "alerts.time_zone", "is not a time zone", "")),
        (
            '[alerts]\ndigest_at = "9"',
            (
                2,
                "alerts.digest_at",
                "is not a time of day",
                'write it with two digits each, from "00:00" to "23:59", or "" for none',
            ),
        ),
        ('[alerts]\nexpire = "0s"', (2, "alerts.expire", "is zero", "it must be longer than nothing")),
        ("[alerts]\nstorm_threshold = 1", (2, "alerts.storm_threshold", "must be at least 2", "")),
        (
            '[alerts]\nheartbeat_url = "http://beat.example.org/x"',
            (
                2,
                "alerts.heartbeat_url",
                "would send in clear text over the internet",
                "write https instead of http",
            ),
        ),
        (
            '[alerts]\nheartbeat_every = "1ms"',
            (
                2,
                "alerts.heartbeat_every",
                "is shorter than a second",
                'write "1m", or what the service that counts the calls expects',
            ),
        ),
        (
            '[grace.by_method]\nStripe = "1m"\nother = "1m"\nstripe = "1m"',
            (
                4,
                "grace.by_method.stripe",
                'and "Stripe" differ only in capital letters, so they are one method',
                "keep one of them",
            ),
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, expected: tuple[int, str, str, str]) -> None:
    (found,) = problems(tmp_path, text)
    if not expected[3]:
        expected = (*expected[:3], found[3])
    assert found == expected


def test_an_unknown_channel_is_told_together_with_all_else(tmp_path: Path) -> None:
    text = '[alerts]\nchannels = ["pagr"]\nexpire = "soon"\n[channels.pager]\ntype = "slack"\n'
    assert [found[:3] for found in problems(tmp_path, text)] == [
        (2, "alerts.channels[0]", NOT_A_CHANNEL),
        (3, "alerts.expire", "is not a duration"),
        (4, "channels.pager", "has neither url nor token"),
    ]


def test_a_channel_with_a_mistake_is_still_known(tmp_path: Path) -> None:
    text = '[alerts]\nchannels = ["pager"]\n[channels.pager]\ntype = "slack"\n'
    assert [found[1] for found in problems(tmp_path, text)] == ["channels.pager"]


def test_where_there_is_no_channel_at_all_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text('[alerts]\nchannels = ["ops"]\n')
    with pytest.raises(ConfigProblems) as caught:
        load(file, {"database.dsn": "postgresql://x"}, environ={})
    assert caught.value.message == f"{file}:2: alerts.channels[0] is not the name of a channel"
    assert caught.value.remedy == "there is no [channels.NAME]"


def test_routes_from_a_variable(tmp_path: Path) -> None:
    environ = {
        "PAIDWATCH_ALERTS__CHANNELS": "ops, mail",
        "PAIDWATCH_ALERTS__ROUTES": '[{"channels": ["oncall"], "min_amount": 10.10}]',
        "PAIDWATCH_ALERTS__QUIET_HOURS": "22:00-07:00",
    }
    settings = read(tmp_path, "", environ)
    routing = routing_of(settings)

    assert routing.usual == ("ops", "mail")
    assert routing.routes == (Route(channels=("oncall",), min_amount=Decimal("10.10")),)
    quiet = policy_of(settings).quiet
    assert quiet is not None
    assert quiet.ends(datetime(2026, 1, 1, 23, tzinfo=UTC)) == datetime(2026, 1, 2, 7, tzinfo=UTC)
    assert 'min_amount = "10.10"  # environment PAIDWATCH_ALERTS__ROUTES' in settings.shown().splitlines()


def test_mistakes_in_routes_from_a_variable_name_the_variable(tmp_path: Path) -> None:
    environ = {"PAIDWATCH_ALERTS__ROUTES": '[{"channels": ["osp"], "kind": "x"}]'}
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, "", environ)
    place = "environment PAIDWATCH_ALERTS__ROUTES: alerts.routes[0]"
    assert {(str(it), it.remedy) for it in caught.value.problems} == {
        (f"{place}.channels[0] is not the name of a channel", "did you mean ops?"),
        (f"{place}.kind is not a known key", "did you mean kinds?"),
    }


def test_a_variable_for_one_key_of_a_list_is_refused(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "", {"PAIDWATCH_ALERTS__ROUTES__CHANNELS": "ops"})
    assert found[1:3] == ("alerts.routes", "must be a list")


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (
            '[alerts]\nchannels = ["ops"]\n[[alerts.routes]]\nmethods = ["x"]\nchannels = ["mail"]',
            "channels.oncall will be told nothing",
        ),
        (
            '[[alerts.routes]]\nchannels = ["ops"]\n[[alerts.routes]]\nseverity = "low"\nchannels = ["mail"]',
            "alerts.routes[0] has no condition",
        ),
        (
            '[alerts]\nexpire = "1d"\n[[alerts.escalations]]\nafter = "1d"\nchannels = ["mail"]',
            "alerts.escalations[0] is never taken",
        ),
        (
            '[channels.again]\ntype="webhook"\nurl="https://a.org/"\n[channels.hook]\ntype="webhook"\nurl="https://a.org/"',
            "channels.hook has the same url as channels.again",
        ),
        ('[deliveries]\nlease = "20s"', "deliveries.lease is so short"),
        ('[http]\nlisten = "0.0.0.0:8787"\ntoken = "guess"', "http.token is shorter than 16 characters"),
        (
            '[channels.team]\ntype = "discord"\nurl = "https://hooks.slack.com/services/x"',
            "channels.team is of type discord, and its url is one of slack",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_about(tmp_path: Path, text: str, doubt: str) -> None:
    settings = read(tmp_path, text)
    assert len([warning for warning in settings.warnings if doubt in warning]) == 1


def test_what_is_well_meant_is_not(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.touch(mode=0o600)
    text = '[[alerts.routes]]\nseverity = "low"\nchannels = ["mail"]\n[[alerts.routes]]\nchannels = ["ops"]\n'
    assert read(tmp_path, text).warnings == ()


def test_a_missing_package_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubts() -> list[str]:
        settings = read(tmp_path, '[channels.more]\ntype = "apprise"\nurls = ["ntfy://x"]\n')
        return [warning for warning in settings.warnings if "Apprise" in warning]

    monkeypatch.setattr("paidwatch.config.advice.find_spec", lambda name: None)
    assert doubts() == [
        "channels.more needs the package Apprise, which is not installed: pip install 'paidwatch[apprise]'"
    ]
    monkeypatch.setattr("paidwatch.config.advice.find_spec", lambda name: name)
    assert doubts() == []
