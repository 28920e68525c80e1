# SPDX-License-Identifier: Apache-2.0
"""Nothing unknown, nothing converted by guess, whatever the values are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.config.schema import Config, ServiceMatch, ServiceRule, settings
from deetune_otel.config.strict import StrictError, structure


def problems(tree: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(StrictError) as caught:
        structure(tree)
    return list(caught.value.problems)


def test_nothing_gives_the_defaults() -> None:
    assert structure({}) == Config()


def test_a_section_whose_keys_are_all_commented_out_is_the_default() -> None:
    assert structure({"agent": None}) == Config()


def test_a_rule() -> None:
    tree = {"services": {"rules": [{"match": {"port": 80}, "name": "edge"}]}}
    assert structure(tree).services.rules == (
        ServiceRule(match=ServiceMatch(port=80), name="edge"),
    )


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("agent", "interval_s", "ten", "expected a number, got 'ten'"),
        ("agent", "interval_s", True, "expected a number, got true"),
        ("agent", "interval_s", None, "expected a number, got nothing"),
        ("agent", "interval_s", 0, "must be from 0.1 to 3600, got 0.0"),
        ("spans", "per_second", 1.5, "expected a whole number, got 1.5"),
        ("spans", "per_second", "100", "expected a whole number, got '100'"),
        ("spans", "per_second", False, "expected a whole number, got false"),
        ("spans", "enabled", "no", "expected true or false, got 'no'"),
        ("spans", "enabled", 1, "expected true or false, got 1"),
        ("web", "host", 127, "expected text, got 127: write it in quotes"),
        ("web", "host", ["a"], "expected text, got a list"),
        ("recording", "socket", "/a\0b", "has a zero byte in it: '/a\\x00b'"),
        (
            "web",
            "host",
            True,
            (
                "expected text, got true: YAML takes yes, no, on and off for booleans, "
                "so write it in quotes"
            ),
        ),
        (
            "otlp",
            "protocol",
            "grcp",
            "expected one of grpc, http/protobuf, got 'grcp'; did you mean 'grpc'?",
        ),
        ("console", "format", False, "expected one of text, json, got false"),
        ("routes", "patterns", "/a", "expected a list, got '/a'"),
        ("routes", "patterns", {"a": 1}, "expected a list, got keys and values"),
        ("agent", "intervall_s", 1, "unknown setting; did you mean 'interval_s'?"),
        ("agent", "endpoint", "x", "unknown setting here; it is otlp.endpoint"),
        ("agent", "zzz", 1, "unknown setting"),
    ],
)
def test_a_wrong_value(section: str, key: str, value: object, message: str) -> None:
    assert problems({section: {key: value}}) == [(f"{section}.{key}", message)]


def test_no_message_repeats_a_secret() -> None:
    ((path, message),) = problems({"otlp": {"headers": {"x-token": 4711}}})
    assert path == "otlp.headers"
    assert message == "the value of 'x-token' must be text: write it in quotes"
    ((_, message),) = problems({"otlp": {"headers": "x-token=4711"}})
    assert "4711" not in message


def test_all_errors_at_once_each_with_its_path() -> None:
    found = problems(
        {
            "agent": {"interval_s": "ten", "log_level": "loud"},
            "kernel": 7,
            "services": {
                "rules": [
                    {"match": {"port": 0, "exee": "x"}, "name": True},
                    {"name": "no match"},
                    {"match": {}, "name": "empty"},
                    5,
                ]
            },
            "spams": {},
        }
    )
    assert {path for path, _ in found} == {
        "agent.interval_s",
        "agent.log_level",
        "kernel",
        "services.rules[0].match.port",
        "services.rules[0].match.exee",
        "services.rules[0].name",
        "services.rules[1].match",
        "services.rules[2].match",
        "services.rules[3]",
        "spams",
    }
    assert dict(found)["services.rules[1].match"] == "is missing"
    assert dict(found)["spams"] == "unknown section; did you mean 'spans'?"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["match", "name", "port", "exe"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


PAIRS = {
    "otlp.client_key": "otlp.client_certificate",
    "otlp.client_certificate": "otlp.client_key",
}


@given(
    tree=st.dictionaries(
        st.sampled_from([one.path for one in settings()]), VALUES, max_size=4
    )
)
def test_any_values_are_a_configuration_or_a_list_of_problems(
    tree: dict[str, Any],
) -> None:
    nested: dict[str, dict[str, Any]] = {}
    for path, value in tree.items():
        section, _, key = path.partition(".")
        nested.setdefault(section, {})[key] = value
    found: tuple[tuple[str, str], ...] = ()
    try:
        config = structure(nested)
    except StrictError as error:
        found = error.problems
    else:
        for path, value in tree.items():
            section, _, key = path.partition(".")
            got = getattr(getattr(config, section), key)
            if not isinstance(value, list):
                assert got == value
        return
    assert found
    for path, message in found:
        asked = PAIRS.get(path, path)  # or the other one, which is missing
        assert any(path.startswith(given) or asked == given for given in tree), path
        assert message
