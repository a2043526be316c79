"""Who may ask: anybody on loopback, elsewhere whoever holds the token; and what no answer gives away."""

import hmac

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from paidwatch.log import Log

_log = Log("web")


def guard(token: str, *, loopback: bool, public: frozenset[str]) -> Middleware:
    """Ask for `Authorization: Bearer <token>` on every path but the `public` ones, unless only loopback can ask.

    `public` holds canonical route patterns such as `/webhooks/{provider}`. An unknown path asks for the token as well,
    so that nothing can be learnt about which paths exist. An empty token is never the right one.
    """
    expected = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if loopback or (resource is not None and resource.canonical in public):
            return await handler(request)
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), expected)
        if scheme.lower() == "bearer" and token and right:
            return await handler(request)
        return web.Response(status=401, text="a bearer token is needed\n", headers={hdrs.WWW_AUTHENTICATE: "Bearer"})

    return check


@web.middleware
async def answer_for_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn a fault of a handler into an empty-handed 500.

    The log names the route's pattern, not the path: paths carry tokens, and exception texts may carry anything.
    """
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 the edge of the loop that serves requests
        resource = request.match_info.route.resource
        # No traceback: an exception's text may carry what the request carried.
        route = resource.canonical if resource is not None else ""
        _log.error("http.failed", "a request could not be answered", route=route, error=type(error).__name__)
        return web.Response(status=500, text="the daemon could not answer; its log says more\n")


async def plain_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Name no server software, and let nothing be stored, framed or guessed."""
    response.headers.pop(hdrs.SERVER, None)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "DENY")
