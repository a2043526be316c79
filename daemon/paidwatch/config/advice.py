"""What is allowed in a configuration, but hardly meant."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from paidwatch.config.locate import Path
from paidwatch.config.origin import Layer
from paidwatch.config.settings import Settings
from paidwatch.config.values import is_loopback, listen_parts


def advice(settings: Settings) -> Iterator[str]:
    """Yield one sentence per doubt; none of them holds a secret."""
    file = settings.origins.file
    if settings.origins.exposed and any(_from_file(path, settings) for path in settings.secret_paths()):
        yield f"{file} holds secrets and every user of this machine may read it: chmod o-r {file}"
    if not settings.channels:
        yield "nobody will be told: there is no [channels.NAME]"
    if settings.http.listen and not settings.http.token.get_secret_value():
        host, _port = listen_parts(settings.http.listen)
        if not is_loopback(host):
            yield "http.listen is not loopback and http.token is empty: everything but health and webhooks is refused"


def _from_file(path: Path, settings: Settings) -> bool:
    if path == ("database", "dsn") and not _has_password(settings.database.dsn.get_secret_value()):
        return False
    return settings.origins.nearest(path).layer is Layer.FILE


def _has_password(dsn: str) -> bool:
    parts = urlsplit(dsn)
    return parts.password is not None or "password=" in parts.query
