# SPDX-License-Identifier: Apache-2.0
"""HAR of browsers, proxies and load tools becomes requests that mean the same."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE
from tests.recording.har import (
    BROWSER,
    FORM,
    entry,
    read,
    request_of,
    response_of,
)

from deetune_otel.recording.codecs import http
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.model import HttpRequest, HttpResponse


def test_a_browsers_is_read() -> None:
    (one,), _ = read(*BROWSER["log"]["entries"])
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
    text = "".join(to_har([EXCHANGE], creator="deetune 1", decode=lambda *_: None))
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
