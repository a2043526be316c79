"""Three questions from outside: does it live, does it watch, what has it counted. None of them asks the database."""

from aiohttp import hdrs, web

from paidwatch.ops.metrics import Metrics
from paidwatch.ops.status import Status


def add_health(app: web.Application, status: Status, metrics: Metrics) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`."""

    async def healthz(_request: web.Request) -> web.Response:
        """200 while the loop and the pipeline move, otherwise 503 with the reason; for restarts by a supervisor."""
        reason = status.alive()
        if reason is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{reason}\n")

    async def readyz(_request: web.Request) -> web.Response:
        """200 while nothing is wrong, otherwise 503; the same JSON either way, `wrong` names everything that is."""
        wrong = status.ready()
        due = status.next_due()
        body = {
            "ready": not wrong,
            "role": status.role.value,
            "wrong": wrong,
            "listening_since": status.listening_since.isoformat() if status.listening_since else None,
            "last_drain": status.last_drain.isoformat() if status.last_drain else None,
            "last_error": status.last_error,
            "next_due_seconds": due.total_seconds() if due is not None else None,
            "blind_seconds": status.blind_so_far().total_seconds(),
            "workers": {name: at.isoformat() for name, at in sorted(status.beats().items())},
        }
        return web.json_response(body, status=503 if wrong else 200)

    async def exposition(request: web.Request) -> web.Response:
        """Answer in the form of Prometheus."""
        body, content_type = metrics.render(",".join(request.headers.getall(hdrs.ACCEPT, [])))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
