"""What is written in one section and needs something in another one."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from paidwatch.config.locate import Path
from paidwatch.config.origin import Origins
from paidwatch.config.problems import Problem, dotted
from paidwatch.config.wrong import did_you_mean

_ACTING: Final = ("shadow", "supervised", "auto")


def unknown_channels(tree: Mapping[str, object], origins: Origins) -> Iterator[Problem]:
    """Yield one problem for each name under [alerts] that is no channel.

    It reads the tree as it was written, so that these problems are told together with those of the models; what has
    the wrong type there is left to the models. A name is not repeated: somebody may have pasted a token.
    """
    channels = _table(tree.get("channels"))
    for path, name in _named(_table(tree.get("alerts"))):
        if name not in channels:
            known = f"known: {', '.join(sorted(channels))}" if channels else "there is no [channels.NAME]"
            yield Problem(
                origin=origins.nearest(path),
                key=dotted(path),
                what="is not the name of a channel",
                remedy=did_you_mean(name, channels) or known,
            )


def missing_link_key(tree: Mapping[str, object], origins: Origins) -> Iterator[Problem]:
    """Yield a problem if messages would carry links that nothing signs: supervised, reachable, and without a key."""
    activation, http = _table(tree.get("activation")), _table(tree.get("http"))
    if activation.get("mode") == "supervised" and http.get("public_url") and not activation.get("link_key"):
        yield Problem(
            origin=origins.nearest(("activation", "mode")),
            key="activation.link_key",
            what="is missing: activation.mode is supervised and http.public_url is set, so alerts carry links",
            remedy="make one with: openssl rand -hex 32",
        )


def untimed_events(tree: Mapping[str, object], origins: Origins) -> Iterator[Problem]:
    """Yield a problem if activation is wanted and events have no time: two guards would see none of them."""
    mode, events = _table(tree.get("activation")).get("mode"), _table(tree.get("events"))
    if mode in _ACTING and events.get("created_at") == "" and events.get("table") != "":
        yield Problem(
            origin=origins.nearest(("events", "created_at")),
            key="events.created_at",
            what=f"is empty, and activation.mode is {mode}: without a time no event tells that somebody has activated"
            " a user or an administrator has acted since",
            remedy='name the column with the time of an event (add one to the table if there is none), or mode = "off"',
        )


def _named(alerts: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    """Yield every name of a channel under [alerts], with the way to it."""
    yield from _each(alerts.get("channels"), ("alerts", "channels"))
    for list_name in ("routes", "escalations"):
        for index, table in enumerate(_list(alerts.get(list_name))):
            yield from _each(_table(table).get("channels"), ("alerts", list_name, index, "channels"))


def _each(names: object, path: Path) -> Iterator[tuple[Path, str]]:
    for index, name in enumerate(_list(names)):
        if isinstance(name, str):
            yield (*path, index), name


def _table(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
