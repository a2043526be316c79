"""Where providers send the customer back to: from whatever id they name to the success page, with `session_id`.

    GET /payment/return?NP_id=5745459419   →   303 https://shop.example.org/payment/success?session_id=5745459419

Accepted are session_id, payment_id, transaction_id, order_id, invoice_id and NP_id. The way leads to one of two
addresses of the configuration, never to one out of the request. Everything that is not the one known payment goes to
the neutral page, which says the same to all.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from aiohttp import hdrs, web

from paidwatch.core.session import Asked, asked
from paidwatch.errors import DatabaseError
from paidwatch.ops.metrics import PageResult
from paidwatch.store.sessions import Found
from paidwatch.web.success import RESULT, SIGNATURE, Door, Sessions, SuccessPage

NAMES: Final = ("session_id", "payment_id", "transaction_id", "order_id", "invoice_id", "NP_id")
"""What an id may be called, in the order of preference."""

_NEUTRAL: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Your payment</title>
<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto;padding:0 1em}</style>
<h1>Thank you</h1>
<p>If you have just paid, there is nothing more to do here. Your access is opened as soon as the payment is confirmed;
with some ways of paying that takes a while.</p>
<p>You can <a href="">look again</a>, or close this page. If your access is not open after an hour, please write to the
shop, and name the payment as your provider or your bank shows it.</p>
</html>
"""


def add_payment_return(app: web.Application, sessions: Sessions, page: Callable[[], SuccessPage], door: Door) -> None:
    """Add the route."""

    async def come_back(request: web.Request) -> web.StreamResponse:
        """Send the customer on."""
        refused = door.refuse(request)
        if refused is not None:
            return refused
        choices = page()
        wanted = _wanted(request, choices)
        if not wanted or not choices.url:
            return _neutral(choices)
        allowed = [one for one in wanted if not door.guess(request, one)]
        found: Sequence[Found] = ()
        if allowed:
            with suppress(DatabaseError):
                found = await sessions.look(allowed)
        if not found:
            # Whether it is known cannot be asked now; the success page's script asks again.
            request[RESULT] = PageResult.AWAY if allowed else PageResult.LIMITED
            return _to(_with(choices.url, wanted[0], request))
        for one, what in zip(allowed, found, strict=True):
            door.told(request, one, what.sight)
        known = [(one, what) for one, what in zip(allowed, found, strict=True) if what.known]
        # A payment row and a webhook that no row belongs to may be of the same money; two rows are not.
        payments = {what.payment for _one, what in known if what.payment} or {what.webhook for _one, what in known}
        if len(payments) != 1:
            return _neutral(choices)
        chosen = next(one for one, what in known if {what.payment, what.webhook} & payments)
        return _to(_with(choices.url, chosen, request))

    app.router.add_get("/payment/return", door.counted("return", come_back))


def _wanted(request: web.Request, choices: SuccessPage) -> Sequence[Asked]:
    """Return the ids that may be looked up, in the order of preference; none at all where there are too many."""
    values = list(dict.fromkeys(value for name in NAMES for value in request.query.getall(name, ()) if value))
    if len(values) > len(NAMES):
        return ()
    signature = request.query.get(SIGNATURE, "")
    return [one for value in values if (one := asked(value, signature, choices.key, choices.order_of)) is not None]


def _with(url: str, chosen: Asked, request: web.Request) -> str:
    """Return the success page's address with the id, and the signature where the id needs it."""
    parts = urlsplit(url)
    added = {"session_id": chosen.id}
    if chosen.signed:
        added[SIGNATURE] = request.query[SIGNATURE]
    query = "&".join(part for part in (parts.query, urlencode(added)) if part)
    return urlunsplit(parts._replace(query=query))


def _to(url: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: url, "Referrer-Policy": "no-referrer"})


def _neutral(choices: SuccessPage) -> web.Response:
    if choices.unknown_url:
        return _to(choices.unknown_url)
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }
    return web.Response(text=_NEUTRAL, content_type="text/html", charset="utf-8", headers=headers)
