# SPDX-License-Identifier: Apache-2.0
"""What is printed can be read again, and shows no secret."""

from __future__ import annotations

import json

from deetune_otel.config import load
from deetune_otel.config.render import effective, origins, reference
from deetune_otel.config.schema import Config, settings

TEXT = """\
services:
  rules:
    - match: {exe: '*/nginx', port: 80}
      name: "yes"
      namespace: shop
    - {match: {command: "a: b # c"}, name: ü}
routes: {patterns: ['/users/{id}', '/plain']}
otlp: {endpoint: "http://c:4318", headers: {authorization: Bearer s3cr3t}}
"""


def test_the_reference_has_the_defaults() -> None:
    assert load(reference()).config == Config()


def test_the_reference_explains_every_setting() -> None:
    lines = reference().splitlines()
    for setting in settings():
        (at,) = [
            index
            for index, line in enumerate(lines)
            if line.startswith(f"  {setting.key}: ")
            and section_of(lines, index) == setting.section
        ]
        assert lines[at - 1].startswith("  # "), setting.path


def section_of(lines: list[str], at: int) -> str:
    return next(
        line.removesuffix(":") for line in reversed(lines[:at]) if line[:1].isalpha()
    )


def test_what_is_in_effect_can_be_loaded_again() -> None:
    first = load(TEXT, name="f")
    again = load(effective(first).replace("(not shown)", "Bearer s3cr3t"))
    assert again.config == first.config


def test_what_is_not_the_default_says_where_it_came_from() -> None:
    loaded = load(TEXT, name="f", environ={"DEETUNE_WEB_PORT": "1"})
    lines = effective(loaded).splitlines()
    assert "  endpoint: 'http://c:4318'  # f:8" in lines
    assert "  port: 1  # DEETUNE_WEB_PORT" in lines
    assert "  interval_s: 10.0" in lines


def test_headers_are_not_shown() -> None:
    loaded = load(TEXT, name="f")
    assert "  headers: {authorization: (not shown)}  # f:8" in effective(loaded)
    assert "s3cr3t" not in effective(loaded)
    assert "s3cr3t" not in json.dumps(origins(loaded))


def test_origins_for_json() -> None:
    shown = origins(load(TEXT, name="f"))
    assert shown["otlp.endpoint"] == {
        "value": "http://c:4318",
        "layer": "file",
        "where": "f:8",
    }
    assert shown["services.rules"]["value"] == [
        {"match": {"exe": "*/nginx", "port": 80}, "name": "yes", "namespace": "shop"},
        {"match": {"command": "a: b # c"}, "name": "ü"},
    ]
    assert list(shown) == [one.path for one in settings()]
