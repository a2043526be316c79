"""`paidwatch doctor`: every part of the installation, each problem with its remedy."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from paidwatch.cli.output import emit_json, say
from paidwatch.cli.root import FAILED, Cli, json_option, pass_cli, run_async

if TYPE_CHECKING:
    from paidwatch.config import Settings
    from paidwatch.ops.doctor import Doctor, Finding, Gateway, Limits, Reception, Report

_PROBLEMS: Final = 1
_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_PART: Final = 15


@click.command()
@json_option
@pass_cli
def doctor(cli: Cli, *, as_json: bool) -> int:
    """Examine every part of the installation; each problem is said with its remedy.

    Exit code 0 if all is well (warnings included), 1 if there are problems, 2 if the database could not be asked.
    """
    settings = cli.settings()
    report = with_configuration(settings, run_async(examination(settings).examine))
    problems = sum(1 for finding in report.findings if finding.state == "problem")
    warnings = sum(1 for finding in report.findings if finding.state == "warning")
    if as_json:
        emit_json(
            {
                "ok": report.asked and not problems,
                "asked": report.asked,
                "problems": problems,
                "warnings": warnings,
                "findings": report.findings,
            }
        )
    else:
        _show(report.findings)
        say(_verdict(report, problems, warnings), "bold green" if report.asked and not problems else "bold red")
    if not report.asked:
        return FAILED
    return _PROBLEMS if problems else 0


def examination(settings: "Settings", limits: "Limits | None" = None) -> "Doctor":
    """Return the doctor for this configuration. Reads files."""
    from paidwatch.core.guards import Mode  # noqa: PLC0415 - the commands start fast
    from paidwatch.flow.listen import Ears  # noqa: PLC0415
    from paidwatch.flow.signal import Signal  # noqa: PLC0415
    from paidwatch.ops import doctor_installation, doctor_webhooks, doctor_work  # noqa: PLC0415
    from paidwatch.ops.doctor import Doctor, Expected, Limits  # noqa: PLC0415
    from paidwatch.store.statements import Statements  # noqa: PLC0415
    from paidwatch.wiring import target_of  # noqa: PLC0415

    target, statements = target_of(settings), Statements.load()

    async def prove_listening() -> None:
        ears = Ears(target, statements, Signal())
        try:
            await ears.open()
        finally:
            ears.close()

    expected = Expected(
        mapping=settings.mapping(),
        runtime_role=settings.database.runtime_role,
        channels=tuple(settings.channels),
        activates=settings.activation.mode == "auto",
        mode=Mode(settings.activation.mode),
        limits=limits or Limits(),
        reception=reception_of(settings),
    )
    return Doctor(
        target=target,
        statements=statements,
        expected=expected,
        prove_listening=prove_listening,
        checks=(*doctor_installation.CHECKS, *doctor_work.CHECKS, *doctor_webhooks.CHECKS),
    )


def with_configuration(settings: "Settings", report: "Report") -> "Report":
    """Return the report with what is to be said about the configuration before it."""
    from paidwatch.ops.doctor import Report, ok, warning  # noqa: PLC0415 - the commands start fast
    from paidwatch.ops.doctor_webhooks import configured  # noqa: PLC0415

    source = str(settings.origins.file or "no file: environment and defaults")
    own = [warning("configuration", doubt) for doubt in settings.warnings]
    received = configured(reception_of(settings))
    return Report(findings=[ok("configuration", source), *own, *received, *report.findings], asked=report.asked)


def reception_of(settings: "Settings") -> "Reception":
    """Return what is configured about webhooks, without any secret."""
    from paidwatch.ops.doctor import Reception  # noqa: PLC0415 - the commands start fast

    return Reception(
        gateways=tuple(_gateway(settings, name) for name in settings.providers),
        listens=bool(settings.http.listen),
        public_url=settings.http.public_url,
        page=settings.success_page.url,
        has_key=bool(settings.success_page.key.get_secret_value()),
    )


def _gateway(settings: "Settings", name: str) -> "Gateway":
    from paidwatch.config.providers import kind_of  # noqa: PLC0415 - the commands start fast
    from paidwatch.core.webhook import Signature  # noqa: PLC0415
    from paidwatch.errors import ConfigError  # noqa: PLC0415
    from paidwatch.ops.doctor import Gateway  # noqa: PLC0415
    from paidwatch.wiring.gateway import provider_of  # noqa: PLC0415

    section = settings.providers[name]
    gateway = Gateway(
        name=name,
        secret="certificate" if kind_of(name, section) == "binance_pay" else "secret",
        has_secret=False,
        methods=section.methods or (name,),
    )
    try:
        provider = provider_of(name, section)
    except ConfigError as error:
        return replace(gateway, unusable=error.message, remedy=error.remedy)
    proof = provider.verify({}, b"", datetime.now(UTC))
    return replace(gateway, has_secret=proof is not Signature.NO_SECRET)


def _show(findings: Sequence["Finding"]) -> None:
    following = [*findings[1:], None]
    for finding, after in zip(findings, following, strict=True):
        say(f"{finding.state:<8} {finding.part:<{_PART}} {finding.what}", _STYLES[finding.state])
        if finding.remedy and (after is None or after.remedy != finding.remedy):
            say(f"{'':<8} {'':<{_PART}} → {finding.remedy}")


def _verdict(report: "Report", problems: int, warnings: int) -> str:
    if not report.asked:
        return "the database could not be asked"
    doubts = f"{warnings} {'warning' if warnings == 1 else 'warnings'}"
    if not problems:
        return f"all is well; {doubts}" if warnings else "all is well"
    return f"{problems} {'problem' if problems == 1 else 'problems'}, {doubts}"
