"""`paidwatch_breaker_open` is right on whoever is asked: after a restart, on a standby, whoever moved the breaker."""

import socket
from pathlib import Path

import aiohttp
import anyio

from tests.support.daemon import Sections, configuration, paidwatch
from tests.support.postgres import Database
from tests.support.sink import WITHIN
from tests.support.watched import Start


def listening() -> tuple[Sections, str]:
    """Return sections for HTTP on a free port, and the address of the metrics there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    return {"http": {"listen": f"{host}:{port}"}}, f"http://{host}:{port}/metrics"


async def shown(address: str) -> str | None:
    """Return the value that is shown; None: there is no such series."""
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        lines = (await answer.text()).splitlines()
    return next((line.split()[1] for line in lines if line.startswith("paidwatch_breaker_open ")), None)


async def until(address: str, value: str) -> None:
    """Ask until this is shown."""
    found = None
    with anyio.move_on_after(WITHIN):
        while (found := await shown(address)) != value:
            pass
    assert found == value


async def act(config: Path, *arguments: str) -> None:
    await paidwatch("activation", *arguments, config=config)


async def test_it_is_right_on_leader_and_standby_and_after_a_restart(watched: Database, start: Start) -> None:
    (one, leader_address), (two, standby_address) = listening(), listening()
    async with start(one) as leader:
        await leader.ready()
        assert await shown(leader_address) == "0.0"
        async with start(two) as standby:
            await standby.log("lead.waiting")
            assert await shown(standby_address) == "0.0"
            await act(leader.config, "pause", "--reason", "a deploy")
            await until(leader_address, "1.0")
            await until(standby_address, "1.0")
            await leader.stop()
            await standby.ready()
            assert await shown(standby_address) == "1.0"
            await act(standby.config, "resume")
            await until(standby_address, "0.0")
    await watched.execute("UPDATE paidwatch.breaker SET opened_at = now(), opened_by = 'cli:kim', reason = 'a deploy'")
    async with start(one) as restarted:
        await restarted.ready()
        assert await shown(leader_address) == "1.0"


async def test_it_moves_where_no_channel_is_told_too(watched: Database, start: Start, tmp_path: Path) -> None:
    silent = tmp_path / "silent.toml"
    silent.touch(mode=0o600)
    silent.write_text(configuration(watched, None))
    section, address = listening()
    async with start(section) as daemon:
        await daemon.ready()
        await act(silent, "pause", "--reason", "a deploy")
        await until(address, "1.0")
