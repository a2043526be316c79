"""The pages of links: small HTML without scripts, pictures or anything that is fetched, for a telephone and a desktop.

What is said in colour is said in words as well; light or dark is as the reader's system has it. Every text goes through
`_h`, which leaves nothing of it but one line of text.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final, assert_never

from paidwatch.core.approval import Approved, End, Offer, Over, Result, command
from paidwatch.core.guards import Guard, GuardResult, Reason
from paidwatch.core.text import clean, fit, stamp

_MOST: Final = 300
"""Characters of one text."""

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f3f4f6; --card: #ffffff; --ink: #1f2328; --soft: #57606a; --line: #d8dce2;
  --good: #116329; --bad: #a40e26; --deed: #0b57d0; --deed-ink: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1216; --card: #181c22; --ink: #e6e8eb; --soft: #9aa4b0; --line: #313842;
    --good: #57c878; --bad: #ff8f8f; --deed: #8ab4f8; --deed-ink: #0b1b33; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: anywhere; }
main { max-width: 42rem; margin: 0 auto; padding: 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
h1 { margin: 0 0 .75rem; font-size: 1.35rem; line-height: 1.3; }
h2 { margin: 1.5rem 0 .25rem; font-size: 1rem; }
p { margin: .5rem 0; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .35rem 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; }
th { width: 38%; padding-right: 1rem; color: var(--soft); font-weight: 400; }
ul { margin: .5rem 0; padding-left: 1.25rem; }
pre { margin: .5rem 0; padding: .6rem .75rem; border: 1px solid var(--line); border-radius: .35rem;
  font: .9rem/1.4 ui-monospace, Consolas, monospace; white-space: pre-wrap; }
button { width: 100%; min-height: 3rem; margin-top: 1rem; padding: .6rem 1rem; border: 0; border-radius: .4rem;
  background: var(--deed); color: var(--deed-ink); font: inherit; font-weight: 600; cursor: pointer; }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 3px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.good, .bad { font-weight: 600; }
footer { max-width: 42rem; margin: .75rem auto 0; color: var(--soft); font-size: .85rem; }
@media (max-width: 30rem) { body { padding: .5rem; } main { padding: .9rem; } th { width: 44%; padding-right: .6rem; } }
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page."""

_GUARDS: Final = {
    Guard.FINAL: "Paid for good, grace over",
    Guard.NOT_REVERSED: "Not reversed",
    Guard.NEWEST: "Newest payment, no lower tier",
    Guard.OPEN_PERIOD: "Period open, payment recent",
    Guard.PRICE: "Plan and price",
    Guard.USER: "User may be granted",
    Guard.NOT_DONE: "Not activated yet",
    Guard.CORROBORATED: "Confirmed by a second source",
    Guard.MODE: "Mode",
    Guard.CAPS: "Caps",
    Guard.BREAKER: "Breaker",
}
_HEADINGS: Final = {
    Result.DONE: "Activated",
    Result.STARTED: "Approved",
    Result.REFUSED: "Not activated",
    Result.TAKEN: "Not activated",
}


def plain(title: str, *sentences: str) -> str:
    """Return a page of sentences."""
    return _document(title, _paragraphs(sentences))


def offer(seen: Offer, *, unconfirmed: bool = False) -> str:
    """Return what a link would do, what every guard says about it, and where it can be done the button that does it."""
    title = f"Approve payment {_short(seen.payment_id)}?"
    parts = [_paragraphs(["Nothing was done: the confirmation is missing."])] if unconfirmed else []
    if seen.possible:
        parts.append(_paragraphs(["Nothing has been done yet. Look, then decide."]))
    else:
        parts += [_paragraphs(["It cannot be done now."]), _list(seen.refusals)]
        parts.append(_by_hand(seen.user_id, seen.payment_id))
    parts.append(_table([("User", seen.who or "unknown"), ("Payment", seen.payment_id), *seen.facts]))
    if seen.possible:
        parts += ["<h2>What would be written</h2>", _table(seen.written), _paragraphs([seen.how])]
    parts += ["<h2>Guards</h2>", _guards(seen.guards)]
    if seen.possible:
        parts.append(
            '<form method="post"><input type="hidden" name="confirm" value="yes">'
            f"<button>Activate payment {_h(_short(seen.payment_id))} for {_h(seen.who or 'this user')}</button></form>"
        )
        parts.append(_paragraphs([f"This link acts once, until {stamp(seen.expires_at)}."]))
    return _document(title, "\n".join(parts))


def approved(acted: Approved) -> str:
    """Return what came of approving."""
    parts = [_list(acted.notes)] if acted.notes else []
    match acted.result:
        case Result.DONE:
            parts.append(_paragraphs([f"See it: paidwatch user {_short(acted.user_id or '')}"]))
        case Result.STARTED:
            parts.append(_paragraphs(["The application is being asked. What comes of it is told where the link was."]))
        case Result.REFUSED:
            parts.append(_paragraphs(["This link is used up; the next message about the payment holds another."]))
            parts.append(_by_hand(acted.user_id, acted.payment_id))
        case Result.TAKEN:
            parts.append(_by_hand(acted.user_id, acted.payment_id))
        case _ as unreachable:
            assert_never(unreachable)
    if acted.guards:
        parts += ["<h2>Guards</h2>", _guards(acted.guards)]
    return _document(f"{_HEADINGS[acted.result]}: payment {_short(acted.payment_id)}", "\n".join(parts))


def over(seen: Over) -> str:
    """Return why a link does nothing any more, and what to do instead."""
    sentences: list[str] = [seen.end.value]
    if seen.at is not None:
        sentences.append(f"{_when(seen.end)} {stamp(seen.at)}{f': {seen.result}' if seen.result else ''}.")
    return _document(
        "This link does nothing any more", _paragraphs(sentences) + _by_hand(seen.user_id, seen.payment_id)
    )


def _when(end: End) -> str:
    return "It was used at" if end is End.USED else "It was good until"


def _document(title: str, body: str) -> str:
    """Return a whole page; `body` is HTML, `title` is text."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">
<title>{_h(title)} · paidwatch</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_h(title)}</h1>
{body}
</main>
<footer>paidwatch</footer>
</body>
</html>
"""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    made = "\n".join(f'<tr><th scope="row">{_h(label)}</th><td>{_h(value)}</td></tr>' for label, value in rows)
    return f"<table>\n{made}\n</table>"


def _guards(results: Iterable[GuardResult]) -> str:
    """Return every guard with its answer; how it stands is said in words, and coloured."""
    rows: list[str] = []
    for result in results:
        stands = '<span class="good">Holds</span>' if result.passed else '<span class="bad">Refuses</span>'
        reason = "" if result.reason is Reason.HOLDS else f": {_h(result.reason.value)}"
        name = f"{_GUARDS[result.guard]} ({result.guard.value.partition('_')[0]})"
        rows.append(f'<tr><th scope="row">{_h(name)}</th><td>{stands}{reason}</td></tr>')
    return "<table>\n{}\n</table>".format("\n".join(rows))


def _by_hand(user_id: str | None, payment_id: str) -> str:
    return f"<p>By hand, after looking at it:</p>\n<pre>{_h(command(user_id, payment_id))}</pre>"


def _list(sentences: Iterable[str]) -> str:
    return "<ul>\n{}\n</ul>".format("\n".join(f"<li>{_h(sentence)}</li>" for sentence in sentences))


def _paragraphs(sentences: Iterable[str]) -> str:
    return "\n".join(f"<p>{_h(sentence)}</p>" for sentence in sentences)


def _short(text: str) -> str:
    return fit(clean(text), 80)


def _h(text: str) -> str:
    """Return text for HTML: one line, cut, without markup."""
    return escape(fit(clean(text), _MOST))


UNKNOWN: Final = plain(
    "There is nothing here",
    "This address leads nowhere, or to a link that was made elsewhere or with a key that was changed since.",
    "What waits for somebody is listed by: paidwatch alerts",
)
"""For everything that is no link of this installation."""
UNAVAILABLE: Final = plain(
    "paidwatch cannot look now",
    "Its database cannot be asked at the moment, so it is not known how this stands.",
    "Open the link again in a minute: it acts at most once.",
)
"""While the database is away."""
