"""Makes the pictures of the chat messages: `.venv/bin/python -m docs.images.chats`, with Chromium.

Each one is made from the very body that is sent to Slack or Discord for a message of `tests/channels/stories.py`, laid
out about as the service lays it out; every word in it comes from that body.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from html import escape, unescape
from pathlib import Path
from typing import Any, Final

from docs.images.letters import HERE, MEASURE, browse
from paidwatch.channels import discord, slack
from tests.channels.stories import notice_of

WIDTH: Final = 660
SHOWN: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("slack", ("new_paid_not_active", "still", "incident_still", "incident_resolved", "channel_down_new", "daily")),
    ("discord", ("new_paid_not_active", "still_acked", "incident_still", "resolved", "channel_down_new", "daily")),
)
"""Cases of the golden files."""
STYLE: Final = """
* { box-sizing: border-box; margin: 0 }
body { font: 15px/1.45 "Liberation Sans", Arial, "DejaVu Sans", sans-serif; padding: 16px 20px; width: 660px }
.message { display: grid; grid-template-columns: 36px 1fr; gap: 0 12px }
.face { width: 36px; height: 36px; border-radius: 8px; background: #1f6feb; color: #fff; font-weight: bold;
  text-align: center; line-height: 36px }
.name { font-weight: bold }
.app { font-size: 11px; border-radius: 3px; padding: 1px 4px; margin: 0 6px; vertical-align: 1px }
.time { font-size: 12px; color: #6b6f76 }
i { display: inline-block; width: 16px; height: 16px; border-radius: 8px; vertical-align: -2px }
h1 { font-size: 18px; line-height: 1.35; margin: 6px 0 8px }
.part { margin-bottom: 8px; white-space: pre-line; overflow-wrap: anywhere }
.fields { display: grid; gap: 8px 16px; margin-bottom: 8px }
.two { grid-template-columns: 1fr 1fr } .three { grid-template-columns: repeat(3, 1fr) } .wide { grid-column: 1 / -1 }
.fields div { white-space: pre-line; overflow-wrap: anywhere }
pre { font: 13px/1.5 "DejaVu Sans Mono", monospace; white-space: pre-wrap; border-radius: 4px; padding: 8px;
  margin-top: 4px }
.foot { font-size: 12.5px }
.slack { background: #fff; color: #1d1c1d } .slack .app { background: #e8e8e8; color: #616061 }
.slack pre { background: #f8f8f8; border: 1px solid #ddd } .slack .foot { color: #616061 }
.discord { background: #313338; color: #dbdee1 } .discord .face { border-radius: 18px; background: #5865f2 }
.discord .name { color: #f2f3f5 } .discord .app { background: #5865f2; color: #fff } .discord .time { color: #949ba4 }
.discord .embed { background: #2b2d31; border-radius: 4px; border-left: 4px solid; padding: 10px 14px 12px;
  margin-top: 6px; font-size: 14px; max-width: 520px }
.discord pre { background: #1e1f22; border: 1px solid #1a1b1e } .discord .foot { color: #b5bac1; margin-top: 8px }
.discord b { color: #f2f3f5 }
"""

SLACK_DATE: Final = re.compile(r"&lt;!date\^(\d+)\^[^|]*\|[^&]*&gt;")
COLOURS: Final = {"🔴": "#dd2e44", "🟠": "#f4900c", "🟢": "#78b159", "🔵": "#55acee"}
"""The circles are drawn, because not every machine has a font with them."""
HOUR: Final = 60
"""Minutes."""
DISCORD_DATE: Final = re.compile(r"&lt;t:(\d+):f&gt;, &lt;t:\d+:R&gt;")


def slack_html(body: Mapping[str, Any], at: datetime) -> str:
    """Return one message of Slack as a page."""
    return _page("slack", "".join(_slack_parts(body["blocks"])), at)


def _slack_parts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        match block["type"]:
            case "header":
                yield f"<h1>{_circled(escape(block['text']['text']))}</h1>"
            case "context":
                yield f"<div class='part foot'>{' '.join(_slack_text(it) for it in block['elements'])}</div>"
            case _ if "fields" in block:
                cells = [_slack_text(field) for field in block["fields"]]
                pairs = zip(cells[::2], cells[1::2], strict=True)
                shown = "".join(f"<div>{label}</div><div>{value}</div>" for label, value in pairs)
                yield f"<div class='fields two'>{shown}</div>"
            case _:
                yield f"<div class='part'>{_slack_text(block['text'])}</div>"


def _circled(title: str) -> str:
    colour = COLOURS.get(title[0])
    return f"<i style='background: {colour}'></i>{title[1:]}" if colour else title


def _slack_text(element: Mapping[str, str]) -> str:
    if element["type"] == "plain_text":
        return escape(element["text"])
    text = SLACK_DATE.sub(lambda found: _moment(found[1]), escape(unescape(element["text"])))
    text = re.sub(r"```(.*?)```", r"<pre>\1</pre>", text, flags=re.DOTALL).replace("\n<pre>", "<pre>")
    return re.sub(r"\*(.+?)\*", r"<b>\1</b>", text)


def discord_html(body: Mapping[str, Any], at: datetime) -> str:
    """Return one message of Discord as a page."""
    embed = body["embeds"][0]
    fields = "".join(
        f"<div class='{'' if field['inline'] else 'wide'}'><b>{_discord_text(field['name'])}</b>\n"
        f"{_discord_text(field['value'], at)}</div>"
        for field in embed["fields"]
    )
    stamp = datetime.fromisoformat(embed["timestamp"])
    inside = (
        f"<div class='part'>{_discord_text(embed['description'], at)}</div><div class='fields three'>{fields}</div>"
        f"<div class='foot'>{escape(embed['footer']['text'])} · {stamp:%d/%m/%Y %H:%M}</div>"
    )
    colour = f"#{embed['color']:06x}"
    title = _discord_text(body["content"], at)
    return _page("discord", f"<div>{title}</div><div class='embed' style='border-color: {colour}'>{inside}</div>", at)


def _discord_text(text: str, at: datetime | None = None) -> str:
    shown = escape(text)
    if at is not None:
        shown = DISCORD_DATE.sub(lambda found: f"{_moment(found[1])}, {_ago(found[1], at)}", shown)
    shown = re.sub(r"```\n(.*?)\n```", r"<pre>\1</pre>", shown, flags=re.DOTALL)
    shown = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", shown)
    return re.sub(r"\\(.)", r"\1", shown)


def _moment(unix: str) -> str:
    return f"{datetime.fromtimestamp(int(unix), UTC):%b %-d at %H:%M:%S}"


def _ago(unix: str, at: datetime) -> str:
    minutes = round((at.timestamp() - int(unix)) / 60)
    number, unit = (round(abs(minutes) / 60), "hour") if abs(minutes) >= HOUR else (abs(minutes), "minute")
    length = f"{number or 'a few'} {unit if number == 1 else f'{unit}s'}" if minutes else "a few seconds"
    return f"in {length}" if minutes < 0 else f"{length} ago"


def _page(service: str, inside: str, at: datetime) -> str:
    head = f"<span class='name'>paidwatch</span><span class='app'>APP</span><span class='time'>{at:%H:%M}</span>"
    return (
        f"<!doctype html><meta charset='utf-8'><title></title><style>{STYLE}</style><body class='{service}'>"
        f"<div class='message'><div class='face'>p</div><div>{head}{inside}</div></div>"
    )


MADE: Final[Mapping[str, Callable[[str], str]]] = {
    "slack": lambda case: slack_html(slack.payload(notice_of(case)), notice_of(case).at),
    "discord": lambda case: discord_html(discord.payload(notice_of(case)), notice_of(case).at),
}


def main() -> None:
    """Make every picture, each as high as its message."""
    with tempfile.TemporaryDirectory() as folder:
        for service, cases in SHOWN:
            for case in cases:
                page = Path(folder) / f"{service}-{case}.html"
                html = MADE[service](case)
                page.write_text(
                    html + MEASURE.replace("documentElement.scrollHeight", "body.offsetHeight"), encoding="utf-8"
                )
                found = re.search(r"<title>(\d+)</title>", browse(page, f"--window-size={WIDTH},200", "--dump-dom"))
                height = int(found[1]) if found else 1000
                page.write_text(html, encoding="utf-8")
                name = f"{service}-{case.replace('_', '-')}.png"
                browse(page, f"--window-size={WIDTH},{height}", f"--screenshot={HERE / name}")
                print(name, height)


if __name__ == "__main__":
    main()
