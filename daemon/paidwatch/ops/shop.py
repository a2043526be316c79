"""The sample shop, for the demo and for the tests: an application that sells subscriptions, its tables and its script.

Both functions read a file: call them outside the loop.
"""

from importlib.resources import files


def shop_sql() -> str:
    """Return the SQL that creates the sample shop's five tables and three plans in an empty database.

    The script uses no psql command, so it can be sent to the server as it is.
    """
    return files("paidwatch").joinpath("sql/sample/shop.sql").read_text(encoding="utf-8")


def success_html() -> str:
    """Return what docs/success-page.md has the application put into its success page: one place, and one script."""
    return files("paidwatch").joinpath("ops/success.html").read_text(encoding="utf-8")
