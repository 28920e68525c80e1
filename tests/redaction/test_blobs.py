# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest

from deetune_otel.redaction.blobs import blobs, is_user_and_password


@pytest.mark.parametrize("plain", ["bob:hunter2x", '{"a": "ü?ÿ>"}', "a\r\nb: c and d"])
def test_a_text_is_found_wherever_it_stands(plain: str) -> None:
    for blob in (b64encode(plain.encode()), urlsafe_b64encode(plain.encode())):
        text = blob.decode()
        for before, after in (("", ""), ("x ", " y"), ('"', '"')):
            for one in (text, text.rstrip("=")):
                start = len(before)
                found = list(blobs(before + one + after))
                assert found == [(start, start + len(one), plain)]
    ((start, _, found_plain),) = blobs(f"/orders/{text}/items")
    assert (start, found_plain) == (8, plain)


@pytest.mark.parametrize(
    "text",
    ["3f2504e0-4f89-41d3-9a0c-0305e82c3301", "/orders/history/Customer/List", "short",
     "d41d8cd98f00b204e9800998ecf8427e", b64encode(bytes(range(60))).decode(), "A" * 13],
)  # fmt: skip
def test_what_is_no_base64_of_a_text(text: str) -> None:
    assert list(blobs(text)) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *[("bob:hunter2x", True), ("a@b.c:p%ss!w0rd", True), ("User:1234567", False)],
        *[("at:3f2504e0-4f89-41d3-9a0c-0305e82c3301", False), ("a:b:hunter2x", False)],
        *[("Type:AnotherType", False), ("bob:short", False), ("a: hunter2 x", False)],
    ],
)
def test_user_and_password(text: str, is_one: bool) -> None:  # noqa: FBT001
    assert is_user_and_password(text) is is_one
