"""What an e-mail looks like: headers that make one conversation of a story, text first, HTML last.

The text is made for a terminal of 80 columns, the HTML for any mail program: one table, no pictures, nothing that is
fetched, and no link but the one for approving, where there is something to approve.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape as html_escape
from textwrap import wrap
from typing import Final

from paidwatch.channels.layout import (
    APPROVE,
    APPROVE_WORDS,
    Fact,
    digest_of,
    facts_of,
    link_of,
    shown,
    source_of,
    title_of,
)
from paidwatch.core.model import Notice, Word
from paidwatch.core.text import clean, defang, fit
from paidwatch.ports import Message

_SUBJECT: Final = 160
_VALUE: Final = 2000
_MOST_FACTS: Final = 100
_MOST_VALUES: Final = 100
_WIDTH: Final = 78
_LABEL_WIDTH: Final = range(12, 21)
"""The longest label decides, within these."""
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.-]{1,200}")
_COLOURS: Final = {
    Word.NEW: "#b3261e",
    Word.ESCALATED: "#7a0000",
    Word.STILL: "#b35c00",
    Word.FIXED: "#146c2e",
    Word.RESOLVED: "#146c2e",
}
_OTHER_COLOUR: Final = "#0b57d0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One e-mail, ready to send, and what later ones of the story need to know of it."""

    mail: EmailMessage
    reference: dict[str, str]
    size: int


def compose(message: Message, *, sender: str, recipients: tuple[str, ...]) -> Letter:
    """Return the e-mail for a message: the same bytes for the same message, on every attempt."""
    notice = message.notice
    domain = _domain(sender)
    own = f"<{digest_of(message.key)}@{domain}>"
    story = f"<{digest_of(message.thread)}@{domain}>"
    first = message.earlier.get("message_id", "")
    subject = _header(message.earlier.get("subject", "")) or f"[paidwatch] {_header(notice.subject)}"

    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = f"paidwatch <{sender}>"
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = subject
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = own
    if _is_message_id(first):
        mail["In-Reply-To"] = first
        mail["References"] = f"{story} {first}"
    else:
        mail["References"] = story
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["X-Paidwatch-Word"] = notice.word.value
    mail["X-Paidwatch-Kind"] = _header(notice.kind)
    mail.set_content(text_of(notice), cte="quoted-printable")
    mail.add_alternative(html_of(notice), subtype="html", cte="quoted-printable")
    mail.set_boundary(f"=_{digest_of(message.key)}")
    root = first if _is_message_id(first) else own
    return Letter(mail=mail, reference={"message_id": root, "subject": subject}, size=len(mail.as_bytes()))


def _domain(sender: str) -> str:
    """Return the domain for message ids."""
    domain = sender.rpartition("@")[2]
    return domain if _DOMAIN.fullmatch(domain) else "paidwatch.invalid"


def _header(text: str) -> str:
    """Return text for a header: one line, cut, and nothing in it that reads as an encoded word."""
    return fit(clean(text).replace("=?", "= ?"), _SUBJECT, escape=defang)


def _is_message_id(text: str) -> bool:
    return re.fullmatch(r"<[!-;=?-~]{1,200}@[!-;=?-~]{1,200}>", text) is not None


def text_of(notice: Notice) -> str:
    """Return the text: title, what happened, the facts in two columns, what to type next."""
    return "\n".join(_text_lines(notice)) + "\n"


def _text_lines(notice: Notice) -> Iterator[str]:
    yield from _wrapped(title_of(notice))
    yield ""
    yield from _wrapped(clean(notice.summary))
    yield ""
    facts = _facts(notice)
    column = min(max([_LABEL_WIDTH[0], *(len(defang(fact.label)) for fact in facts)]), _LABEL_WIDTH[-1])
    for fact in facts:
        label = fit(fact.label, column, escape=defang)
        values = _values(fact)
        hanging = "" if len(values) == 1 else "  "
        for value in values:
            for line in _broken(defang(value), _WIDTH - column - 2, hanging):
                yield f"{label:<{column}}  {line}"
                label = ""
    if notice.command:
        yield ""
        yield "Next:"
        yield f"    {fit(clean(notice.command), _VALUE, escape=defang)}"
    if link := link_of(notice):
        yield ""
        yield f"{APPROVE}:"
        yield f"    {link}"
    yield ""
    yield "-- "
    yield fit(source_of(notice), _WIDTH, escape=defang)


def _wrapped(text: str) -> list[str]:
    return _broken(fit(text, _VALUE, escape=defang), _WIDTH)


def _broken(text: str, width: int, hanging: str = "") -> list[str]:
    """Break between words; a word that is too long stays whole, so that it can be copied."""
    return wrap(text, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False) or [""]


_GREY: Final = "color:#5c6370"
_BODY: Final = (
    "margin:0;padding:16px;background:#f3f4f6;color:#1f2328;font:15px/1.45 system-ui,Helvetica,Arial,sans-serif"
)
_CARD: Final = "max-width:640px;margin:0 auto;background:#ffffff;border:1px solid #d8dce2;border-top:5px solid"
_HEADING: Final = "margin:2px 0 10px;font-size:19px;line-height:1.3;overflow-wrap:anywhere"
_COMMAND: Final = (
    "margin:0;padding:10px 12px;background:#f3f4f6;border:1px solid #d8dce2;"
    "font:14px/1.4 ui-monospace,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere"
)
_LABEL: Final = f"margin:16px 0 4px;{_GREY}"
_FOOT: Final = f"margin:0;padding:10px 22px;border-top:1px solid #e6e8ec;{_GREY};font-size:13px"
_CELL: Final = "padding:5px 0;border-top:1px solid #eef0f3;vertical-align:top"

_ITEM: Final = "padding:1px 0 4px 14px;text-indent:-14px;font-size:14px"
"""One of several values: what it wraps into is indented."""


def html_of(notice: Notice) -> str:
    """Return the same as HTML."""
    colour = _COLOURS.get(notice.word, _OTHER_COLOUR)
    rows = "\n".join(_row(fact) for fact in _facts(notice))
    pasted = f'<p style="{_LABEL}">Next</p>\n<pre style="{_COMMAND}">{_h(notice.command)}</pre>\n'
    link = link_of(notice)
    approve = f'<p style="{_LABEL}">{APPROVE}</p>\n<p style="margin:0"><a href="{link}">{APPROVE_WORDS}</a></p>\n'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">
<title>{_h(title_of(notice))}</title>
</head>
<body style="{_BODY}">
<div style="{_CARD} {colour}">
<div style="padding:18px 22px">
<p style="margin:0;color:{colour};font-weight:700;letter-spacing:.06em">{_h(notice.word.value)}</p>
<h1 style="{_HEADING}">{_h(notice.subject)}</h1>
<p style="margin:0 0 14px">{_h(notice.summary)}</p>
<table style="border-collapse:collapse;width:100%" role="presentation">
{rows}
</table>
{pasted if notice.command else ""}{approve if link else ""}</div>
<p style="{_FOOT}">{_h(source_of(notice))}</p>
</div>
</body>
</html>
"""


def _row(fact: Fact) -> str:
    values = _values(fact)
    said = (
        _h(values[0]) if len(values) == 1 else "\n".join(f'<div style="{_ITEM}">{_h(value)}</div>' for value in values)
    )
    return (
        f'<tr><td style="{_CELL};padding-right:16px;{_GREY};white-space:nowrap">{_h(fact.label)}</td>'
        f'<td style="{_CELL};width:100%;overflow-wrap:anywhere">{said}</td></tr>'
    )


def _h(text: str) -> str:
    """Return text for HTML: cleaned, cut, with nothing to click and no markup."""
    return html_escape(defang(fit(clean(text), _VALUE)))


def _facts(notice: Notice) -> list[Fact]:
    """Return the facts, and how many were too many."""
    facts = facts_of(notice.lines)
    more = len(facts) - _MOST_FACTS
    if more <= 0:
        return facts
    return [*facts[:_MOST_FACTS], Fact(label="More", values=(f"({more} more facts)…",), short=False)]


def _values(fact: Fact) -> list[str]:
    """Return the values of a fact, cut, and how many were too many."""
    values = [fit(shown(value), _VALUE) for value in fact.values[:_MOST_VALUES]]
    more = len(fact.values) - _MOST_VALUES
    return [*values, f"({more} more lines)…"] if more > 0 else values
