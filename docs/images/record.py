"""Makes the pictures of the README from the running program: `.venv/bin/python docs/images/record.py`.

Each command runs in a terminal of 80 columns; what it writes there becomes an SVG, nothing is drawn by hand.
"""

import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import anyio
from rich.console import Console
from rich.text import Text

from paidwatch.ops.demo_chat import Chat
from paidwatch.ops.demo_program import Daemon, command, configuration, environment
from paidwatch.ops.demo_shop import DATABASE, Shop, build
from paidwatch.ops.embedded import EmbeddedServer

HERE = Path(__file__).parent
COLUMNS, LINES = 80, 24
LIMIT = timedelta(seconds=30)

FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own form fetches a font from elsewhere."""


def in_terminal(line: list[str]) -> str:
    """Run a command in a terminal of its own and return what it wrote, colours included."""
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (LINES, COLUMNS))
    colours = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    with subprocess.Popen(
        line, stdin=inner, stdout=inner, stderr=inner, env=environment(os.environ) | colours
    ) as running:
        os.close(inner)
        written = b""
        while running.poll() is None or select.select([outer], [], [], 0)[0]:
            if select.select([outer], [], [], 0.1)[0]:
                try:
                    written += os.read(outer, 65536)
                except OSError:
                    break
    os.close(outer)
    return written.decode().replace("\r\n", "\n")


def picture(name: str, title: str, ansi: str) -> None:
    """Write an SVG."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for line in ansi.rstrip("\n").split("\n"):
            console.print(Text.from_ansi(line), soft_wrap=True)
        svg = console.export_svg(title=title, code_format=FORMAT, unique_id=name)
    (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"{name}.svg")


def messages(played: str, channel: str, about: str) -> str:
    """Return the messages of one channel that are about one user, as they were shown."""
    shown: list[list[str]] = []
    for line in played.split("\n"):
        if re.search(r"\d\d:\d\d:\d\d  ", line):
            shown.append([line])
        elif shown:
            shown[-1].append(line)
    return "\n".join(line for block in shown if channel in block[0] and about in block[1] for line in block)


async def with_gaps(show: Callable[[str], None]) -> None:
    """Open a few gaps in a shop of its own under a daemon that only tells, and show them."""
    server = EmbeddedServer()
    await anyio.to_thread.run_sync(server.start)
    try:
        await build(server.dsn(DATABASE), server=server.dsn())
        async with (
            anyio.create_task_group() as tasks,
            Chat(lambda _shown: None) as chat,
            Shop(server.dsn(DATABASE)) as shop,
        ):
            config = server.home / "paidwatch.toml"
            text = configuration(server.dsn(DATABASE), {"slack": chat.address("slack")}, grace="2s")
            config.write_text(text.replace('mode = "auto"', 'mode = "off"'), encoding="utf-8")
            await command(config, "install")
            async with Daemon(config, tasks, lambda _event, _fields: None) as daemon:
                await daemon.ready(LIMIT)
                orders = [await shop.order(f"customer{number}", plan) for number, plan in enumerate(PLANS, 1)]
                for order in orders:
                    await shop.pay(order)
                for order in orders[:3]:
                    await shop.activate(order)
                await shop.log_webhook(orders[3], "TypeError: unsupported plan")
                await chat.wait_for(lambda: len(chat.messages) >= len(PLANS) - 3, LIMIT)
                await anyio.to_thread.run_sync(show, str(config))
    finally:
        await anyio.to_thread.run_sync(server.close)


PLANS = ("professional", "vip_elite", "professional", "vip_elite", "professional", "professional")


def main() -> None:
    """Make every picture."""
    paidwatch = [sys.executable, "-m", "paidwatch"]
    played = in_terminal([*paidwatch, "demo", "--once"])
    picture("demo", "paidwatch demo --once", played)
    picture("alert", "Slack", messages(played, "Slack", "user 3"))

    def show(config: str) -> None:
        picture("check", "paidwatch check", in_terminal([*paidwatch, "check", "--config", config]))
        picture("watch", "paidwatch watch", in_terminal([*paidwatch, "watch", "--once", "--config", config]))

    anyio.run(with_gaps, show)


if __name__ == "__main__":
    main()
