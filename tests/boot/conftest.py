"""This tier boots a machine with systemd; `make boot-test` runs it, and `make test` passes it by."""

import os

WANTED = "PAIDWATCH_BOOT_TEST"

collect_ignore_glob = [] if os.environ.get(WANTED) else ["test_*.py"]
