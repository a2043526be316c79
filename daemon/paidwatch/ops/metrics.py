"""What is counted, for Prometheus: one registry per daemon, every label value from a closed set.

Every series exists from the start with 0, so that a rate over the first event is right and an absent series is a fault.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paidwatch.core.answer import Trouble
from paidwatch.core.model import GapKind, Outcome
from paidwatch.ops.status import Role, Status

OTHER = "other"
"""Stands for a channel that is not configured (any more), so that no name from a row becomes a series."""

_DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 14400, 86400)
_ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5)
_ACTIVATION_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400, 259200, 604800)


class DeliveryResult(StrEnum):
    """How one attempt to deliver a message ended."""

    SENT = "sent"
    RETRY = "retry"
    """Not taken; it will be tried again."""
    HELD = "held"
    """The channel itself is broken: kept until it is repaired."""
    DEAD = "dead"
    """Given up: a dead letter."""


class ActivationResult(StrEnum):
    """How one attempt to activate a subscription ended."""

    DONE = "done"
    SHADOW = "shadow"
    """Every guard said yes, and the mode forbids to write."""
    REFUSED = "refused"
    """A guard said no."""
    FAILED = "failed"


class WebhookResult(StrEnum):
    """How one request of a provider ended."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"
    BAD_SIGNATURE = "bad_signature"
    LIMITED = "limited"
    """Too much at once; nothing was kept."""
    NO_SECRET = "no_secret"  # noqa: S105  a word of a label
    AWAY = "away"
    """The database did not take it; nothing was kept."""


class ForwardResult(StrEnum):
    """How one attempt to pass a webhook on ended."""

    PASSED = "passed"
    RETRY = "retry"
    DEAD = "dead"


class PageResult(StrEnum):
    """How one request of a customer's browser ended."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    """Nothing is known of the payment, or it is not told about."""
    LIMITED = "limited"
    """Too much at once, or one number after the other."""
    AWAY = "away"
    """The database did not answer."""


class Metrics:
    """The counters the flow writes, beside the gauges that are read from the status board at every scrape."""

    def __init__(self, *, status: Status, version: str, channels: Iterable[str]) -> None:
        """Create every series; `channels` are the configured names."""
        self._registry = registry = CollectorRegistry(auto_describe=True)
        self._channels: frozenset[str] = frozenset()
        self._providers: frozenset[str] = frozenset()

        self._drained = Counter("paidwatch_inbox_drained_rows", "Inbox rows taken in.", registry=registry)
        self._rings = Counter("paidwatch_rings", "Rings of the doorbell heard.", registry=registry)
        self._reconnects = Counter(
            "paidwatch_listen_reconnects", "Times that listening was lost and found again.", registry=registry
        )
        self._created = Counter("paidwatch_watches_created", "Watches opened.", registry=registry)
        self._settled = Counter("paidwatch_watches_settled", "Watches closed.", ["outcome"], registry=registry)
        self._opened = Counter("paidwatch_gaps_opened", "Gaps found.", ["kind"], registry=registry)
        self._closed = Counter("paidwatch_gaps_closed", "Gaps that ended.", ["kind"], registry=registry)
        self._open = Gauge("paidwatch_gaps_open", "Gaps open now.", ["kind"], registry=registry)
        self._deliveries = Counter(
            "paidwatch_deliveries", "Attempts to deliver a message.", ["channel", "result"], registry=registry
        )
        self._delivery_latency = Histogram(
            "paidwatch_delivery_latency_seconds",
            "From the decision to say something to the channel's acceptance.",
            ["channel"],
            buckets=_DELIVERY_BUCKETS,
            registry=registry,
        )
        self._down = Gauge(
            "paidwatch_channel_down", "1 while a channel takes no messages.", ["channel"], registry=registry
        )
        self._mismatches = Counter(
            "paidwatch_audit_mismatches", "Messages that the audit found untold and queued again.", registry=registry
        )
        self._activation_latency = Histogram(
            "paidwatch_activation_latency_seconds",
            "From the payment becoming paid to the subscription being active.",
            buckets=_ACTIVATION_BUCKETS,
            registry=registry,
        )
        self._activations = Counter(
            "paidwatch_activations", "Attempts of paidwatch to activate.", ["result"], registry=registry
        )
        self._webhooks = Counter(
            "paidwatch_webhooks", "Webhooks that providers sent.", ["provider", "result"], registry=registry
        )
        self._answers = Histogram(
            "paidwatch_webhook_answer_seconds",
            "From a webhook being there to its answer.",
            ["provider"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._forwards = Counter(
            "paidwatch_forwards", "Attempts to pass a webhook on.", ["provider", "result"], registry=registry
        )
        self._forward_latency = Histogram(
            "paidwatch_forward_latency_seconds",
            "From the receipt of a webhook to the application taking it.",
            ["provider"],
            buckets=_DELIVERY_BUCKETS,
            registry=registry,
        )
        self._questions = Counter(
            "paidwatch_provider_questions",
            "Questions that providers were asked about payments.",
            ["provider", "result"],
            registry=registry,
        )
        self._pages = Counter(
            "paidwatch_customer_requests", "Requests of customers' browsers.", ["page", "result"], registry=registry
        )
        self._streams = Gauge("paidwatch_customer_streams", "Streams to customers open now.", registry=registry)
        self._breaker: bool | None = None
        Info("paidwatch_build", "The running program.", registry=registry).info({"version": version})
        registry.register(_StatusCollector(status))
        registry.register(_BreakerCollector(lambda: self._breaker))

        for outcome in Outcome:
            self._settled.labels(outcome.value)
        for kind in GapKind:
            for family in (self._opened, self._closed, self._open):
                family.labels(kind.value)
        for result in ActivationResult:
            self._activations.labels(result.value)
        for page in ("return", "state", "events"):
            for ended in PageResult:
                self._pages.labels(page, ended.value)
        self.configure(channels)

    def configure(self, channels: Iterable[str]) -> None:
        """Take the channel names of a (re)loaded configuration; counts of former ones stay."""
        self._channels = frozenset(channels)
        for channel in sorted(self._channels):
            self._delivery_latency.labels(channel)
            self._down.labels(channel)
            for result in DeliveryResult:
                self._deliveries.labels(channel, result.value)

    def configure_providers(self, providers: Iterable[str]) -> None:
        """Take the names of the providers of a (re)loaded configuration; counts of former ones stay."""
        self._providers = frozenset(providers)
        for provider in sorted(self._providers):
            self._answers.labels(provider)
            self._forward_latency.labels(provider)
            for result in WebhookResult:
                self._webhooks.labels(provider, result.value)
            for forwarded in ForwardResult:
                self._forwards.labels(provider, forwarded.value)
            for trouble in (None, *Trouble):
                self._questions.labels(provider, _answer(trouble))

    def webhook(self, provider: str, result: WebhookResult, took: timedelta) -> None:
        """A request of a provider was answered, `took` after its body was there."""
        name = provider if provider in self._providers else OTHER
        self._webhooks.labels(name, result.value).inc()
        self._answers.labels(name).observe(max(took.total_seconds(), 0))

    def forwarded(self, provider: str, result: ForwardResult, latency: timedelta | None = None) -> None:
        """An attempt to pass a webhook on ended; `latency` since its receipt is given when it was taken."""
        name = provider if provider in self._providers else OTHER
        self._forwards.labels(name, result.value).inc()
        if latency is not None:
            self._forward_latency.labels(name).observe(max(latency.total_seconds(), 0))

    def asked(self, provider: str, trouble: Trouble | None = None) -> None:
        """A provider was asked about a payment; `trouble` says why there was no answer, None: there was one."""
        self._questions.labels(provider if provider in self._providers else OTHER, _answer(trouble)).inc()

    def page(self, page: str, result: PageResult) -> None:
        """A request for one of the pages for customers ended: `return`, `state` or `events`."""
        self._pages.labels(page, result.value).inc()

    def streams(self, count: int) -> None:
        """So many customers have a stream open."""
        self._streams.set(count)

    def rang(self) -> None:
        """The doorbell rang."""
        self._rings.inc()

    def reconnected(self) -> None:
        """Listening was lost, and is proven again."""
        self._reconnects.inc()

    def drained(self, rows: int) -> None:
        """Inbox rows were taken in."""
        self._drained.inc(rows)

    def watching(self, count: int) -> None:
        """Watches were opened."""
        self._created.inc(count)

    def settled(self, outcome: Outcome, count: int = 1) -> None:
        """Watches were closed."""
        self._settled.labels(outcome.value).inc(count)

    def activated_after(self, span: timedelta) -> None:
        """A subscription was active `span` after its payment became paid, whoever activated it."""
        self._activation_latency.observe(max(span.total_seconds(), 0))

    def gap_opened(self, kind: GapKind) -> None:
        """A gap was found."""
        self._opened.labels(kind.value).inc()

    def gap_closed(self, kind: GapKind) -> None:
        """A gap ended."""
        self._closed.labels(kind.value).inc()

    def gaps_open(self, counts: Mapping[GapKind, int]) -> None:
        """Say how many gaps are open; a kind that is not named has none."""
        for kind in GapKind:
            self._open.labels(kind.value).set(counts.get(kind, 0))

    def attempted(self, channel: str, result: DeliveryResult, latency: timedelta | None = None) -> None:
        """An attempt to deliver ended; `latency` since the decision is given when the message was taken."""
        name = channel if channel in self._channels else OTHER
        self._deliveries.labels(name, result.value).inc()
        if latency is not None:
            self._delivery_latency.labels(name).observe(max(latency.total_seconds(), 0))

    def channel_down(self, channel: str, *, down: bool) -> None:
        """A channel was found to take no messages, or to take them again."""
        self._down.labels(channel if channel in self._channels else OTHER).set(down)

    def mismatched(self, count: int) -> None:
        """The audit found messages that nobody was told."""
        self._mismatches.inc(count)

    def activation(self, result: ActivationResult) -> None:
        """An attempt of paidwatch to activate ended."""
        self._activations.labels(result.value).inc()

    def breaker(self, *, stopped: bool | None) -> None:
        """Say how the breaker stands; None: it is not known, because the database is away."""
        self._breaker = stopped

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition in the form that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _answer(trouble: Trouble | None) -> str:
    """Return the word of a label: `answered`, or the reason's name."""
    return "answered" if trouble is None else trouble.name.lower()


class _BreakerCollector(Collector):
    """Shows how the breaker stands only while that is known: a 0 that is a guess would be believed."""

    def __init__(self, stands: Callable[[], bool | None]) -> None:
        """Ask `stands` at every scrape."""
        self._stands = stands

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge, or nothing."""
        if (stopped := self._stands()) is not None:
            meaning = (
                "1 while automatic activation is stopped until a person resumes it; absent while that is not known."
            )
            yield GaugeMetricFamily("paidwatch_breaker_open", meaning, value=float(stopped))


class _StatusCollector(Collector):
    """Reads the status board at the scrape, so that no gauge can go stale."""

    def __init__(self, status: Status) -> None:
        """Read from `status`."""
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield role, readiness, blindness and the next appointment."""
        status = self._status
        role = GaugeMetricFamily("paidwatch_role", "1 for what the daemon is doing, else 0.", labels=["role"])
        for each in Role:
            role.add_metric([each.value], float(status.role is each))
        yield role
        yield GaugeMetricFamily("paidwatch_ready", "1 while nothing is wrong.", value=float(not status.ready()))
        yield CounterMetricFamily(
            "paidwatch_blind_seconds",
            "Seconds without listening since the start.",
            value=status.blind_so_far().total_seconds(),
        )
        due = status.next_due()
        if due is not None:
            yield GaugeMetricFamily(
                "paidwatch_next_due_seconds",
                "Seconds to the next appointment, negative when missed; absent when nothing is due.",
                value=due.total_seconds(),
            )
