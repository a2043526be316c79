"""Makes the pictures of the e-mails: `.venv/bin/python -m docs.images.letters`, with Chromium.

Each one is the HTML part of a message of `tests/channels/stories.py`, as a browser shows it; nothing is drawn by hand.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from paidwatch.channels.letter import html_of
from tests.channels.stories import notice_of

HERE = Path(__file__).parent
WIDTH = 720
SHOWN = ("new_late", "escalated_amount", "incident_still", "incident_resolved", "channel_down_new", "held", "daily")
"""Cases of the golden files."""
MEASURE = "<script>document.title = document.documentElement.scrollHeight</script>"


def browse(page: Path, *wish: str) -> str:
    """Open a page in a browser without a window and return what that wrote."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is needed")
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    line = [browser, *fixed, *wish, page.as_uri()]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout


def main() -> None:
    """Make every picture, each as high as its page."""
    with tempfile.TemporaryDirectory() as folder:
        for case in SHOWN:
            page = Path(folder) / f"{case}.html"
            html = html_of(notice_of(case))
            page.write_text(html + MEASURE, encoding="utf-8")
            found = re.search(r"<title>(\d+)</title>", browse(page, f"--window-size={WIDTH},200", "--dump-dom"))
            height = int(found[1]) if found else 1000
            page.write_text(html, encoding="utf-8")
            name = f"email-{case.replace('_', '-')}.png"
            browse(page, f"--window-size={WIDTH},{height}", f"--screenshot={HERE / name}")
            print(name, height)


if __name__ == "__main__":
    main()
