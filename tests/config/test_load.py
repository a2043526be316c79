"""Which source wins, and what a missing one means."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.errors import ConfigError

DSN = "postgresql://paidwatch@localhost/shop"


def loaded(file: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: str) -> Settings:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return load(file, dotted, environ=environ or {}, default_file=Path("/nonexistent/paidwatch.toml"))


def dsn_of(settings: Settings) -> str:
    return settings.database.dsn.get_secret_value()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "paidwatch.toml"
    path.write_text('[database]\ndsn = "postgresql://file@localhost/shop"\n[grace]\ndefault = "1m"\n')
    return path


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.mkdir()
    return path


def test_each_source_is_stronger_than_the_one_before(file: Path, credentials: Path) -> None:
    environ: dict[str, str] = {}
    assert dsn_of(loaded(file, environ)) == "postgresql://file@localhost/shop"
    environ["PAIDWATCH_DATABASE__DSN"] = "postgresql://environment@localhost/shop"
    assert dsn_of(loaded(file, environ)) == "postgresql://environment@localhost/shop"
    (credentials / "database.dsn").write_text("postgresql://credential@localhost/shop\n")
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert dsn_of(loaded(file, environ)) == "postgresql://credential@localhost/shop"
    assert dsn_of(loaded(file, environ, database__dsn=DSN)) == DSN
    assert loaded(file, environ).grace.default == timedelta(minutes=1), "what nobody overrides stays"


def test_the_file_comes_from_the_argument_or_the_variable_or_the_usual_place(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[database]\ndsn = "postgresql://other@localhost/shop"\n')
    environ = {"PAIDWATCH_CONFIG": str(other)}
    assert dsn_of(load(file, environ=environ)) == "postgresql://file@localhost/shop"
    assert dsn_of(load(environ=environ, default_file=file)) == "postgresql://other@localhost/shop"
    assert dsn_of(load(environ={"PAIDWATCH_CONFIG": ""}, default_file=file)) == "postgresql://file@localhost/shop"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(ConfigError, match="there is no such file"):
        loaded(absent, {"PAIDWATCH_DATABASE__DSN": DSN})
    with pytest.raises(ConfigError, match="there is no such file"):
        loaded(None, {"PAIDWATCH_CONFIG": str(absent), "PAIDWATCH_DATABASE__DSN": DSN})


def test_the_usual_file_may_be_absent() -> None:
    assert loaded(None, {"PAIDWATCH_DATABASE__DSN": DSN}).grace.default == timedelta(minutes=2)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory") as caught:
        loaded(tmp_path)
    assert caught.value.remedy == f"name the file in it, like {tmp_path / 'paidwatch.toml'}"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """A name that is too long is refused to everybody, the superuser included."""
    with pytest.raises(ConfigError, match="cannot be read"):
        loaded(tmp_path / ("x" * 300))


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "paidwatch.toml"
    path.write_text('[database]\ndsn = "postgresql://x"\n', encoding="utf-8-sig")
    assert dsn_of(loaded(path)) == "postgresql://x"


@pytest.mark.parametrize("port", ["abc", "5432x", "123456", " "])
def test_a_port_of_the_environment_is_a_number(port: str) -> None:
    with pytest.raises(ConfigProblems, match="environment PGPORT: is not the number of a port"):
        loaded(None, {"PGHOST": "db1", "PGPORT": port})
    loaded(None, {"PGHOST": "db1,db2", "PGPORT": "5432,5433"})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin1.toml"
    path.write_bytes(b'[database]\ndsn = "\xfc"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        loaded(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[grace]\ndefault = 5m\n", 2),
        ("[grace\n", 1),
        ('[grace]\ndefault = "1m"\ndefault = "2m"\n[log]\n', 3),
        ("a =", 1),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(ConfigProblems) as caught:
        loaded(path)
    assert [problem.origin.line for problem in caught.value.problems] == [line]


def test_without_an_address_the_libpq_environment_counts() -> None:
    settings = loaded(None, {"PGHOST": "db1", "PGUSER": "paidwatch"})
    assert dsn_of(settings) == "postgresql://"
    assert str(settings.origins.of(("database", "dsn"))) == "environment PGHOST, PGUSER"


@pytest.mark.parametrize("environ", [{}, {"PGHOST": ""}, {"PGTZ": "UTC"}, {"PAIDWATCH_DATABASE__DSN": ""}])
def test_without_any_address_the_error_names_the_ways_to_give_one(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigProblems) as caught:
        loaded(None, environ)
    assert "database.dsn is missing" in caught.value.message
    assert "PAIDWATCH_DATABASE__DSN" in caught.value.remedy
    assert "--dsn" in caught.value.remedy


def test_what_needs_no_database_needs_no_address() -> None:
    assert load(environ={}, default_file=Path("/nonexistent/x.toml"), needs_database=False).grace.by_method == {}


def test_a_variable_reaches_every_kind_of_value(file: Path) -> None:
    environ = {
        "PAIDWATCH_GRACE__BY_METHOD__NOWPAYMENTS": "10m",
        "PAIDWATCH_GRACE__BY_METHOD__STRIPE": "30s",
        "PAIDWATCH_ALERTS__REMINDERS": "1h, 2h",
        "PAIDWATCH_PLANS__ORDER": '["free", "a,b"]',
        "PAIDWATCH_PLANS__DEFAULT_DAYS": "31",
        "PAIDWATCH_PAYMENTS__AMOUNTS": '{"EUR": "amount_eur"}',
        "PAIDWATCH_PLANS__PRICES__EUR": "price_eur",
        "PAIDWATCH_ACTIVATION__REQUIRE_CORROBORATION": "false",
        "PAIDWATCH_ACTIVATION__MAX_AMOUNT": "19.90",
        "PAIDWATCH_ACTIVATION__HTTP__HEADERS__X": "[no list]",
    }
    settings = loaded(file, environ)
    assert settings.grace.by_method == {"nowpayments": timedelta(minutes=10), "stripe": timedelta(seconds=30)}
    assert settings.alerts.reminders == (timedelta(hours=1), timedelta(hours=2))
    assert settings.plans.order == ("free", "a,b")
    assert settings.plans.default_days == 31
    assert settings.payments.amounts == {"EUR": "amount_eur"}
    assert settings.plans.prices == {"EUR": "price_eur"}
    assert settings.activation.require_corroboration is False
    assert str(settings.activation.max_amount) == "19.90"
    assert settings.activation.http.headers["x"].get_secret_value() == "[no list]"


def test_a_variable_changes_one_key_of_a_channel_in_the_file(file: Path) -> None:
    with file.open("a") as handle:
        handle.write('[channels.on-call]\ntype = "slack"\nurl = "https://chat.example.org/a"\n')
    channel = loaded(file, {"PAIDWATCH_CHANNELS__ON_CALL__URL": "https://chat.example.org/b"}).channels["on-call"]
    assert channel.type == "slack"
    assert channel.url.get_secret_value() == "https://chat.example.org/b"


def test_a_channel_may_come_from_variables_and_credentials_alone(credentials: Path) -> None:
    (credentials / "paidwatch_channels.ops.url").write_text("https://chat.example.org/secret\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "PAIDWATCH_CHANNELS__OPS__TYPE": "discord"}
    channel = loaded(None, environ, database__dsn=DSN).channels["ops"]
    assert channel.type == "discord"
    assert channel.url.get_secret_value() == "https://chat.example.org/secret"


def test_other_programs_credentials_are_left_alone_and_misspelt_ones_are_not(credentials: Path) -> None:
    (credentials / "tls.key").write_text("x")
    (credentials / "password").write_text("x")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    loaded(None, environ, database__dsn=DSN)
    (credentials / "databse.dsn").write_text("x")
    with pytest.raises(ConfigProblems, match=r"credential databse\.dsn: databse is not a known key"):
        loaded(None, environ, database__dsn=DSN)


def test_unreadable_credentials_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="credentials cannot be read"):
        loaded(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "absent")}, database__dsn=DSN)


def test_only_our_own_variables_are_looked_at() -> None:
    environ = {"PAIDWATCH_TEST_DSN": "x", "PAIDWATCHER": "x", "HOME": "/", "paidwatch_x": "y"}
    assert dsn_of(loaded(None, environ, database__dsn=DSN)) == DSN


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIDWATCH_DATABASE__DSN", DSN)
    monkeypatch.delenv("PAIDWATCH_CONFIG", raising=False)
    assert dsn_of(load(default_file=Path("/nonexistent/x.toml"))) == DSN


def test_settings_cannot_be_changed(file: Path) -> None:
    settings = loaded(file)
    with pytest.raises(ValueError, match="frozen"):
        settings.grace.default = timedelta()


def test_a_file_with_secrets_that_everybody_may_read_is_warned_about(file: Path) -> None:
    def warned() -> bool:
        return any("every user of this machine" in warning for warning in loaded(file).warnings)

    file.chmod(0o644)
    assert not warned(), "an address without a password is no secret"
    file.write_text('[database]\ndsn = "postgresql://paidwatch:canary@localhost/shop"\n')
    assert warned()
    assert not any("canary" in warning for warning in loaded(file).warnings)
    file.chmod(0o640)
    assert not warned()
    file.chmod(0o644)
    assert any(str(file) in warning for warning in loaded(file).warnings)
    moved = {"PAIDWATCH_DATABASE__DSN": "postgresql://paidwatch:canary@localhost/shop"}
    assert not any("every user" in warning for warning in loaded(file, moved).warnings), "the secret is not the file's"


@pytest.mark.parametrize(
    ("listen", "token", "warned"),
    [("127.0.0.1:8787", "", False), ("0.0.0.0:8787", "", True), ("0.0.0.0:8787", "t" * 16, False), ("", "", False)],
)
def test_a_door_without_a_key_is_warned_about(listen: str, token: str, *, warned: bool) -> None:
    settings = loaded(None, {"PAIDWATCH_HTTP__LISTEN": listen, "PAIDWATCH_HTTP__TOKEN": token}, database__dsn=DSN)
    assert any("http.token" in warning for warning in settings.warnings) is warned
