"""The units as an operator uses them: the wheel installed in a Debian of its own, under its own systemd."""

import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from paidwatch.ops.embedded import EmbeddedServer
from tests.boot import machine as machines
from tests.boot.journal import Entry, Journal, following
from tests.boot.machine import Machine
from tests.support import shop
from tests.support.daemon import ROOT, Sections, installed, told_and_done, toml
from tests.support.postgres import Database, Server, embedded
from tests.support.postgres import _base as roomy_memory
from tests.support.sink import Sink, sink

UNIT, SECOND = "paidwatch.service", "paidwatch@second.service"
ROLE: Sections = {"database": {"runtime_role": "paidwatch", "two_phase": "never"}}
PLAIN: Sections = {"http": {"listen": ""}, "alerts": {"storm_threshold": 1000, "storm_window": "1ms", "digest_at": ""}}
PASSWORD = "not-to-be-seen-anywhere"
IMPATIENT = "[Service]\nWatchdogSec=4s\nRestartSec=100ms\n"
"""The one thing that differs from how the units are shipped: a minute is long in a test."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which everything was done that docs/operations.md asks for, up to the configuration."""
    if missing := machines.lacking():
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    with ExitStack() as stack:
        kept = os.environ.get(machines.CACHE) or stack.enter_context(tempfile.TemporaryDirectory())
        cache = Path(kept)
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paidwatch-boot-", dir=roomy_memory())))
        root = scratch / "root"
        machines.copy(machines.lay_out(cache), root)
        machines.copy(machines.fetch_wheels(cache), root / "wheels")
        with machines.booted(root, scratch / "life") as fresh:
            install(fresh)
            yield fresh
        assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def install(machine: Machine) -> None:
    """The first steps of docs/operations.md."""
    machine.ask("python3", "-m", "venv", "/opt/paidwatch")
    how = ("--quiet", "--no-index", "--find-links=/wheels", "--disable-pip-version-check")
    machine.ask("/opt/paidwatch/bin/pip", "install", *how, "paidwatch")
    units = ROOT / "systemd"
    for name in (UNIT, "paidwatch@.service"):
        machine.write(f"/etc/systemd/system/{name}", (units / name).read_text())
        machine.write(f"/etc/systemd/system/{name}.d/impatient.conf", IMPATIENT)
    for kind in ("sysusers", "tmpfiles"):
        machine.write(f"/usr/lib/{kind}.d/paidwatch.conf", (units / f"paidwatch.{kind}").read_text())
    machine.ask("systemd-sysusers", "paidwatch.conf")
    machine.ask("systemd-tmpfiles", "--create", "paidwatch.conf")
    machine.ask("systemctl", "daemon-reload")
    machine.ask("systemctl", "enable", UNIT, SECOND)


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedServer]:
    """A server on this machine, which the booted one reaches over the loopback that both share."""
    with embedded() as own:
        yield own


@pytest.fixture
async def told() -> AsyncIterator[Sink]:
    async with sink() as receiver:
        yield receiver


@dataclass(kw_only=True)
class Service:
    """One configured instance, not started yet."""

    machine: Machine
    unit: str
    name: str
    db: Database
    journal: Journal
    grace: str = "100ms"
    channels: dict[str, str] = field(default_factory=dict)
    """Their names and addresses."""

    def configure(self) -> None:
        """Write the configuration, and the secrets as credentials."""
        channels = {f"channels.{channel}": {"type": "webhook", "pace": "1ms"} for channel in self.channels}
        text = toml({**ROLE, **PLAIN, "grace": {"default": self.grace}, **channels})
        self.machine.write(f"/etc/paidwatch/{self.name}.toml", text, mode=0o640, group="paidwatch")
        secrets = {"database.dsn": self.db.dsn_of("paidwatch", PASSWORD)}
        secrets |= {f"channels.{channel}.url": url for channel, url in self.channels.items()}
        for key, value in secrets.items():
            self.machine.write(f"/etc/paidwatch/credentials/{self.name}/{key}", value, mode=0o600)

    async def systemctl(self, verb: str, *options: str) -> None:
        await anyio.to_thread.run_sync(lambda: self.machine.ask("systemctl", verb, *options, self.unit))

    async def active(self) -> str:
        """Return the state of the unit in a word."""
        return await anyio.to_thread.run_sync(self.machine.show, self.unit, "ActiveState")

    async def show(self, fact: str) -> str:
        return await anyio.to_thread.run_sync(self.machine.show, self.unit, fact)

    async def ended_well(self) -> None:
        """Stop it, and see that it ended by itself and without complaint."""
        await self.systemctl("stop")
        await self.journal.until_managed("Deactivated successfully")
        assert self.journal.said("daemon.stopped")
        facts = [await self.show(fact) for fact in ("ActiveState", "Result", "ExecMainCode", "ExecMainStatus")]
        assert facts == ["inactive", "success", "1", "0"]


@pytest.fixture
async def services(machine: Machine, postgres: EmbeddedServer, told: Sink) -> AsyncIterator[tuple[Service, Service]]:
    """The plain unit and an instance, each on a database of its own with the daemon's role."""
    server = Server(postgres)
    await server.administer(
        "DO $$BEGIN IF to_regrole('paidwatch') IS NULL THEN"
        f" CREATE ROLE paidwatch LOGIN PASSWORD '{PASSWORD}'; END IF; END$$"
    )
    first, second = await installed(server, "F", ROLE), await installed(server, "F", ROLE)
    async with following(machine, UNIT, SECOND) as (journal, other):
        pair = (
            Service(machine=machine, unit=UNIT, name="paidwatch", db=first, journal=journal),
            Service(machine=machine, unit=SECOND, name="second", db=second, journal=other),
        )
        for service, channel in zip(pair, ("ops", "other"), strict=True):
            service.channels[channel] = told.url(channel)
            service.configure()
        try:
            yield pair
        finally:
            machine.ask("systemctl", "stop", UNIT, SECOND, expect=None)
            machine.ask("systemctl", "reset-failed", UNIT, SECOND, expect=None)
            postgres.start()
            for service in pair:
                await server.drop(service.db)


async def paid(db: Database) -> str:
    payment = await shop.add_payment(db, await shop.add_user(db))
    await shop.complete(db, payment)
    return str(payment)


def order(earlier: Entry, later: Entry) -> bool:
    return int(earlier["__MONOTONIC_TIMESTAMP"]) <= int(later["__MONOTONIC_TIMESTAMP"])


async def test_it_is_active_once_listening_is_proven_and_not_before(
    services: tuple[Service, Service], postgres: EmbeddedServer
) -> None:
    service, _ = services
    service.db.close()
    await anyio.to_thread.run_sync(postgres.stop)
    await service.systemctl("start", "--no-block")
    await service.journal.until_said("listen.lost", count=2)
    assert await service.active() == "activating"
    await anyio.to_thread.run_sync(postgres.start)
    started = await service.journal.until_managed("Started ")
    ready = await service.journal.until_said("listen.ready")
    assert order(ready, started)
    assert await service.active() == "active"
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paidwatch listen'"
    assert await service.db.fetchval(listening) == 1
    assert await service.show("NRestarts") == "0"
    await service.ended_well()


async def test_a_payment_becomes_an_alert_and_the_journal_says_so_without_a_secret(
    services: tuple[Service, Service], told: Sink
) -> None:
    service, _ = services
    await service.systemctl("start")
    payment = await paid(service.db)
    await told.until_told([payment])
    opened = await service.journal.until_said("gap.opened")
    await service.journal.until_said("delivery.sent")
    assert f" payment={payment} " in f"{opened['MESSAGE']} "
    assert opened["PRIORITY"] == "4"
    assert service.journal.said("listen.ready")[0]["PRIORITY"] == "6"
    assert opened["SYSLOG_IDENTIFIER"] == "paidwatch"
    status = await anyio.to_thread.run_sync(lambda: service.machine.ask("systemctl", "status", "--no-pager", UNIT))
    assert re.search(r'Status: "leader', status)
    assert await service.show("User") == "paidwatch"
    await service.ended_well()
    shown = "\n".join([status, *(str(entry) for entry in service.journal.entries)])
    assert PASSWORD not in shown
    assert told.url("ops") not in shown


async def test_a_reload_takes_a_new_configuration_whole_or_leaves_the_old_one(
    services: tuple[Service, Service], told: Sink
) -> None:
    service, _ = services
    await service.systemctl("start")
    process = await service.show("MainPID")
    service.machine.write("/etc/paidwatch/paidwatch.toml", "[grace]\ndefault = 'soon'\n", mode=0o640, group="paidwatch")
    await service.systemctl("reload")
    await service.journal.until_said("config.refused")
    service.grace = "200ms"
    service.configure()
    await service.systemctl("reload")
    await service.journal.until_said("config.reloaded")
    await service.journal.until_managed("Reloaded ", count=2)
    payment = await paid(service.db)
    await told.until_told([payment])
    grace = await service.db.fetchval("SELECT grace_until - paid_at FROM paidwatch.watch")
    assert grace.total_seconds() == 0.2
    assert await service.active() == "active"
    assert await service.show("MainPID") == process
    await service.ended_well()


async def test_a_daemon_that_hangs_is_restarted_by_the_watchdog_and_tells_nothing_twice(
    services: tuple[Service, Service], told: Sink
) -> None:
    service, _ = services
    await service.systemctl("start")
    payments = {await paid(service.db), await paid(service.db)}
    await told.until_told(payments)
    await service.journal.until_said("delivery.sent", count=2)
    await service.systemctl("kill", "--kill-whom=main", "--signal=STOP")
    payments |= {await paid(service.db), await paid(service.db)}
    await service.journal.until_managed("Watchdog timeout")
    await service.journal.until_said("listen.ready", count=2)
    await told.until_told(payments)
    await service.journal.until_said("delivery.sent", count=4)
    assert await service.show("NRestarts") == "1"
    await service.ended_well()
    assert told.announced() == {(payment, "paid_not_active"): 1 for payment in payments}
    assert await told_and_done(service.db)


async def test_an_instance_works_beside_it_on_its_own_database(services: tuple[Service, Service], told: Sink) -> None:
    plain, instance = services
    await plain.systemctl("start")
    await instance.systemctl("start")
    assert [await plain.active(), await instance.active()] == ["active", "active"]
    await shop.add_payment(instance.db, await shop.add_user(instance.db))
    ours, theirs = await paid(plain.db), await paid(instance.db)
    assert ours != theirs
    await told.until_told([ours], channel="ops")
    await told.until_told([theirs], channel="other")
    await plain.ended_well()
    assert await instance.active() == "active"
    second = await paid(instance.db)
    await told.until_told([second], channel="other")
    await instance.ended_well()
    assert told.announced(channel="ops") == {(ours, "paid_not_active"): 1}
    assert told.announced(channel="other") == {(payment, "paid_not_active"): 1 for payment in (theirs, second)}


async def test_a_wrong_configuration_is_told_once_and_not_started_again(services: tuple[Service, Service]) -> None:
    service, _ = services
    service.machine.write("/etc/paidwatch/paidwatch.toml", "[grace]\ndefault = 'soon'\n", mode=0o640, group="paidwatch")
    with pytest.raises(AssertionError):
        await service.systemctl("start")
    assert await service.active() == "failed"
    assert [await service.show(fact) for fact in ("ExecMainStatus", "NRestarts")] == ["78", "0"]
