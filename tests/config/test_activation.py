"""[activation]: what is refused, where it stands, and that no secret is repeated."""

from pathlib import Path

import pytest

from paidwatch.config import ConfigProblems, load
from tests.config.test_problems import CANARY, DSN, told

HTTP = """
[activation.http]
url = "https://shop.example.org/activate/{user_id}"
body = { user_id = "{user_id}", subscription_tier = "{plan_id}", duration_days = "{days}", reason = "{reason}" }
"""


def test_both_contracts_of_the_endpoint_are_taken(tmp_path: Path) -> None:
    for body in (
        '{ user_id = "{user_id}", subscription_tier = "{plan_id}", duration_days = "{days}", reason = "{reason}" }',
        '{ user_id = "{user_id}", plan_id = "{plan_id}", extra = { why = ["{reason}", 1, 1.5, true] } }',
    ):
        file = tmp_path / "paidwatch.toml"
        file.write_text(
            f'[activation]\nstrategy = "http"\n[activation.http]\nurl = "http://localhost:1/a"\nbody = {body}\n'
        )
        activation = load(file, {"database.dsn": DSN}, environ={}).activation
        assert activation.strategy == "http"
        assert "{reason}" in str(activation.http.body)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            HTTP.replace("{days}", "{day}"),
            (4, "activation.http.body.duration_days", "contains {day}, which stands for nothing"),
        ),
        (
            HTTP.replace("/{user_id}", "/{user}"),
            (3, "activation.http.url", "contains {user}, which stands for nothing"),
        ),
        (HTTP.replace("{reason}", "by paidwatch"), (4, "activation.http.body", "has no {reason}")),
        (
            HTTP.replace("shop.example.org", "{user_id}.example.org"),
            (3, "activation.http.url", "has a placeholder in the name of its host"),
        ),
        (HTTP.replace("https://", "ftp://"), (3, "activation.http.url", "is not an http or https address")),
        (
            HTTP + "[activation.http.headers]\nX = '1'\n" + f'Authorization = "{CANARY}{{token}}"\n',
            (7, "activation.http.headers.Authorization", "contains a placeholder that there is not"),
        ),
        (
            HTTP + f'[activation.http.headers]\nAuthorization = "{CANARY}\\n"\n',
            (6, "activation.http.headers.Authorization", "contains a character that no header may contain"),
        ),
        (
            HTTP.replace('"{days}"', "2026-01-01"),
            (4, "activation.http.body.duration_days", "cannot be sent as JSON"),
        ),
        (
            '[activation]\nstrategy = "http"\n',
            (2, "activation.http", "has no url, and activation.strategy is http"),
        ),
        (
            f'[activation]\nlink_key = "{CANARY}"\n',
            (2, "activation.link_key", "is shorter than 32 characters"),
        ),
        (
            '[http]\npublic_url = "https://watch.example.org"\n[activation]\nmode = "supervised"\n',
            (
                4,
                "activation.link_key",
                "is missing: activation.mode is supervised and http.public_url is set, so alerts carry links",
            ),
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, problem: tuple[int, str, str]) -> None:
    assert problem in told(tmp_path, text)
    with pytest.raises(ConfigProblems) as caught:
        load(tmp_path / "paidwatch.toml", {"database.dsn": DSN}, environ={})
    assert CANARY not in caught.value.message


def test_supervised_needs_no_link(tmp_path: Path) -> None:
    file = tmp_path / "paidwatch.toml"
    file.write_text('[activation]\nmode = "supervised"\n')
    assert load(file, {"database.dsn": DSN}, environ={}).activation.mode == "supervised"
