"""Anything else that Apprise reaches: Telegram, ntfy, PagerDuty, Teams and so on.

Apprise is an optional extra, imported only where a channel of this type is configured. It blocks, so every address is
told in a thread of its own, all at once and within the same time limit; a thread that hangs is left behind, at most
one per address, and does not keep the process from ending. An address that took a message is not told again when
another one has to be retried. Nothing can be edited. What Apprise writes to the log is kept from it: it may name
addresses; only the status that a service answered is read off it.
"""

import importlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
from pydantic import SecretStr

from paidwatch.channels.http import Limits, fault_of
from paidwatch.channels.layout import APPROVE, Room, facts_of, link_of, sentences, source_of, title_of
from paidwatch.channels.settings import AppriseSettings
from paidwatch.core.model import Notice, Word
from paidwatch.core.text import clean, defang, fit
from paidwatch.errors import ConfigError, DeliveryError, Fault
from paidwatch.ports import Message, Receipt

PACE: Final = timedelta(seconds=1)
LONGEST: Final = 3000
"""Characters of a text; less where the service takes less."""

_TITLE: Final = 150
_MARKUP: Final = 40
"""Kept for what Apprise puts around a title that becomes part of the text."""
_REMEMBERED: Final = 1000
"""Messages that some addresses took and others have to be told again."""
_STATUS: Final = re.compile(r"\berror[=: ]+([1-5][0-9]{2})\b")
_TALKERS: Final = ("urllib3", "requests_oauthlib", "oauthlib")
"""What Apprise sends with; at their lower levels these log addresses."""
_ORDER: Final = (Fault.TRANSIENT, Fault.CHANNEL, Fault.MESSAGE)
_TYPES: Final = {
    Word.NEW: "failure",
    Word.ESCALATED: "failure",
    Word.STILL: "warning",
    Word.FIXED: "success",
    Word.RESOLVED: "success",
}
_HARMLESS: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "@\u2060", "[": "(", "]": ")", "`": "'"})
"""Services read markup and mentions where Apprise does not say so."""


class Service(Protocol):
    """One address, as Apprise stands for it."""

    title_maxlen: int
    body_maxlen: int

    def notify(self, *, title: str, body: str, notify_type: str, body_format: str, overflow: str) -> bool:
        """Send a message; True if the service took it."""
        ...


class _Maker(Protocol):
    def instantiate(self, url: str, *, asset: object) -> Service | None: ...


class _Library(Protocol):
    """What is used of Apprise; it need not be installed for this to be checked."""

    Apprise: _Maker

    def AppriseAsset(self, **settings: object) -> object: ...  # noqa: N802  Apprise's name


class Apprise:
    """One set of addresses."""

    kind = "apprise"
    parallel = 1

    def __init__(self, name: str, settings: AppriseSettings, *, limits: Limits) -> None:
        """Load Apprise and check every address. Raises ConfigError where either cannot be used."""
        library = _load(name)
        self.name = name
        self.pace = PACE if settings.pace is None else settings.pace
        self._limits = limits
        self._ear = _listening()
        self._services = tuple(_service(library, name, place, url) for place, url in enumerate(settings.urls, 1))
        self._errands: dict[int, _Errand] = {}
        self._served: OrderedDict[str, set[int]] = OrderedDict()

    async def send(self, message: Message) -> Receipt:
        """Tell every address that has not been told yet.

        Raises DeliveryError: transient while any address may still take it, otherwise by what was answered.
        """
        faults: dict[int, tuple[Fault, str]] = {}
        size = 0
        with anyio.move_on_after(self._limits.total.total_seconds()):
            async with anyio.create_task_group() as group:
                for place, service in enumerate(self._services):
                    title, body = shorten(message.notice, service)
                    size = max(size, len(title.encode()) + len(body.encode()))
                    call = {"title": title, "body": body, "notify_type": _TYPES.get(message.notice.word, "info")}
                    group.start_soon(self._tell, place, message.key, call, faults, name=f"apprise {self.name} {place}")
        served = self._served.get(message.key, set())
        missing = [place for place in range(len(self._services)) if place not in served]
        if not missing:
            self._served.pop(message.key, None)
            return Receipt(reference={}, code="taken", size=size)
        raise _refusal([faults.get(place, (Fault.TRANSIENT, "timeout")) for place in missing], len(self._services))

    async def aclose(self) -> None:
        """Nothing is held; a thread that hangs is left to end with the process."""

    async def _tell(self, place: int, key: str, call: dict[str, str], faults: dict[int, tuple[Fault, str]]) -> None:
        """Tell one address, once an earlier message to it is no longer under way."""
        earlier = self._errands.get(place)
        if earlier is not None:
            await earlier.done.wait()
        if place in self._served.get(key, ()):
            return
        service = self._services[place]
        errand = _Errand(key=key, work=lambda: service.notify(**call, body_format="text", overflow="truncate"))
        self._errands[place] = errand
        errand.start(self._ear, lambda: self._ended(place, errand))
        await errand.done.wait()
        if not errand.taken:
            faults[place] = (fault_of(errand.status) if errand.status else Fault.TRANSIENT, str(errand.status or ""))

    def _ended(self, place: int, errand: "_Errand") -> None:
        """Note what became of an errand, also of one that was given up: it may have arrived all the same."""
        del self._errands[place]
        if errand.taken:
            self._served.setdefault(errand.key, set()).add(place)
            self._served.move_to_end(errand.key)
            while len(self._served) > _REMEMBERED:
                self._served.popitem(last=False)


class _Errand:
    """One message on its way to one address."""

    def __init__(self, *, key: str, work: Callable[[], bool]) -> None:
        """Keep what is to be done; nothing starts yet."""
        self.key = key
        self.taken = False
        self.status = 0
        self.done = anyio.Event()
        self._work = work

    def start(self, ear: "_Ear", ended: Callable[[], None]) -> None:
        """Work in a thread that does not outlive the process; `ended` is called back in the event loop."""
        token = anyio.lowlevel.current_token()
        threading.Thread(target=self._run, args=(ear, ended, token), name="apprise", daemon=True).start()

    def _run(self, ear: "_Ear", ended: Callable[[], None], token: anyio.lowlevel.EventLoopToken) -> None:
        try:
            self.taken = bool(self._work())
        except Exception:  # noqa: BLE001  a hundred plugins raise what they like, and their texts name addresses
            self.taken = False
        self.status = ear.heard()

        def end() -> None:
            ended()
            self.done.set()

        try:
            anyio.from_thread.run_sync(end, token=token)
        except RuntimeError:  # the loop is over
            return


class _Ear(logging.Filter):
    """Hears which status a service answered with, per thread, and lets nothing through to the log."""

    def __init__(self) -> None:
        """Hear everything."""
        super().__init__()
        self._heard = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the status that the record names, if it names one."""
        found = _STATUS.search(record.getMessage())
        if found is not None:
            self._heard.status = int(found[1])
        return False

    def heard(self) -> int:
        """Return the last status in this thread, 0 if there was none; every errand has a thread of its own."""
        return int(getattr(self._heard, "status", 0))


def _listening() -> _Ear:
    """Return the one ear of this process; from now on nothing that may name addresses is logged."""
    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logger = logging.getLogger("apprise")
    logger.setLevel(logging.WARNING)
    ear = next((one for one in logger.filters if isinstance(one, _Ear)), None)
    if ear is None:
        ear = _Ear()
        logger.addFilter(ear)
    return ear


def _load(name: str) -> _Library:
    """Return the library. Raises ConfigError where it is not installed."""
    try:
        return cast("_Library", importlib.import_module("apprise"))
    except ImportError:
        pass
    raise ConfigError(f"channel {name} needs Apprise", remedy="pip install 'paidwatch[apprise]'")


def _service(library: _Library, name: str, place: int, url: SecretStr) -> Service:
    """Return what stands for one address. Raises ConfigError, which does not show it, where Apprise knows no such."""
    asset = library.AppriseAsset(app_id="paidwatch", app_desc="paidwatch", secure_logging=True, http_redirects=False)
    made = library.Apprise.instantiate(url.get_secret_value(), asset=asset)
    if made is None:
        raise ConfigError(
            f"address {place} of channel {name} is none that Apprise can use",
            remedy="compare it with Apprise's list of services",
        )
    return made


def _refusal(faults: list[tuple[Fault, str]], of: int) -> DeliveryError:
    """Return the error of several addresses: what may still pass decides, then what a person must repair."""
    fault, code = min(faults, key=lambda said: _ORDER.index(said[0]))
    return DeliveryError(
        f"{len(faults)} of {of} services did not take the message", fault=fault, code=code or "refused"
    )


def shorten(notice: Notice, service: Service) -> tuple[str, str]:
    """Return title and text within what the service takes."""
    own = service.title_maxlen
    title = fit(title_of(notice), min(own, _TITLE) if own > 0 else _TITLE, escape=harmless)
    room = min(service.body_maxlen, LONGEST) - (0 if own > 0 else len(title) + _MARKUP)
    approve = f"\n{APPROVE}: {link}" if (link := link_of(notice)) else ""
    if len(approve) > room // 2:
        # A cut address leads nowhere.
        approve = ""
    room = max(room - len(approve), 1)
    return title, Room(room).paragraph(_lines(notice), room, escape=harmless) + approve


def _lines(notice: Notice) -> list[str]:
    """Return the text in the order of its weight: a short message loses its end."""
    lines = [clean(notice.summary)]
    if notice.command:
        lines.append(f"Next: {clean(notice.command)}")
    for fact in facts_of(notice.lines):
        lines += sentences(fact)
    return [*lines, source_of(notice)]


def harmless(text: str) -> str:
    """Return text without characters that mean something to one of many services; it stays readable."""
    return defang(text).translate(_HARMLESS)
