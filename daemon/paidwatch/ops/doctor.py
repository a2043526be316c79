"""The doctor: examines every part of an installation, from the connection inwards, and says each time what to do.

The order is that of the dependencies: what cannot be asked because an outer part is missing is not asked. A part that
cannot be examined is a problem of its own and does not keep the others from being examined.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from paidwatch.core.guards import Mode
from paidwatch.errors import DatabaseError, NotInstalled, Unfit, Unreachable
from paidwatch.store import installation
from paidwatch.store.connect import Target, translated
from paidwatch.store.installation import VERSION, Installed, Server
from paidwatch.store.pool import Database, Session
from paidwatch.store.statements import Statements

OLDEST_SERVER = 140_000
INSTALL = "paidwatch install"


class State(StrEnum):
    """How one part is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    PROBLEM = "problem"
    """Payments, verdicts or messages are in danger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found about one part."""

    part: str
    state: State
    what: str
    remedy: str = ""
    """What to type or to do; empty where nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was found."""

    findings: Sequence[Finding]
    asked: bool
    """False: the database could not be asked, so nothing may be concluded about it."""

    def count(self, state: State) -> int:
        """Return how many findings are of this state."""
        return sum(1 for finding in self.findings if finding.state is state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From when on something counts."""

    large: int = 10_000
    """Rows from which on a missing index matters."""
    patience: timedelta = timedelta(minutes=1)
    """How long work may be overdue, or a writing transaction open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One provider as it is configured, without its secrets."""

    name: str
    secret: str
    """The key of the configuration that holds what signatures are checked with."""
    has_secret: bool
    methods: tuple[str, ...]
    unusable: str = ""
    """Why its configuration cannot be used."""
    remedy: str = ""
    """Of what is unusable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What the configuration says about webhooks and about the success page."""

    gateways: tuple[Gateway, ...] = ()
    listens: bool = True
    public_url: str = ""
    page: str = ""
    has_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the configuration says that ought to be."""

    mapping: Mapping[str, object]
    runtime_role: str
    """Empty: the role that asks."""
    channels: Sequence[str]
    activates: bool
    """`[activation] mode` is auto."""
    mode: Mode
    limits: Limits
    reception: Reception = Reception()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A server that answers and is installed, to be examined further."""

    session: Session
    server: Server
    found: Installed
    expected: Expected


Check = Callable[[Patient], Awaitable[Iterable[Finding]]]
"""Examines one part, under one name, by reading only. May raise DatabaseError."""


def ok(part: str, what: str) -> Finding:
    """A part that is well."""
    return Finding(part=part, state=State.OK, what=what)


def warning(part: str, what: str, remedy: str = "") -> Finding:
    """A part that works in a way somebody should know."""
    return Finding(part=part, state=State.WARNING, what=what, remedy=remedy)


def problem(part: str, what: str, remedy: str = "") -> Finding:
    """A part that is in danger or broken."""
    return Finding(part=part, state=State.PROBLEM, what=what, remedy=remedy)


def problem_of(part: str, error: DatabaseError) -> Finding:
    """Return an error as a finding."""
    return problem(part, error.message, error.remedy)


class Doctor:
    """Examines one installation."""

    def __init__(
        self,
        *,
        target: Target,
        statements: Statements,
        expected: Expected,
        prove_listening: Callable[[], Awaitable[None]],
        checks: Sequence[tuple[str, Check]],
    ) -> None:
        """Bind the address; `prove_listening` sends a notification to itself and raises Unfit if it does not arrive."""
        self._target = target
        self._statements = statements
        self._expected = expected
        self._prove_listening = prove_listening
        self._checks = checks

    async def examine(self) -> Report:
        """Examine everything that can be examined."""
        findings: list[Finding] = []
        try:
            async with Database(self._target, self._statements, size=1) as database:
                await database.read(lambda session: self._of_server(session, findings))
        except DatabaseError as error:
            findings.append(problem_of("connection", error))
            return Report(findings=findings, asked=False)
        return Report(findings=findings, asked=True)

    async def _of_server(self, session: Session, findings: list[Finding]) -> None:
        server = await installation.server(session)
        findings.append(self._version(server))
        if server.standby:
            standby = "the server is a standby: it can be read and not watched"
            findings.append(
                problem(
                    "connection", standby, "Name all hosts in [database] dsn and add ?target_session_attrs=read-write."
                )
            )
        else:
            findings.append(await self._listening())
        try:
            with translated():
                found = await installation.installed(session, self._expected.mapping)
        except Unreachable:
            raise
        except DatabaseError as error:
            findings.append(problem_of("installation", error))
            return
        findings.append(self._installed(found))
        patient = Patient(session=session, server=server, found=found, expected=self._expected)
        for part, check in self._checks:
            try:
                with translated():
                    findings.extend(await check(patient))
            except Unreachable:
                raise
            except DatabaseError as error:
                findings.append(problem_of(part, error))

    @staticmethod
    def _version(server: Server) -> Finding:
        where = f"PostgreSQL {server.version}, database {server.database}, role {server.role}"
        if server.version_num < OLDEST_SERVER:
            return problem("connection", f"{where}: too old", "paidwatch needs PostgreSQL 14 or later.")
        return ok("connection", f"{where}, {'standby' if server.standby else 'primary'}")

    async def _listening(self) -> Finding:
        try:
            await self._prove_listening()
        except Unfit as error:
            return problem_of("listening", error)
        return ok("listening", "a notification sent to ourselves arrived")

    def _installed(self, found: Installed) -> Finding:
        try:
            installation.refuse_unfit(found)
        except NotInstalled as error:
            return problem_of("installation", error)
        told = "told" if found.baseline_at else "not told yet: the daemon has never run"
        return ok(
            "installation",
            f"schema version {found.version} of {VERSION}, since {found.installed_at:%Y-%m-%d}; history {told}",
        )
