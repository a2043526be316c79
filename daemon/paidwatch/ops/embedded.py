"""A private PostgreSQL server for the demo and the tests, from programs that come as a Python package.

`EmbeddedServer` makes a fresh cluster in a temporary directory, runs `postgres` there, and leaves nothing behind: not
after `close`, and not after the death of the process that started it (see `embedded_guard`).

All methods block. From async code call them with `anyio.to_thread.run_sync`.
"""

import io
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

from paidwatch.errors import Unreachable
from paidwatch.ops import embedded_guard
from paidwatch.ops.embedded_programs import Programs, environment, installed_programs, temporary_base

Mode = Literal["smart", "fast", "immediate"]

_SIGNALS: Final[Mapping[Mode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_PORTS: Final = range(16_384, 32_768)
"""Below the range from which systems take the ports of outgoing connections, so that a restart finds its port free."""
_POLL_SECONDS: Final = 0.005
_LIMIT_SECONDS: Final = 60.0
"""How long initdb, a start, or a stop may take."""

_SETTINGS: Final[Mapping[str, str]] = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%d %a: ",
}


class EmbeddedServer:
    """One PostgreSQL cluster and, between `start` and `stop`, its server.

    The superuser is `postgres`. The socket takes everybody who can reach it, and only the server's own user and root
    can; TCP (127.0.0.1) asks for a password.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        base: Path | None = None,
        copy_of: Self | None = None,
    ) -> None:
        """Describe a server; nothing happens before `start`.

        `settings` are those of postgresql.conf. `binaries` is a `bin` directory of PostgreSQL 14 or later; without it
        the package's. The temporary directory is made in `base` if the server's user can reach it. With `copy_of` the
        cluster becomes a streaming standby of that running server.
        """
        self.password: Final[str] = copy_of.password if copy_of else secrets.token_urlsafe(12)
        self.settings: Final[Mapping[str, str]] = {**(copy_of.settings if copy_of else _SETTINGS), **(settings or {})}
        self._wishes: Final = (base,) if base else ()
        self._copy_of: Final = copy_of
        inherited = copy_of.bin("postgres").parent if copy_of else None
        self._programs: Final = Programs(binaries or inherited or installed_programs())
        self._home: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._port = 0
        self._log_start = 0

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the server and remove the cluster."""
        self.close()

    # Where things are

    @property
    def home(self) -> Path:
        """The temporary directory that holds everything; exists from the first `start` to `close`."""
        if self._home is None:
            message = "the embedded PostgreSQL was never started, or is closed"
            raise Unreachable(message)
        return self._home

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def socket_directory(self) -> Path:
        """The directory of the Unix socket."""
        return self.home / "run"

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.home / "log"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, also part of the socket's name; the same after every restart."""
        return self._port

    @property
    def pid(self) -> int:
        """The postmaster's process id; 0 while no server runs."""
        return self._pid

    def bin(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs, for example `pg_dump`."""
        return self._programs.directory / name

    def dsn(
        self, database: str = "postgres", *, user: str = "postgres", password: str | None = None, tcp: bool = False
    ) -> str:
        """Return a connection address: over the socket, or over TCP with `tcp` or with a `password`."""
        if password is None and not tcp:
            place = f"?host={quote(str(self.socket_directory), safe='/')}&port={self._port}"
            return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}{place}"
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@127.0.0.1:{self._port}/{quote(database, safe='')}"

    # Its life

    def start(self) -> None:
        """Start the server, making the cluster first if there is none, and return when it takes connections.

        Raises PaidwatchError when a program is missing or fails, with the last words of its log.
        """
        if self._guard is not None:
            return
        if self._home is None:
            self._prepare()
        fresh = self._port == 0
        deadline = time.monotonic() + _LIMIT_SECONDS
        while True:
            self._port = _free_port() if fresh else self._port
            try:
                self._launch()
            except Unreachable as refusal:
                # Another program took the port in between, or processes of a killed postmaster are still ending.
                passing = re.search("Address already in use|is still in use", refusal.message)
                if passing is None or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(_POLL_SECONDS)

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server: `smart` waits for clients, `fast` ends them, `immediate` leaves recovery to the next start.

        Raises TimeoutError when it is still running after a minute.
        """
        self._end(_SIGNALS[mode])

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server and start it again on the same port."""
        self.stop(mode)
        self.start()

    def kill9(self) -> None:
        """Kill the postmaster; its processes notice and end by themselves."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop the server if it runs, and remove the cluster. Safe to call twice."""
        try:
            self.stop()
        finally:
            if self._home is not None:
                shutil.rmtree(self._home, ignore_errors=True)
                self._home = None

    # How

    def _prepare(self) -> None:
        """Lay out the temporary directory and make the cluster, by initdb or as a copy."""
        home = Path(tempfile.mkdtemp(prefix="paidwatch-", dir=temporary_base(self._programs.owner[0], *self._wishes)))
        try:
            for name in ("data", "run"):
                Path(home, name).mkdir(mode=0o700)
                os.chown(home / name, *self._programs.owner)
            os.chown(home, *self._programs.owner)
            self._home = home
            self._programs.make_reachable(home / "programs")
            if self._copy_of is None:
                self._initdb()
            else:
                self._basebackup(self._copy_of)
        except BaseException:
            self._home = None
            shutil.rmtree(home, ignore_errors=True)
            raise

    def _initdb(self) -> None:
        """Make an empty cluster: UTF-8, sorted by code point whatever the system's locales are."""
        builtin = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        locale: Sequence[str] = builtin if self._programs.version >= 17 else ("--locale=C.UTF-8",)  # noqa: PLR2004
        with self._file_for_server("password", self.password) as password:
            self._programs.run(
                "initdb",
                f"--pgdata={self.data}",
                "--username=postgres",
                "--encoding=UTF8",
                *locale,
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                f"--pwfile={password}",
                "--no-sync",
                "--no-instructions",
            )
        # initdb has already allowed replication on both ways; the settings only need a place that is read last.
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\ninclude 'embedded.conf'\n")

    def _basebackup(self, primary: "EmbeddedServer") -> None:
        """Copy a running server's cluster into a standby of it."""
        # Its host is the primary's socket, where both servers' user is trusted.
        address = ("--host", str(primary.socket_directory), "--port", str(primary.port), "--username", "postgres")
        how = ("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
        self._programs.run("pg_basebackup", "--pgdata", str(self.data), *address, *how)

    def _launch(self) -> None:
        """Run postgres under its guard until it says that it is ready."""
        lines = {
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self.socket_directory),
        }
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        conf = self.data / "embedded.conf"
        conf.write_text("".join(f"{name} = '{_escape(value)}'\n" for name, value in lines.items()), encoding="utf-8")
        os.chown(conf, *self._programs.owner)
        guard = subprocess.Popen(
            (
                *(sys.executable, "-I", "-S", embedded_guard.__file__),
                *(str(number) for number in self._programs.owner),
                *(str(self.home), str(self.log_path), str(self._programs.executable("postgres")), "-D", str(self.data)),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=self.home,
            start_new_session=True,
        )
        self._guard = guard
        try:
            with guard.stdout or io.BytesIO() as answer:
                self._pid = int(answer.readline() or 0)
            self._await_ready(guard)
        except BaseException:
            self._end(signal.SIGQUIT)
            raise

    def _await_ready(self, guard: "subprocess.Popen[bytes]") -> None:
        """Wait for the status line that postgres writes into its lock file."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                if lines[:1] == [str(self._pid)] and lines[7:] and lines[7].strip() in {"ready", "standby"}:
                    return
            if guard.poll() is not None:
                break
            time.sleep(_POLL_SECONDS)
        message = f"the embedded PostgreSQL did not start: {self._last_words()}"
        raise Unreachable(message)

    def _end(self, how: signal.Signals) -> None:
        """Send the postmaster a signal and wait until it and its guard are gone."""
        guard = self._guard
        if guard is None:
            return
        if guard.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, how)
            try:
                guard.wait(_LIMIT_SECONDS)
            except subprocess.TimeoutExpired as late:
                message = f"the embedded PostgreSQL is still running a minute after {how.name}"
                raise TimeoutError(message) from late
        if guard.stdin is not None:
            guard.stdin.close()
        self._guard, self._pid = None, 0

    @contextmanager
    def _file_for_server(self, name: str, content: str) -> Generator[Path]:
        """Yield a file that only the server's user (and root) can read, gone afterwards."""
        path = self.home / name
        path.touch(mode=0o600, exist_ok=False)
        os.chown(path, *self._programs.owner)
        path.write_text(content, encoding="utf-8")
        yield path
        path.unlink()

    def _last_words(self) -> str:
        """Return the end of what this launch logged."""
        with suppress(FileNotFoundError):
            logged = self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
            return " / ".join(logged.splitlines()[-8:])
        return "it wrote no log"


def _free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _escape(value: str) -> str:
    """Return `value` as it stands between the quotes of a setting in postgresql.conf."""
    return value.replace("\\", "\\\\").replace("'", "''")
