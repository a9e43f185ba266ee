"""Secrets are taken out in every form they travel in, and what is kept can be stored."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.masking import MASK, Masker

SECRET = 'hun/ter+2 "é\\ & more'
MASKER = Masker([SECRET])


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote(SECRET),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(SECRET).replace("/", "\\/"),
        repr(SECRET),
        html.escape(SECRET),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        SECRET[:5] + "\n" + SECRET[5:],
        SECRET[:5] + "\r\n" + SECRET[5:],
    ],
)
def test_every_form_is_masked(form):
    masked = MASKER.text(f"before {form} end")
    assert MASK in masked
    assert "ter" not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" end")


@pytest.mark.parametrize("user", ["", "a", "ab", "bob", "alice@corp"])
def test_a_basic_header_hides_the_password(user):
    encoded = base64.b64encode(f"{user}:{SECRET}".encode()).decode()
    masked = MASKER.text(f"Authorization: Basic {encoded}")
    assert MASK in masked
    rest = masked.removeprefix("Authorization: Basic ").replace(MASK, "")
    assert len(rest) <= len(user) * 4 / 3 + 6


def test_wrapped_base64_is_masked():
    wrapped = base64.encodebytes(b"prefix" * 18 + SECRET.encode()).decode()
    inside = base64.b64encode(SECRET.encode()).decode()[:16]
    assert inside in wrapped.replace("\n", "")
    assert inside[2:] not in MASKER.text(wrapped).replace("\n", "")


def test_the_password_inside_an_address_is_masked_alone():
    masker = Masker(["postgresql://bob:p%40ssw0rd!x@db.corp:5432/ops"])
    assert masker.text('unexpected spaces in "p@ssw0rd!x"') == f'unexpected spaces in "{MASK}"'
    assert masker.text("p%40ssw0rd!x") == MASK


def test_the_key_of_a_webhook_is_masked_alone():
    masker = Masker(["https://hooks.slack.com/services/T0/B0/XXXXYYYYZZZZ11112222?sig=0123456789"])
    assert (
        masker.text("POST /services/T0/B0/XXXXYYYYZZZZ11112222") == f"POST /services/T0/B0/{MASK}"
    )
    assert masker.text("sig=0123456789") == f"sig={MASK}"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://bob:pw@db/x", "postgresql://bob:***@db/x"),
        ("redis://:pw@[::1]:6379/0", "redis://:***@[::1]:6379/0"),
        ("http://u:a@b@host/x", "http://u:***@host/x"),
        ("http://host:8080/x?mail=a@b.c", "http://host:8080/x?mail=a@b.c"),
        ("mail bob@corp, see http://host/", "mail bob@corp, see http://host/"),
    ],
)
def test_userinfo_is_masked_without_knowing_it(text, masked):
    assert Masker([]).text(text) == masked


def test_short_secrets_are_told_and_not_masked():
    masker = Masker(["abc", "1234567", "12345678", ""])
    assert masker.too_short == ("1234567", "abc")
    assert masker.text("abc 1234567 12345678") == f"abc 1234567 {MASK}"


def test_public_values_stay():
    assert Masker(["production"], public=["production"]).text("in production") == "in production"


def test_the_longer_secret_wins():
    masker = Masker(["password", "password-of-bob"])
    assert masker.text("password-of-bob password") == f"{MASK} {MASK}"


def test_values_are_walked():
    masker = Masker([SECRET, "12345678"])
    assert masker.value({"k": [12345678, 1.5, True, None, (SECRET,), {SECRET: f"x{SECRET}"}]}) == {
        "k": [MASK, 1.5, True, None, [MASK], {MASK: f"x{MASK}"}]
    }


def test_what_postgresql_cannot_store_is_changed():
    masker = Masker([])
    assert masker.text("a\0b\ud800c\U0001f600") == "ab\ufffdc\U0001f600"
    assert masker.value([float("nan"), float("inf"), b"x", {1: 2}]) == [
        "nan",
        "inf",
        "b'x'",
        {"1": 2},
    ]


def test_values_without_end_are_cut():
    value = []
    for _ in range(10_000):
        value = [value]
    assert "nested deeper" in json.dumps(Masker([]).value(value))


def test_a_masker_shows_nothing():
    assert SECRET not in repr(MASKER)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=8, max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_no_secret_survives(secret, before, after):
    secret = secret.replace("\0", "").encode("utf-8", "replace").decode()
    if len(secret) < 8 or MASK in secret or set(secret) <= set("*"):
        return
    masker = Masker([secret])
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
        assert form not in masker.text(before + form + after) or len(form) < 8
