"""What is allowed in a configuration, but hardly meant."""

from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from urllib.parse import urlsplit

from paidwatch.config.channels import Discord, Slack, Webhook
from paidwatch.config.locate import Path
from paidwatch.config.origin import Layer
from paidwatch.config.settings import Settings
from paidwatch.config.values import is_loopback, listen_parts

_SEND = timedelta(seconds=15)
"""No channel takes longer for one message; see `ports.Transport`."""


def advice(settings: Settings) -> Iterator[str]:
    """Yield one sentence per doubt; none of them holds a secret."""
    file = settings.origins.file
    if settings.origins.exposed and any(_from_file(path, settings) for path in settings.secret_paths()):
        yield f"{file} holds secrets and every user of this machine may read it: chmod o-r {file}"
    if not settings.channels:
        yield "nobody will be told: there is no [channels.NAME]"
    yield from _about_channels(settings)
    yield from _about_routes(settings)
    if settings.deliveries.lease < 2 * _SEND:
        yield "deliveries.lease is so short that a slow service is told the same twice: 30s or more is safe"
    if settings.http.listen and not settings.http.token.get_secret_value():
        host, _port = listen_parts(settings.http.listen)
        if not is_loopback(host):
            yield "http.listen is not loopback and http.token is empty: everything but health and webhooks is refused"


def _about_channels(settings: Settings) -> Iterator[str]:
    alerts = settings.alerts
    named = {name for route in alerts.routes for name in route.channels}
    named |= {name for step in alerts.escalations for name in step.channels}
    places: dict[str, str] = {}
    for name, channel in settings.channels.items():
        place = channel.url.get_secret_value() if isinstance(channel, Slack | Discord | Webhook) else ""
        if place and places.setdefault(place, name) != name:
            yield f"channels.{name} has the same url as channels.{places[place]}: everything arrives there twice"
        if alerts.channels and name not in named.union(alerts.channels):
            yield f"channels.{name} will be told nothing: no alerts.channels, no route and no escalation names it"
        if channel.type == "apprise" and find_spec("apprise") is None:
            yield f"channels.{name} needs the package Apprise, which is not installed: pip install 'paidwatch[apprise]'"


def _about_routes(settings: Settings) -> Iterator[str]:
    alerts = settings.alerts
    for index, route in enumerate(alerts.routes):
        if index < len(alerts.routes) - 1 and not (route.kinds or route.severity or route.methods or route.min_amount):
            yield f"alerts.routes[{index}] has no condition, so the routes after it are never looked at"
            break
    for index, step in enumerate(alerts.escalations):
        if step.after >= alerts.expire:
            yield f"alerts.escalations[{index}] is never taken: the alert expires before"


def _from_file(path: Path, settings: Settings) -> bool:
    if path == ("database", "dsn") and not _has_password(settings.database.dsn.get_secret_value()):
        return False
    return settings.origins.nearest(path).layer is Layer.FILE


def _has_password(dsn: str) -> bool:
    parts = urlsplit(dsn)
    return parts.password is not None or "password=" in parts.query
