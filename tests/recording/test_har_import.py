# SPDX-License-Identifier: Apache-2.0
"""HAR of browsers, proxies and load tools becomes requests that mean the same."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE

from deetune_otel.recording.codecs import http
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.har_entries import entries_in
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.har_import import from_har
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
    RecordedExchange,
)

BROWSER: Final = {
    "log": {
        "version": "1.2",
        "creator": {"name": "x", "version": "1"},
        "entries": [
            {
                "startedDateTime": "2026-01-02T03:04:05.678+01:00",
                "time": 12.5,
                "request": {
                    "method": "GET",
                    "url": "https://example.test/a?b=c#d",
                    "httpVersion": "h2",
                    "headers": [
                        {"name": ":authority", "value": "example.test"},
                        {"name": "accept", "value": "*/*"},
                    ],
                },
                "response": {
                    "status": 200,
                    "statusText": "",
                    "httpVersion": "h2",
                    "headers": [{"name": "content-encoding", "value": "gzip"}],
                    "content": {"size": 2, "mimeType": "text/plain", "text": "hé"},
                },
                "cache": {},
                "timings": {"send": 0.5, "wait": 10, "receive": 2, "blocked": -1},
            }
        ],
    }
}


def entry(
    url: str = "http://shop/a",
    method: str = "GET",
    *,
    sent: tuple[tuple[str, str], ...] = (),
    got: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> Any:
    """`request`, `response`: what else they have."""
    one = deepcopy(BROWSER["log"]["entries"][0])  # type: ignore[index]
    one["request"] |= {"url": url, "method": method}
    one["request"]["headers"] = [{"name": n, "value": v} for n, v in sent]
    one["response"]["headers"] = [{"name": n, "value": v} for n, v in got]
    one["request"] |= more.pop("request", {})
    one["response"] |= more.pop("response", {})
    return one | more


def read(*entries: Any) -> tuple[list[RecordedExchange], Counter[str]]:
    passed: Counter[str] = Counter()
    return list(from_har(entries, passed)), passed


def request_of(one: Any) -> HttpRequest:
    (found,), _ = read(one)
    assert isinstance(found.request, HttpRequest)
    return found.request


def response_of(one: Any) -> HttpResponse:
    (found,), _ = read(one)
    assert isinstance(found.response, HttpResponse)
    return found.response


def test_a_browsers_is_read() -> None:
    (one,), _ = read(*BROWSER["log"]["entries"])  # type: ignore[arg-type]
    assert isinstance(one.request, HttpRequest)
    assert isinstance(one.response, HttpResponse)
    assert one.request.target == "/a?b=c"
    assert one.request.headers == (("Host", "example.test"), ("accept", "*/*"))
    assert one.connection.server == ("example.test", 443)
    assert one.response.body == "hé".encode()
    assert one.response.headers == (("Content-Length", "3"),)
    assert one.request_start_ns == 1_767_319_445_678_000_000
    assert one.duration_ns == 12_500_000


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ((("Host", "a"), (":authority", "b")), "a"),
        (((":authority", "b"), (":path", "/")), "b"),
        ((), "user.test:8080"),
    ],
)
def test_every_request_has_one_host(
    sent: tuple[tuple[str, str], ...], host: str
) -> None:
    one = request_of(entry("http://me:pass@user.test:8080/a", sent=sent))
    assert one.headers == (("Host", host),)


def test_cookies_are_one_header() -> None:
    several = request_of(entry(sent=(("cookie", "a=1"), ("cookie", "b=2"))))
    assert several.headers[-1] == ("Cookie", "a=1; b=2")
    listed = entry(request={"cookies": [{"name": "a", "value": "1"}]})
    assert request_of(listed).headers[-1] == ("Cookie", "a=1")
    joined = response_of(entry(got=(("set-cookie", "a=1; Path=/\nb=2"),)))
    assert joined.headers[:2] == (("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"))


def test_codings_that_cannot_be_compared_are_not_asked_for() -> None:
    one = request_of(entry(sent=(("accept-encoding", "gzip, deflate, br;q=1"),)))
    assert one.headers[-1] == ("accept-encoding", "gzip, deflate")
    one = request_of(entry(sent=(("accept-encoding", "br"),)))
    assert one.headers[-1] == ("accept-encoding", "identity")


FORM: Final = "application/x-www-form-urlencoded"


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


@pytest.mark.parametrize(
    ("sent", "request_", "body", "missing"),
    [
        ((), {}, b"", 0),
        ((), {"bodySize": 7}, b"", 7),
        ((("Content-Length", "7"),), {"bodySize": -1}, b"", 7),
        ((("Content-Length", "0"),), {"bodySize": 9}, b"", 0),
        ((("Transfer-Encoding", "chunked"),), {}, b"", 1),
        ((), {"postData": {"text": "hi"}, "bodySize": 2}, b"hi", 0),
        ((), {"postData": {"text": "hi"}, "bodySize": 5}, b"hi", 3),
        ((("Content-Length", "5"),), {"postData": {"text": "hi"}}, b"hi", 3),
        ((("Content-Length", "1"),), {"postData": {"text": "hi"}}, b"hi", 0),
        ((("Content-Length", "1"),), {"postData": {"text": "\xff"}}, b"\xff", 0),
        ((("Content-Encoding", "gzip"),), {"postData": {"text": "hi"}}, b"hi", 0),
    ],
)
def test_a_body_of_which_bytes_are_missing(
    sent: tuple[tuple[str, str], ...],
    request_: dict[str, Any],
    body: bytes,
    missing: int,
) -> None:
    one = request_of(entry(method="POST", sent=sent, request=request_))
    assert one.body == body
    assert sum(gap.bytes for gap in one.missing) == missing
    assert "content-encoding" not in {name.lower() for name, _ in one.headers}


@pytest.mark.parametrize(
    ("content", "got", "missing"),
    [
        ({"size": 0}, (), 0),
        ({"size": 5}, (), 5),
        ({"size": 0}, (("Content-Length", "154"),), 154),
        ({}, (("Content-Length", "3"),), 3),
        ({"size": -1}, (("Transfer-Encoding", "chunked"),), 1),
        ({"size": 5, "text": "hello"}, (), 0),
        ({"size": 9, "text": "hello"}, (), 4),
        ({"size": 9, "text": "hé", "mimeType": "text/plain; charset=utf-16"}, (), 0),
        ({"size": 2, "text": "hello"}, (), 0),
    ],
)
def test_a_text_that_is_not_there_is_no_empty_body(
    content: dict[str, Any], got: tuple[tuple[str, str], ...], missing: int
) -> None:
    one = response_of(entry(got=got, response={"content": content}))
    assert sum(gap.bytes for gap in one.missing) == missing
    assert {gap.because for gap in one.missing} <= {MissingBecause.ABSENT}


def test_what_has_no_body_has_none_whatever_is_said() -> None:
    for status, method in ((304, "GET"), (204, "GET"), (200, "HEAD")):
        content = {"size": 5, "text": "hello"}
        response = {"status": status, "content": content}
        one = response_of(entry(method=method, response=response))
        assert (one.body, one.missing, one.has_no_body) == (b"", (), True)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (entry("data:image/png;base64,AAAA"), "data: URLs"),
        (entry("blob:https://shop/6f1e"), "blob: URLs"),
        (entry("chrome-extension://abc/x.js"), "chrome-extension: URLs"),
        (entry("about:blank"), "about: URLs"),
        (entry("file:///etc/hosts"), "file: URLs"),
        (entry("wss://shop/live"), "WebSockets"),
        (entry("http://shop/live", response={"status": 101}), "WebSockets"),
        (entry(_webSocketMessages=[]), "WebSockets"),
        (entry("shop:443", "CONNECT"), "tunnels"),
        (entry(response={"status": 0}), "never answered"),
        (entry(_fromCache="disk"), "answered itself"),
        (entry(response={"_fetchedViaServiceWorker": True}), "answered itself"),
        (entry(response={"_fetchType": "Memory Cache"}), "answered itself"),
        (entry(response={"statusText": "Internal Redirect"}), "answered itself"),
        (
            entry(response={"bodySize": 0}, cache={"afterRequest": None}),
            "answered itself",
        ),
        (entry(response={"status": 103}), "interim"),
        (entry("http://shop/a\r\nb"), "control character"),
        (entry(sent=(("X", "1\r\n\r\nDELETE /all HTTP/1.1"),)), "line end"),
        (entry(sent=(("X\r\nY", "1"),)), "a header whose name"),
        (entry(sent=(("", "1"),)), "a header whose name"),
        (entry(got=(("X", "1\n2"),)), "line end"),
        (entry(method="GET /x HTTP/1.1\r\n"), "method"),
    ],
)
def test_what_is_no_request_is_left_out_and_said(one: Any, words: str) -> None:
    found, passed = read(one, entry())
    assert len(found) == 1
    ((said, count),) = passed.items()
    assert (words in said, count) == (True, 1), said


def test_odd_characters_become_what_can_be_sent() -> None:
    one = request_of(entry("http://shop/a b/é?x=ü%20", sent=(("X", "→"),)))
    assert one.target == "/a%20b/%C3%A9?x=%C3%BC%20"
    assert dict(one.headers)["X"].encode("latin-1").decode() == "→"
    assert http.encode(one)


def test_two_files_do_not_have_the_same_ids() -> None:
    (one, other), _ = read(entry(), entry())
    assert one.id != other.id
    (elsewhere,), _ = read(entry("http://shop/b"))
    assert elsewhere.id not in (one.id, other.id)
    assert read(entry(), entry())[0] == [one, other], "the same file has the same"


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (["request"], 1, "log.entries[0].request: no object"),
        (["request", "headers"], 5, "log.entries[0].request.headers: no list"),
        (["request", "headers"], [5], "log.entries[0].request.headers[0]: no object"),
        (["request", "headers"], [{"name": 1}], "request.headers[0].name: no text"),
        (["request", "url"], "http://[x", "log.entries[0].request.url: no URL"),
        (["request", "url"], "http://x:99999999", "log.entries[0].request.url: no URL"),
        (["request", "postData"], [], "log.entries[0].request.postData: no object"),
        (["request", "postData"], {"text": 1}, "postData.text: no text"),
        (["request", "postData"], {"params": 1}, "postData.params: no list"),
        (["response", "status"], "200", "log.entries[0].response.status: no status"),
        (["response", "status"], True, "log.entries[0].response.status: no status"),
        (["response", "status"], 42, "log.entries[0].response.status: no status"),
        (["response", "content"], 1, "log.entries[0].response.content: no object"),
        (
            ["response", "content"],
            {"text": "?", "encoding": "base64"},
            "log.entries[0].response.content.text: no base64",
        ),
        (["startedDateTime"], "soon", "log.entries[0].startedDateTime: no date"),
        (["startedDateTime"], None, "log.entries[0].startedDateTime: no text"),
        (["timings"], 1, "log.entries[0].timings: no object"),
        (["_incomplete"], 1, "log.entries[0]._incomplete: no list"),
    ],
)
def test_a_wrong_field_is_named(at: list[str], value: object, words: str) -> None:
    one = entry()
    inner = one
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    with pytest.raises(BadInput) as raised:
        read(one)
    assert words in str(raised.value)


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def _full() -> Any:
    text = "".join(
        to_har([EXCHANGE], creator="deetune 1", decode=lambda *_: None)
    )
    one = json.loads(text)["log"]["entries"][0]
    one["request"]["postData"] = {"mimeType": FORM, "params": [{"name": "a"}]}
    one["request"]["cookies"] = [{"name": "a", "value": "b"}]
    one["response"]["content"]["_missing"] = [[0, 1, "lost"]]
    return one


@given(st.data())
@settings(max_examples=300)
def test_any_json_raises_nothing_else_and_can_be_written(data: st.DataObject) -> None:
    whole = _full()
    inner = whole
    while True:
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        key: Any = data.draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or not inner[key]:
            break
        if data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(_ANY)
    with suppress(BadInput):
        for one in read(whole)[0]:
            assert isinstance(one.request, HttpRequest)
            http.encode(one.request)
            if one.response is not None:
                http.encode(one.response)


def test_entries_of_a_document_are_read_as_they_come() -> None:
    data = json.dumps(BROWSER).encode()
    whole = list(entries_in([data]))
    assert whole == BROWSER["log"]["entries"]


def test_the_gap_of_a_file_is_read_as_it_was_written() -> None:
    gap = [[0, 4, "limit"]]
    one = response_of(entry(response={"content": {"size": 4, "_missing": gap}}))
    assert one.missing == (Missing(0, 4, MissingBecause.LIMIT),)
