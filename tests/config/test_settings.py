"""What is allowed, what is refused, and what the rest of the program gets."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from paidwatch.channels.settings import DiscordSettings, MailSettings, SlackSettings, Tls, WebhookSettings
from paidwatch.config import ConfigProblems, Settings, load, schema
from paidwatch.config.values import check_url, is_loopback, listen_parts, table_parts
from paidwatch.config.wrong import Wrong

DSN = "postgresql://paidwatch@localhost/shop"


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    return load(file, {"database.dsn": DSN}, environ={})


def refused(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, text)
    return [f"{it.key} {it.what}" for it in caught.value.problems]


def test_the_defaults_are_the_promised_ones(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.database.time_zone == "UTC"
    assert settings.database.connect_timeout == timedelta(seconds=10)
    assert settings.grace.default == timedelta(minutes=2)
    assert settings.payments.auto == ("completed", "finished", "paid")
    assert settings.verdict.amount_tolerance == Decimal("0.01")
    assert settings.retention.closed == timedelta(days=180)
    assert settings.activation.mode == "off"
    assert settings.activation.max_amount is None
    assert settings.deliveries.lease == timedelta(minutes=1)
    assert settings.http.listen == "127.0.0.1:8787"
    assert settings.daemon.linger == timedelta(milliseconds=50)


def test_the_mapping_is_json_with_exactly_the_agreed_keys(tmp_path: Path) -> None:
    mapping = read(tmp_path, '[payments]\ntable = \'shop."Payments"\'\n[events]\ntable = ""\n').mapping()
    assert json.loads(json.dumps(mapping)) == mapping
    assert {name: " ".join(section) for name, section in mapping.items() if isinstance(section, dict)} == {
        "payments": "table id user plan amounts method reference status created_at completed_at updated_at "
        "paid auto pending failed reversed",
        "users": "table id label name enabled admin status tier plan paid_until also_paid_until revoked_at "
        "last_paid_at touched_at active",
        "plans": "table id name prices days order free default_days enabled",
        "events": "table id user type data external_id processed created_at activated failed deliberate write",
        "webhooks": "table id method payment user status data error valid created_at failed",
    }
    assert mapping["time_zone"] == "UTC"
    assert mapping["runtime_role"] == ""
    assert mapping["payments"]["table"] == 'shop."Payments"', "as it was written"
    assert mapping["events"]["table"] == ""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("payments", ("public", "payments")),
        ("Shop.Payments", ("shop", "payments")),
        ('shop."Payments"', ("shop", "Payments")),
        ('"my.shop"."a ""b"""', ("my.shop", 'a "b"')),
        ("größe.übung$1", ("größe", "übung$1")),
    ],
)
def test_table_names_are_read_as_postgresql_reads_them(tmp_path: Path, text: str, parts: tuple[str, str]) -> None:
    assert table_parts(text) == parts
    assert read(tmp_path, f"[payments]\ntable = '{text}'\n").payments.table == text


@pytest.mark.parametrize("text", ["a b", "a.b.c", 'a."b', "a;drop", "1a", "a.", ".a", "a-b", '""', "x" * 64, "ü" * 32])
def test_what_is_no_table_name_is_refused(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, f"[plans]\ntable = '{text}'\n") == ["plans.table is not the name of a table"]


def test_only_the_side_tables_may_be_absent(tmp_path: Path) -> None:
    assert read(tmp_path, '[plans]\ntable=""\n[events]\ntable=""\n[webhooks]\ntable=""\n').plans.table == ""
    assert refused(tmp_path, '[payments]\ntable=""\nstatus=""\n[users]\ntable=""\n') == [
        "payments.table is empty",
        "payments.status is empty",
        "users.table is empty",
    ]


@pytest.mark.parametrize("name", ["a\tb", " a", '\\"A\\"', "a" * 64])
def test_columns_and_roles_are_names(tmp_path: Path, name: str) -> None:
    text = f'[database]\nruntime_role = "{name}"\n[users]\nlabel = "{name}"\nalso_paid_until = ["{name}"]\n'
    assert refused(tmp_path, text) == [
        "database.runtime_role is not a name in the database",
        "users.label is not a name in the database",
        "users.also_paid_until[0] is not a name in the database",
    ]


def test_columns_may_be_missing_and_oddly_named(tmp_path: Path) -> None:
    settings = read(
        tmp_path, '[users]\nlabel = "E-Mail adress"\nname = ""\n[payments]\namounts = { eur = "x", USD = "" }\n'
    )
    assert settings.users.label == "E-Mail adress"
    assert settings.payments.amounts == {"EUR": "x"}


def test_the_default_of_auto_follows_paid(tmp_path: Path) -> None:
    assert read(tmp_path, '[payments]\npaid = ["paid", "done"]\n').payments.auto == ("paid",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[payments]\npaid = ["done"]\nfailed = ["done"]', 'payments.failed and paid both name "done"'),
        ('[payments]\nfailed = ["x"]\nreversed = ["x"]', 'payments.reversed and failed both name "x"'),
        ('[payments]\npaid = ["failed"]', 'payments.failed and paid both name "failed"'),
        ("[payments]\npaid = []", "payments.paid must not be empty"),
        ('[payments]\npaid = ["a", "a"]', "payments.paid names a word twice"),
        ('[payments]\npaid = [" a"]', "payments.paid contains an empty word or one with blanks around it"),
        ('[events]\nfailed = ["activated"]', 'events.failed and activated both name "activated"'),
        ('[events]\nwrite = "granted"', "events.write is not one of events.activated"),
        ('[events]\nactivated = ["granted"]', "events.write is not one of events.activated"),
        ("[payments]\namounts = { 'US$' = 'x' }", "payments.amounts.US$ is not the code of a currency"),
        ('[database]\ntime_zone = "Mars/Olympus"', "database.time_zone is not a time zone"),
        ('[database]\ntime_zone = "../etc/passwd"', "database.time_zone is not a time zone"),
        ('[database]\nconnect_timeout = "0s"', "database.connect_timeout is zero"),
        ('[grace]\ndefault = "-2m"', "grace.default is negative"),
        ("[verdict]\namount_tolerance = 1", "verdict.amount_tolerance must be less than 1"),
        ("[activation]\nmax_amount = nan", "activation.max_amount must be a number"),
        ("[activation]\nmax_amount = 0", "activation.max_amount must be more than 0"),
        ("[activation]\nmax_per_hour = true", "activation.max_per_hour must be a whole number"),
        ("[activation]\nmax_per_day = 99999999999999999999", "activation.max_per_day must be at most 1000000"),
        ("[activation.http]\nretries = 21", "activation.http.retries must be at most 20"),
        ("[plans]\ndefault_days = 36501", "plans.default_days must be at most 36500"),
        ("[daemon]\nworkers = 65", "daemon.workers must be at most 64"),
        ("[alerts]\nstorm_threshold = 1000001", "alerts.storm_threshold must be at most 1000000"),
        ("[alerts]\nstorm_threshold = true", "alerts.storm_threshold must be a whole number"),
        ('[http]\nlisten = "*:8787"', "http.listen is not an address to listen on"),
        ('[http]\nlisten = "http://127.0.0.1:8787"', "http.listen is not an address to listen on"),
        ('[alerts]\nreminders = ["2h", "1h"]', "alerts.reminders is not in ascending order"),
        ('[alerts]\nreminders = ["0s"]', "alerts.reminders[0] is zero"),
        ('[deliveries]\nfirst_retry = "1h"', "deliveries.max_retry is shorter than deliveries.first_retry"),
        ('[http]\nlisten = "8787"', "http.listen is not an address to listen on"),
        ('[http]\npublic_url = "ftp://x"', "http.public_url is not an http or https address"),
        ("grace = 5", "grace must be a table"),
        ("channels.ops = 5", "channels.ops must be a table"),
        ('[channels.ops]\ntype = "pager"', "channels.ops.type must be one of slack, discord, email, webhook, apprise"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text) == [said]


def test_a_clash_with_a_default_is_told_at_the_line_the_owner_wrote(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, '\n\n[payments]\npaid = ["failed"]\n')
    assert [it.origin.line for it in caught.value.problems] == [4]


def test_numbers_stay_exact(tmp_path: Path) -> None:
    assert read(tmp_path, "[activation]\nmax_amount = 0.1\n").activation.max_amount == Decimal("0.1")


def test_corroboration_with_automatic_activation_is_accepted(tmp_path: Path) -> None:
    settings = read(tmp_path, '[activation]\nmode = "auto"\nrequire_corroboration = true\n')
    assert (settings.activation.mode, settings.activation.require_corroboration) == ("auto", True)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:c4n@4ry@db1/shop",
        "postgresql://u:c4n/4ry@db1/shop",
        "postgresql://u:c4n#4ry@db1/shop",
        "postgresql://u:c4n?4ry@db1/shop",
        "postgresql://u:12/c4n4ry@db1/shop",
        "postgresql://u:c4n@[4ry@db1/shop",
        "postgresql://u:c4n4ry@db1:port/shop",
        "postgresql://u:c4n4ry@db1:123456/shop",
        "postgresql://u:c4n4ry@db1/shop?sslmode=on",
        "postgresql://u:c4n4ry@db1/shop?target_session_attrs=rw",
        "postgresql://u:c4n4ry@db1/shop?x=1&sslmode=",
        "postgresql+asyncpg://u:c4n4ry@db1/shop",
        "host=db1 password=c4n4ry",
        "postgresql://u:c4n 4ry@db1/shop",
    ],
)
def test_an_address_of_a_database_that_would_be_misread_is_refused_without_a_part_of_it(dsn: str) -> None:
    """The client library takes a part of the password for a host or a port, and repeats it in its error."""
    with pytest.raises(ConfigProblems) as caught:
        load(None, {"database.dsn": dsn}, environ={}, default_file=Path("/nonexistent/x.toml"))
    assert str(caught.value).startswith("command line --dsn: database.dsn ")
    assert caught.value.remedy
    assert not {"c4n", "4ry"} & set(re.findall("c4n|4ry", f"{caught.value} {caught.value.remedy}"))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://",
        "postgres:///shop",
        "postgresql://db1",
        "postgresql://paidwatch@db1,db2/shop?target_session_attrs=read-write",
        "postgresql://u:p%40%2F%23%3A@db1:5432,db2:5433/shop?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://u:p:q@[::1]:5432/shop",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/shop",
        "postgresql:///shop?host=/var/run/postgresql&user=u%40x",
        "postgresql://u@db1:/shop?options=-c%20geqo%3Doff",
    ],
)
def test_an_address_of_a_database_that_is_taken(dsn: str) -> None:
    taken = load(None, {"database.dsn": dsn}, environ={"PGHOST": "x"}, default_file=Path("/nonexistent/x.toml"))
    assert taken.database.dsn.get_secret_value() == dsn


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/services/a/b",
        "http://localhost:8080/x",
        "http://127.0.0.1/x",
        "http://[::1]:9/x",
        "http://10.1.2.3/hook",
        "http://mattermost:8065/hooks/x",
        "http://chat.internal/x",
    ],
)
def test_addresses_that_are_taken(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "https://",
        "ftp://a.example",
        "http://a.example/x",
        "http://8.8.8.8/",
        "https://a b",
        "https://a:99999/",
        "https://[::1/x",
        "https://a.example/\nx",
        "//a.example/x",
        "https://a.example/<x>",
    ],
)
def test_addresses_that_are_not(url: str) -> None:
    with pytest.raises(Wrong) as caught:
        check_url(url)
    assert "a.example" not in caught.value.what + caught.value.remedy


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:8787", ("::1", 8787)), ("localhost:1", ("localhost", 1))],
)
def test_addresses_to_listen_on(text: str, parts: tuple[str, int]) -> None:
    assert listen_parts(text) == parts


@pytest.mark.parametrize("text", ["x", ":80", "::1:80", "a:b", "a:65536", "a:-1", "a:²"])
def test_what_nobody_can_listen_on(text: str) -> None:
    with pytest.raises(Wrong):
        listen_parts(text)


def test_loopback_is_this_machine_only() -> None:
    assert [is_loopback(host) for host in ("127.8.8.8", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("10.0.0.1", "0.0.0.0", "localhost.example.org")] == [False] * 3


MAIL = """
[channels.mail]
type = "email"
host = "smtp.example.org"
sender = "a@example.org"
recipients = ["b@example.org"]
"""


@pytest.mark.parametrize(
    ("tls", "host", "port"),
    [("starttls", "smtp.example.org", 587), ("tls", "smtp.example.org", 465), ("none", "localhost", 25)],
)
def test_the_port_follows_the_encryption(tmp_path: Path, tls: str, host: str, port: int) -> None:
    channel = read(tmp_path, MAIL.replace("smtp.example.org", host) + f'tls = "{tls}"\n').channels["mail"]
    assert channel.type == "email"
    assert channel.port == port


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('username = "u"', "channels.mail.password and username belong together, and one of them is missing"),
        ('password = "p"', "channels.mail.password and username belong together, and one of them is missing"),
        ('tls = "none"', 'channels.mail.tls "none" would send in clear text over the network'),
        ('host = "smtp.example.org:587"', "channels.mail.host is not the name of a host"),
        ('tls = "maybe"', "channels.mail.tls must be one of starttls, tls, none"),
        ("port = 65536", "channels.mail.port must be at most 65535"),
        ("port = 0", "channels.mail.port must be at least 1"),
        ('pace = "0s"', "channels.mail.pace is zero"),
    ],
)
def test_mail_that_could_not_be_sent_safely_is_refused(tmp_path: Path, line: str, said: str) -> None:
    mail = MAIL.replace('host = "smtp.example.org"\n', "") if line.startswith("host") else MAIL
    assert refused(tmp_path, f"{mail}{line}\n") == [said]


@pytest.mark.parametrize("address", ["b", "b@", "@b", "a b@c", "a@b\\r\\nBcc: c@d", "A <a@b>", "a@b,c@d"])
def test_what_is_no_mailbox_is_refused(tmp_path: Path, address: str) -> None:
    text = MAIL.replace("b@example.org", address)
    assert refused(tmp_path, text) == ["channels.mail.recipients[0] is not an e-mail address"]


def test_every_channel_gives_its_transport_what_it_needs(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        MAIL
        + """
[channels.ops]
type = "slack"
url = "https://a.example/s"
pace = "2s"
[channels.team]
type = "discord"
url = "https://a.example/d"
thread_id = "42"
[channels.hook]
type = "webhook"
url = "https://a.example/w"
secret = "whsec_Zmlyc3Q="
secrets = ["c2Vjb25k"]
""",
    ).channels
    slack, discord, hook, mail = (settings[name] for name in ("ops", "team", "hook", "mail"))
    assert slack.type == "slack"
    assert discord.type == "discord"
    assert hook.type == "webhook"
    assert mail.type == "email"
    assert SlackSettings(url=slack.url, pace=slack.pace).pace == timedelta(seconds=2)
    assert DiscordSettings(url=discord.url, thread_id=discord.thread_id, pace=discord.pace).thread_id == "42"
    assert [key.get_secret_value() for key in WebhookSettings(url=hook.url, secrets=hook.keys).secrets] == [
        "whsec_Zmlyc3Q=",
        "c2Vjb25k",
    ]
    made = MailSettings(
        host=mail.host,
        port=mail.port,
        sender=mail.sender,
        recipients=mail.recipients,
        tls=Tls(mail.tls),
        username=mail.username,
        password=mail.password,
    )
    assert (made.tls, made.port) == (Tls.STARTTLS, 587)


def test_every_secret_is_known_and_none_is_in_a_repr(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
[activation.http]
headers = { Authorization = "Bearer canary-1" }
[channels.ops]
type = "webhook"
url = "https://a.example/canary-2"
secret = "whsec_canary/3"
secrets = ["canary/4"]
[channels.bot]
type = "slack"
token = "xoxb-canary-5"
channel = "C1"
[channels.other]
type = "apprise"
urls = ["ntfy://canary-6", "tgram://canary-7/8"]
[alerts]
heartbeat_url = "https://a.example/canary-8"
[http]
token = "canary-9"
[providers.stripe]
secret = "canary-10"
api_key = "canary-11"
""",
    )
    assert settings.secrets() == {
        DSN,
        "Bearer canary-1",
        "https://a.example/canary-2",
        "whsec_canary/3",
        "canary/4",
        "xoxb-canary-5",
        "ntfy://canary-6",
        "tgram://canary-7/8",
        "https://a.example/canary-8",
        *(f"canary-{number}" for number in range(9, 12)),
    }
    assert settings.names() == {"ops", "bot", "other", "stripe"}
    assert "canary" not in settings.shown()
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_models_themselves_do_not_repeat_their_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"database": {"dsn": 5}, "log": {"level": "canary"}})
    assert "canary" not in str(caught.value)


def test_the_schema_describes_every_section() -> None:
    described = schema()
    assert set(described["properties"]) == set(Settings.model_fields)
    assert described["additionalProperties"] is False
    caps = described["$defs"]["Activation"]["properties"]["max_per_hour"]
    assert (caps["type"], caps["minimum"], caps["maximum"]) == ("integer", 0, 1_000_000)
    assert json.loads(json.dumps(described)) == described
