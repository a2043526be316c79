"""`/act/{token}`: the page of a link. GET and HEAD only show, however often; a POST that confirms acts, once.

The token is the credential and stands in the path, so the path is never logged, no other site is told of it, nothing is
stored, and what is no link of this installation gets one and the same answer, whatever is wrong with it.
"""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Final, Protocol, assert_never
from urllib.parse import parse_qs

import anyio
from aiohttp import hdrs, web

from paidwatch.core.approval import Acted, Approved, Offer, Over, Result, Seen, Unknown
from paidwatch.errors import DatabaseError
from paidwatch.log import Log
from paidwatch.web import pages

BODY_LIMIT: Final = 1024
"""Bytes of a form; the page's own sends eleven."""
BODY_WITHIN: Final = timedelta(seconds=10)
"""How long a form may take to arrive."""

_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": pages.POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
_log = Log("web")


class Approver(Protocol):
    """What stands behind the pages."""

    async def look(self, token: str) -> Seen:
        """Say what a link would do now. Raises DatabaseError."""
        ...

    async def act(self, token: str) -> Acted:
        """Do it, if every guard agrees. Raises DatabaseError."""
        ...


def add_act(app: web.Application, approver: Approver) -> None:
    """Add `/act/{token}`; everything below `/act/` is a token, and mostly none."""

    async def show(request: web.Request) -> web.Response:
        """Show what the link would do."""
        return await _answered(_show(approver, request))

    async def act(request: web.Request) -> web.Response:
        """Do it, where the form says that it is meant."""
        return await _answered(_act(approver, request))

    app.router.add_get("/act/{token:.*}", show)
    app.router.add_post("/act/{token:.*}", act)


async def _show(approver: Approver, request: web.Request) -> web.Response:
    seen = await approver.look(request.match_info["token"])
    return _page(200, pages.offer(seen)) if isinstance(seen, Offer) else _refused(seen)


async def _act(approver: Approver, request: web.Request) -> web.Response:
    token = request.match_info["token"]
    try:
        with anyio.fail_after(BODY_WITHIN.total_seconds()):
            form = await _form(request)
    except TimeoutError:
        return _closing(_page(408, pages.plain("Nothing was done", "The form did not arrive in time.")))
    if form is None:
        return _closing(_page(413, pages.plain("Nothing was done", "The form is too large.")))
    if not _confirms(form):
        seen = await approver.look(token)
        return _page(400, pages.offer(seen, unconfirmed=True)) if isinstance(seen, Offer) else _refused(seen)
    acted = await approver.act(token)
    match acted:
        case Approved():
            return _page(_STATUS[acted.result], pages.approved(acted))
        case _:
            return _refused(acted)


_STATUS: Final = {Result.DONE: 200, Result.STARTED: 202, Result.REFUSED: 409, Result.TAKEN: 409}


def _refused(seen: Unknown | Over) -> web.Response:
    match seen:
        case Unknown():
            return _page(404, pages.UNKNOWN)
        case Over():
            return _page(410, pages.over(seen))
        case _ as unreachable:
            assert_never(unreachable)


async def _answered(work: Awaitable[web.Response]) -> web.Response:
    """Say so where the database cannot be asked; whether an act was done is not known then, and a link acts once."""
    try:
        return await work
    except DatabaseError as error:
        _log.warning("link.unanswered", "a link could not be answered", error=error.message)
        return _page(503, pages.UNAVAILABLE)


async def _form(request: web.Request) -> bytes | None:
    """Return the request's body, None where it is too large; no more than that is read."""
    if (request.content_length or 0) > BODY_LIMIT:
        return None
    body = b""
    while len(body) <= BODY_LIMIT:
        piece = await request.content.read(BODY_LIMIT + 1 - len(body))
        if not piece:
            return body
        body += piece
    return None


def _confirms(form: bytes) -> bool:
    """Say whether the form holds `confirm=yes`, once."""
    try:
        return parse_qs(form.decode(), max_num_fields=10).get("confirm") == ["yes"]
    except ValueError:
        return False


def _page(status: int, page: str) -> web.Response:
    return web.Response(status=status, text=page, content_type="text/html", charset="utf-8", headers=_HEADERS)


def _closing(response: web.Response) -> web.Response:
    """End the connection after this answer: the rest of the request is not read."""
    response.force_close()
    return response
