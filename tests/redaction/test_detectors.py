# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction.detectors import RULES, Detectors, Hit, looks_random
from deetune_otel.redaction.tokens import Tokens

ALL = Detectors()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFO"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc=\n-----END RSA PRIVATE KEY-----"
# Put together here: what looks like a key in a source file alarms those who look for them.
LETTERS = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"

SECRETS = [
    ("email", "jane.doe+x@mail.example.com"),
    ("email", "o'brien@example.org"),
    ("email", "jürgen@exämple.de"),
    ("email", "jane%40example.com"),
    ("userinfo", ("https://", "jane:pa$$", "@example.com/x")),
    ("jwt", JWT),
    ("jwt", ("id-", JWT, "")),
    ("jwt", "eyJhbGciOiJSU0EifQ." + ".".join(["Zm9vYmFy"] * 4)),
    ("private_key", PEM),
    ("private_key", PEM[:40]),
    ("bearer", ("Bearer ", "mF_9.B5f-4.1JqM", "")),
    ("bearer", ("authorization=bearer ", "mF_9.B5f-4.1JqM==", "")),
    ("basic", ("Basic ", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "")),
    ("aws", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("gcp", "AIza" + LETTERS[:35]),
    ("azure", ("AccountKey=", LETTERS * 2 + "==", ";")),
    ("github", "ghp_" + LETTERS[:36]),
    ("github", "github_pat_" + LETTERS),
    ("gitlab", "glpat-" + LETTERS[:20]),
    ("slack", "xoxb-" + "1234567890-abcdef"),
    ("stripe", "sk_live_" + LETTERS[:24]),
    ("api_key", "sk-" + LETTERS),
    ("iban", "DE89370400440532013000"),
    ("iban", ("to ", "DE89 3704 0044 0532 0130 00", " EUR 12")),
    ("card", "4111111111111111"),
    ("card", ("25 ", "4111 1111 1111 1111", ".")),
    ("card", "3782-822463-10005"),
    ("card", "5555-5555-5555-4444"),
    ("phone", "+49 170 1234567"),
    ("phone", ("call ", "+1 (555) 123-4567", ".")),
]


@pytest.mark.parametrize(("rule", "secret"), SECRETS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("a ", " b"), ('{"', '"}')])
def test_a_secret_is_found_whole(
    rule: str, secret: str | tuple[str, str, str], before: str, after: str
) -> None:
    left, middle, right = ("", secret, "") if isinstance(secret, str) else secret
    text = before + left + middle + right + after
    hits = ALL.find(text)
    if middle == PEM[:40] and after:  # without an end it lasts to the text's
        middle += after
    assert [(hit.rule, text[hit.start : hit.end]) for hit in hits] == [(rule, middle)]


def test_every_rule_is_shown_to_find_something() -> None:
    assert {rule for rule, _ in SECRETS} == set(RULES)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T05:01:16.123456789+01:00 2026-11-24 05 01 16 2026",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "0.4111111111111111 4111111111111112 14111111111111111 x4111111111111111",
        "logo@2x.png, @home, pkg@1.2.3, a@b, DE00370400440532013000 AB12CDEF GH34",
        "Bearer realm=x, Basic information, a bearer of bad news, the basic idea",
        "eyebrow.raised.high.enough, eyJust.a, task-1, sk-1, +1, 1+12345678, +0200",
        "https://example.com/@user?x=1",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        Tokens(b"k").token(b"") + "@example.com Bearer " + Tokens(b"k").token(b"x"),
        "redacted-4111111111111111 https://redacted-4111111111111111@example.com/",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert ALL.find(text) == []


def test_rules_can_be_chosen_and_added() -> None:
    some = Detectors(["card"], {"employee": r"E-(\d{4})", "none": "z*"})
    text = "E-1234 a@example.com 4111111111111111"
    assert some.find(text) == [Hit(0, 6, "employee"), Hit(21, 37, "card")]
    assert Detectors([]).find(text) == []


def test_where_two_rules_overlap_nothing_of_either_stays() -> None:
    both = Detectors(own={"order": "mail a@example"})
    assert both.find("mail a@example.com!") == [Hit(0, 18, "order")]


def test_own_patterns_leave_tokens_alone() -> None:
    own = Detectors(own={"hex": "[0-9a-f]{8}"})
    assert own.find("redacted-0123456789abcdef") == []
    assert own.find("redacted-0123456789abcdef 01234567") == [Hit(26, 34, "hex")]


@pytest.mark.parametrize(
    "hostile",
    [
        *["eyJ", "eyJabcdef_", ".eyJ", "eyJaaaaaaaa.", "@", "a@", "a@a.", "%40a"],
        *["://", "://a", "4", "4444 ", "4111-1111-", "+1 ", "+11111111", "DE89 ", "A1"],
        *[
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN ",
            "Bearer a",
            "bearer " + "a" * 12,
        ],
        *[
            "Basic aaaaaaaa",
            "redacted-",
            "redacted-0123456789abcdef",
            "sk-",
            "SG.a",
            "xox",
        ],
        *["a.", "a", "%", "'", "AKIA", "8Q~", "AccountKey=", "ya29."],
    ],
)
def test_a_long_text_ends(hostile: str) -> None:
    """A search that begins again at each place would run into the limit of time of a test."""
    ALL.find((hostile * 400_000)[:400_000])


@pytest.mark.parametrize(
    ("text", "is_random"),
    [
        ("aB3dE5gH7jK9mN1pQ3sT", True),
        ("xoB3k-Qq1_ZrT7yU9wE5vL2p==", True),
        ("aB3dE5gH7", False),
        ("3f2504e0-4f89-41d3-9a0c-0305e82c3301", False),
        ("d41d8cd98f00b204e9800998ecf8427e", False),
        ("iphone-15-Pro-Max-256GB-Black-Edition", False),
        ("a-long-name-of-some-article-2020", False),
        ("aB3 dE5 gH7 jK9 mN1 pQ3 sT", False),
    ],
)
def test_what_looks_random(text: str, is_random: bool) -> None:  # noqa: FBT001
    assert looks_random(text) is is_random


@pytest.mark.parametrize("text", ["a@example.com.", "a@example.com.au", "a@b.com.1"])
def test_a_domain_ends_where_it_ends(text: str) -> None:
    (hit,) = ALL.find(f"to {text} ")
    assert (hit.start, hit.end) == (3, 3 + len(text.rstrip(".")))
