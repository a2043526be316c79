"""Webhooks: whether each provider's can come, come, are believed and reach the application; and the success page."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from paidwatch.core.answer import Trouble
from paidwatch.core.text import span
from paidwatch.ops.doctor import Check, Finding, Patient, Reception, ok, problem, warning
from paidwatch.store.pool import Row

LAST: Final = 20
"""So many of the newest webhooks of a provider are looked at."""
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_PART: Final = "webhooks"
_PASSING: Final = "passing on"
_ASKING: Final = "asking"
_PAGE: Final = "success page"
_RELOAD: Final = "then: systemctl reload paidwatch"
_ABOUT_ONE: Final = (Trouble.MISSING, Trouble.OTHER, Trouble.FORM)
"""What is no fault of the provider's API: the payment is not one that it knows."""


def configured(reception: Reception) -> Iterator[Finding]:
    """Yield what the configuration alone tells."""
    for one in reception.gateways:
        if one.unusable:
            yield problem(_PART, f"{one.name}: {one.unusable}", one.remedy)
        elif not one.has_secret:
            what = f"{one.name}: no {one.secret} is configured: every webhook is refused with 503"
            where = "copy it from the provider's dashboard" if one.secret == "secret" else "docs/providers.md"  # noqa: S105
            yield problem(_PART, what, f"set [providers.{one.name}] {one.secret} ({where}), {_RELOAD}")
    if reception.gateways:
        yield _reach(reception)
    yield from _page(reception)


def _reach(reception: Reception) -> Finding:
    if not reception.listens:
        what = "[http] listen is empty: providers cannot send anything to paidwatch"
        return warning(_PART, what, "right if the application receives them and writes its log; else set [http] listen")
    names = ", ".join(one.name for one in reception.gateways)
    if not reception.public_url:
        what = f"[http] public_url is not set: whether {names} can reach paidwatch is unknown"
        remedy = "put a proxy with TLS in front (docs/webhooks.md) and set [http] public_url to its address"
        return warning(_PART, what, remedy)
    address = f"{reception.public_url.rstrip('/')}/webhooks/"
    if why := _unreachable(reception.public_url):
        return warning(_PART, f"[http] public_url {why}: no provider can send to {address}", "docs/webhooks.md")
    first = reception.gateways[0].name
    # A GET leaves nothing behind; no proxy answers it with 405 by itself.
    what = f"addresses for the dashboards: {address}NAME ({names}); from outside, curl -i {address}{first} answers 405"
    return ok(_PART, what)


def _unreachable(url: str) -> str:
    """Return why nobody on the internet can reach an address, as far as it can be told from here."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return "is not https"
    try:
        return "is an address of a private network" if not ip_address(host).is_global else ""
    except ValueError:
        own = "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".test", ".home.arpa"))
        return "is a name of a private network" if own else ""


def _page(reception: Reception) -> Iterator[Finding]:
    if not reception.page:
        return
    if not reception.listens or not reception.public_url:
        what = "[success_page] is configured, and customers' browsers have no address of paidwatch"
        yield problem(_PAGE, what, "set [http] listen and public_url; docs/success-page.md")
    elif why := _unreachable(reception.public_url):
        what = f"[http] public_url {why}: customers' browsers cannot ask what becomes of their payment"
        yield problem(_PAGE, what, "docs/success-page.md")
    elif urlsplit(reception.page).scheme != "https":
        yield warning(_PAGE, "[success_page] url is not https", "use the address with TLS")
    elif not reception.has_key:
        what = "[success_page] key is not set: who returns with an order id or a row id is told nothing"
        yield warning(_PAGE, what, "make one with: openssl rand -hex 32; right if providers' ids are used only")
    else:
        return_address = f"{reception.public_url.rstrip('/')}/payment/return"
        yield ok(_PAGE, f"customers return to {return_address} and are sent on")


async def came(patient: Patient) -> list[Finding]:
    """Do webhooks of each provider come, and are they believed?"""
    gateways = patient.expected.reception.gateways
    if not gateways:
        return []
    names = [one.name for one in gateways]
    rows = await patient.session.rows("webhooks_by_provider", names, LAST, *_methods(patient))
    return [_came(row) for row in rows]


def _methods(patient: Patient) -> tuple[list[str], list[str]]:
    """Return the methods of the configured providers, and of each its provider."""
    pairs = [(method, one.name) for one in patient.expected.reception.gateways for method in one.methods]
    return [method for method, _name in pairs], [name for _method, name in pairs]


def _came(row: Row) -> Finding:
    name, counted, believed = row["provider"], row["counted"], row["believed"]
    if not counted:
        what = f"{name}: none has come yet, or none that is kept still"
        return warning(_PART, what, "is the address entered on the dashboard? The pipe itself: paidwatch drill")
    ago = span(row["now"] - row["last_at"])
    reasons = f" ({'; '.join(row['reasons'])})" if row["reasons"] else ""
    what = f"{name}: {believed} of the last {counted} believed{reasons}; the last came {ago} ago"
    listed = f"paidwatch webhooks list --provider {name} --state rejected" if row["taken"] else "see webhook_logs"
    if not believed:
        return problem(_PART, what, f"is the secret that of the dashboard? {listed}, and replay them once it is")
    if not row["last_believed"] or believed * 2 < counted:
        return warning(_PART, what, f"{listed}; strangers' are harmless, the provider's are not")
    return ok(_PART, what)


async def handled(patient: Patient) -> list[Finding]:
    """Does the application handle what comes?"""
    rows = await patient.session.rows("handler_failures", _WEEK, *_methods(patient))
    return [
        warning(
            _PART,
            f"{row['method'] or 'no method'}: handler failures of the last 7 days: {row['failed']}"
            f" ({'; '.join(row['reasons'])}), the last {span(row['now'] - row['last_at'])} ago",
            "paidwatch alerts; mend the handler, then have the provider send them again"
            + (", or: paidwatch webhooks replay" if row["taken"] else ""),
        )
        for row in rows
    ]


async def passed_on(patient: Patient) -> list[Finding]:
    """Does the application take what is passed on?"""
    patience = patient.expected.limits.patience
    rows = await patient.session.rows("forwards_by_provider", patience)
    findings = [finding for row in rows for finding in _passed_on(row, patience)]
    if not findings and patient.expected.reception.gateways:
        findings.append(ok(_PASSING, "nothing waits, nothing was given up"))
    return findings


def _passed_on(row: Row, patience: timedelta) -> Iterator[Finding]:
    name = row["provider"]
    if row["dead"]:
        what = f"{name}: webhooks that the application refused or did not take in time: {row['dead']}"
        yield problem(_PASSING, what, "mend the handler, then: paidwatch webhooks replay --dead")
    if row["waiting"] and row["down_since"] is not None:
        away = f"the handler has taken nothing for {span(row['now'] - row['down_since'])} ({row['down_reason']})"
        yield problem(
            _PASSING, f"{name}: {away}; waiting: {row['waiting']}", "mend the handler; the rest goes by itself"
        )
    elif row["waiting"] and row["now"] - row["oldest"] >= patience:
        late = span(row["now"] - row["oldest"])
        what = f"{name}: webhooks that wait to be passed on: {row['waiting']}, the oldest for {late}"
        yield warning(_PASSING, what, f"paidwatch webhooks list --provider {name} --forward due")
    if row["unsettled"]:
        what = f"{name}: webhooks that are kept and of which the log does not tell yet: {row['unsettled']}"
        yield problem(_PART, what, "is the daemon running? If it is, see webhook.unlogged in its log")


async def asked(patient: Patient) -> list[Finding]:
    """Do the providers say what they know of payments, when they are asked?"""
    names = [one.name for one in patient.expected.reception.gateways]
    rows = (
        await patient.session.rows("questions_by_provider", names, _DAY, [it.value for it in _ABOUT_ONE])
        if names
        else ()
    )
    return [_asked(row) for row in rows]


def _asked(row: Row) -> Finding:
    name, silent = row["provider"], row["unanswered"]
    tried = span(row["now"] - row["asked_at"])
    if row["problem"] == Trouble.REFUSED:
        what = f"{name}: {row['problem']} (401 or 403), when it was asked about a payment {tried} ago"
        remedy = f"set [providers.{name}] api_key to one that is valid and may read payments, {_RELOAD}"
        return problem(_ASKING, what, remedy)
    last = (
        "it never answered"
        if row["answered_at"] is None
        else f"last answered {span(row['now'] - row['answered_at'])} ago"
    )
    if not row["asked"]:
        return ok(_ASKING, f"{name}: not asked about any payment in the last day; {last}")
    reasons = f" ({'; '.join(row['reasons'])})" if silent else ""
    what = f"{name}: asked about payments in the last day: {row['asked']}, without an answer: {silent}{reasons}; {last}"
    if row["failed"] * 2 >= row["asked"]:
        return warning(_ASKING, what, "alerts go out all the same, and say so; docs/providers.md")
    return ok(_ASKING, what)


async def log_columns(patient: Patient) -> Iterable[Finding]:
    """Could the receiver write its row into the application's log?"""
    missing = await patient.session.value("webhook_log_columns")
    if not missing:
        return []
    names = ", ".join(missing)
    what = f"the log of webhooks has columns that must be filled and that paidwatch has no value for: {names}"
    receives = bool(patient.expected.reception.gateways)
    return [(problem if receives else warning)(_PART, what, "give them a default, or map them in [webhooks]")]


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    (_PART, log_columns),
    (_PART, came),
    (_PART, handled),
    (_PASSING, passed_on),
    (_ASKING, asked),
)
