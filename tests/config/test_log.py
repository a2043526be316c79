"""The log's three forms, and that no secret is in any of them."""

import io
import json
import logging
import os
import pty
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from paidwatch.log import HIDDEN, Format, Log, Redactor, chosen, configure

DECISIONS = Log("tests")
FORMS: tuple[Format, ...] = ("journal", "json", "console")


@pytest.fixture(autouse=True)
def leave_logging_as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("paidwatch")
    before = (list(root.handlers), root.level, own.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])
    logging.captureWarnings(capture=False)


def writing(form: Format, *secrets: str, level: str = "debug", environ: dict[str, str] | None = None) -> io.StringIO:
    stream = io.StringIO()
    configure(wanted=form, level=level, secrets=secrets, environ=environ or {}, stream=stream)
    return stream


def fail(error: Exception) -> None:
    raise error


def one_json(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_journal_lines_carry_priority_phrase_event_and_fields() -> None:
    stream = writing("journal")
    DECISIONS.warning("gap.opened", "a gap was opened", payment=12, kind="paid_not_active", late=timedelta(seconds=90))
    DECISIONS.debug("watch.closed", "a watch was closed")
    DECISIONS.info("listen.ready", "listening")
    DECISIONS.error("delivery.failed", "a message was not taken")
    assert stream.getvalue().splitlines() == [
        "<4>a gap was opened event=gap.opened payment=12 kind=paid_not_active late=1m30s",
        "<7>a watch was closed event=watch.closed",
        "<6>listening event=listen.ready",
        "<3>a message was not taken event=delivery.failed",
    ]


def test_json_lines_keep_numbers_and_truth_and_leave_nothing_out() -> None:
    stream = writing("json")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    DECISIONS.info(
        "x.done", "done", n=3, ok=True, amount=Decimal("14.90"), at=at, absent=None, level="high", ids=(1, "b")
    )
    record = one_json(stream)
    assert datetime.fromisoformat(record.pop("time")).tzinfo is not None
    assert record == {
        "level": "info",
        "logger": "paidwatch.tests",
        "message": "done",
        "event": "x.done",
        "n": 3,
        "ok": True,
        "amount": "14.90",
        "at": "2026-01-02T03:04:05.000+00:00",
        "level_": "high",
        "ids": "1,b",
    }


def test_fields_may_have_any_name() -> None:
    stream = writing("json")
    DECISIONS.info("x", "phrase", name="n", args="a", message="m", module="o", msg="g", created="e")
    record = one_json(stream)
    assert [record[key] for key in ("name", "args", "message_", "module", "msg", "created")] == [
        "n",
        "a",
        "m",
        "o",
        "g",
        "e",
    ]


def test_records_of_the_standard_library_are_fields_too() -> None:
    stream = writing("journal")
    logging.getLogger("paidwatch.web").error("no answer", extra={"event": "http.failed", "route": "/x"})
    logging.getLogger("other").warning("took %s s", 3)
    assert stream.getvalue().splitlines() == ["<3>no answer event=http.failed route=/x", "<4>took 3 s event=other"]


@pytest.mark.parametrize("form", ["journal", "console"])
def test_a_value_cannot_pretend_to_be_a_line_or_a_field(form: Format) -> None:
    stream = writing(form)
    DECISIONS.info("x", "phrase", note='a\n<0>b event=y "q" \\ \x1b[2J \u202e', empty="")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'phrase event=x note="a\n<0>b event=y \"q\" \\ \x1b[2J \u202e" empty=""')


def test_tracebacks_stay_inside_the_format() -> None:
    for form in FORMS:
        stream = writing(form)
        try:
            fail(ValueError("first\nsecond\x1b"))
        except ValueError:
            DECISIONS.exception("x.broke", "something broke", step=1)
        text = stream.getvalue()
        assert "ValueError: first" in text
        assert "\x1b" not in text
        if form == "journal":
            assert all(line.startswith("<3>") for line in text.splitlines())
        if form == "json":
            assert "test_log.py" in one_json(stream)["traceback"]


def test_the_level_counts_for_us_and_others_are_heard_from_warning_on() -> None:
    stream = writing("journal", level="info")
    DECISIONS.debug("x", "hidden")
    DECISIONS.info("x", "shown")
    logging.getLogger("other").info("hidden")
    logging.getLogger("other").warning("shown")
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["<6>shown", "<4>shown"]


def test_warnings_are_logged() -> None:
    stream = writing("journal")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "careful" in stream.getvalue()


def test_configuring_again_replaces_the_first_way() -> None:
    first, second = writing("journal"), writing("json")
    DECISIONS.info("x", "phrase")
    assert first.getvalue() == ""
    assert one_json(second)["event"] == "x"


def test_a_log_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = writing("journal")
    stream.close()
    DECISIONS.info("x", "phrase", note="canary")
    assert "canary" not in capsys.readouterr().err


def test_auto_is_the_journal_only_for_the_very_stream_the_journal_reads(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        status = os.fstat(ours.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert chosen("auto", ours, environ) == "journal"
        assert chosen("auto", other, environ) == "json"
    assert chosen("auto", io.StringIO(), environ) == "json"
    assert chosen("console", io.StringIO(), environ) == "console"


def test_a_terminal_gets_colours_unless_it_asks_for_none() -> None:
    outer, inner = pty.openpty()
    with os.fdopen(outer, "rb", buffering=0) as reader, os.fdopen(inner, "w") as terminal:
        configure(wanted="auto", level="info", secrets=(), environ={}, stream=terminal)
        DECISIONS.warning("x", "phrase")
        assert b"\x1b[33mwarning\x1b[0m phrase event=x" in reader.read(200)
        configure(wanted="auto", level="info", secrets=(), environ={"NO_COLOR": "1"}, stream=terminal)
        DECISIONS.warning("x", "phrase")
        assert b"warning phrase event=x" in reader.read(200)
    logging.getLogger().handlers.clear()


SECRETS = {
    "password": "c4n4ry-5ecret",
    "short": "abc",
    "with signs": 'c4n4ry"\\/ö&%',
    "with a percent code": "c4n4ry%2F5ecret",
    "key": "whsec_c4n4ryMfKQ9r8GKYqrTw",
    "header": "Bearer c4n4ry.token.value",
    "dsn": "postgresql://paidwatch:c4n4ry%40x@db1,db2/shop?sslpassword=c4n4ry2",
    "webhook": "https://chat.example.org/services/T0000/B0000/c4n4ryc4n4ryc4n4ry?key=c4n4ry-in-query",
    "several lines": "c4n4ry-first-line\nc4n4ry-second-line\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_logged_wherever_it_stands(form: Format, name: str) -> None:
    secret = SECRETS[name]
    stream = writing(form, secret)
    DECISIONS.info(
        "x", "phrase", note=f"got {secret} back", other=[secret], raw=secret.encode(), error=ValueError(secret)
    )
    DECISIONS.info("x", f"a phrase with {secret} in it")
    logging.getLogger("other").warning("cannot reach %s: %r", secret, secret)
    try:
        try:
            fail(OSError(f"no answer from {secret}"))
        except OSError as error:
            raise ValueError({"secret": secret}) from error
    except ValueError:
        DECISIONS.exception("x", "broke")
    text = stream.getvalue()
    assert "n4ry" not in text
    assert secret not in text
    if name != "short":
        assert text.count(HIDDEN) >= 6


@pytest.mark.parametrize(
    "piece",
    ["/services/T0000/B0000/c4n4ryc4n4ryc4n4ry", "c4n4ryc4n4ryc4n4ry", "key=c4n4ry-in-query", "c4n4ry-in-query"],
)
def test_parts_of_a_secret_address_are_secrets(piece: str) -> None:
    assert "c4n4ry" not in Redactor([SECRETS["webhook"]])(f"404 for {piece}")


def test_the_owners_names_are_shown_where_they_are_part_of_a_secret_address() -> None:
    url = "https://chat.example.org/production/c4n4ryc4n4ry"
    redact = Redactor([url], names=["production", "ops"])
    assert redact("channel production: 404 for c4n4ryc4n4ry") == f"channel production: 404 for {HIDDEN}"
    assert "production" not in Redactor([url])("channel production")
    assert "c4n4ry" not in redact(f"no answer from {url} or /production/c4n4ryc4n4ry")
    assert "c4n4ry" not in redact("no answer from production/c4n4ryc4n4ry")
    assert redact("Production and PRODUCTION") == "Production and PRODUCTION"


def test_a_secret_that_is_a_name_as_well_is_a_secret() -> None:
    assert Redactor(["c4n4ry-c4n4ry"], names=["c4n4ry-c4n4ry"])("channel c4n4ry-c4n4ry") == f"channel {HIDDEN}"


@pytest.mark.parametrize("form", FORMS)
def test_a_line_names_its_channel_though_its_address_does_too(form: Format) -> None:
    stream = io.StringIO()
    secrets = ["https://chat.example.org/on-call-team"]
    configure(wanted=form, level="info", secrets=secrets, names=["on-call-team"], environ={}, stream=stream)
    DECISIONS.info("delivery.sent", "a message was taken", channel="on-call-team", error="404 for " + secrets[0])
    said = stream.getvalue()
    assert secrets[0] not in said
    assert said.count("on-call-team") == said.count(HIDDEN) == 1


def test_each_line_of_a_secret_is_one() -> None:
    assert Redactor(["c4n4ry one\nc4n4ry two\n"])("at c4n4ry two.") == f"at {HIDDEN}."


def test_parts_of_a_dsn_are_secrets_and_its_hosts_are_not() -> None:
    redact = Redactor([SECRETS["dsn"]])
    assert "c4n4ry" not in redact("password 'c4n4ry@x' or c4n4ry%40x or c4n4ry2 is wrong")
    assert redact("cannot reach db1 for shop") == "cannot reach db1 for shop"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://paidwatch:c4n4ry@db1/shop",
        "https://:c4n4ry@a.example/x",
        "amqp://u:c4n@4ry@h/x",
        "host=db1 password=c4n4ry dbname=x",
        "host=db1 password='c4n 4ry' dbname=x",
        "https://a.example/?token=c4n4ry&x=1",
        "{'password': 'c4n4ry'}",
        '{"api_key": "c4n4ry"}',
        "Authorization: Bearer c4n4ry-c4n4ry",
        "https://hooks.slack.com/services/c4n4ry/c4n4ry",
        "https://discord.com/api/webhooks/1/c4n4ry",
        "whsec_c4n4ry00c4n4ry",
        "GET /act/WzEsImM0bjRyeSJd.c4n4ry-c4n4ry_ HTTP/1.1",
    ],
)
def test_what_looks_like_a_credential_is_hidden_though_nobody_configured_it(text: str) -> None:
    redacted = Redactor()(text)
    assert "4ry" not in redacted
    assert HIDDEN in redacted


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example:8080/path?x=1",
        "postgresql://paidwatch@db1,db2/shop",
        "payment 12 of user 7 has no token and no password",
        "10:20:30 a@b.example",
        "abcd xabc",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor(["abc", ""])(text) == text


def test_a_field_named_like_a_secret_is_hidden() -> None:
    stream = writing("json")
    DECISIONS.info("x", "phrase", token="t", Password="p", dsn="d")
    assert [one_json(stream)[name] for name in ("token", "Password", "dsn")] == [HIDDEN] * 3


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure(wanted="journal", level="info", secrets=(), environ={})
    DECISIONS.info("x", "phrase")
    assert capsys.readouterr().err == "<6>phrase event=x\n"
    assert sys.stderr is not None
