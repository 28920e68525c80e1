# SPDX-License-Identifier: Apache-2.0
"""The test instance's ids, cookies and tokens in place of the recorded ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchanges import any_exchange, numbered

from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)
from deetune_otel.replay.carry import Carrier, learn
from deetune_otel.replay.given import MOST_VALUES

JSON: Final = (("Content-Type", "application/json"),)


def asking(
    target: str, *, method: str = "GET", headers: Headers = (), body: bytes = b""
) -> HttpRequest:
    return HttpRequest(method=method, target=target, headers=headers, body=body)


def answer(document: Any = None, headers: Headers = ()) -> HttpResponse:
    body = b"" if document is None else json.dumps(document).encode()
    return HttpResponse(status=200, headers=(*JSON, *headers), body=body)


def exchange(
    number: int, request: HttpRequest, response: HttpResponse
) -> RecordedExchange:
    return replace(numbered(number), request=request, response=response)


def carried(
    recorded: HttpResponse,
    live: HttpResponse,
    second: HttpRequest,
    *,
    first: HttpRequest | None = None,
) -> HttpRequest:
    """The second request as it is sent, after the first one was answered."""
    before = exchange(1, first or asking("/orders", method="POST"), recorded)
    after = exchange(2, second, answer())
    carrier = Carrier(learn([after, before]))
    carrier.answered(before, live)
    return carrier.request(after, second)


FORM: Final = (("Content-Type", "application/x-www-form-urlencoded"),)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (asking("/orders/17/lines"), asking("/orders/98/lines")),
        (asking("/orders?id=17&n=170"), asking("/orders?id=98&n=170")),
        (
            asking("/o", headers=(("X-Order", "17"),)),
            asking("/o", headers=(("X-Order", "98"),)),
        ),
        (
            asking(
                "/o",
                method="POST",
                headers=(*JSON, ("Content-Length", "22")),
                body=b'{"order": 17, "n": "1"}',
            ),
            asking(
                "/o",
                method="POST",
                headers=(*JSON, ("Content-Length", "20")),
                body=b'{"order":98,"n":"1"}',
            ),
        ),
        (
            asking("/o", method="POST", headers=FORM, body=b"a=1&order=17"),
            asking("/o", method="POST", headers=FORM, body=b"a=1&order=98"),
        ),
    ],
)
def test_an_id_that_was_made(second: HttpRequest, expected: HttpRequest) -> None:
    assert carried(answer({"id": 17}), answer({"id": 98}), second) == expected


@pytest.mark.parametrize(
    ("recorded", "live", "second", "expected"),
    [
        (
            answer(headers=(("Set-Cookie", "s=abcdef; Path=/"),)),
            answer(headers=(("Set-Cookie", "s=uvwxyz; Path=/; HttpOnly"),)),
            asking("/", headers=(("Cookie", "a=1; s=abcdef"),)),
            asking("/", headers=(("Cookie", "a=1; s=uvwxyz"),)),
        ),
        (
            answer({"access_token": "abc.def.1"}),
            answer({"access_token": "uvw.xyz.2"}),
            asking("/", headers=(("Authorization", "Bearer abc.def.1"),)),
            asking("/", headers=(("Authorization", "Bearer uvw.xyz.2"),)),
        ),
        (
            answer(headers=(("Location", "/orders/o-000017"),)),
            answer(headers=(("Location", "http://127.0.0.1:1/orders/98"),)),
            asking("/orders/o-000017"),
            asking("/orders/98"),
        ),
        (
            answer(headers=(("ETag", '"abc-1"'),)),
            answer(headers=(("ETag", '"xyz-2"'),)),
            asking("/", headers=(("If-None-Match", '"abc-1"'),)),
            asking("/", headers=(("If-None-Match", '"xyz-2"'),)),
        ),
        (
            answer({"csrf": "a b/c1"}),
            answer({"csrf": "d e/f2"}),
            asking("/x?t=a+b%2Fc1"),
            asking("/x?t=d+e%2Ff2"),
        ),
    ],
)
def test_places_of_an_answer(
    recorded: HttpResponse,
    live: HttpResponse,
    second: HttpRequest,
    expected: HttpRequest,
) -> None:
    assert carried(recorded, live, second, first=asking("/")) == expected


def test_a_hidden_field_of_a_form() -> None:
    def page(token: str) -> HttpResponse:
        html = f'<form><INPUT type="hidden" value="{token}" name="csrf"></form>'
        kind = (("Content-Type", "text/html"),)
        return HttpResponse(status=200, headers=kind, body=html.encode())

    second = asking("/", method="POST", headers=FORM, body=b"csrf=token-1&a=b")
    sent = carried(page("token-1"), page("token-2"), second, first=asking("/"))
    assert sent.body == b"csrf=token-2&a=b"


@pytest.mark.parametrize(
    ("recorded", "live"),
    [
        ({"id": 17}, {"id": 17}),
        ({"id": 17}, {"other": 98}),
        ({"price": 17}, {"price": 98}),  # a number, but no id
        ({"ids": [{"id": 17}, {"id": 98}]}, {"ids": [{"id": 98}, {"id": 17}]}),
    ],
)
def test_what_is_not_carried(recorded: Any, live: Any) -> None:
    second = asking("/orders/17")
    assert carried(answer(recorded), answer(live), second) is second


def test_small_numbers_that_were_only_read_are_chance() -> None:
    second = asking("/orders/17")
    read = carried(answer({"id": 17}), answer({"id": 98}), second, first=asking("/"))
    assert read is second


def test_words_and_times_are_chance() -> None:
    for value in ("pending", "2026-01-01", "2026-01-01T10:00:00Z"):
        second = asking(f"/orders?v={value}")
        live = answer({"v": "other-1"})
        assert carried(answer({"v": value}), live, second) is second


def test_what_a_request_brought_itself_is_its_own() -> None:
    first = asking("/orders/abcdef-1", method="POST")
    second = asking("/orders/abcdef-1")
    document = {"id": "abcdef-1"}
    assert carried(answer(document), answer({"id": "x"}), second, first=first) is second


def test_an_answer_that_came_later_gave_nothing() -> None:
    late = exchange(5, asking("/orders", method="POST"), answer({"id": "abcdef-1"}))
    early = exchange(2, asking("/orders/abcdef-1"), answer())
    assert learn([late, early]).uses == {}


def test_what_the_instance_did_not_give_is_counted() -> None:
    before = exchange(1, asking("/orders", method="POST"), answer({"id": 17}))
    after = exchange(2, asking("/orders/17"), answer())
    carrier = Carrier(learn([before, after]))
    assert carrier.request(after, asking("/orders/17")) == asking("/orders/17")
    assert (carrier.carried, carrier.missing) == (0, 1)
    carrier.answered(before, answer({"id": 98}))
    carrier.request(after, asking("/orders/17"))
    assert (carrier.carried, carrier.missing) == (1, 1)
    assert carrier.aliases == {"17": "98"}


def test_a_session_goes_on_from_exchange_to_exchange() -> None:
    """Each answer gives the cookie of the next request."""
    ones = [
        exchange(
            n,
            asking("/", headers=(("Cookie", f"s=recorded{n}"),)),
            answer(headers=(("Set-Cookie", f"s=recorded{n + 1}"),)),
        )
        for n in range(5)
    ]
    carrier = Carrier(learn(ones))
    sent = []
    for n, one in enumerate(ones):
        assert isinstance(one.request, HttpRequest)
        sent.append(carrier.request(one, one.request).headers[0][1])
        carrier.answered(one, answer(headers=(("Set-Cookie", f"s=live{n + 1}"),)))
    assert sent == ["s=recorded0", *(f"s=live{n}" for n in range(1, 5))]


def test_of_a_long_list_only_the_first_are_known() -> None:
    long = [{"id": f"value-{n}"} for n in range(MOST_VALUES * 3)]
    before = exchange(1, asking("/"), answer(long))
    after = [
        exchange(2 + n, asking(f"/{one['id']}"), answer()) for n, one in enumerate(long)
    ]
    assert len(learn([before, *after]).uses) <= MOST_VALUES


@given(st.lists(any_exchange(), max_size=6), st.binary(max_size=200))
def test_anything_is_read_without_an_error(
    exchanges: list[RecordedExchange], body: bytes
) -> None:
    carrier = Carrier(learn(exchanges))
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            carrier.request(one, one.request)
        carrier.answered(one, one.response)
        carrier.answered(one, HttpResponse(status=200, headers=JSON, body=body))
    deep = HttpResponse(status=200, headers=JSON, body=b"[" * 100_000)
    request = asking("/", method="POST", headers=JSON, body=b'{"a":' * 50_000)
    assert learn([exchange(1, request, deep)]).uses == {}


NEW: Final = {"id": "abcdef-1"}, {"id": "uvwxyz-2"}


def page(body: str) -> HttpResponse:
    kind = (("Content-Type", "text/html"),)
    return HttpResponse(status=200, headers=kind, body=body.encode())


def setting(cookie: str) -> HttpResponse:
    return answer(headers=(("Set-Cookie", cookie),))


@pytest.mark.parametrize(
    ("recorded", "live", "second"),
    [
        (setting("lang=en"), setting("lang=de"), asking("/en/shop")),
        (
            page('<input name="q" value="shoes-1">'),
            page('<input name="q" value="shoes-2">'),
            asking("/?q=shoes-1"),
        ),
        (
            answer({"status": "in_progress"}),
            answer({"status": "done_today"}),
            asking("/?status=in_progress"),
        ),
        (answer({"total": 100_000}), answer({"total": 7}), asking("/?limit=100000")),
        (
            answer(headers=(("Location", "/users/sign_in"),)),
            answer(headers=(("Location", "/users/welcome"),)),
            asking("/users/sign_in"),
        ),
        (
            answer(headers=(("Referrer-Policy", "same-origin"),)),
            answer(headers=(("Referrer-Policy", "no-referrer"),)),
            asking("/", headers=(("Sec-Fetch-Site", "same-origin"),)),
        ),
        (
            answer(headers=(("X-At", "Tue, 24 Nov 2026 12:00:00 GMT"),)),
            answer(headers=(("X-At", "Tue, 24 Nov 2026 13:00:00 GMT"),)),
            asking("/", headers=(("If-Range", "Tue, 24 Nov 2026 12:00:00 GMT"),)),
        ),
        (answer({"id": 1}), answer({"id": 9}), asking("/?page=1")),
    ],
)
def test_chance_is_not_carried(
    recorded: HttpResponse, live: HttpResponse, second: HttpRequest
) -> None:
    assert carried(recorded, live, second) is second


@pytest.mark.parametrize("live", ["x\r\nX-Evil: 1", "\ud800", "", "x" * 5000])
def test_a_hostile_value_is_not_carried(live: str) -> None:
    second = asking("/abcdef-1", headers=(("Authorization", "Bearer abcdef-1"),))
    assert carried(answer(NEW[0]), answer({"id": live}), second) is second


def test_what_stands_beside_a_value_keeps_its_bytes() -> None:
    def sent(second: HttpRequest) -> HttpRequest:
        return carried(answer(NEW[0]), answer(NEW[1]), second)

    assert sent(asking("/x?f&r=%FF&p=a%20b&id=abcdef-1")).target == (
        "/x?f&r=%FF&p=a%20b&id=uvwxyz-2"
    )
    body = "id=abcdef-1&n=é".encode() + b"&a=1" * 2 * MOST_VALUES
    posted = asking("/", method="POST", headers=FORM, body=body)
    assert sent(posted).body == body.replace(b"abcdef-1", b"uvwxyz-2")
    for rest in (b'"n":"\\ud800"', b'"n":1.5', '"n":"é"'.encode()):
        body = b'{"id":"abcdef-1",' + rest + b"}"
        posted = asking("/", method="POST", headers=JSON, body=body)
        assert sent(posted).body == body.replace(b"abcdef-1", b"uvwxyz-2")


@pytest.mark.parametrize(
    "rest", [b'"n":1e400', b'"n":0.12345678901234567890', b'"id":"b"']
)
def test_json_that_would_change_stays(rest: bytes) -> None:
    body = b'{"id":"abcdef-1",' + rest + b"}"
    second = asking("/", method="POST", headers=JSON, body=body)
    assert carried(answer(NEW[0]), answer(NEW[1]), second) is second


def test_text_of_a_live_value_fits_into_a_header() -> None:
    second = asking("/", headers=(("Authorization", "Bearer abcdef-1"),))
    sent = carried(answer(NEW[0]), answer({"id": "x€1"}), second)
    assert sent.headers[0][1].encode("latin-1") == "Bearer x€1".encode()


def test_a_deleted_cookie_is_not_sent() -> None:
    second = asking("/", headers=(("Cookie", "s=abcdef-1; t=1"),))
    over = setting("s=gone; Max-Age=0")
    assert carried(setting("s=abcdef-1"), over, second).headers == (("Cookie", "t=1"),)


def test_a_cookie_that_only_the_instance_set_anew() -> None:
    """Of this connection and of this recorded value: a proxy's has several people's."""
    old = asking("/", headers=(("Cookie", "s=old-01"),))
    other = asking("/", headers=(("Cookie", "s=other-1"),))
    sent = carried(answer(), setting("s=live-1"), old, first=old)
    assert sent.headers == (("Cookie", "s=live-1"),)
    assert carried(answer(), setting("s=live-1"), other, first=old) is other


def test_a_percent_encoded_cookie_is_plain_in_a_header() -> None:
    token = "redacted-0123456789abcdef"
    both = (("Cookie", f"XSRF={token}"), ("X-XSRF-TOKEN", token))
    second = asking("/", headers=both)
    sent = carried(setting(f"XSRF={token}"), setting("XSRF=ab%3D%3D"), second)
    assert sent.headers == (("Cookie", "XSRF=ab%3D%3D"), ("X-XSRF-TOKEN", "ab=="))


@pytest.mark.parametrize("value", ["'abcdef-1'", "abcdef-1", '"abcdef&#45;1"'])
def test_hidden_fields_as_pages_write_them(value: str) -> None:
    def form(value: str) -> HttpResponse:
        return page(f"<input type=hidden data-name=x name=csrf value={value}>")

    second = asking("/", method="POST", headers=FORM, body=b"csrf=abcdef-1")
    sent = carried(form(value), form("uvwxyz-2"), second)
    assert sent.body == b"csrf=uvwxyz-2"


def test_parameters_of_a_location() -> None:
    recorded = answer(headers=(("Location", "https://a/cb?code=abcdef-1&state=s"),))
    live = answer(headers=(("Location", "https://b/cb?code=uvwxyz-2&state=s"),))
    sent = carried(recorded, live, asking("/cb?code=abcdef-1&state=s"))
    assert sent.target == "/cb?code=uvwxyz-2&state=s"


def test_who_asks_when_an_answer_ends_may_have_read_it() -> None:
    before = exchange(1, asking("/new"), answer(NEW[0]))
    after = exchange(2, asking("/abcdef-1"), answer())
    after = replace(after, request_start_ns=before.response_end_ns)
    assert set(learn([after, before]).uses) == {after.id}


def test_where_the_newest_answer_is_silent_an_older_one_is_asked() -> None:
    first = exchange(1, asking("/new"), answer(NEW[0]))
    again = exchange(2, asking("/list"), answer([NEW[0]]))
    after = exchange(3, asking("/abcdef-1"), answer())
    carrier = Carrier(learn([first, again, after]))
    carrier.answered(first, answer(NEW[1]))
    carrier.answered(again, answer({"error": "x"}))
    assert carrier.request(after, asking("/abcdef-1")) == asking("/uvwxyz-2")


def test_only_what_is_linked_is_kept() -> None:
    """2,000 exchanges of a thousand values each do not fill memory."""
    ones = [
        exchange(
            n,
            asking(f"/v-{n - 1:06}"),
            answer({"id": f"v-{n:06}"} | {f"k{i}": f"x-{n}-{i}" for i in range(20)}),
        )
        for n in range(2_000)
    ]
    links = learn(ones)
    assert sum(map(len, links.sources.values())) == 1_999
    carrier = Carrier(links)
    for one in ones:
        carrier.answered(one, one.response)
    assert sum(map(len, carrier._answers.values())) == 1_999


def test_a_deep_and_wide_answer_has_short_places() -> None:
    body = b"[" * 800 + b"[" + b'"abcdef-1",' * 100 + b"1]" + b"]" * 800
    before = exchange(1, asking("/"), HttpResponse(status=200, headers=JSON, body=body))
    after = exchange(2, asking("/abcdef-1"), answer())
    assert learn([before, after]).uses == {}


def test_a_small_number_is_only_what_it_is_called() -> None:
    """Order 17 is not product 17, nor page 17."""
    for second in (
        asking("/products/17"),
        asking("/orders?page=17"),
        asking("/o", method="POST", headers=JSON, body=b'{"product":17,"quantity":1}'),
        asking("/", headers=(("X-Retries", "17"),)),
    ):
        assert carried(answer({"id": 17}), answer({"id": 98}), second) is second
