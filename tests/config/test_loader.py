# SPDX-License-Identifier: Apache-2.0
"""Precedence, where each value came from, and what is said of mistakes."""

from __future__ import annotations

import pytest

from deetune_otel.config import ConfigError, Loaded, Problem, load
from deetune_otel.config.loader import Layer, Origin
from deetune_otel.config.schema import Config, settings


def problems(
    text: str = "",
    environ: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, name="deetune.yaml", environ=environ, flags=flags)
    return [str(one) for one in caught.value.problems]


def test_nothing_given_gives_the_defaults_and_says_so() -> None:
    loaded = load()
    assert loaded.config == Config()
    assert loaded.origins == {one.path: Origin(Layer.DEFAULT) for one in settings()}


FILE = "agent: {interval_s: 1}\n"
ENVIRON = {"DEETUNE_AGENT_INTERVAL_S": "2"}
FLAGS = {"agent.interval_s": "3"}


@pytest.mark.parametrize(
    ("loaded", "value", "origin"),
    [
        (load(), 10.0, "default"),
        (load(FILE, name="d.yaml"), 1.0, "d.yaml:1"),
        (
            load(FILE, name="d.yaml", environ=ENVIRON),
            2.0,
            "DEETUNE_AGENT_INTERVAL_S",
        ),
        (load(FILE, name="d.yaml", environ=ENVIRON, flags=FLAGS), 3.0, "--set"),
        (load(environ=ENVIRON), 2.0, "DEETUNE_AGENT_INTERVAL_S"),
        (load(FILE, name="d.yaml", flags=FLAGS), 3.0, "--set"),
    ],
)
def test_a_later_layer_wins(loaded: Loaded, value: float, origin: str) -> None:
    assert loaded.config.agent.interval_s == value
    assert loaded.value("agent.interval_s") == value
    assert str(loaded.origins["agent.interval_s"]) == origin


def test_each_key_of_a_section_has_its_own_origin() -> None:
    loaded = load("web:\n  port: 1\n", name="f", environ={"DEETUNE_WEB_HOST": "::1"})
    assert loaded.config.web.port == 1
    assert loaded.config.web.host == "::1"
    assert loaded.origins["web.port"] == Origin(Layer.FILE, "f:2")
    assert loaded.origins["web.enabled"] == Origin(Layer.DEFAULT)


@pytest.mark.parametrize("layer", ["environment", "flag"])
@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("web.port", "80", 80),
        ("web.host", "yes", "yes"),
        ("otlp.endpoint", "http://c:4318", "http://c:4318"),
        ("otlp.endpoint", "null", None),
        ("otlp.protocol", "http/protobuf", "http/protobuf"),
        ("otlp.enabled", "true", True),
        ("otlp.timeout_s", "2.5", 2.5),
        ("otlp.headers", "{authorization: Bearer x}", {"authorization": "Bearer x"}),
        ("routes.patterns", "[/a, '/b/{id}']", ("/a", "/b/{id}")),
        ("console.format", "json", "json"),
    ],
)
def test_a_text_is_read_as_its_setting_wants_it(
    layer: str, path: str, text: str, value: object
) -> None:
    if layer == "flag":
        loaded = load(flags={path: text})
    else:
        variable = "DEETUNE_" + path.replace(".", "_").upper()
        loaded = load(environ={variable: text})
    assert loaded.value(path) == value


def test_an_empty_variable_is_unset() -> None:
    assert (
        load(FILE, environ={"DEETUNE_AGENT_INTERVAL_S": ""}).config == load(FILE).config
    )


def test_variables_that_are_no_settings_are_left_alone() -> None:
    environ = {"DEETUNE_REQUIRE_KERNEL": "1", "DEETUNE_SERVICE_HOST": "10.0.0.1"}
    assert load(environ=environ).config == Config()


def test_what_is_null_names_the_standard_variable_that_decides() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    }
    loaded = load("otlp: {timeout_s: 9}", name="f", environ=environ)
    assert str(loaded.origins["otlp.protocol"]) == "OTEL_EXPORTER_OTLP_PROTOCOL"
    assert str(loaded.origins["otlp.timeout_s"]) == "f:1"


def test_all_mistakes_of_all_layers_at_once() -> None:
    text = "agent:\n  interval_s: ten\notlp:\n  timeot_s: 3\n"
    assert problems(
        text,
        {"DEETUNE_WEB_PORT": "http", "DEETUNE_OTLP_TIMEOT_S": "1"},
        {"web.hots": "x", "limits.memory_mb": "1"},
    ) == [
        "DEETUNE_OTLP_TIMEOT_S: unknown variable; did you mean 'DEETUNE_OTLP_TIMEOUT_S'?",
        "--set: web.hots: unknown setting; did you mean 'web.host'?",
        "deetune.yaml:2: agent.interval_s: expected a number, got 'ten'",
        "deetune.yaml:4: otlp.timeot_s: unknown setting; did you mean 'timeout_s'?",
        "DEETUNE_WEB_PORT: web.port: expected a whole number, got 'http'",
        "--set: limits.memory_mb: must be from 64 to 65536, got 1",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "- a\n",
            (
                "deetune.yaml:1: expected sections (agent, kernel, spans, services, routes, otlp, "
                "console, web, topology, resources, recording, limits), got a list"
            ),
        ),
        ("web: 5\n", "deetune.yaml:1: web: expected keys and values, got 5"),
        (
            "web:\n  port: 1\n  port: 2\n",
            "deetune.yaml:3: 'port' stands twice (first on line 2)",
        ),
        ("1: 2\n", "deetune.yaml:1: 1: unknown section"),
        (
            "services:\n  rules:\n    - name: a\n",
            "deetune.yaml:3: services.rules[0].match: is missing",
        ),
        (
            "otlp:\n  client_key: k\n",
            "deetune.yaml:1: otlp.client_certificate: is missing beside client_key",
        ),
    ],
)
def test_a_mistake_in_the_file_has_its_line(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_a_variable_does_not_hide_that_the_file_has_no_such_section() -> None:
    assert problems("web: 5\n", {"DEETUNE_WEB_PORT": "80"}) == [
        "deetune.yaml:1: web: expected keys and values, got 5"
    ]


def test_a_broken_value_of_a_variable() -> None:
    assert problems(environ={"DEETUNE_ROUTES_PATTERNS": "[/a"}) == [
        (
            "DEETUNE_ROUTES_PATTERNS: routes.patterns: "
            "not valid YAML: expected ',' or ']', but got '<stream end>'"
        )
    ]


def test_an_unknown_variable_of_a_section_without_a_near_word() -> None:
    assert problems(environ={"DEETUNE_WEB_ZZZZZZZZZZZZ": "1"}) == [
        "DEETUNE_WEB_ZZZZZZZZZZZZ: unknown variable"
    ]


def test_an_error_lists_its_problems() -> None:
    error = ConfigError([Problem("f:1", "a.b", "bad"), Problem("", "", "worse")])
    assert str(error) == "f:1: a.b: bad\nworse"
