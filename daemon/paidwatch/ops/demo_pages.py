"""What the demo shop's pages look like: small HTML, for a telephone and a desktop, that fetches nothing.

The only script is the one of docs/success-page.md. What is said in colour is said in words as well; light or dark is as
the reader's system has it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Final

DOCUMENTED: Final = "https://pay.example.org"
"""What the document calls paidwatch's address; owners write theirs in its place."""


class Course(StrEnum):
    """How a purchase goes on."""

    WORKS = "works"
    BROKEN = "broken"
    SILENT = "silent"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a visitor is told about a course."""

    button: str
    before: str
    """What is going to happen, beside the button."""
    after: str
    """The same while it happens."""


COURSES: Final[Mapping[Course, Told]] = {
    Course.WORKS: Told(
        button="Pay, and everything works",
        before="The webhook comes, and the shop opens the access. Nobody is bothered.",
        after="The provider's webhook comes as soon as you have paid, and the shop opens your access by itself. "
        "paidwatch does nothing but tell this page.",
    ),
    Course.BROKEN: Told(
        button="Pay, and the shop fails",
        before="The webhook comes, and its handler breaks. paidwatch opens the access by itself.",
        after="The provider's signed webhook came, and the shop's handler broke. After the grace period "
        "paidwatch opens your access by itself, and says FIXED to the shop's people: see the terminal.",
    ),
    Course.SILENT: Told(
        button="Pay, and the webhook never comes",
        before="Nobody confirms the payment. paidwatch alerts people, and one of them helps.",
        after="No webhook comes, so nothing but the shop's own row says that you have paid. paidwatch gives nothing "
        "away for that: it alerts the shop's people, NEW in the terminal, and a little later one of them helps.",
    ),
    Course.RENAMED: Told(
        button="Pay, and lose the session id on the way back",
        before="The provider sends you back with an id of its own. paidwatch knows it.",
        after="The provider sent you back with its own NP_id and forgot the shop's session_id. A page that waits for "
        'the latter says "Invalid payment session"; paidwatch found the payment, and brought you here.',
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and the Content-Security-Policy that it is served with."""

    text: str
    policy: str


_STYLE: Final = """
:root { color-scheme: light dark; --page: #eef1f5; --card: #fff; --ink: #1c2127; --soft: #59636e; --line: #d5dbe2;
  --deed: #0b57d0; --wait: #8a5a00; --good: #116329; --bad: #a40e26; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1216; --card: #191d23; --ink: #e6e8eb; --soft: #9aa4b0; --line: #323943;
    --deed: #8ab4f8; --wait: #e3b341; --good: #57c878; --bad: #ff8f8f; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 38rem; margin: 4vh auto 0; padding: 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 1.75rem 0 .25rem; font-size: 1rem; }
p { margin: .5rem 0; }
a { color: var(--deed); }
code { font: .9em/1.4 ui-monospace, Consolas, monospace; }
.soft { color: var(--soft); }
button { display: block; width: 100%; margin-top: .75rem; padding: .75rem 1rem; border: 1px solid var(--line);
  border-left: .3rem solid var(--deed); border-radius: .5rem; background: none; color: inherit; font: inherit;
  text-align: left; cursor: pointer; }
button:hover { border-color: var(--deed); }
button:focus-visible, a:focus-visible { outline: 3px solid var(--deed); outline-offset: 2px; }
button b, button span { display: block; }
button span { color: var(--soft); font-size: .9rem; }
#payment-status { display: grid; align-items: center; min-height: 4.75rem; margin: 1rem 0; padding: .75rem 1rem;
  border-left: .3rem solid var(--line); border-radius: .4rem; background: var(--page); font-weight: 600; }
#payment-status[data-state=pending], #payment-status[data-state=paid_activating] { border-color: var(--wait); }
#payment-status[data-state=paid_active] { border-color: var(--good); }
#payment-status[data-state=failed] { border-color: var(--bad); }
ol { display: none; margin: 1.25rem 0; padding: 0; list-style: none; color: var(--soft); font-size: .9rem; }
[data-state=pending] ~ ol, [data-state^=paid] ~ ol { display: flex; gap: .5rem; }
li { flex: 1; padding-top: .4rem; border-top: .3rem solid var(--line); }
[data-state=pending] ~ ol li:first-child, [data-state^=paid] ~ ol li:first-child,
[data-state^=paid] ~ ol li:nth-child(2), [data-state=paid_active] ~ ol li { border-color: var(--good);
  color: var(--ink); }
@media (max-width: 30rem) { body { padding: .5rem; } main { margin: 0; padding: 1rem; } }
"""


def checkout(paidwatch: str) -> Page:
    """Return the page on which a visitor orders; `paidwatch` is the address to which the provider sends them back."""
    buttons = "\n".join(
        f'<button formaction="/pay/{course}"><b>{escape(told.button)}</b><span>{escape(told.before)}</span></button>'
        for course, told in COURSES.items()
    )
    body = f"""<h1>The demo's shop</h1>
<p>No money moves here. Each button is a new customer, who orders a month of Professional, is brought back from the
payment provider, and sees what becomes of the payment. What the shop's people are told meanwhile stands in the
terminal.</p>
<form method="post">
{buttons}
</form>
<p class="soft">Or <a href="{escape(paidwatch)}/payment/return">come back without any id</a>, and be told what everybody
is told.</p>"""
    # Browsers hold the whole way that a form leads to this list: to the shop, on to paidwatch, and back.
    return _page("The demo's shop", body, f"form-action 'self' {paidwatch}")


def success(snippet: str, paidwatch: str, course: Course | None = None, way_back: str = "") -> Page:
    """Return the page to which customers come back, and what happens on it if the visitor is known to the shop.

    `snippet` is the document's HTML; nothing but the address in it is changed.
    """
    own = snippet.replace(DOCUMENTED, paidwatch)
    scripts = " ".join(
        f"'sha256-{_digest(script)}'" for script in re.findall(r"<script>(.*?)</script>", own, re.DOTALL)
    )
    steps = '<ol aria-hidden="true"><li>Ordered</li><li>Paid</li><li>Access open</li></ol>'
    about = ""
    if course is not None:
        about = f"""<h2>What happens here</h2>
<p>{escape(COURSES[course].after)}</p>
<p class="soft">You came back by <code>{escape(way_back)}</code></p>"""
    body = f"""<h1>Thank you for your order</h1>
{own}{steps}
{about}
<p><a href="/">Back to the shop</a></p>"""
    return _page("Your order", body, f"script-src {scripts}; connect-src {paidwatch}; form-action 'none'")


def excuse(sentence: str) -> Page:
    """Return why nothing could be ordered."""
    body = f'<h1>Not now</h1>\n<p>{escape(sentence)}</p>\n<p><a href="/">Back to the shop</a></p>'
    return _page("The demo's shop", body, "form-action 'none'")


def _page(title: str, body: str, policy: str) -> Page:
    """Return a whole page; `body` is HTML, `title` is text."""
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
    common = f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; base-uri 'none'; frame-ancestors 'none'"
    return Page(text=text, policy=f"{common}; {policy}")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
