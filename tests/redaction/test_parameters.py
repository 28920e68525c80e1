# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction.parameters import parameters


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ("text/plain", "text/plain", {}),
        (" Text/Plain ; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        ('form-data; name="a;\\"b"; x=1', "form-data", {"name": 'a;"b', "x": "1"}),
        ("form-data; name=a; name=b", "form-data", {"name": "a"}),
        ("form-data; name*=utf-8''pass%20w", "form-data", {"name": "pass w"}),
        ('form-data; name*0="pass"; name*1=word', "form-data", {"name": "password"}),
        ("a; b", "a", {}),
        ('a; b="c', "a", {"b": ""}),
        ("", "", {}),
    ],
)
def test_parameters(value: str, kind: str, found: dict[str, str]) -> None:
    assert parameters(value) == (kind, found)
