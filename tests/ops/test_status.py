"""The status board: what counts as alive, and what as ready."""

from datetime import timedelta

import pytest

from paidwatch.ops.status import Blind, Role, Status
from tests.ops.still_clock import START, StillClock

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def status(clock: StillClock) -> Status:
    return Status(clock=clock)


def test_at_the_start_it_lives_and_is_not_ready(status: Status) -> None:
    assert status.alive() is None
    assert status.ready() == ["starting: the first catch-up is not done"]


def test_a_leader_and_a_standby_are_ready(status: Status, clock: StillClock) -> None:
    status.standby()
    assert (status.role, status.ready(), status.listening_since) == (Role.STANDBY, [], None)
    clock.passed = 5 * SECOND
    assert status.leading(recovered=0) is None
    assert (status.role, status.ready(), status.listening_since) == (Role.LEADER, [], START + 5 * SECOND)


def test_a_worker_is_stuck_only_beyond_its_limit_and_only_while_busy(status: Status, clock: StillClock) -> None:
    status.leading(recovered=0)
    status.busy("decide", 30 * SECOND)
    clock.passed += 30 * SECOND
    assert status.alive() is None
    clock.passed += SECOND
    assert status.alive() == "decide is stuck for longer than its limit of 30 s"
    assert status.ready() == ["decide is stuck for longer than its limit of 30 s"]
    status.beat("decide")
    assert status.alive() is None
    clock.passed += timedelta(days=2)
    assert status.alive() is None, "waiting for work is not being stuck"
    assert status.beats() == {"decide": START + 31 * SECOND}


def test_a_database_that_is_away_is_no_reason_for_a_restart(status: Status, clock: StillClock) -> None:
    status.leading(recovered=0)
    status.due_in(3 * SECOND)
    status.busy("decide", 30 * SECOND)
    for _ in range(200):
        status.lost("the server does not answer", retry_within=40 * SECOND)
        assert status.alive() is None
        clock.passed += 40 * SECOND
        assert status.alive() is None
    assert status.ready() == ["not listening: the server does not answer"]

    status.standby()
    clock.passed += timedelta(days=1)
    assert status.alive() is None, "workers of the lost connection are gone, whatever they were busy with"


def test_a_long_catch_up_after_a_loss_has_its_own_limit(status: Status, clock: StillClock) -> None:
    status.lost("the server does not answer", retry_within=40 * SECOND)
    status.busy("intake", 300 * SECOND)
    clock.passed += 299 * SECOND
    assert status.alive() is None
    clock.passed += 2 * SECOND
    assert status.alive() == "intake is stuck for longer than its limit of 300 s"


def test_reconnecting_that_stopped_trying_is_stuck(status: Status, clock: StillClock) -> None:
    status.lost("the server does not answer", retry_within=40 * SECOND)
    clock.passed += 41 * SECOND
    assert status.alive() == "reconnecting has not been tried for more than 40 s"


def test_a_missed_appointment_is_noticed_and_a_set_alarm_is_not(status: Status, clock: StillClock) -> None:
    status.leading(recovered=0)
    status.due_in(timedelta(hours=1))
    clock.passed += timedelta(hours=1, seconds=119)
    assert status.alive() is None
    clock.passed += 2 * SECOND
    assert status.alive() == "what is due has not been looked at for more than 120 s"
    assert status.next_due() == -121 * SECOND
    status.due_in(None)
    assert status.alive() is None
    assert status.next_due() is None


def test_blindness_is_measured_from_the_first_loss_to_the_proof(status: Status, clock: StillClock) -> None:
    status.leading(recovered=0)
    clock.passed = 100 * SECOND
    status.lost("gone", retry_within=SECOND)
    clock.passed = 130 * SECOND
    status.lost("still gone", retry_within=SECOND)
    assert status.blind_so_far() == 30 * SECOND
    clock.passed = 142 * SECOND
    blind = status.leading(recovered=3)
    assert blind == Blind(since=START + 100 * SECOND, length=42 * SECOND, recovered=3)
    assert status.blind == blind
    clock.passed = 200 * SECOND
    assert status.blind_so_far() == 42 * SECOND
    status.lost("gone again", retry_within=SECOND)
    clock.passed = 208 * SECOND
    assert status.blind_so_far() == 50 * SECOND


def test_trouble_is_named_until_the_next_success(status: Status) -> None:
    status.leading(recovered=0)
    status.busy("deliver", SECOND)
    status.trouble("deliver", "channel ops answers 404")
    assert status.ready() == ["deliver: channel ops answers 404"]
    assert status.alive() is None
    assert status.line() == "leader; deliver: channel ops answers 404"
    status.beat("deliver")
    assert status.ready() == []
    assert status.last_error == "channel ops answers 404"


def test_while_stopping_nothing_is_restarted_and_a_loss_changes_nothing(status: Status, clock: StillClock) -> None:
    status.leading(recovered=0)
    status.busy("deliver", SECOND)
    status.due_in(SECOND)
    status.stopping()
    status.lost("gone", retry_within=SECOND)
    clock.passed += timedelta(hours=1)
    assert status.alive() is None
    assert (status.role, status.ready()) == (Role.STOPPING, ["stopping"])


def test_the_line_for_people_names_role_and_next_appointment(status: Status) -> None:
    status.leading(recovered=0)
    status.due_in(90 * SECOND)
    assert status.line() == "leader; next due in 90 s"
