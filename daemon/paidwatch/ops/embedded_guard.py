"""A program that keeps a PostgreSQL server running only as long as its owner lives.

    python -I -S embedded_guard.py UID GID DIRECTORY LOG PROGRAM [ARGUMENT …]

It becomes UID:GID if it was started as root, starts PROGRAM with its output appended to LOG, prints the server's
process id, and exits with the server's exit code. Its standard input is a pipe that the owner holds open and never
writes to: the kernel closes it when the owner ends, however that happens. Then the guard shuts the server down and
removes DIRECTORY. Should the guard itself be killed, the kernel interrupts the server (Linux only).

It imports the standard library only, so that it runs whatever environment the owner lives in.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PATIENCE_SECONDS = 10
"""How long a fast shutdown may take before the server is told to quit at once."""


def become(uid: int, gid: int) -> None:
    """Give up root for `uid`:`gid`, for good; anybody else stays who he is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def follow(guard: int, prctl: Callable[..., int] | None) -> None:
    """Ask the kernel, from the child, for an interrupt when the guard ends; leave if it has ended already."""
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != guard:
        os._exit(1)


def mind(owner: int, server: "subprocess.Popen[bytes]", orphaned: threading.Event) -> None:
    """Wait for the end of the owner, then shut the server down: fast if it can, at once if it cannot."""
    while os.read(owner, 1):
        pass
    orphaned.set()
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)


def main(uid: str, gid: str, directory: str, log: str, *command: str) -> int:
    """Start the server, see it to its end, and return its exit code."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    become(int(uid), int(gid))
    orphaned = threading.Event()
    with Path(log).open("ab") as sink:
        # No thread runs yet, so the preparation of the child is safe; and the kernel ties it to this, the main thread.
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(follow, os.getpid(), prctl),
        )
    print(server.pid, flush=True)
    threading.Thread(target=mind, args=(0, server, orphaned), name="mind the owner", daemon=True).start()
    code = server.wait()
    if orphaned.is_set():
        shutil.rmtree(directory, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
