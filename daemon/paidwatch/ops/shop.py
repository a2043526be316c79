"""The sample shop: the tables of an application that sells subscriptions, for the demo and for the tests."""

from importlib.resources import files


def shop_sql() -> str:
    """Return the SQL that creates the sample shop's five tables and three plans in an empty database.

    The script uses no psql command, so it can be sent to the server as it is. Reads a file: call it outside the loop.
    """
    return files("paidwatch").joinpath("sql/sample/shop.sql").read_text(encoding="utf-8")
