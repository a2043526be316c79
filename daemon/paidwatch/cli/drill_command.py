"""`paidwatch drill`: a synthetic payment through the whole pipe, in a database of its own that is removed again."""

from datetime import timedelta
from textwrap import wrap
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import emit_json, say
from paidwatch.cli.root import INTERRUPTED, Cli, json_option, pass_cli, run_async

if TYPE_CHECKING:
    from paidwatch.ops.drill import Drill, Result
    from paidwatch.ops.drill_story import Step

_WIDTH: Final = 80
_HEADINGS: Final = {
    "place": "",
    "works": "A payment whose webhook is right:",
    "fails": "A payment whose webhook has a wrong signature:",
}


@click.command()
@click.option("--embedded", is_flag=True, help="In a PostgreSQL of its own instead of on the configured server.")
@json_option
@pass_cli
def drill(cli: Cli, *, embedded: bool, as_json: bool) -> int:
    """Send a test payment through the whole pipe: webhook, log, activation, alert; and one that goes wrong.

    On the configured server, in a database of its own that is removed at the end, with a secret and channels of its
    own: the real tables, the running daemon and your chats notice nothing. Takes less than a minute. Exit code 0 if
    everything came as it should and nothing is left, 1 if not.
    """
    shown = Shown(quiet=as_json)
    result = run_async(_prepared(cli, shown, embedded=embedded).run)
    if as_json:
        emit_json(_document(result))
    else:
        _close(result)
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.ok else 1


def _prepared(cli: Cli, shown: "Shown", *, embedded: bool) -> "Drill":
    from paidwatch.ops import drill_place  # noqa: PLC0415 - the commands start fast
    from paidwatch.ops.drill import Drill  # noqa: PLC0415
    from paidwatch.wiring import target_of  # noqa: PLC0415

    if embedded:
        return Drill(drill_place.embedded, shown.show)
    target = target_of(cli.settings())
    return Drill(lambda: drill_place.on_the_server(target), shown.show)


class Shown:
    """The steps on standard output, one line each."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing if the result is told as JSON."""
        self._quiet = quiet
        self._variant = ""

    def show(self, step: "Step") -> None:
        """Show one step: when, how long it took, what was seen."""
        if self._quiet:
            return
        if step.variant != self._variant:
            self._variant = step.variant
            if heading := _HEADINGS.get(step.variant):
                say(heading, "bold")
        for line in step_lines(step):
            say(line, "" if step.ok else "bold red")


def step_lines(step: "Step") -> list[str]:
    """Return a step as lines of at most 80 columns."""
    head = f"{seconds(step.at):>8}  {seconds(step.took):>8}  {'ok' if step.ok else 'FAILED':<6}  {step.name:<10}  "
    lines = wrap(step.what, _WIDTH - len(head)) or [""]
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]


def seconds(span: timedelta) -> str:
    """Return a span in seconds, to the hundredth."""
    return f"{span.total_seconds():.2f} s"


def _close(result: "Result") -> None:
    if result.left_behind:
        say(f"left behind: {result.left_behind}", "bold red")
    took = seconds(result.took)
    if result.interrupted:
        say("interrupted before the end" + ("" if result.left_behind else "; everything is cleaned up"), "yellow")
    elif result.ok:
        say(f"everything came as it should, in {took}; nothing is left behind", "bold green")
    else:
        say(f"NOT everything came as it should, in {took}", "bold red")


def _document(result: "Result") -> dict[str, object]:
    return {
        "ok": result.ok,
        "interrupted": result.interrupted,
        "place": result.place,
        "left_behind": result.left_behind,
        "took_seconds": round(result.took.total_seconds(), 3),
        "steps": [
            {
                "variant": step.variant,
                "step": step.name,
                "ok": step.ok,
                "what": step.what,
                "at_seconds": round(step.at.total_seconds(), 3),
                "took_seconds": round(step.took.total_seconds(), 3),
            }
            for step in result.steps
        ],
    }
