import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import anyio
import pytest
from pydantic import SecretStr

from paidwatch.channels import build
from paidwatch.channels.letter import compose, text_of
from paidwatch.channels.settings import MailSettings, Tls
from paidwatch.core.model import Outcome
from paidwatch.core.render import render
from paidwatch.core.story import State
from paidwatch.core.text import units
from paidwatch.errors import ConfigError, DeliveryError, Fault
from paidwatch.ports import Message, Transport
from tests.channels.conftest import CANARY, SHORT
from tests.channels.fakes.smtp import Post, posting
from tests.channels.stories import CASES, GRACE, message, notice_of, story

MESSAGE = message(notice_of("new_paid_not_active"))
LETTER = {"sender": "paidwatch@example.org", "recipients": ("ops@example.org", "boss@example.org")}


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with posting(Post()) as running:
        yield running


def settings_for(post: Post, **change: object) -> MailSettings:
    plain = MailSettings(
        host=post.host,
        port=post.port,
        sender="paidwatch@example.org",
        recipients=("ops@example.org", "boss@example.org"),
        tls=Tls.NONE,
    )
    return replace(plain, **change)  # type: ignore[arg-type]


@pytest.fixture
def transport(post: Post, session: aiohttp.ClientSession) -> Transport:
    return build("mail", settings_for(post), session=session)


async def refusal(transport: Transport) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await transport.send(MESSAGE)
    return caught.value


async def test_a_mail_has_text_first_and_html_last(post: Post, transport: Transport) -> None:
    await transport.send(MESSAGE)

    (mail,) = post.mails
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Subject"] == "[paidwatch] user 7 paid 14.99 USD (professional), not active"
    assert post.envelopes == [["ops@example.org", "boss@example.org"]]


async def test_a_story_is_one_conversation(post: Post, transport: Transport) -> None:
    first = await transport.send(MESSAGE)
    still = await transport.send(message(notice_of("still"), key="a.41.2", earlier=first.reference))
    later = notice_of("new_tier_mismatch")  # the kind of a gap may change while it is open
    await transport.send(message(later, key="a.41.3", earlier=still.reference))

    root, reminder, last = post.mails
    assert len({mail["Message-ID"] for mail in post.mails}) == 3
    assert reminder["In-Reply-To"] == last["In-Reply-To"] == root["Message-ID"]
    assert root["References"] in reminder["References"]
    assert root["Message-ID"] in last["References"]
    assert root["In-Reply-To"] is None
    assert {mail["Subject"] for mail in post.mails} == {root["Subject"]}


async def test_a_story_whose_first_mail_was_forgotten_is_one_conversation_all_the_same(
    post: Post, transport: Transport
) -> None:
    await transport.send(MESSAGE)
    await transport.send(message(notice_of("resolved_unheard"), key="a.41.2"))

    first, second = post.mails
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]


async def test_another_attempt_is_the_same_mail(post: Post, transport: Transport) -> None:
    await transport.send(MESSAGE)
    await transport.send(MESSAGE)

    assert post.mails[0].as_bytes() == post.mails[1].as_bytes()


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
async def test_a_mail_is_encrypted(
    tls: Tls, session: aiohttp.ClientSession, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    server = {"starttls": certified} if tls is Tls.STARTTLS else {"tls": certified}
    async with posting(Post(login=("watcher", CANARY)), **server) as post:
        settings = settings_for(post, tls=tls, username="watcher", password=SecretStr(CANARY))
        await build("mail", settings, session=session, tls=trusting).send(MESSAGE)

    assert len(post.mails) == 1
    assert post.encrypted == [True] or tls is Tls.TLS


async def test_a_server_without_starttls_gets_neither_mail_nor_password(
    session: aiohttp.ClientSession, trusting: ssl.SSLContext
) -> None:
    async with posting(Post(login=("watcher", CANARY))) as post:
        settings = settings_for(post, tls=Tls.STARTTLS, username="watcher", password=SecretStr(CANARY))
        error = await refusal(build("mail", settings, session=session, tls=trusting))

    assert (error.fault, error.code) == (Fault.CHANNEL, "not_offered")
    assert post.mails == []
    assert post.logins == []


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    tls: Tls, session: aiohttp.ClientSession, certified: ssl.SSLContext
) -> None:
    server = {"starttls": certified} if tls is Tls.STARTTLS else {"tls": certified}
    async with posting(Post(), **server) as post:
        error = await refusal(build("mail", settings_for(post, tls=tls), session=session))

    assert (error.fault, error.code) == (Fault.CHANNEL, "tls")
    assert post.mails == []


@pytest.mark.parametrize("host", ["mail.example.org", "192.0.2.1", "localhost.example.org"])
async def test_clear_text_to_another_machine_is_a_wrong_configuration(
    host: str, session: aiohttp.ClientSession, post: Post
) -> None:
    with pytest.raises(ConfigError):
        build("mail", settings_for(post, host=host), session=session)


async def test_a_wrong_password_is_the_channels_fault(session: aiohttp.ClientSession) -> None:
    async with posting(Post(login=("watcher", "another"))) as post:
        settings = settings_for(post, username="watcher", password=SecretStr(CANARY))
        error = await refusal(build("mail", settings, session=session))

    assert (error.fault, error.code) == (Fault.CHANNEL, "535")


@pytest.mark.parametrize(
    ("where", "answer", "fault"),
    [
        ("sender_answer", "451 4.7.1 later", Fault.TRANSIENT),
        ("sender_answer", "553 5.7.1 not you", Fault.CHANNEL),
        ("data_answer", "452 4.3.1 disk full", Fault.TRANSIENT),
        ("data_answer", "554 5.6.0 what is this", Fault.MESSAGE),
        ("data_answer", "421 4.3.2 going down", Fault.TRANSIENT),
    ],
)
async def test_a_refusal_says_whose_fault_it_is(
    post: Post, transport: Transport, where: str, answer: str, fault: Fault
) -> None:
    setattr(post, where, f"{answer} {CANARY}")

    error = await refusal(transport)

    assert (error.fault, error.code) == (fault, answer[:3])
    assert CANARY not in str(error)


async def test_a_recipient_that_was_served_is_not_served_again(post: Post, transport: Transport) -> None:
    post.recipient_answers = {"boss@example.org": "450 4.2.0 greylisted"}
    error = await refusal(transport)
    assert (error.fault, error.code) == (Fault.TRANSIENT, "450")

    post.recipient_answers = {}
    receipt = await transport.send(MESSAGE)

    assert receipt.code == "250"
    assert post.envelopes == [["ops@example.org"], ["boss@example.org"]]


async def test_a_recipient_that_is_refused_for_good_does_not_hold_up_the_others(
    post: Post, transport: Transport
) -> None:
    post.recipient_answers = {"boss@example.org": "550 5.1.1 no such mailbox"}

    receipt = await transport.send(MESSAGE)

    assert receipt.code == "250, 1 of 2 recipients refused"
    assert post.envelopes == [["ops@example.org"]]


async def test_refused_for_good_after_the_other_was_served_is_a_success(post: Post, transport: Transport) -> None:
    post.recipient_answers = {"boss@example.org": "450 4.2.0 greylisted"}
    await refusal(transport)
    post.recipient_answers = {"boss@example.org": "550 5.1.1 no such mailbox"}

    receipt = await transport.send(MESSAGE)

    assert receipt.code == "250, 1 of 2 recipients refused"


async def test_no_recipient_at_all_is_the_channels_fault(post: Post, transport: Transport) -> None:
    post.recipient_answers = dict.fromkeys(LETTER["recipients"], "550 5.1.1 no such mailbox")

    error = await refusal(transport)

    assert (error.fault, error.code) == (Fault.CHANNEL, "550")


async def test_a_server_that_hangs_after_taking_the_mail_has_taken_it(session: aiohttp.ClientSession) -> None:
    async with posting(Post(hang_at_quit=True)) as post:
        transport = build("mail", settings_for(post), session=session, limits=SHORT)
        with anyio.fail_after(5):
            receipt = await transport.send(MESSAGE)

    assert receipt.code == "250"
    assert len(post.mails) == 1


@pytest.mark.parametrize("case", CASES)
def test_the_text_fits_a_narrow_terminal(case: str) -> None:
    assert max(units(line) for line in text_of(notice_of(case)).splitlines()) <= 79


def test_the_same_message_is_the_same_mail_and_a_mail_is_small() -> None:
    made = [compose(MESSAGE, **LETTER) for _ in range(2)]  # type: ignore[arg-type]

    assert made[0].mail.as_bytes() == made[1].mail.as_bytes()
    assert made[0].size == len(made[0].mail.as_bytes()) < 20_000


def over_midnight() -> list[Message]:
    """One story: opened before midnight, reminded after it, ended the day after."""
    opened = datetime(2026, 3, 14, 23, 58, tzinfo=UTC)
    told = story(opened_at=opened, paid_at=opened - GRACE, noticed_at=opened - GRACE, due_at=opened)
    ended = replace(
        told, state=State.RESOLVED, announced=True, outcome=Outcome.ACTIVATED, resolved_at=opened + timedelta(days=1)
    )
    return [
        message(render(told, now=opened), key="a.41.1"),
        message(render(replace(told, announced=True), now=opened + timedelta(minutes=30)), key="a.41.2"),
        message(render(ended, now=opened + timedelta(days=1, seconds=1)), key="a.41.3"),
    ]


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_conversation_survives_midnight_and_restarts(
    post: Post, session: aiohttp.ClientSession, remembered: bool
) -> None:
    earlier: Mapping[str, str] = {}
    for told in over_midnight():
        restarted = build("mail", settings_for(post), session=session)
        receipt = await restarted.send(replace(told, earlier=earlier))
        earlier = receipt.reference if remembered else {}

    root, reminder, last = post.mails
    assert {mail["Date"].datetime.date().isoformat() for mail in post.mails} == {"2026-03-14", "2026-03-15"}
    assert {mail["Subject"] for mail in post.mails} == {root["Subject"]}
    assert root["References"] in reminder["References"]
    assert root["References"] in last["References"]
    assert len({mail["Message-ID"] for mail in post.mails}) == 3
    if remembered:
        assert reminder["In-Reply-To"] == last["In-Reply-To"] == root["Message-ID"]


async def test_another_attempt_on_another_day_has_the_same_message_id(
    post: Post, session: aiohttp.ClientSession
) -> None:
    told, later, _ = over_midnight()
    await build("mail", settings_for(post), session=session).send(told)
    await build("mail", settings_for(post), session=session).send(replace(told, notice=later.notice))

    assert post.mails[0]["Message-ID"] == post.mails[1]["Message-ID"]
    assert post.mails[0]["References"] == post.mails[1]["References"]
    assert post.mails[0]["Date"] != post.mails[1]["Date"]


async def test_a_story_whose_count_changes_keeps_its_subject(post: Post, transport: Transport) -> None:
    first = await transport.send(message(notice_of("incident_new")))
    await transport.send(message(notice_of("incident_still"), key="a.41.2", earlier=first.reference))

    assert notice_of("incident_new").subject != notice_of("incident_still").subject
    assert post.mails[0]["Subject"] == post.mails[1]["Subject"]
