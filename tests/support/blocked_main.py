"""The daemon, whose event loop blocks on SIGUSR1: `python -m tests.support.blocked_main run --config FILE`.

It blocks for five of the manager's intervals, and says on the manager's socket when that begins and ends; messages
on that socket keep their order.
"""

import os
import signal
import socket
import time

from paidwatch.cli.root import main

INTERVALS = 5


def block(*_arguments: object) -> None:
    """Do what must never happen: the signal is handled where the loop runs, and the loop waits meanwhile."""
    say("X_BLOCKED=1")
    time.sleep(INTERVALS * int(os.environ["WATCHDOG_USEC"]) / 1_000_000)
    say("X_FREE=1")


def say(line: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
        to_manager.sendto(line.encode(), os.environ["NOTIFY_SOCKET"])


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, block)
    main()
