"""The demo plays the real thing, notices when it does not come true, and leaves nothing behind however it ends."""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from paidwatch.ops.demo import Demo, Plan
from paidwatch.ops.demo_pages import Course
from paidwatch.ops.demo_program import environment
from tests.support.daemon import ENVIRONMENT
from tests.support.site import Silent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd and the parent-death signal")
LISTENING = "paidwatch  listening"
SHOP = "open to you as well: "


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path that everybody may write to, as /tmp is: the demo's server may run as another user."""
    with tempfile.TemporaryDirectory(prefix="pw-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


class Showing:
    """A demo that runs, and what it has said so far."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.said = ""
        self._process = subprocess.Popen(
            (sys.executable, "-m", "paidwatch", "demo", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT | {"TMPDIR": str(place)},
        )

    def until(self, text: str) -> None:
        assert self._process.stdout is not None
        while text not in self.said:
            line = self._process.stdout.readline()
            assert line, f"it ended without saying {text!r}: {self.said}"
            self.said += line

    def descendants(self) -> list[int]:
        """Return the handles of its children and theirs."""
        found, queue = [], [self._process.pid]
        while queue:
            pid = queue.pop()
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
            if pid != self._process.pid:
                found.append(os.pidfd_open(pid))
        return found

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self, how: signal.Signals | None = None) -> int:
        if how is not None:
            self._process.send_signal(how)
        rest, _ = self._process.communicate(timeout=60)
        self.said += rest
        return self._process.returncode


def buy(showing: Showing) -> None:
    """Press a button in the demo's shop, and see that its way ends on the success page."""
    showing.until(SHOP)
    shop = showing.said.partition(SHOP)[2].strip().rstrip("/")
    with urlopen(Request(f"{shop}/pay/{Course.RENAMED}", method="POST"), timeout=20) as answer:
        assert answer.url.startswith(f"{shop}/payment/success?session_id=")
        assert "NP_id=" in answer.read().decode()
    showing.until("orders professional on the web")


def await_end(handles: list[int]) -> None:
    for handle in handles:
        assert select.select([handle], [], [], 30)[0], "a process outlives the demo"
        os.close(handle)


def test_once_shows_everything_and_ends_by_itself(place: Path) -> None:
    showing = Showing(place, "--once")
    assert showing.end() == 0, showing.said
    for title in ("NEW · user 3 paid 29.99 USD (vip_elite)", "FIXED · user 4 paid 14.99", "RESOLVED · user 3"):
        assert showing.said.count(title) == 2, f"{title} in both chats: {showing.said}"
    assert "Discord (edits its message)" in showing.said
    assert SHOP not in showing.said
    assert re.search(r"gaps open now +0 ", showing.said)
    assert "Traceback" not in showing.said
    assert max(map(len, showing.said.splitlines())) <= 80
    assert list(place.iterdir()) == []


def test_interrupted_by_a_signal_it_cleans_up(place: Path) -> None:
    showing = Showing(place, "--once")
    showing.until(LISTENING)
    handles = showing.descendants()
    assert len(handles) > 2
    assert showing.end(signal.SIGTERM) == 130
    await_end(handles)
    assert "Traceback" not in showing.said
    assert list(place.iterdir()) == []


def test_whoever_watches_can_buy_and_killed_it_leaves_no_process_and_no_file(place: Path) -> None:
    showing = Showing(place)
    buy(showing)
    handles = showing.descendants()
    assert showing.end(signal.SIGKILL) == -signal.SIGKILL
    await_end(handles)
    assert list(place.iterdir()) == []


@pytest.mark.thorough
def test_interrupted_twice_it_ends_at_once_whatever_a_visitor_has_begun(place: Path) -> None:
    showing = Showing(place)
    buy(showing)
    handles = showing.descendants()
    showing.interrupt()
    showing.until("once more to end at once")
    assert showing.end(signal.SIGINT) == 130
    await_end(handles)
    assert "Traceback" not in showing.said
    assert list(place.iterdir()) == []


@pytest.mark.thorough
async def test_a_channel_that_is_not_told_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    narrator = Silent()
    result = await Demo(Plan(once=True, channels=("slack",), patience=timedelta(seconds=2)), narrator).run()
    assert result.finished
    assert not result.well
    assert "discord said nothing about customer 3, expected NEW" in narrator.bad
    assert not [failure for failure in result.tally.failures if failure.startswith("slack")]


def test_the_operators_own_installation_is_left_alone() -> None:
    own = {"PAIDWATCH_DATABASE__DSN": "x", "PGHOST": "x", "CREDENTIALS_DIRECTORY": "x", "NOTIFY_SOCKET": "x"}
    assert environment({**own, "PATH": "/bin"}) == {"PATH": "/bin"}
