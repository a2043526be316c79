"""A real browser without a window: Debian's Chromium, spoken to over its DevTools protocol."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from anyio.streams.text import TextReceiveStream

from tests.support.sink import WITHIN

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--window-size=900,500",
)


def program() -> str | None:
    """Return where Chromium is, None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


LEFT = -32000
"""The code of an error that says: meanwhile another page has come."""


class Left(Exception):
    """What was asked was asked of a page that is not there any more."""


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = count(1)

    async def ask(self, method: str, **params: object) -> Any:
        """Send one command and return its result."""
        number = next(self._numbers)
        await self._socket.send_json(
            {"id": number, "method": method, "params": params} | ({"sessionId": self._session} if self._session else {})
        )
        with anyio.fail_after(WITHIN):
            while True:
                said = json.loads(await self._socket.receive_str())
                if said.get("id") == number:
                    if said.get("error", {}).get("code") == LEFT:
                        raise Left(said["error"]["message"])
                    assert "error" not in said, said
                    return said["result"]

    async def evaluate(self, script: str) -> Any:
        """Return what an expression comes to, a promise's outcome included."""
        result = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def shows(self, selector: str, state: str) -> str:
        """Wait until the element says that it shows this state, on whatever page comes, and return its text."""
        found = f"place && place.dataset.state === {json.dumps(state)}"
        with anyio.fail_after(WITHIN):
            while True:
                with suppress(Left):
                    text = await self._once(selector, found, "place.textContent")
                    assert isinstance(text, str)
                    return text

    async def click(self, selector: str) -> None:
        """Wait until the element is there, and click it."""
        await self._once(selector, "place", "void setTimeout(() => place.click())")

    async def _once(self, selector: str, condition: str, outcome: str) -> Any:
        return await self.evaluate(
            f"""new Promise((done) => {{
                const look = () => {{
                    const place = document.querySelector({json.dumps(selector)});
                    if ({condition}) {{ watcher.disconnect(); done({outcome}); }}
                }};
                const watcher = new MutationObserver(look);
                watcher.observe(document, {{subtree: true, childList: true, attributes: true}});
                look();
            }})"""
        )

    async def picture(self) -> bytes:
        """Return a PNG of what is seen."""
        return b64decode((await self.ask("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """Start a browser of its own, with nothing in it, and yield its one tab."""
    found = program()
    assert found is not None
    # Inside a container root may not make the namespaces of the sandbox; what is opened here is the test's own page.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = await anyio.open_process(
        [found, *QUIET, *sandbox, f"--user-data-dir={folder / 'browser'}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(folder)},
    )
    assert process.stderr is not None
    stderr = TextReceiveStream(process.stderr, errors="replace")
    try:
        address = ""
        said = ""
        with anyio.fail_after(WITHIN):
            while not address:
                said += await stderr.receive()
                for line in said.splitlines(keepends=True):
                    if line.startswith("DevTools listening on ") and line.endswith("\n"):
                        address = line.removeprefix("DevTools listening on ").strip()
        async with (
            anyio.create_task_group() as tasks,
            aiohttp.ClientSession() as client,
            client.ws_connect(address, max_msg_size=0) as socket,
        ):
            tasks.start_soon(_swallow, stderr)
            whole = Page(socket, "")
            target = (await whole.ask("Target.createTarget", url="about:blank"))["targetId"]
            session = (await whole.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
            page = Page(socket, session)
            await page.ask("Page.enable")
            yield page
            tasks.cancel_scope.cancel()
    finally:
        process.kill()
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            await process.wait()
        await process.aclose()


async def _swallow(stderr: TextReceiveStream) -> None:
    """Read what it says, so that it can go on saying."""
    async for _text in stderr:
        pass
