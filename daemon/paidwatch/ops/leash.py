"""Runs a program that is not to outlive its owner.

    python -m paidwatch.ops.leash OWNER PROGRAM [ARGUMENT …]

Asks the kernel for a SIGTERM at the death of the owner, whose process id is given, and becomes PROGRAM. Only Linux can
be asked; elsewhere the program runs all the same. It imports the standard library only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(owner: str, *command: str) -> int:
    """Tie this process to its owner, then become the program; 1 if the owner is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() == int(owner):
        os.execv(command[0], command)  # noqa: S606 - the caller's own words, no shell
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
