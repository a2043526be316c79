"""A machine with systemd as its first process: laid out by debootstrap, booted by systemd-nspawn, spoken to by nsenter.

It shares this machine's network, so its loopback is ours. What it needs of Python is fetched here and installed there.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.daemon import ROOT

CACHE = "PAIDWATCH_BOOT_CACHE"
"""Names a directory that keeps what is fetched (a Debian, the Python packages) from one run to the next."""
NAME = "paidwatch-boot"
RELEASE = "bookworm"
PACKAGES = "systemd-sysv,python3-venv"
PYTHON = "3.11"
"""What that release brings."""
PROGRAMS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}

_FETCH_SECONDS = 600
_ANSWER_SECONDS = 90
_BOOT_SECONDS = 60


def lacking() -> list[str]:
    """Return what this machine does not have, as phrases."""
    missing = [
        f"the program {name} (Debian: {package})" for name, package in PROGRAMS.items() if not shutil.which(name)
    ]
    if os.geteuid() != 0:
        missing.insert(0, "the rights of root")
    if shutil.which("apt-get") is None:
        missing.append("apt-get, to learn where this machine gets Debian from")
    return missing


def lay_out(cache: Path) -> Path:
    """Return a small Debian in `cache`, made now if there is none yet."""
    root = cache / RELEASE
    if not root.exists():
        sources = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines()
        fresh = cache / f"{RELEASE}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        what = ("--variant=minbase", f"--include={PACKAGES}", RELEASE, str(fresh), sources[0])
        _run("debootstrap", *what, limit=_FETCH_SECONDS)
        fresh.rename(root)
    return root


def fetch_wheels(cache: Path) -> Path:
    """Return a directory with the wheel of this checkout, and those of what it needs in the versions of our list."""
    wheels = cache / "wheels"
    wheels.mkdir(exist_ok=True)
    for former in wheels.glob("paidwatch-*.whl"):
        former.unlink()
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), limit=_FETCH_SECONDS)
    (ours,) = wheels.glob("paidwatch-*.whl")
    locked = re.findall(r"^[\w.-]+==[\w.]+", (ROOT / "requirements/demo.txt").read_text(encoding="utf-8"), re.MULTILINE)
    versions = cache / "versions.txt"
    versions.write_text("\n".join(locked), encoding="utf-8")
    how = ("--quiet", "--only-binary=:all:", "--python-version", PYTHON, "--constraint", str(versions), "--dest")
    _run(sys.executable, "-m", "pip", "download", *how, str(wheels), str(ours), limit=_FETCH_SECONDS)
    return wheels


def copy(root: Path, to: Path) -> None:
    """Copy a tree with everything in it, owners and devices too."""
    _run("cp", "--archive", "--reflink=auto", str(root), str(to), limit=_FETCH_SECONDS)


class Machine:
    """A machine that runs."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader
        """Its first process, as it is numbered here."""

    def command(self, *command: str) -> tuple[str, ...]:
        """Return what runs a command in it."""
        enter = ("nsenter", "--target", str(self._leader), "--all", "--")
        return (*enter, "/usr/bin/env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", *command)

    def ask(self, *command: str, expect: int | None = 0) -> str:
        """Run a command in it to its end, and return what it printed."""
        return _run(*self.command(*command), limit=_ANSWER_SECONDS, expect=expect)

    def show(self, unit: str, fact: str) -> str:
        """Return one property of a unit."""
        return self.ask("systemctl", "show", "--value", f"--property={fact}", unit).strip()

    def write(self, path: str, content: str, *, mode: int = 0o644, group: str = "root") -> None:
        """Write a file in it; directories are there already, or are made for root alone."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        place.touch(mode=0o600)
        place.write_text(content, encoding="utf-8")
        self.ask("chown", f"root:{group}", path)
        place.chmod(mode)


@contextmanager
def booted(root: Path, scratch: Path) -> Iterator[Machine]:
    """Boot the tree, and yield the machine once it has reached its target; afterwards nothing of it runs."""
    scratch.mkdir()
    report = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    report.bind(str(scratch / "notify"))
    report.settimeout(_BOOT_SECONDS)
    console = scratch / "console"
    with report, console.open("wb") as output:
        process = subprocess.Popen(
            (
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--notify-ready=yes", "--console=pipe"),
                *("--kill-signal=SIGRTMIN+3", f"--machine={NAME}", f"--directory={root}", "--boot"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "NOTIFY_SOCKET": str(scratch / "notify")},
        )
        try:
            yield Machine(root, _leader(report, console))
        finally:
            _halt(process)
            _sweep()


def _leader(report: socket.socket, console: Path) -> int:
    """Wait until the machine says that it has started, and return its first process."""
    leader = 0
    try:
        while True:
            for line in report.recv(1 << 16).decode().splitlines():
                if line.startswith("X_NSPAWN_LEADER_PID="):
                    leader = int(line.partition("=")[2])
                if line == "READY=1":
                    return leader
    except TimeoutError:
        message = f"the machine did not start: {console.read_text(errors='replace')[-2000:]}"
        raise RuntimeError(message) from None


def _halt(process: "subprocess.Popen[bytes]") -> None:
    """Shut down in order; a second SIGTERM, and then SIGKILL, where that takes too long."""
    for end in (process.terminate, process.terminate, process.kill):
        end()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return


def _sweep() -> None:
    """Remove what systemd-nspawn leaves behind where it is not on a disk of the system's own."""
    with suppress(OSError):
        Path("/run/systemd/nspawn/propagate", NAME).rmdir()


def _run(*command: str, limit: float = _ANSWER_SECONDS, expect: int | None = 0) -> str:
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False
    )
    assert expect in (None, done.returncode), f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
