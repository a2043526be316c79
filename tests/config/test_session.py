"""[success_page] and [http] trusted_proxies: what is refused, and what becomes of them inside."""

from pathlib import Path

import pytest

from paidwatch.config import ConfigProblems, Settings, load
from paidwatch.wiring.gateway import success_page_of

KEY = "0123456789abcdef0123456789abcdef"


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "paidwatch.toml"
    file.write_text(text)
    return load(file, {"database.dsn": "postgresql://x"}, environ={})


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ('url = "shop.example.org/thanks"', "success_page.url", "is not an http or https address"),
        ('url = "http://shop.example.org/thanks"', "success_page.url", "would send in clear text over the internet"),
        (
            'url = "https://ada:secret@shop.example.org/"',
            "success_page.url",
            "contains a user name or a password, which every customer would see",
        ),
        (
            'url = "https://shop.example.org/?session_id=&sig=1"',
            "success_page.url",
            "contains session_id and sig already",
        ),
        ('unknown_url = "javascript:alert(1)"', "success_page.unknown_url", "is not an http or https address"),
        ('key = "short"', "success_page.key", "is shorter than 32 characters"),
        ('origins = ["*"]', "success_page.origins[0]", "would let every page of the internet ask"),
        ('origins = ["https://shop.example.org/"]', "success_page.origins[0]", "is not an origin"),
        ('origins = ["https://Shop.example.org"]', "success_page.origins[0]", "is not an origin"),
        ('orgins = ["https://shop.example.org"]', "success_page.orgins", "is not a known key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, line: str, key: str, said: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(tmp_path, f"[success_page]\n{line}\n")
    (problem,) = caught.value.problems
    assert (problem.origin.line, problem.key, problem.what) == (2, key, said)
    assert problem.remedy
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example.org", "", "*"])
def test_a_proxy_is_an_address_or_a_network(tmp_path: Path, network: str) -> None:
    with pytest.raises(ConfigProblems, match="is not an IP address or a network"):
        read(tmp_path, f'[http]\ntrusted_proxies = ["10.1.0.0/16", "{network}"]\n')
    assert read(tmp_path, '[http]\ntrusted_proxies = ["192.0.2.7", "2001:db8::/32"]\n').http.trusted_proxies == (
        "192.0.2.7/32",
        "2001:db8::/32",
    )


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        ('url = "https://Shop.example.org:443/a?b=c"', ["https://shop.example.org"]),
        ('url = "http://localhost:8080/a"', ["http://localhost:8080"]),
        ('url = "https://a.example.org/"\norigins = ["https://b.example.org:8443"]', ["https://b.example.org:8443"]),
    ],
)
def test_scripts_of_the_page_may_ask_unless_others_are_named(tmp_path: Path, text: str, origins: list[str]) -> None:
    assert sorted(success_page_of(read(tmp_path, f"[success_page]\n{text}\n")).origins) == origins


def test_order_ids_are_read_by_the_patterns_of_all_providers(tmp_path: Path) -> None:
    pattern = r"(?P<plan>\\w+)-(?P<user>\\d+)-(?P<time>\\d+)"
    page = success_page_of(
        read(
            tmp_path, f'[success_page]\nkey = "{KEY}"\n[providers.stripe]\nsecret = "x"\norder_pattern = "{pattern}"\n'
        )
    )
    for order_id in ("vip_elite-7-1732000000", "winu_sub_7_vip_elite_1732000000"):
        order = page.order_of(order_id)
        assert order is not None
        assert (order.user_id, order.plan_id) == ("7", "vip_elite")
    assert page.order_of("cs_test_a1b2c3") is None
    assert KEY not in repr(page)
