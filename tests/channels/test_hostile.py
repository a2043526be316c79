"""Whatever the database holds: inside every limit, nothing alive, and cuts that say how much is missing."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paidwatch.channels import apprise, discord, slack, webhook
from paidwatch.channels.layout import link_of
from paidwatch.channels.letter import compose
from paidwatch.core.model import GapKind, Line, Notice, Outcome, Word
from paidwatch.core.render import LONGEST_MEMBER, line_of, render
from paidwatch.core.routing import Severity
from paidwatch.core.story import (
    AUDIT,
    BASELINE,
    CHANNEL_DOWN,
    DAILY,
    DOUBLE,
    HELD,
    INCIDENT,
    MORNING,
    TEST,
    Incident,
    State,
    Story,
)
from paidwatch.core.text import units
from tests.channels.fakes.discord import violations as discord_violations
from tests.channels.fakes.receiver import LARGEST
from tests.channels.fakes.slack import LIVE, OWN, texts_of
from tests.channels.fakes.slack import violations as slack_violations
from tests.channels.stories import LINK, NOW, Reach, message, story

HOSTILE = [
    "",
    " ",
    "\x00",
    "\ud800",
    "<!channel>",
    "<!here|x> <@U123> <#C123> <!subteam^S1>",
    "<https://evil.example|click>",
    "<!date^0^{date}^https://evil.example|x>",
    "&lt;!channel&gt; &amp;",
    "*bold* _italic_ ~gone~ `code` ```\nblock\n```",
    "@everyone @here <@1> <@&1> <#1> <:a:1> <t:0:R> </x:1>",
    "[click](https://evil.example) www.evil.example discord.gg/abc",
    "# big\n- list\n1. one\n> quote\n-# small ||spoiler||",
    "\\*not\\* \\<@1\\>",
    "x\r\nBcc: all@example.org\r\n\r\nbody",
    "=?utf-8?q?x=0D=0ABcc:=20all@example.org?=",
    "=?utf-8?b?PHNjcmlwdD4=?=",
    "<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:1'>x</a>",
    "</td></table>\"'><b>",
    "{{7*7}} ${7*7} %s %n {0}",
    "\u202eevil\u202c \u200b\u2066\ufeff",
    "👨‍👩‍👧‍👦" * 700,
    "😀" * 5000,
    "a" * 100_000,
    "&" * 9000,
    "*" * 9000,
    "x " * 9000,
    "ü" * 9000,
    "e\u0301" * 5000,
    "\n" * 9000,
    "://" * 3000,
    "'; DROP TABLE users; --",
    "`$(reboot)`; rm -rf /",
    "paidwatch user 7",
]
ALPHABET = "abc <>&*_~`|[]()#@:/.\\\"'=?-+1!\n\r\t\x00😀é漢\u202e\u200d\ud800"

LINKS = [
    "",
    LINK,
    LINK + "x" * 800,
    LINK + "x" * 2000,
    f"{LINK}|<!channel>",
    f"{LINK}) [x](https://evil.example",
    f'{LINK}"><script>',
    f"{LINK} https://evil.example",
    "javascript:alert(1)",
    "https://pay.example.org@evil.example/",
    "\n",
]
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=60),
    st.text(alphabet=ALPHABET, max_size=60),
    st.tuples(st.text(alphabet=ALPHABET, min_size=1, max_size=12), st.integers(1, 3000)).map(lambda t: t[0] * t[1]),
)
moments = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
lines = st.builds(Line, label=texts, value=st.one_of(texts, moments), short=st.booleans())
notices = st.builds(
    Notice,
    word=st.sampled_from(Word),
    kind=texts,
    alert_id=texts,
    subject=texts,
    summary=texts,
    lines=st.lists(lines, max_size=30).map(tuple),
    command=texts,
    open=st.booleans(),
    link=st.sampled_from(LINKS),
    at=st.just(NOW),
    extra=st.dictionaries(texts, texts, max_size=20),
)


class Page(HTMLParser):
    """Collects what an HTML page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str | None] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def holds(notice: Notice) -> None:
    """Assert everything about one notice on every channel."""
    full, plain, reply = slack.payload(notice), slack.plain_payload(notice), slack.reply_payload(notice)
    assert slack_violations(full) == slack_violations(plain) == slack_violations(reply) == []
    assert [text for text in texts_of(full) if text["type"] == "mrkdwn" and not _constant(text["text"])] == []
    json.dumps(full, ensure_ascii=False).encode()

    shown = discord.payload(notice)
    assert discord_violations(shown) == []
    assert [text for text in _of_discord(shown) if _alive_in_discord(text)] == []
    json.dumps(shown, ensure_ascii=False).encode()

    assert 0 < units(discord.thread_name(notice)) <= 100

    for reach in (Reach(250, 32_768), Reach(20, 160)):
        title, text = apprise.shorten(notice, reach)
        assert units(title) <= (reach.title_maxlen or 250)
        assert units(text) <= reach.body_maxlen
        assert not set("<>[]`") & set(title + text)
        assert "://" not in title + text.removesuffix(f"\nApprove: {link_of(notice)}")
        assert "@" not in (title + text).replace("@\u2060", "")
    body = webhook.body_of(message(notice))
    assert len(body) <= LARGEST
    json.loads(body)

    _mail_holds(notice)


def _constant(text: str) -> bool:
    """Whether markup for Slack holds nothing but labels of letters, times, a harmless command, and paidwatch's link."""
    if text.startswith("*Approve*\n"):
        return OWN.fullmatch(text.removeprefix("*Approve*\n")) is not None
    if text.startswith("*Next*\n```"):
        return re.fullmatch(r"[A-Za-z0-9 ._:/=-]+", text.removeprefix("*Next*\n```").removesuffix("```")) is not None
    return re.fullmatch(r"\*[A-Za-z' ]+\*", text) is not None or (LIVE.sub("", text) == text and text[0] == "<")


def _of_discord(payload: dict[str, Any]) -> Iterator[str]:
    """Every text in which Discord looks for markup, without the markup that is ours."""
    content = str(payload["content"])
    assert content.startswith("**")
    assert content.endswith("**")
    yield content[2:-2]
    (embed,) = payload["embeds"]
    yield embed["description"]
    for field in embed["fields"]:
        yield field["name"]
        value = re.sub(r"^<t:-?\d+:f>, <t:-?\d+:R>$", "", field["value"])
        value = re.sub(r"^\[[A-Za-z ]+\]\(https://pay\.example\.org/act/[\w.-]+\)$", "", value)
        yield re.sub(r"^```\n[A-Za-z0-9 ._:/=-]+\n```$", "", value)


def _alive_in_discord(text: str) -> bool:
    rest = re.sub(r"\\[^0-9A-Za-z\s]", "x", text)
    return re.search(r"[*_~`|<>\[\]#@\\]|://|www\.|discord\.gg|^[-+]|^\d+\.\s", rest, re.MULTILINE) is not None


def _mail_holds(notice: Notice) -> None:
    letter = compose(
        message(notice, earlier={"message_id": notice.subject, "subject": notice.summary}),
        sender="paidwatch@example.org",
        recipients=("ops@example.org",),
    )
    raw = letter.mail.as_bytes(policy=policy.SMTP)
    mail = message_from_bytes(raw, policy=policy.default)
    assert set(mail.keys()) == {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "References",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "X-Paidwatch-Word",
        "X-Paidwatch-Kind",
        "MIME-Version",
        "Content-Type",
    }
    assert mail["To"] == "ops@example.org"
    assert "\n" not in mail["Subject"]
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    text, html = mail.iter_parts()
    page = Page()
    page.feed(html.get_content())
    link = link_of(notice)
    tags = {"html", "head", "meta", "title", "body", "div", "p", "h1", "table", "tr", "td", "br", "pre"}
    assert page.tags <= tags | ({"a"} if link else set())
    assert page.attributes <= {"lang", "charset", "name", "content", "style", "role", *(["href"] if link else [])}
    assert page.links == ([link] if link else [])
    said = text.get_content()
    if link:
        said = said.replace(f"\r\nApprove:\r\n    {link}\r\n", "")
    for shown in (said, *page.texts):
        assert "://" not in shown
        assert "www." not in shown
        assert "\u202e" not in shown


@settings(max_examples=50, deadline=None)
@given(notices)
def test_any_notice_holds(notice: Notice) -> None:
    holds(notice)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_every_place_holds(text: str) -> None:
    holds(
        Notice(
            word=Word.NEW,
            kind=text,
            alert_id=text,
            subject=text,
            summary=text,
            lines=tuple(Line(label=text if place % 3 else "", value=text, short=place % 2 == 0) for place in range(60)),
            command=text,
            link=text,
            open=True,
            at=NOW,
            extra={text: text},
        )
    )


class Scribe:
    """Writes strings that are random or hostile, and counts them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.written = 0

    def text(self) -> str:
        self.written += 1
        if self.chance.random() < 0.2:
            return self.chance.choice(HOSTILE)
        length = self.chance.choice([0, 1, 3, 5, 10, 20, 40, 80, 80, 80, 300, 2500])
        return "".join(self.chance.choices(ALPHABET, k=length))

    def texts(self, most: int) -> tuple[str, ...]:
        return tuple(self.text() for _ in range(self.chance.randrange(most)))

    def when(self) -> datetime:
        return NOW + timedelta(seconds=self.chance.randrange(-(10**7), 10**6))

    def number(self) -> Decimal:
        return self.chance.choice([Decimal("14.99"), Decimal("NaN"), Decimal("1E+50"), Decimal("-0.000000000001")])

    def notice(self) -> Notice:
        return Notice(
            word=self.chance.choice(list(Word)),
            kind=self.text(),
            alert_id=self.text(),
            subject=self.text(),
            summary=self.text(),
            lines=tuple(
                Line(label=self.text(), value=self.text(), short=self.chance.random() < 0.5) for _ in range(17)
            ),
            command=self.text(),
            link=self.chance.choice(LINKS),
            open=self.chance.random() < 0.5,
            at=self.when(),
            extra={"a": self.text()},
        )

    def story(self, kind: str) -> Story:
        """A story of this kind in which everything that could come from outside does."""
        names = ["alert_id", "payment_id", "user_id", "user_label", "plan_id", "currency", "method", "reference"]
        words = ["status", "cause", "detail", "delay", "acked_by", "ended_by", "ended_why", "about_channel"]
        said: dict[str, Any] = {name: self.text() for name in names + words}
        state = self.chance.choice(list(State))
        over = state is State.RESOLVED
        return Story(
            **said,
            kind=kind,
            state=state,
            revision=self.chance.randrange(9),
            reminders=self.chance.randrange(9),
            announced=self.chance.random() < 0.5,
            opened_at=self.when(),
            resolved_at=self.when() if over else None,
            outcome=self.chance.choice(list(Outcome)) if over else None,
            acked_until=self.when() if state is State.ACKED else None,
            severity=self.chance.choice(list(Severity)),
            escalated=self.chance.random() < 0.3,
            escalated_from=self.chance.choice([None, self.number()]),
            amount=self.chance.choice([None, self.number()]),
            paid_at=self.chance.choice([None, self.when()]),
            noticed_at=self.when(),
            due_at=self.when(),
            sharing=self.chance.randrange(3),
            activation=self.texts(4),
            digest=self.texts(4),
            members=self.texts(60),
            members_total=self.chance.randrange(1000),
            waiting=self.chance.randrange(1000),
            incident=Incident(
                kind_of=self.chance.choice([*GapKind, self.text()]),
                method=self.text(),
                started_at=self.when(),
                total=self.chance.randrange(10**6),
                open=self.chance.randrange(10**6),
                rescued=self.chance.randrange(10**6),
                otherwise=self.chance.randrange(10**6),
                money_at_risk={self.text(): self.number() for _ in range(self.chance.randrange(9))},
                oldest_paid_at=self.when(),
                causes=tuple((cause, self.chance.randrange(999)) for cause in self.texts(4)),
            ),
        )


def test_ten_thousand_random_strings_hold() -> None:
    scribe = Scribe(41)
    while scribe.written < 10_000:
        holds(scribe.notice())


KINDS = (
    *(kind.value for kind in GapKind),
    AUDIT,
    BASELINE,
    CHANNEL_DOWN,
    DAILY,
    DOUBLE,
    HELD,
    INCIDENT,
    MORNING,
    TEST,
    "<x>",
)


def test_random_strings_in_stories_of_every_kind_hold() -> None:
    scribe = Scribe(42)
    told: Counter[Word] = Counter()
    while scribe.written < 3_000:
        for kind in KINDS:
            notice = render(scribe.story(kind), now=NOW)
            told[notice.word] += 1
            holds(notice)

    assert set(told) == set(Word)


def test_bundles_of_random_stories_hold() -> None:
    scribe = Scribe(43)
    while scribe.written < 3_000:
        lines = [line_of(scribe.story(kind), now=NOW) for kind in KINDS]
        assert max(units(line) for line in lines) <= LONGEST_MEMBER
        holds(render(replace(scribe.story(HELD), members=tuple(lines)), now=NOW))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", [GapKind.PAID_NOT_ACTIVE, CHANNEL_DOWN, HELD, INCIDENT])
def test_hostile_text_in_every_place_of_a_story_holds(kind: str, text: str) -> None:
    names = ["alert_id", "payment_id", "user_id", "user_label", "plan_id", "currency", "method", "reference", "status"]
    words = ["cause", "detail", "delay", "acked_by", "about_channel"]
    many = Incident(
        kind_of=text,
        method=text,
        started_at=NOW,
        total=1,
        open=1,
        rescued=0,
        otherwise=0,
        money_at_risk={text: Decimal(1)},
        causes=((text, 1),),
    )
    lines = (text,) * 50
    told = story(**dict.fromkeys(names + words, text), kind=kind, incident=many, members=lines, digest=lines)
    holds(render(told, now=NOW))


@pytest.mark.parametrize("short", [True, False])
def test_the_room_may_run_out_anywhere(short: bool) -> None:
    for length in range(20, 2100, 40):
        holds(
            Notice(
                word=Word.NEW,
                kind="k",
                alert_id="1",
                subject="s" * length,
                summary="s" * length,
                lines=tuple(Line(label="Label", value="v" * length, short=short) for _ in range(40)),
                command="paidwatch check",
                open=True,
                at=NOW,
            )
        )


CUT = re.compile(r"\((\d+) more\)…$")


@pytest.mark.parametrize("character", ["a", "&", "<", "*", "😀", "漢"])
def test_a_cut_ends_in_an_ellipsis_and_says_how_much_is_missing(character: str) -> None:
    subject = character * 3000
    notice = Notice(
        word=Word.NEW,
        kind="k",
        alert_id="1",
        subject=subject,
        summary=subject,
        lines=(Line(label="L", value=subject, short=False),),
        command="",
        open=True,
        at=NOW,
    )
    header = slack.payload(notice)["blocks"][0]["text"]["text"]  # type: ignore[index]
    field = discord.payload(notice)["embeds"][0]["fields"][0]["value"]  # type: ignore[index]

    for shown, escaped, title in [(header, slack.escape(character), True), (field, discord.escape(character), False)]:
        found = CUT.search(shown)
        assert found is not None
        missing = int(found[1])
        assert 0 < missing < 3000
        assert shown.count(escaped) == 3000 - missing
        assert units(shown) <= (150 if title else 1024)
        assert units(shown) > (150 if title else 1024) - 2 * units(escaped) - 3
