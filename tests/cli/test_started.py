"""Every command as users start it, and that a forked one, as most tests start it, does the same."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paidwatch.cli.root import COMMANDS
from tests.support.command import config, watched
from tests.support.daemon import ENVIRONMENT, STARTER, paidwatch
from tests.support.forked import POSSIBLE, Forked
from tests.support.postgres import Database
from tests.support.shop import add_user

__all__ = ["config", "watched"]

forked = pytest.mark.skipif(not POSSIBLE, reason="nothing is forked here")
ELSEWHERE = {"run", "watch", "activate", "drill", "demo"}
"""Started for real by other tests: in tests/acceptance, on a terminal, and where what they start must end with them."""
ONCE = {
    "install": ([], 0),
    "check": ([], 0),
    "user": (["1"], 0),
    "undo": (["1", "--yes"], 1),
    "activations": ([], 0),
    "activation": (["status"], 0),
    "alerts": ([], 0),
    "deliveries": ([], 0),
    "webhooks": ([], 0),
    "stats": (["--since", "1h"], 0),
    "doctor": ([], 1),
    "test-alert": ([], 1),
    "config": (["check"], 0),
    "uninstall": ([], 0),
}
"""Arguments and exit code where there is one user and nothing has happened yet."""
TIME = re.compile(r"\d\d:\d\d:\d\d UTC")
OWNER = """
import sys
from tests.support.daemon import ENVIRONMENT
from tests.support.forked import ForkServer

server = ForkServer(ENVIRONMENT)
one = server.fork("run", "--config", sys.argv[1], environ=ENVIRONMENT, heard=False)
print(server.process.pid, one.pid, flush=True)
sys.stdin.read()
"""


def test_no_command_is_forgotten() -> None:
    assert set(COMMANDS) == set(ONCE) | ELSEWHERE


@pytest.mark.parametrize("name", ONCE)
async def test_a_forked_command_says_what_a_real_one_says(watched: Database, config: Path, name: str) -> None:
    words, code = ONCE[name]
    assert await add_user(watched) == 1
    with STARTER.real():
        real = await STARTER.run(name, *words, "--config", str(config))
    assert real.returncode == code, real
    assert "should not have happened" not in real.stderr
    await paidwatch("install", config=config)  # after a real uninstall
    again = await STARTER.run(name, *words, "--config", str(config))
    assert again.returncode == code
    assert TIME.sub("then", again.stdout) == TIME.sub("then", real.stdout)
    assert again.stderr == real.stderr


@forked
async def test_a_forked_command_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    await STARTER.run("--version")  # now there is a server, which cannot know what follows
    monkeypatch.setitem(ENVIRONMENT, "PAIDWATCH_CONFIG", "absent.toml")
    async with await STARTER.start("config", "show") as one:
        assert isinstance(one, Forked)
        assert one.pid != os.getpid()
        assert one.stderr is not None
        assert b"absent.toml" in await one.stderr.receive()
        assert await one.wait() == one.returncode == 78
        with pytest.raises(ProcessLookupError):
            one.kill()


@forked
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
async def test_a_signal_reaches_a_forked_command(
    watched: Database, config: Path, how: signal.Signals, code: int
) -> None:
    async with await STARTER.start("watch", "--json", "--config", str(config)) as one:
        assert isinstance(one, Forked)
        assert one.stdout is not None
        assert await one.stdout.receive()
        one.send_signal(how)
        assert await one.wait() == code


@forked
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_the_server_ends_with_its_owner_and_so_does_what_it_forked(
    watched: Database, config: Path, how: signal.Signals
) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", OWNER, str(config)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as owner:
        assert owner.stdout is not None
        handles = [os.pidfd_open(int(pid)) for pid in owner.stdout.readline().split()]
        owner.send_signal(how)
    assert len(handles) == 2
    for handle in handles:
        assert select.select([handle], [], [], 30)[0], "it outlives its owner"
        os.close(handle)
