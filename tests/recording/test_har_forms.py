# SPDX-License-Identifier: Apache-2.0
"""Parameters of a form become the body that was sent."""

from __future__ import annotations

import pytest
from tests.recording.har import FORM, entry, request_of


@pytest.mark.parametrize(
    ("value", "length", "body"),
    [
        ("1 2", None, b"a=1+2"),
        ("1 2", "5", b"a=1+2"),
        ("1 2", "7", b"a=1%202"),
        ("1%202", "7", b"a=1%202"),
        ("", None, b"a="),
    ],
)
def test_parameters_are_a_body(value: str, length: str | None, body: bytes) -> None:
    sent = (("Content-Length", length),) if length else ()
    data = {"mimeType": FORM, "params": [{"name": "a", "value": value}]}
    one = request_of(entry(method="POST", sent=sent, request={"postData": data}))
    assert (one.body, one.missing) == (body, ())
    assert dict(one.headers)["Content-Type"] == FORM
    assert dict(one.headers)["Content-Length"] == str(len(body))


def test_parameters_in_parts() -> None:
    kind = "multipart/form-data; boundary=xyz"
    parameters: list[dict[str, str]] = [
        {"name": 'a"b', "value": "1"},
        {"name": "f", "value": "hi", "fileName": "x.txt", "contentType": "text/plain"},
    ]
    data = {"mimeType": kind, "params": parameters}
    one = request_of(entry(method="POST", request={"postData": data}))
    assert one.body == (
        b'--xyz\r\nContent-Disposition: form-data; name="a%22b"\r\n\r\n1\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhi\r\n--xyz--\r\n"
    )
    assert dict(one.headers)["Content-Type"] == kind
    assert not one.missing
    del parameters[1]["value"]
    assert request_of(entry(method="POST", request={"postData": data})).missing
    bare = {"mimeType": "multipart/form-data", "params": parameters[:1]}
    one = request_of(entry(method="POST", request={"postData": bare}))
    boundary = dict(one.headers)["Content-Type"].partition("boundary=")[2]
    assert boundary.encode() in one.body
