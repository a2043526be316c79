"""Links: what was signed comes back, and nothing else is a link."""

import base64
import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paidwatch.core import link
from paidwatch.core.link import Permit, Refusal, authentic, digest, sign, verify

KEY = "a key of links that nobody guesses"
HERE = "3f0c1f57-8f43-4c7e-9a55-3f2a1f0a5d11"
NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
PERMIT = Permit(payment_id="12", alert_id=41, actor="link:ops", expires_at=NOW + timedelta(hours=24), revision=3)
TOKEN = sign(PERMIT, KEY, HERE)
SPELLED = string.ascii_letters + string.digits + "-_."

permits = st.builds(
    Permit,
    payment_id=st.text(max_size=40),
    alert_id=st.integers(1, 2**63 - 1),
    actor=st.text(max_size=40),
    expires_at=st.datetimes(datetime(2026, 3, 15), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
        lambda at: at.replace(microsecond=0)
    ),
    revision=st.integers(0, 10**6),
)


@given(permits)
def test_what_was_signed_comes_back(permit: Permit) -> None:
    token = sign(permit, KEY, HERE)

    assert verify(token, KEY, HERE, NOW) == permit
    assert authentic(token, KEY) == permit
    assert sign(permit, KEY, HERE) == token, "one message, one link"
    assert set(token) <= set(SPELLED)


@st.composite
def _changed(draw: st.DrawFn) -> str:
    """The token with one character changed, dropped, added, doubled, swapped or cased otherwise."""
    place = draw(st.integers(0, len(TOKEN) - 1))
    other = draw(st.one_of(st.sampled_from(SPELLED + "= /+%\0"), st.characters(exclude_categories=[])))
    before, here, after = TOKEN[:place], TOKEN[place], TOKEN[place + 1 :]
    return draw(
        st.sampled_from(
            [
                before + other + after,
                before + after,
                before + other + here + after,
                before + after[:1] + here + after[1:],
                before + here.swapcase() + after,
                before + here + here + after,
            ]
        ).filter(lambda made: made != TOKEN)
    )


@given(_changed())
def test_any_single_change_is_refused(token: str) -> None:
    assert verify(token, KEY, HERE, NOW) in {Refusal.FORGED, Refusal.MALFORMED}


def test_every_character_counts() -> None:
    """Base64 has characters whose last bits are not used: they must not make a second spelling of the same link."""
    for place, here in enumerate(TOKEN):
        for other in SPELLED.replace(here, ""):
            made = TOKEN[:place] + other + TOKEN[place + 1 :]
            assert isinstance(verify(made, KEY, HERE, NOW), Refusal), (place, other)
        assert isinstance(verify(TOKEN[:place], KEY, HERE, NOW), Refusal), place


@given(st.one_of(st.text(max_size=200), st.text(alphabet=SPELLED, max_size=200)))
def test_whatever_comes_is_no_link(token: str) -> None:
    assert isinstance(verify(token, KEY, HERE, NOW), Refusal)
    assert len(digest(token)) == 64


@pytest.mark.parametrize("token", ["", ".", "..", "a" * 100_000, TOKEN + "=", TOKEN + "\n", f"{TOKEN}.", f".{TOKEN}"])
def test_what_is_too_little_or_too_much_is_refused(token: str) -> None:
    assert isinstance(verify(token, KEY, HERE, NOW), Refusal)


def test_another_key_or_installation_makes_it_dead() -> None:
    assert verify(TOKEN, KEY + "!", HERE, NOW) is Refusal.FORGED
    assert verify(TOKEN, KEY, HERE[:-1] + "2", NOW) is Refusal.FOREIGN
    assert authentic(TOKEN, KEY + "!") is Refusal.FORGED


def test_it_is_good_until_it_expires() -> None:
    assert verify(TOKEN, KEY, HERE, PERMIT.expires_at - timedelta(seconds=1)) == PERMIT
    assert verify(TOKEN, KEY, HERE, PERMIT.expires_at) is Refusal.EXPIRED
    assert verify(TOKEN, KEY, HERE[:-1] + "2", PERMIT.expires_at) is Refusal.FOREIGN, "whose it is comes first"


@pytest.mark.parametrize("key", ["", "short", "x" * 31])
def test_a_short_key_signs_nothing_and_opens_nothing(key: str) -> None:
    with pytest.raises(ValueError, match="fewer than 32"):
        sign(PERMIT, key, HERE)
    for token in (TOKEN, "a.b", "."):
        assert isinstance(verify(token, key, HERE, NOW), Refusal)


@pytest.mark.parametrize(
    "change",
    [
        {"payment_id": "13"},
        {"alert_id": 42},
        {"actor": "link:team"},
        {"revision": 4},
        {"expires_at": PERMIT.expires_at + timedelta(seconds=1)},
    ],
    ids=str,
)
def test_everything_it_is_bound_to_makes_another_link(change: dict[str, object]) -> None:
    assert sign(replace(PERMIT, **change), KEY, HERE) != TOKEN  # type: ignore[arg-type]


def _signed(spelled: object) -> str:
    """A token of another version of this program: signed with the right key."""
    payload = base64.urlsafe_b64encode(json.dumps(spelled).encode()).rstrip(b"=").decode()
    return f"{payload}.{link._signature(payload, KEY)}"


@pytest.mark.parametrize(
    "spelled",
    [
        {},
        [],
        [2, HERE, "12", 41, "activate", "link:ops", 4_000_000_000, 3],
        [1, HERE, "12", 41, "undo", "link:ops", 4_000_000_000, 3],
        [1, HERE, 12, 41, "activate", "link:ops", 4_000_000_000, 3],
        [1, HERE, "12", 41, "activate", "link:ops", 10**30, 3],
        [1, HERE, "12", 41, "activate", "link:ops", 4_000_000_000],
    ],
    ids=str,
)
def test_what_another_version_signed_means_nothing(spelled: object) -> None:
    assert verify(_signed(spelled), KEY, HERE, NOW) is Refusal.MALFORMED
