"""`config show`: the effective configuration, as TOML, with sources, without secrets."""

import tomllib
from pathlib import Path

from paidwatch.config import load
from paidwatch.config.keys import all_keys
from paidwatch.config.shown import entries

TEXT = """
[database]
dsn = "postgresql://paidwatch:canary@localhost/shop"
[grace.by_method]
nowpayments = "10m"
"odd method" = "1h"
[payments]
paid = ["done \\" \\u0001"]
[activation.http]
headers = { Authorization = "Bearer canary" }
[channels.ops]
type = "slack"
url = "https://a.example/canary"
[providers.stripe]
secret = "canary"
[log]
level = "debug"
"""


def test_it_is_toml_that_means_the_same(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text(TEXT)
    settings = load(file, environ={"PAIDWATCH_HTTP__TOKEN": "canary"})
    shown = settings.shown()
    assert "canary" not in shown
    again = tomllib.loads(shown)
    assert again["payments"]["paid"] == ['done " \x01']
    assert again["grace"]["by_method"] == {"nowpayments": "10m", "odd method": "1h"}
    assert again["activation"]["http"]["headers"] == {"Authorization": "********"}
    assert again["channels"]["ops"].items() >= {"type": "slack", "url": "********", "token": ""}.items()
    assert again["providers"]["stripe"]["secret"] == "********"
    assert again["providers"]["stripe"]["api_key"] == ""
    mended = shown.replace('dsn = "********"', 'dsn = "postgresql://x"').replace('"********"', '"https://a.example/"')
    file.write_text(mended)
    assert load(file, environ={}).mapping() == settings.mapping()


def test_every_value_names_its_source(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text(TEXT)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "http.token").write_text("canary")
    environ = {
        "PAIDWATCH_GRACE__DEFAULT": "3m",
        "PAIDWATCH_GRACE__BY_METHOD__STRIPE": "1m",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    settings = load(file, {"database.dsn": "postgresql://x"}, environ=environ)
    source = {it.key: it.source for it in entries(settings)}
    assert source["database.dsn"] == "command line --dsn"
    assert source["database.time_zone"] == "default"
    assert source["grace.default"] == "environment PAIDWATCH_GRACE__DEFAULT"
    assert source["grace.by_method"] == f"{file}:4, environment PAIDWATCH_GRACE__BY_METHOD__STRIPE"
    assert source["payments.paid"] == f"{file}:8"
    assert source["channels.ops.url"] == f"{file}:13"
    assert source["http.token"] == "credential http.token"
    assert f'level = "debug"  # {file}:17' in settings.shown().splitlines()


def test_every_key_is_shown(tmp_path: Path) -> None:
    settings = load(None, {"database.dsn": "postgresql://x"}, environ={}, default_file=tmp_path / "absent.toml")
    shown = {it.path for it in entries(settings)}
    assert shown == {key.path for key in all_keys() if "*" not in key.path and not key.repeated}
    assert "# max_amount is not set" in settings.shown()
