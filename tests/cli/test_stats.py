"""`paidwatch stats`: percentiles and endings, on watches whose times are known."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from paidwatch.cli.stats_command import BOUNDS, bars
from tests.support.command import config, watched, written
from tests.support.daemon import paidwatch
from tests.support.postgres import Database, Server, on_shapes

__all__ = ["config", "watched"]
SHAPES = on_shapes("LM", thorough="F")


async def stats(config: Path, *options: str) -> dict[str, Any]:
    done = await paidwatch("stats", "--json", *options, config=config)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def add_watch(
    db: Database,
    number: int,
    *,
    took: float | None = 1.0,
    state: str = "closed",
    outcome: str | None = "activated",
    source: str = "trigger",
    method: str = "card",
    plan: str = "professional",
    told: bool = False,
    paid: str = "1 day",
) -> None:
    """Write a watch of a payment paid `paid` ago and activated `took` seconds later, with a minute of grace."""
    await db.execute(
        "INSERT INTO paidwatch.watch (payment_id, user_id, state, source, paid_at, noticed_at, grace_until, settled_at,"
        " outcome, closed_at, plan_id, method, amount, currency)"
        " SELECT $1, 1, $2, $3, t.at, t.at, t.at + interval '1 minute',"
        " t.at + $4 * interval '1 second', $5, CASE WHEN $2 = 'closed' THEN now() END, $6, $7, 10, 'USD'"
        " FROM (SELECT now() - $8::interval AS at) t",
        number, state, source, took, outcome if state == "closed" else None, plan, method, _span(paid),
    )  # fmt: skip
    if told:
        await db.execute(
            "WITH a AS (INSERT INTO paidwatch.alert (kind, payment_id) VALUES ('test', $1) RETURNING alert_id)"
            " INSERT INTO paidwatch.delivery (alert_id, channel, told_at) SELECT alert_id, 'ops', now() FROM a",
            number,
        )


def _span(text: str) -> timedelta:
    number, unit = text.split()
    return timedelta(**{f"{unit.removesuffix('s')}s": int(number)})


@SHAPES
async def test_percentiles_by_method_and_plan(watched: Database, config: Path) -> None:
    for number in range(1, 101):
        await add_watch(watched, number, took=float(number), method="card" if number % 2 else "crypto")
    await add_watch(watched, 200, took=1000.0, plan="vip_elite")
    await add_watch(watched, 201, took=5000.0, source="reconcile")
    await add_watch(watched, 202, took=6000.0, source="baseline")
    await add_watch(watched, 203, took=7000.0, paid="9 days")
    answer = await stats(config)
    total = answer["latency"]
    assert total == {
        "count": 101,
        "p50_seconds": 51.0,
        "p90_seconds": 91.0,
        "p99_seconds": 100.0,
        "max_seconds": 1000.0,
    }
    groups = {(one["method"], one["plan_id"]): one for one in answer["groups"]}
    assert groups[("crypto", "professional")] == {
        "method": "crypto",
        "plan_id": "professional",
        "count": 50,
        "p50_seconds": 50.0,
        "p90_seconds": 90.0,
        "p99_seconds": 100.0,
        "max_seconds": 100.0,
    }
    assert groups[("card", "vip_elite")]["max_seconds"] == 1000.0
    assert sum(one["count"] for one in answer["histogram"]) == 101
    assert (await stats(config, "--since", "10d"))["latency"]["max_seconds"] == 7000.0


@SHAPES
async def test_what_became_of_payments_and_of_the_money(watched: Database, config: Path) -> None:
    await add_watch(watched, 1, took=5)
    await add_watch(watched, 2, took=60)
    await add_watch(watched, 3, took=61)
    await add_watch(watched, 4, took=600, told=True)
    await add_watch(watched, 5, took=61, outcome="fixed")
    await add_watch(watched, 6, took=None, state="gap", told=True)
    await add_watch(watched, 7, took=None, state="gap")
    await add_watch(watched, 8, took=None, state="waiting")
    await add_watch(watched, 9, took=None, outcome="superseded")
    await add_watch(watched, 10, took=None, outcome="reversed", told=True)
    await add_watch(watched, 11, took=900, source="reconcile")
    await add_watch(watched, 12, took=0, source="baseline")
    await add_watch(watched, 13, took=None, source="baseline", outcome="baseline")
    await add_watch(watched, 14, took=None, state="gap", paid="8 days")
    answer = await stats(config)
    assert answer["counts"] == {
        "in_grace": 2,
        "saved": 2,
        "late": 1,
        "lost": 2,
        "waiting": 1,
        "unseen": 1,
        "nothing_owed": 2,
        "history": 2,
    }
    assert answer["money"]["lost"] == {"USD": "20"}
    assert answer["money"]["saved"] == {"USD": "20"}
    done = await paidwatch("stats", config=config)
    assert "2  lost: still a gap (20 USD)" in done.stdout
    assert "2  saved" in done.stdout


@SHAPES
async def test_what_a_person_undid_is_no_activation_time(watched: Database, config: Path) -> None:
    await add_watch(watched, 1, took=5)
    await add_watch(watched, 2, took=3600, outcome="ended")
    await add_watch(watched, 3, took=60, outcome="fixed")
    await watched.execute(
        "INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, version, done_at, undone_at)"
        " SELECT w.payment_id, 1, t.state, 'sql', 'cli:ann', '1', w.settled_at,"
        " CASE t.state WHEN 'undone' THEN w.settled_at + interval '1 hour' END"
        " FROM (VALUES (2, 'undone'), (3, 'done')) AS t (number, state)"
        " JOIN paidwatch.watch w ON w.payment_id = t.number"
    )
    answer = await stats(config)
    assert (answer["latency"]["count"], answer["latency"]["max_seconds"]) == (2, 60.0)
    assert sum(one["count"] for one in answer["histogram"]) == 2
    assert (answer["counts"]["nothing_owed"], answer["counts"]["saved"]) == (1, 1)
    done = await paidwatch("stats", config=config)
    assert "1  nothing owed: superseded, reversed, free, dismissed, or undone by a person" in done.stdout


async def test_a_plot_fits_a_terminal(watched: Database, config: Path) -> None:
    for number in range(40):
        await add_watch(watched, number, took=0.05 * 1.5**number)
    done = await paidwatch("stats", "--plot", config=config)
    drawn = [line for line in done.stdout.splitlines() if "█" in line or "< " in line]
    assert len(drawn) >= 10
    assert all(cell_len(line) <= 80 for line in drawn)


def test_bars_fit_whatever_the_numbers_are() -> None:
    counts = [10**place for place in range(len(BOUNDS) + 1)]
    lines = list(bars(counts))
    assert len(lines) == len(counts)
    assert all(cell_len(line) <= 80 for line in lines)
    assert lines[0].split()[-1] == "1"
    assert "▏" in lines[0], "what is there at all is seen"
    assert list(bars([0] * len(counts))) == []


async def test_nothing_was_paid_yet(watched: Database, config: Path) -> None:
    answer = await stats(config)
    assert answer["latency"] is None
    done = await paidwatch("stats", "--plot", "--since", "200d", config=config)
    assert "no activation was timed" in done.stdout
    assert "[retention] closed" in done.stdout


async def test_the_database_cannot_be_asked(watched: Database, server: Server, tmp_path: Path) -> None:
    done = await paidwatch("stats", config=written(tmp_path, watched, dsn=server.dsn("there_is_none")), expect=2)
    assert done.stdout == ""
