# SPDX-License-Identifier: Apache-2.0
"""JSON is redacted in place: what is no secret stays byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.jsontext import MAX_DEPTH, NotJson, TooDeep, redact
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import TOKEN, Tokens

TOKENS = Tokens(b"key")
T = {text: TOKENS.token(text.encode()) for text in ("x", "1", "-1.50e3", "é", "y")}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("pin"), inner),
    max_leaves=20,
)


def censor(**changes: Any) -> Censor:
    return Censor(replace(Policy.default(), **changes), TOKENS)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ('{"pin":1, "a":1}', f'{{"pin":"{T["1"]}", "a":1}}'),
        ('{"pin": -1.50e3}', f'{{"pin": "{T["-1.50e3"]}"}}'),
        ('{"pin":true,"pin":null,"pin":""}', '{"pin":true,"pin":null,"pin":""}'),
        ('{"pin":"x","pin":"y"}', f'{{"pin":"{T["x"]}","pin":"{T["y"]}"}}'),
        ('{"pin":["x",{"a":"y"}]}', f'{{"pin":["{T["x"]}",{{"a":"{T["y"]}"}}]}}'),
        ('{"pin":["x"],"a":"x"}', f'{{"pin":["{T["x"]}"],"a":"x"}}'),
        ('{"pin":"\\u00e9"}', f'{{"pin":"{T["é"]}"}}'),
        (
            '{"pin" :\n"x" }\n{"pin":"y"}',
            f'{{"pin" :\n"{T["x"]}" }}\n{{"pin":"{T["y"]}"}}',
        ),
        ('"a"', '"a"'),
    ],
)
def test_only_secrets_change(text: str, changed: str) -> None:
    assert redact(text, censor()) == changed


def test_a_card_is_found_in_a_number_too() -> None:
    done = json.loads(redact('{"a":4111111111111111,"b":4111111111111112}', censor()))
    assert done == {"a": TOKENS.token(b"4111111111111111"), "b": 4111111111111112}


def test_what_is_around_a_secret_stays_as_its_sender_writes() -> None:
    done = redact('["é\\n a@example.com \\"q\\" ok"]', censor())
    assert done == f'["é\\n {TOKENS.token(b"a@example.com")} \\"q\\" ok"]'
    done = redact('["\\u00e9 a@example.com"]', censor())
    assert done == f'["\\u00e9 {TOKENS.token(b"a@example.com")}"]'


@given(VALUES)
def test_any_json_is_read_as_json_is(value: object) -> None:
    text = json.dumps(value)
    done = json.loads(redact(text, censor()))
    names = censor().names

    def same(one: Any, other: Any, *, is_secret: bool) -> bool:
        if isinstance(one, dict):
            return list(one) == list(other) and all(
                same(v, other[k], is_secret=is_secret or k in names)
                for k, v in one.items()
            )
        if isinstance(one, list):
            return len(one) == len(other) and all(
                same(a, b, is_secret=is_secret) for a, b in zip(one, other, strict=True)
            )
        if is_secret and one not in ("", None) and not isinstance(one, bool):
            return bool(TOKEN.fullmatch(other))
        return bool(one == other)

    assert same(value, done, is_secret=False)


@pytest.mark.parametrize(
    "text",
    [
        *["{", "]", "[}", '{"a"}', '{"a":}', '["a":1]', "nul", '"a', '{"a" "b"}'],
        *['"\\x"', "{'a':1}", "{password=x}", '[1] x "', '{"a":1}}', "a", '"\n"'],
    ],
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(NotJson):
        redact(text, censor())


def test_nesting_has_a_bound() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert redact(deep, censor()) == deep
    with pytest.raises(TooDeep):
        redact(f'[{deep}, "a@example.com"]', censor(secret_paths=("$.a",)))


@pytest.mark.parametrize(
    ("changes", "text", "secrets"),
    [
        ({"secret_paths": ("$.a[*].b",)}, '{"a":[{"b":"x","c":"y"},{"b":"x"}]}', "x"),
        ({"secret_paths": ("$.a",)}, '{"a":{"b":["x",{"c":"x"}]},"b":"y"}', "x"),
        ({"secret_paths": ("$[1]",)}, '["y","x","y"]', "x"),
        ({"secret_paths": ("$.**.b",)}, '{"a":[{"b":"x"}],"b":"x","c":"y"}', "x"),
        ({"secret_paths": ("$.a",)}, '{"a":"x"}\n{"b":"y"}\n{"a":"x"}', "x"),
        ({"kept_paths": ("$.a.pin",)}, '{"a":{"pin":"y"},"pin":"x"}', "x"),
    ],
)
def test_paths_of_the_policy(changes: Any, text: str, secrets: str) -> None:
    expected = text.replace(f'"{secrets}"', f'"{T[secrets]}"')
    assert redact(text, censor(**changes)) == expected
