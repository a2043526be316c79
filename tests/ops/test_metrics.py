"""The exposition, parsed as Prometheus parses it."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from paidwatch.core.answer import Trouble
from paidwatch.core.model import GapKind, Outcome
from paidwatch.ops.metrics import ActivationResult, DeliveryResult, Metrics
from paidwatch.ops.status import Status
from tests.ops.still_clock import StillClock

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def status(clock: StillClock) -> Status:
    return Status(clock=clock)


@pytest.fixture
def metrics(status: Status) -> Metrics:
    return Metrics(status=status, version="1.2.3", channels=["ops", "mail"])


Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(metrics: Metrics) -> Series:
    """Scrape: name and labels to value."""
    body, content_type = metrics.render("")
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    return found[f"paidwatch_{name}", frozenset(labels.items())]


def test_every_series_is_there_at_zero_before_anything_happened(metrics: Metrics) -> None:
    found = series(metrics)
    assert all(name.startswith("paidwatch_") for name, _ in found)
    for outcome in Outcome:
        assert value(found, "watches_settled_total", outcome=outcome.value) == 0
    for kind in GapKind:
        for name in ("gaps_opened_total", "gaps_closed_total", "gaps_open"):
            assert value(found, name, kind=kind.value) == 0
    for channel in ("ops", "mail"):
        for result in DeliveryResult:
            assert value(found, "deliveries_total", channel=channel, result=result.value) == 0
        assert value(found, "delivery_latency_seconds_count", channel=channel) == 0
    for attempt in ActivationResult:
        assert value(found, "activations_total", result=attempt.value) == 0
    plain = (
        "inbox_drained_rows_total",
        "rings_total",
        "listen_reconnects_total",
        "watches_created_total",
        "activation_latency_seconds_count",
        "blind_seconds_total",
    )
    assert [value(found, name) for name in plain] == [0] * len(plain)
    assert value(found, "build_info", version="1.2.3") == 1


def test_what_happens_is_counted(metrics: Metrics) -> None:
    metrics.rang()
    metrics.reconnected()
    metrics.drained(500)
    metrics.watching(499)
    metrics.settled(Outcome.ACTIVATED, 400)
    metrics.settled(Outcome.REVERSED)
    metrics.activated_after(42 * SECOND)
    metrics.gap_opened(GapKind.PAID_NOT_ACTIVE)
    metrics.gap_closed(GapKind.TIER_MISMATCH)
    metrics.gaps_open({GapKind.PAID_NOT_ACTIVE: 7})
    metrics.attempted("ops", DeliveryResult.RETRY)
    metrics.attempted("ops", DeliveryResult.SENT, 3 * SECOND)
    metrics.activation(ActivationResult.REFUSED)

    found = series(metrics)
    assert value(found, "rings_total") == 1
    assert value(found, "listen_reconnects_total") == 1
    assert value(found, "inbox_drained_rows_total") == 500
    assert value(found, "watches_created_total") == 499
    assert value(found, "watches_settled_total", outcome="activated") == 400
    assert value(found, "watches_settled_total", outcome="reversed") == 1
    assert value(found, "activation_latency_seconds_sum") == 42
    assert value(found, "activation_latency_seconds_bucket", le="60.0") == 1
    assert value(found, "activation_latency_seconds_bucket", le="30.0") == 0
    assert value(found, "gaps_opened_total", kind="paid_not_active") == 1
    assert value(found, "gaps_closed_total", kind="tier_mismatch") == 1
    assert value(found, "gaps_open", kind="paid_not_active") == 7
    assert value(found, "deliveries_total", channel="ops", result="retry") == 1
    assert value(found, "deliveries_total", channel="ops", result="sent") == 1
    assert value(found, "deliveries_total", channel="mail", result="sent") == 0
    assert value(found, "delivery_latency_seconds_sum", channel="ops") == 3
    assert value(found, "activations_total", result="refused") == 1

    metrics.gaps_open({})
    assert value(series(metrics), "gaps_open", kind="paid_not_active") == 0


def test_the_breaker_is_shown_while_it_is_known(metrics: Metrics) -> None:
    assert ("paidwatch_breaker_open", frozenset()) not in series(metrics)
    for stopped in (True, False):
        metrics.breaker(stopped=stopped)
        assert value(series(metrics), "breaker_open") == stopped
    metrics.breaker(stopped=None)
    assert ("paidwatch_breaker_open", frozenset()) not in series(metrics)


def test_questions_to_providers_are_counted_by_what_came_of_them(metrics: Metrics) -> None:
    metrics.configure_providers(["crypto"])
    results = {"answered", *(trouble.name.lower() for trouble in Trouble)}
    name = "provider_questions_total"
    assert [value(series(metrics), name, provider="crypto", result=result) for result in results] == [0] * len(results)
    metrics.asked("crypto")
    metrics.asked("crypto", Trouble.REFUSED)
    metrics.asked("crypto", Trouble.REFUSED)
    metrics.asked("gone", Trouble.TIMEOUT)
    found = series(metrics)
    assert value(found, name, provider="crypto", result="answered") == 1
    assert value(found, name, provider="crypto", result="refused") == 2
    assert value(found, name, provider="other", result="timeout") == 1


def test_no_name_from_a_row_becomes_a_series(metrics: Metrics) -> None:
    before = len(series(metrics))
    for number in range(100):
        metrics.attempted(f"removed-{number}", DeliveryResult.DEAD, SECOND)
    found = series(metrics)
    assert value(found, "deliveries_total", channel="other", result="dead") == 100
    assert not any("removed" in text for _, labels in found for _, text in labels)
    assert len(found) - before < 30

    metrics.configure(["ops", "chat"])
    metrics.attempted("chat", DeliveryResult.SENT)
    metrics.attempted("mail", DeliveryResult.SENT)
    found = series(metrics)
    assert value(found, "deliveries_total", channel="chat", result="sent") == 1
    assert value(found, "deliveries_total", channel="other", result="sent") == 1


def test_role_readiness_blindness_and_the_next_appointment_are_read_at_the_scrape(
    metrics: Metrics, status: Status, clock: StillClock
) -> None:
    found = series(metrics)
    assert (value(found, "role", role="starting"), value(found, "ready")) == (1, 0)
    assert not any(name == "paidwatch_next_due_seconds" for name, _ in found), "nothing is due"

    status.leading(recovered=0)
    status.due_in(10 * SECOND)
    found = series(metrics)
    assert (value(found, "role", role="leader"), value(found, "role", role="starting")) == (1, 0)
    assert value(found, "ready") == 1
    assert value(found, "next_due_seconds") == 10
    clock.passed += 15 * SECOND
    assert value(series(metrics), "next_due_seconds") == -5

    status.lost("gone", retry_within=SECOND)
    clock.passed += 4 * SECOND
    found = series(metrics)
    assert (value(found, "role", role="reconnecting"), value(found, "ready")) == (1, 0)
    assert value(found, "blind_seconds_total") == 4


def test_a_clock_that_stepped_back_gives_no_negative_latency(metrics: Metrics) -> None:
    metrics.activated_after(-SECOND)
    metrics.attempted("ops", DeliveryResult.SENT, -SECOND)
    found = series(metrics)
    assert value(found, "activation_latency_seconds_sum") == 0
    assert value(found, "delivery_latency_seconds_sum", channel="ops") == 0


def test_two_daemons_in_one_process_share_nothing(status: Status, metrics: Metrics) -> None:
    other = Metrics(status=status, version="1.2.3", channels=[])
    metrics.rang()
    assert value(series(other), "rings_total") == 0
    assert not any(family.name.startswith("paidwatch") for family in REGISTRY.collect())


def test_openmetrics_is_given_to_whom_asks_for_it(metrics: Metrics) -> None:
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert {"paidwatch_rings", "paidwatch_blind_seconds", "paidwatch_build"} <= names
