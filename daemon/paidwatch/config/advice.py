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

_SERVICES = {"hooks.slack.com": "slack", "discord.com": "discord", "discordapp.com": "discord"}
"""Whose addresses these are."""
_SHORTEST_TOKEN = 16
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
    yield from _about_activation(settings)
    yield from _about_links(settings)
    if settings.deliveries.lease < 2 * _SEND:
        yield "deliveries.lease is so short that a slow service is told the same twice: 30s or more is safe"
    if settings.http.listen and not is_loopback(listen_parts(settings.http.listen)[0]):
        token = settings.http.token.get_secret_value()
        if not token:
            yield "http.listen is not loopback and http.token is empty: everything but health and webhooks is refused"
        elif len(token) < _SHORTEST_TOKEN:
            yield f"http.token is shorter than {_SHORTEST_TOKEN} characters: make one with openssl rand -hex 32"


def _about_channels(settings: Settings) -> Iterator[str]:
    alerts = settings.alerts
    named = {name for route in alerts.routes for name in route.channels}
    named |= {name for step in alerts.escalations for name in step.channels}
    places: dict[str, str] = {}
    for name, channel in settings.channels.items():
        place = channel.url.get_secret_value() if isinstance(channel, Slack | Discord | Webhook) else ""
        if place and places.setdefault(place, name) != name:
            yield f"channels.{name} has the same url as channels.{places[place]}: everything arrives there twice"
        if place and (other := _SERVICES.get(urlsplit(place).hostname or "", channel.type)) != channel.type:
            yield f'channels.{name} is of type {channel.type}, and its url is one of {other}: type = "{other}"'
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


def _about_activation(settings: Settings) -> Iterator[str]:
    """Say what keeps every payment from being activated, where activation is wanted."""
    activation, payments, plans, webhooks = settings.activation, settings.payments, settings.plans, settings.webhooks
    if activation.mode == "off":
        return
    caps = ("max_per_hour", "max_per_day", "max_per_user_per_day")
    confirmed = settings.providers or (webhooks.table and webhooks.valid and webhooks.data)
    reasons = {
        "activation.max_age is not longer than grace.default": activation.max_age <= settings.grace.default,
        "payments.auto is empty": not payments.auto,
        "payments.plan is empty": not payments.plan,
        "payments.amounts is empty": not payments.amounts,
        "plans.table or plans.prices is empty": not plans.table or not plans.prices,
        "activation.require_corroboration is true, and neither [webhooks] nor [providers] tells of signatures": (
            activation.require_corroboration and not confirmed
        ),
        **{f"activation.{cap} is 0": activation.mode != "supervised" and not getattr(activation, cap) for cap in caps},
    }
    for reason, holds in reasons.items():
        if holds:
            yield f"activation.mode is {activation.mode}, and every payment is refused, because {reason}"
    if settings.events.table and not settings.events.deliberate:
        yield "events.deliberate is empty: what an administrator took away may be activated again"


def _about_links(settings: Settings) -> Iterator[str]:
    """Say why alerts will have no link, or one that leads nowhere, where links are wanted."""
    activation, http = settings.activation, settings.http
    if activation.mode != "supervised":
        return
    if not http.public_url:
        if activation.link_key.get_secret_value():
            yield "activation.link_key is set and http.public_url is not: alerts have no link, only the command"
        return
    if not http.listen:
        yield "http.public_url is set and http.listen is empty: nobody answers the links in alerts"
    host = urlsplit(http.public_url).hostname or ""
    if http.public_url.startswith("http:") and not is_loopback(host):
        yield "http.public_url is http://: links in alerts are credentials, and go in clear text through your network"


def _from_file(path: Path, settings: Settings) -> bool:
    if path == ("database", "dsn") and not _has_password(settings.database.dsn.get_secret_value()):
        return False
    return settings.origins.nearest(path).layer is Layer.FILE


def _has_password(dsn: str) -> bool:
    parts = urlsplit(dsn)
    return parts.password is not None or "password=" in parts.query
