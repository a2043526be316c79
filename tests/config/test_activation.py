"""[activation]: what is refused, where it stands, and that no secret is repeated."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from paidwatch.channels.layout import link_of
from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.config.sections import Http
from paidwatch.core.model import Notice, Word
from tests.config.test_problems import CANARY, DSN, problems, told

HTTP = """
[activation.http]
url = "https://shop.example.org/activate/{user_id}"
body = { user_id = "{user_id}", subscription_tier = "{plan_id}", duration_days = "{days}", reason = "{reason}" }
"""


def test_both_contracts_of_the_endpoint_are_taken(tmp_path: Path) -> None:
    for body in (
        '{ user_id = "{user_id}", subscription_tier = "{plan_id}", duration_days = "{days}", reason = "{reason}" }',
        '{ user_id = "{user_id}", plan_id = "{plan_id}", extra = { why = ["{reason}", 1, 1.5, true] } }',
    ):
        file = tmp_path / "paidwatch.toml"
        file.write_text(
            f'[activation]\nstrategy = "http"\n[activation.http]\nurl = "http://localhost:1/a"\nbody = {body}\n'
        )
        activation = load(file, {"database.dsn": DSN}, environ={}).activation
        assert activation.strategy == "http"
        assert "{reason}" in str(activation.http.body)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            HTTP.replace("{days}", "{day}"),
            (4, "activation.http.body.duration_days", "contains {day}, which stands for nothing"),
        ),
        (
            HTTP.replace("/{user_id}", "/{user}"),
            (3, "activation.http.url", "contains {user}, which stands for nothing"),
        ),
        (HTTP.replace("{reason}", "by paidwatch"), (4, "activation.http.body", "has no {reason}")),
        (
            HTTP.replace("shop.example.org", "{user_id}.example.org"),
            (3, "activation.http.url", "has a placeholder in the name of its host"),
        ),
        (HTTP.replace("https://", "ftp://"), (3, "activation.http.url", "is not an http or https address")),
        (
            HTTP + "[activation.http.headers]\nX = '1'\n" + f'Authorization = "{CANARY}{{token}}"\n',
            (7, "activation.http.headers.Authorization", "contains a placeholder that there is not"),
        ),
        (
            HTTP + f'[activation.http.headers]\nAuthorization = "{CANARY}\\n"\n',
            (6, "activation.http.headers.Authorization", "contains a character that no header may contain"),
        ),
        (
            HTTP.replace('"{days}"', "2026-01-01"),
            (4, "activation.http.body.duration_days", "cannot be sent as JSON"),
        ),
        (
            '[activation]\nstrategy = "http"\n',
            (2, "activation.http", "has no url, and activation.strategy is http"),
        ),
        (
            f'[activation]\nlink_key = "{CANARY}"\n',
            (2, "activation.link_key", "is shorter than 32 characters"),
        ),
        (
            '[http]\npublic_url = "https://watch.example.org"\n[activation]\nmode = "supervised"\n',
            (
                4,
                "activation.link_key",
                "is missing: activation.mode is supervised and http.public_url is set, so alerts carry links",
            ),
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, problem: tuple[int, str, str]) -> None:
    assert problem in told(tmp_path, text)
    with pytest.raises(ConfigProblems) as caught:
        load(tmp_path / "paidwatch.toml", {"database.dsn": DSN}, environ={})
    assert CANARY not in caught.value.message


def test_supervised_needs_no_link(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text('[activation]\nmode = "supervised"\n')
    assert load(file, {"database.dsn": DSN}, environ={}).activation.mode == "supervised"


@pytest.mark.parametrize("mode", ["shadow", "supervised", "auto"])
def test_events_without_a_time_and_a_mode_that_relies_on_them_exclude_each_other(tmp_path: Path, mode: str) -> None:
    (found,) = problems(tmp_path, f'[activation]\nmode = "{mode}"\n[events]\ncreated_at = ""\n')
    assert str(found).startswith(
        f"{tmp_path}/paidwatch.toml:4: events.created_at is empty, and activation.mode is {mode}"
    )
    assert "name the column" in found.remedy
    (found,) = problems(tmp_path, '[events]\ncreated_at = ""\n', {"PAIDWATCH_ACTIVATION__MODE": mode})
    assert found.origin.line == 2


@pytest.mark.parametrize(
    "text",
    [
        '[events]\ncreated_at = ""\n',
        '[activation]\nmode = "off"\n[events]\ncreated_at = ""\n',
        '[activation]\nmode = "auto"\n[events]\ntable = ""\ncreated_at = ""\n',
        '[activation]\nmode = "auto"\n',
    ],
)
def test_events_may_lack_a_time_where_nobody_relies_on_them(tmp_path: Path, text: str) -> None:
    read(tmp_path, text)


@pytest.mark.parametrize(
    ("url", "what", "remedy"),
    [
        (
            "https://u:c4n4ry@a.example",
            "contains a user name or a password, which every reader of a message would see",
            "",
        ),
        ("https://u@a.example", "contains a user name or a password, which every reader of a message would see", ""),
        ("https://a.example/?x=1", "has something behind its path", "/act/"),
        ("https://a.example/#top", "has something behind its path", "/act/"),
        ("https://a.example/?", "has something behind its path", "/act/"),
        (
            "https://bücher.example",
            "has a host with letters that no link in a message may have",
            "xn--bcher-kva.example",
        ),
        ("https://a_b.example", "has a host with letters that no link in a message may have", "ASCII"),
        ("https://a.example/ü", "has a sign in its path that no link in a message may have", "percent-encode"),
        ("https://a.example/a,b", "has a sign in its path that no link in a message may have", "percent-encode"),
        ("HTTPS://a.example", "does not begin with https:// in small letters", ""),
        ("http://a.example", "would send in clear text over the internet", "write https instead of http"),
    ],
)
def test_an_address_that_no_message_could_carry_as_a_link_is_refused(
    tmp_path: Path, url: str, what: str, remedy: str
) -> None:
    (found,) = problems(tmp_path, f'[http]\npublic_url = "{url}"\n')
    assert (found.origin.line, found.key, found.what) == (2, "http.public_url", what)
    assert remedy in found.remedy
    assert CANARY[:6] not in f"{found} {found.remedy}"


@given(
    st.sampled_from(["https://", "http://", "HTTPS://"]),
    st.sampled_from(
        ["localhost", "pay.internal", "10.0.0.7:80", "[fd00::1]:8787", "ü.internal", "u@pay.internal", "a_b"]
    ),
    st.text(st.sampled_from("aZ09/._~%-?#,()*'&;=|ü+@:!$"), max_size=6),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_what_is_taken_makes_links_that_every_channel_shows(scheme: str, host: str, path: str) -> None:
    url = f"{scheme}{host}/{path}"
    try:
        taken = Http(public_url=url).public_url
    except ValidationError:
        return
    link = f"{taken.rstrip('/')}/act/abc-_DEF.ghi"
    assert link_of(replace(MESSAGE, link=link)) == link


MESSAGE = Notice(
    word=Word.NEW,
    kind="paid_not_active",
    alert_id="1",
    subject="",
    summary="",
    lines=(),
    command="",
    open=True,
    at=datetime(2026, 1, 1, tzinfo=UTC),
)
KEY = f'link_key = "{"k" * 32}"\n'
SUPERVISED = f'[activation]\nmode = "supervised"\n{KEY}'


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (SUPERVISED, "http.public_url is not: alerts have no link"),
        (f'{SUPERVISED}[http]\nlisten = ""\npublic_url = "https://a.example"\n', "nobody answers the links"),
        (f'{SUPERVISED}[http]\npublic_url = "http://pay.internal"\n', "in clear text through your network"),
        ('[activation]\nmode = "auto"\nmax_age = "2m"\n', "because activation.max_age is not longer"),
        ('[activation]\nmode = "auto"\n[payments]\nauto = []\n', "because payments.auto is empty"),
        ('[activation]\nmode = "auto"\n[payments]\nplan = ""\n', "because payments.plan is empty"),
        ('[activation]\nmode = "auto"\n[payments]\namounts = { USD = "" }\n', "because payments.amounts is empty"),
        ('[activation]\nmode = "shadow"\n[plans]\ntable = ""\n', "because plans.table or plans.prices is empty"),
        ('[activation]\nmode = "auto"\n[webhooks]\nvalid = ""\n', "neither [webhooks] nor [providers] tells"),
        ('[activation]\nmode = "auto"\nmax_per_day = 0\n', "because activation.max_per_day is 0"),
        ('[activation]\nmode = "auto"\n[events]\ndeliberate = []\n', "what an administrator took away"),
    ],
)
def test_what_keeps_a_mode_from_doing_anything_is_said(tmp_path: Path, text: str, doubt: str) -> None:
    found = [warning for warning in read(tmp_path, text).warnings if doubt in warning]
    assert len(found) == 1
    silent = text.replace("supervised", "off").replace("shadow", "off").replace('auto"', 'off"')
    assert not [warning for warning in read(tmp_path, silent).warnings if doubt in warning], "nobody asked for it"


@pytest.mark.parametrize(
    "text",
    [
        '[activation]\nmode = "auto"\n',
        '[activation]\nmode = "supervised"\n',
        f'{SUPERVISED}[http]\npublic_url = "https://a.example/watch"\n',
        f'{SUPERVISED}[http]\npublic_url = "http://127.0.0.1:8787"\n',
        '[activation]\nmode = "auto"\n[webhooks]\ntable = ""\n[providers.stripe]\napi_key = "x"\n',
        '[activation]\nmode = "auto"\nrequire_corroboration = false\n[webhooks]\ntable = ""\n',
        '[activation]\nmode = "supervised"\nmax_per_hour = 0\n',
    ],
)
def test_what_is_well_meant_is_not_doubted(tmp_path: Path, text: str) -> None:
    assert [it for it in read(tmp_path, text).warnings if "activation" in it or "http." in it] == []


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    return load(file, {"database.dsn": DSN}, environ={})
