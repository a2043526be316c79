"""What the tests of the channels share: a session, a clock, and one bench per kind of channel."""

import importlib.util
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from functools import partial
from typing import Any

import aiohttp
import anyio
import pytest
import trustme
from pydantic import SecretStr

from paidwatch.channels import build
from paidwatch.channels.http import Limits, open_session
from paidwatch.channels.settings import (
    AppriseSettings,
    DiscordSettings,
    MailSettings,
    Settings,
    SlackSettings,
    Tls,
    WebhookSettings,
)
from paidwatch.ports import Transport
from tests.channels.fakes.apprise import Told
from tests.channels.fakes.discord import Discord
from tests.channels.fakes.http import Service, serving
from tests.channels.fakes.receiver import Receiver
from tests.channels.fakes.slack import SlackApi, slack
from tests.channels.fakes.smtp import Post, posting
from tests.channels.stories import NOW, FixedClock

CANARY = "c4naryS3cretT0ken"
KEY = "whsec_YzRuYXJ5UzNjcmV0VDBrZW4="
SHORT = Limits(total=timedelta(milliseconds=400), connect=timedelta(milliseconds=200))
PATIENT = Limits()

SLACK_PATH = f"/services/T0/B0/{CANARY}"
DISCORD_PATH = f"/api/webhooks/1/{CANARY}"
HOOK_PATH = f"/hook/{CANARY}"

API_PATH = "/api"
CHANNEL = "C0123456789"

HTTP_KINDS = ["slack", "slack_bot", "discord", "forum", "webhook"]
"""Channels that speak HTTP themselves: everything about statuses, waits and redirects."""
APPRISE = pytest.param(
    "apprise", marks=pytest.mark.skipif(importlib.util.find_spec("apprise") is None, reason="Apprise is not installed")
)
KINDS = [*HTTP_KINDS, "email", APPRISE]


@dataclass
class Bench:
    """One transport, and the service at its other end."""

    kind: str
    transport: Transport
    settings: Settings
    service: Service | None = None
    post: Post | None = None

    @property
    def http(self) -> Service:
        assert self.service is not None
        return self.service

    @property
    def mail(self) -> EmailMessage:
        """The last e-mail."""
        assert self.post is not None
        return self.post.mails[-1]


@pytest.fixture(scope="session", autouse=True)
def loaded() -> None:
    """Load Apprise's plugins, some of which import what is deprecated."""
    if importlib.util.find_spec("apprise") is not None:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module("apprise").Apprise.instantiate("json://localhost")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the throw-away authority and nobody else."""
    context = ssl.create_default_context(cafile=None)
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def certified(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def settings_for(kind: str, base: str, port: int) -> Settings:
    """Settings of a channel whose service listens at `base`, or for e-mail on `port` of this machine."""
    match kind:
        case "slack":
            return SlackSettings(url=SecretStr(base + SLACK_PATH))
        case "slack_bot":
            return SlackSettings(token=SecretStr(CANARY), channel="#ops", api_url=base + API_PATH)
        case "discord":
            return DiscordSettings(url=SecretStr(base + DISCORD_PATH))
        case "forum":
            return DiscordSettings(url=SecretStr(base + DISCORD_PATH), forum=True)
        case "apprise":
            return AppriseSettings(urls=(SecretStr(base.replace("http", "json") + HOOK_PATH),))
        case "webhook":
            return WebhookSettings(url=SecretStr(base + HOOK_PATH), secrets=(SecretStr(KEY),))
        case "email":
            return MailSettings(
                host="127.0.0.1",
                port=port,
                sender="paidwatch@example.org",
                recipients=("ops@example.org",),
                tls=Tls.NONE,
                username="watcher",
                password=SecretStr(CANARY),
            )
        case _:
            raise AssertionError(kind)


def fake_of(kind: str) -> Service:
    """The service at the other end of a channel."""
    match kind:
        case "slack":
            return slack(SLACK_PATH)
        case "slack_bot":
            return SlackApi(API_PATH, CANARY, "#ops", CHANNEL)
        case "discord":
            return Discord(DISCORD_PATH)
        case "forum":
            return Discord(DISCORD_PATH, forum=True)
        case "apprise":
            return Told(HOOK_PATH)
        case "webhook":
            return Receiver(HOOK_PATH, CANARY.encode(), NOW)
        case _:
            raise AssertionError(kind)


async def built(settings: Settings, **how: Any) -> Transport:
    """A transport, built as the daemon builds it: what it has to load is loaded beside the event loop."""
    return await anyio.to_thread.run_sync(partial(build, "ops", settings, **how))


@asynccontextmanager
async def bench_for(kind: str, session: aiohttp.ClientSession, limits: Limits = PATIENT) -> AsyncIterator[Bench]:
    """A transport and its fake service, both running."""
    async with AsyncExitStack() as stack:
        clock = FixedClock()
        service: Service | None = None
        post: Post | None = None
        base, port = "", 0
        if kind == "email":
            post = await stack.enter_async_context(posting(Post(login=("watcher", CANARY))))
            port = post.port
        else:
            service = await stack.enter_async_context(serving(fake_of(kind)))
            base = service.base
        settings = settings_for(kind, base, port)
        transport = await built(settings, session=session, clock=clock, limits=limits)
        yield Bench(kind=kind, transport=transport, settings=settings, service=service, post=post)
        await transport.aclose()


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest, session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for(request.param, session) as made:
        yield made


@pytest.fixture(params=HTTP_KINDS)
async def http_bench(request: pytest.FixtureRequest, session: aiohttp.ClientSession) -> AsyncIterator[Bench]:
    async with bench_for(request.param, session) as made:
        yield made
