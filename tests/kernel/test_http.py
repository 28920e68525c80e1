# SPDX-License-Identifier: Apache-2.0
"""HTTP between two processes that read and write as the test says: exact at both ends."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest
from tests.cases.http import METHODS, PREAMBLES
from tests.cases.paths import APART, KEPT, NAMED
from tests.kernel.messages import OK, chunked, get, head, post, response
from tests.kernel.observe import Bytes, Call, Calls, Watch, http, unknown
from tests.strategies import fold

from deetune_otel.config.http_path import segment_hash
from deetune_otel.config.routes import kept_segments
from deetune_otel.model import End, Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.actor import Actor, Ends
    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

HTTP: Final = Protocol.HTTP
UNKNOWN: Final = Protocol.UNKNOWN
MEGABYTES: Final = 10_000_000
PATHS: Final = (*APART, *(path for path, _ in NAMED))


def same(*exchanges: tuple[bytes, bytes], bodies: tuple[int, int] = (0, 0)) -> Calls:
    """What exchanges of these bytes add up to."""
    return Calls(
        len(exchanges),
        sum(len(request) for request, _ in exchanges),
        sum(len(answer) for _, answer in exchanges),
        *bodies,
    )


def test_keep_alive(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    good, missing = (get("/a?q=1"), OK), (get("/b"), response(b"", 404))
    for _ in range(3):
        ends.call(*good)
        ends.call(*missing)
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, 200): same(*[good] * 3, bodies=(0, 9)),
            (HTTP, 404): same(*[missing] * 3),
        },
    )
    for actor in (client, server):
        names = watch.operations(actor.pid)
        assert names == {b"GET /a?q=1": 3, b"GET /b": 3}


def test_paths_are_operations_but_for_their_identifiers(
    watch: Watch, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    seen = kept_segments(())
    paths = [path for path in PATHS if seen.isdisjoint(path.split("/"))]
    for path in paths:
        ends.call(get(path), OK)
    folds = [fold(path) for path in paths]
    assert watch.operations(server.pid) == {
        b"GET " + paths[folds.index(one)].encode(): folds.count(one)
        for one in set(folds)
    }


def test_kept_segments_are_operations_of_their_own(
    watching: Watching, server: Actor, connect: Callable[..., Ends]
) -> None:
    with watching(kept_segments=tuple(map(segment_hash, KEPT))) as watch:
        ends = connect()
        paths = [f"/x/{segment}/y" for segment in (*KEPT, "2010-04-02", "42.xml")]
        for path in (*paths, "/x/42/y"):
            ends.call(get(path), OK)
        counts = {f"GET {path}".encode(): 1 for path in paths}
        counts[b"GET /x/2010-04-02/y"] = 2
        assert watch.operations(server.pid) == counts
        ends.close()


@pytest.mark.parametrize("depth", [2, 16, 17, 100])
def test_pipelined(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    depth: int,
) -> None:
    ends = connect()
    requests = [get(f"/item/{i}") for i in range(depth)]
    responses = [response(b"x" * i) for i in range(depth)]
    ends.request(b"".join(requests))
    ends.respond(b"".join(responses))
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, 200): same(
                *zip(requests, responses, strict=True),
                bodies=(0, depth * (depth - 1) // 2),
            )
        },
    )


def test_pipelined_and_answered_one_by_one(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """Slots come round while others still wait."""
    ends = connect()
    asked = 40
    for _ in range(asked):
        ends.request(get())
    for i in range(asked):
        ends.respond(OK)
        ends.request(get(f"/later{i}"))
    for _ in range(asked):
        ends.respond(OK)
    sent = asked * len(get()) + sum(len(get(f"/later{i}")) for i in range(asked))
    totals = Calls(2 * asked, sent, 2 * asked * len(OK), 0, 2 * asked * 3)
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_one_byte_per_write_and_per_read(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    request, answer = post(b"body", "/one", "Expect:nothing"), OK
    ends.split([bytes([b]) for b in request], [bytes([b]) for b in answer])
    ends.client.send(request)
    ends.server.take(request, piece=1)
    ends.server.send(answer)
    ends.client.take(answer, piece=1)
    totals = same((request, answer), (request, answer), bodies=(8, 6))
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


HEADED: Final = post(
    b"hello", "/users/17?q=1", "Transfer: x", "traceparent: 00-" + "a" * 32
)
NOT_HTTP: Final = (
    *(b"FOO bar baz\r\n", b"foo /a HTTP/2.0\r\n", b"M" * 65 + b" /a HTTP/1.1\r\n"),
    *(b"SET k v\r\n", b"Q\x00\x00\x00\rSELECT 1\x00", b"get \x00 HTTP/1.1\r\n"),
)
SPLIT_CASES: Final = {
    "length": (HEADED, response(b"body!", 201, "Content-Typ: y"), 5, 5),
    "chunked": (
        head("POST /v1/x HTTP/1.1", "Transfer-Encoding: gzip, chunked")
        + chunked(5, 16, extension=";a=b", trailers=("x: y", "z: w")),
        head("HTTP/1.1 201 Made", "transfer-encoding:chunked")
        + chunked(1, 300, trailers=("t: u",)),
        21,
        301,
    ),
    "strange": (
        head("notify /a?b=c HTTP/1.1", "content-length: 5") + b"hello",
        response(b"", 201),
        5,
        0,
    ),
}


@pytest.mark.parametrize("case", SPLIT_CASES)
@pytest.mark.parametrize("fresh", [False, True], ids=["confirmed", "first"])
def test_split_at_every_position(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    *,
    case: str,
    fresh: bool,
) -> None:
    """Of the first exchange of a connection, and of one whose protocol is known."""
    request, answer, sent, received = SPLIT_CASES[case]
    positions = max(len(request), len(answer))
    ends = connect()
    for at in range(1, positions):
        if fresh:
            ends.close()
            ends = connect()
        here, there = min(at, len(request) - 1), min(at, len(answer) - 1)
        ends.split([request[:here], request[here:]], [answer[:there], answer[there:]])
    n = positions - 1
    totals = Calls(n, n * len(request), n * len(answer), n * sent, n * received)
    watch.expect_both(client.pid, server.pid, {(HTTP, 201): totals})
    assert watch.operations(server.pid) == {b" ".join(request.split()[:2]): n}


@pytest.mark.parametrize("method", METHODS, ids=bytes.decode)
def test_any_method(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    method: bytes,
) -> None:
    """The first of a connection, a later one, pipelined, and behind a long target."""
    first = method + b" /a HTTP/1.1\r\nhost: x\r\n\r\n"
    long = method + b" /a?" + b"q" * 3000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    ends = connect()
    for request in (first, get("/b"), long):
        ends.call(request, OK)
    ends.request(first + get("/b") + first)
    ends.respond(OK * 3)
    requests = [first] * 3 + [get("/b")] * 2 + [long]
    totals = same(*((request, OK) for request in requests), bodies=(0, 18))
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})
    for actor in (client, server):
        assert watch.operations(actor.pid) == {
            first.partition(b" HTTP/")[0]: 4,
            b"GET /b": 2,
        }


@pytest.mark.parametrize("line", NOT_HTTP)
def test_a_line_that_is_no_requests(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    line: bytes,
) -> None:
    """It opens no HTTP connection; on one that is HTTP it is an exchange, lost by name."""
    before = watch.lost("unparsed")
    connect().call(line, b"what?\n")
    ends = connect()
    ends.call(get(), OK)
    ends.call(line, b"what?\n")
    ends.call(get(), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (UNKNOWN, 0): Calls(1, len(line), 6),
            (HTTP, 200): same(*[(get(), OK)] * 2, bodies=(0, 6)),
        },
    )
    now = watch.lost("unparsed")
    assert now.exchanges - before.exchanges == 2
    assert now.bytes - before.bytes == 2 * (len(line) + 6)


@pytest.mark.parametrize("size", [0, 1, MEGABYTES])
def test_bodies_by_length(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    size: int,
) -> None:
    ends = connect()
    up = head("PUT /file HTTP/1.1", f"content-length:{size}")
    down = head("HTTP/1.1 200 OK", f"CONTENT-LENGTH:  {size} ")
    for sender, receiver, first in ends.ways(up, down):
        sender.send(first)
        sent = sender.start("send_repeated", b"x", size)
        assert receiver.call("discard", len(first) + size) == len(first) + size
        assert sent() == size
    totals = Calls(1, len(up) + size, len(down) + size, size, size)
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_chunks_in_pieces_of_every_size(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    sizes = (1, 15, 16, 17, 255, 4096, 70_000, 2)
    request = head("POST / HTTP/1.1", "transfer-encoding: chunked") + chunked(
        *sizes, extension='; name="a b"', trailers=("Digest: none",)
    )
    pieces = (7, 64, 511, 512, 513, 5000)
    for piece in pieces:
        sent = ends.client.start("send", request, piece)
        ends.server.take(request, piece=piece)
        sent()
        ends.respond(OK)
    n = len(pieces)
    totals = Calls(n, n * len(request), n * len(OK), n * sum(sizes), n * 3)
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_asked_whether_to_go_on_and_told_yes(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    first = head("POST / HTTP/1.1", "Expect: 100-continue", "content-length: 5")
    go_on = head("HTTP/1.1 100 Continue") + head("HTTP/1.1 103 Early Hints", "link: x")
    for _ in range(2):
        ends.call(first, go_on)
        ends.call(b"12345", OK)
    n, asked, said = 2, len(first) + 5, len(go_on) + len(OK)
    totals = Calls(n, n * asked, n * said, n * 5, n * 3)
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_asked_whether_to_go_on_and_told_no(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """The next request follows at once: there is no body."""
    ends = connect()
    first = head("POST / HTTP/1.1", "Expect: 100-continue", "content-length: 500")
    no = response(b"too much", 417)
    ends.call(first, no)
    ends.call(get(), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, 200): same((get(), OK), bodies=(0, 3)),
            (HTTP, 417): same((first, no), bodies=(0, 8)),
        },
    )


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    status: int,
) -> None:
    ends = connect()
    empty = head(f"HTTP/1.1 {status} Nothing", "content-length: 1000", "etag: x")
    for _ in range(2):
        ends.call(get("/e"), empty)
    totals = same(*[(get("/e"), empty)] * 2)
    watch.expect_both(client.pid, server.pid, {(HTTP, status): totals})


def test_heads_alone(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """A response to HEAD has a length and no body; pipelined beyond the slots too."""
    ends = connect()
    ask = head("HEAD /big HTTP/1.1", "host: x")
    said = head("HTTP/1.1 200 OK", "content-length: 1000")
    unclear = head("HTTP/1.1 200 OK", "transfer-encoding: chunked")
    ends.call(ask, said)
    ends.call(ask, unclear)
    ends.call(get(), OK)
    ends.request(ask * 20)
    ends.respond(said * 20)
    totals = same(*[(ask, said)] * 21, (ask, unclear), (get(), OK), bodies=(0, 3))
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_answered_while_it_is_still_sent(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    first = head("POST /up HTTP/1.1", "content-length: 1000") + b"x" * 300
    no = response(b"too large", 413)
    ends.call(first, no)
    ends.request(b"x" * 700)
    ends.call(get(), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, 200): same((get(), OK), bodies=(0, 3)),
            (HTTP, 413): Calls(1, len(first) + 700, len(no), 1000, 9),
        },
    )


def test_http_1_0(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """A connection each: with a length, and with a body that lasts to the end."""
    request = get("/old", version="1.0")
    known = head("HTTP/1.0 200 OK", "content-length: 4") + b"body"
    endless = head("HTTP/1.0 200 OK", "content-type: x") + b"to the end"
    for answer in (known, endless):
        ends = connect()
        ends.request(request)
        ends.server.send(answer)
        ends.server.close()
        assert ends.client.call("recv_to_end") == answer
        ends.client.close()
    totals = same((request, known), (request, endless), bodies=(0, 4))
    watch.expect(client.pid, {http(Role.CLIENT): totals._replace(response_body=14)})
    watch.expect(server.pid, {http(Role.SERVER): totals._replace(response_body=14)})


def test_until_the_end_of_the_connection_without_reading_it(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """The client closes before it reads the end of the stream: complete all the same."""
    ends = connect()
    request = get("/old", version="1.0")
    answer = head("HTTP/1.0 200 OK") + b"x" * 100
    ends.call(request, answer)
    ends.server.close()
    ends.client.close()
    totals = same((request, answer), bodies=(0, 100))
    watch.expect(client.pid, {http(Role.CLIENT): totals})
    watch.expect(server.pid, {http(Role.SERVER): totals})


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (
            get("/chat", "Upgrade: websocket", "Connection: Upgrade"),
            head("HTTP/1.1 101 Switching Protocols", "upgrade: websocket"),
        ),
        (
            head("CONNECT there:443 HTTP/1.1", "host: there"),
            head("HTTP/1.1 200 Connection established"),
        ),
    ],
    ids=["upgrade", "tunnel"],
)
def test_what_follows_is_something_else(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    request_: bytes,
    answer: bytes,
) -> None:
    ends = connect()
    ends.call(request_, answer)
    # frames of a web socket; one looks like a request
    ends.call(b"\x81\x85\x01\x02\x03\x04GET /", b"\x81\x7e\x01\x00" + b"x" * 256)
    ends.call(get(), b"\x81\x01y")
    status = 101 if b" 101 " in answer else 200
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, status): same((request_, answer)),
            (UNKNOWN, 0): Calls(2, 11 + len(get()), 260 + 3),
        },
    )


def test_a_tunnel_refused_is_http_still(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    request, no = head("CONNECT there:443 HTTP/1.1"), response(b"no", 403)
    ends.call(request, no)
    ends.call(get(), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {
            (HTTP, 200): same((get(), OK), bodies=(0, 3)),
            (HTTP, 403): same((request, no), bodies=(0, 2)),
        },
    )


def test_targets_and_methods_of_every_form(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    requests = [
        get("http://elsewhere.example/path"),
        head("OPTIONS * HTTP/1.1", "host: x"),
        head("M-SEARCH /x HTTP/1.1", "host: x"),
        get("/" + "long" * 2000),
        get("/", *(f"x-header-{i}: {'v' * i}" for i in range(200))),
        b"\r\n" + get("/after-an-empty-line"),
        b"GET /bare-newlines HTTP/1.1\nhost: x\n\n",
    ]
    for request in requests:
        ends.call(request, OK)
    totals = same(*((request, OK) for request in requests), bodies=(0, 21))
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


def test_a_connection_that_begins_with_something_else_is_not_http(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ends.call(b"\x00\x01garbage", b"what?")
    ends.call(get(), OK)
    totals = Calls(2, 9 + len(get()), 5 + len(OK))
    watch.expect_both(client.pid, server.pid, {(UNKNOWN, 0): totals})


def test_out_of_step_and_back(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """What breaks the rules is lost by name; the next request is counted again."""
    ends = connect()
    ends.call(get(), OK)
    lost = watch.lost("unparsed").bytes
    ends.call(b"\x16\x03garbage", b"what?")
    ends.call(get("/again"), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {(HTTP, 200): same((get(), OK), (get("/again"), OK), bodies=(0, 6))},
    )
    assert watch.lost("unparsed").bytes - lost == 2 * (9 + 5)  # at both ends


def test_out_of_step_in_the_answer(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """The request that it answered is lost with it, and is not open for ever."""
    ends = connect()
    ends.call(get(), OK)
    lost = watch.lost("unparsed")
    ends.call(get("/x"), b"NO SUCH THING\r\n\r\n")
    ends.call(get("/again"), OK)
    watch.expect_both(
        client.pid,
        server.pid,
        {(HTTP, 200): same((get(), OK), (get("/again"), OK), bodies=(0, 6))},
    )
    now = watch.lost("unparsed")
    assert now.exchanges - lost.exchanges == 2
    assert now.bytes - lost.bytes == 2 * (len(get("/x")) + 17)


def test_the_wrong_protocol_is_taken_back(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """A first line like HTTP's, and an answer that is not: counted by turns."""
    ends = connect()
    before = watch.noted("demoted").exchanges
    ends.call(b"GET thing\r\n", b"VALUE thing 0 5\r\nhello\r\nEND\r\n")
    ends.call(b"GET other\r\n", b"END\r\n")
    watch.expect_both(client.pid, server.pid, {(UNKNOWN, 0): Calls(2, 22, 29 + 5)})
    assert watch.noted("demoted").exchanges - before == 2


def test_out_of_step_too_often_is_not_http(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """Nothing that came is missing: it is HTTP, lost by name, or counted by turns."""
    ends = connect()
    total = 0
    for _ in range(8):
        ends.call(get(), OK)
        ends.call(b"\x00\x01\x02", b"\x03")
        total += len(get()) + len(OK) + 4
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        found = watch.calls(actor.pid)
        assert found[http(role)] == same(*[(get(), OK)] * 4, bodies=(0, 12))
        # four times it was lost, then every change of direction is a turn
        assert found[unknown(role)].number in (8, 9)
        assert sum(watch.bytes(actor.pid)) == total - 3 * 4


def test_closed_before_the_answer(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """At both ends, once; a request that never said what it wants is none."""
    ends = connect()
    ends.call(get(), OK)
    ends.request(get("/never"))
    ends.close()
    ends = connect()
    ends.call(get(), OK)
    ends.request(b"GET /nev")
    ends.close()
    done = same(*[(get(), OK)] * 2, bodies=(0, 6))
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(
            actor.pid,
            {
                http(role): done,
                http(role, 0, End.CLOSED): Calls(1, len(get("/never")), 0),
            },
        )


def test_closed_within_the_answer(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    part = head("HTTP/1.1 200 OK", "content-length: 100") + b"x" * 40
    ends.request(get("/a") + get("/b"))
    ends.respond(part)
    ends.close()
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        found = watch.calls
        watch.expect(
            actor.pid,
            {
                http(role, 0, End.CLOSED): Calls(1, len(get("/b")), 0),
                http(role, 200, End.CLOSED): Calls(1, len(get("/a")), len(part), 0, 40),
            },
        )
        assert Call(role, HTTP) not in found(actor.pid)


def test_one_side_closes_its_half(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ends.request(get())
    ends.client.call("shutdown")
    assert ends.server.recv() == b""
    ends.respond(OK)
    ends.close()
    watch.expect_both(
        client.pid, server.pid, {(HTTP, 200): same((get(), OK), bodies=(0, 3))}
    )


def test_reset(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ends.request(get("/reset"))
    ends.server.call("reset")
    with pytest.raises(ConnectionResetError):
        ends.client.recv()
    ends.client.close()
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(
            actor.pid, {http(role, 0, End.CLOSED): Calls(1, len(get("/reset")), 0)}
        )


def test_times_are_those_of_the_bytes(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """First byte and end are read apart, and the span says the same as the series."""
    ends = connect()
    ends.request(get("/slow"))
    first, rest = OK[:20], OK[20:]
    ends.respond(first)
    for _ in range(50):
        ends.client.actor.call("connect_error", ("127.0.0.1", 1))  # takes its time
    ends.respond(rest)
    for actor in (client, server):
        (row,) = [r for r in watch.series(actor.pid) if r[1].protocol is HTTP]
        (span,) = [
            one for one in watch.exchanges(actor.pid) if one.key.protocol is HTTP
        ]
        assert span.start_ns < span.first_byte_ns < span.end_ns
        assert row[2].duration_sum_ns == span.end_ns - span.start_ns
        assert row[2].first_byte_sum_ns == span.first_byte_ns - span.start_ns
        assert row[2].duration_sum_ns > row[2].first_byte_sum_ns * 1.05
        assert span.request_head == get("/slow")
    here, there = (watch.exchanges(actor.pid)[-1] for actor in (server, client))
    (there,) = [one for one in watch.exchanges(client.pid) if one.key.protocol is HTTP]
    assert here.wire == there.wire
    assert here.start_ns >= there.start_ns


def test_the_second_request_has_another_wire_identity(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    requests = [get("/a", trace), get("/b", f"x: y{'z' * 300}", trace), get("/c")]
    for request in requests:
        ends.call(request, OK)
    seen = [watch.exchanges(actor.pid) for actor in (client, server)]
    offsets = [0, len(requests[0]), len(requests[0] + requests[1])]
    for spans in seen:
        assert [span.wire.offset for span in spans] == offsets
        assert [span.trace_header for span in spans] == [trace.encode()] * 2 + [b""]
        assert [span.request_head for span in spans] == [r[:256] for r in requests]
    assert [a.wire for a in seen[0]] == [b.wire for b in seen[1]]
    assert (seen[0][0].wire.client_seq, seen[0][0].wire.server_seq) != (0, 0)


def hostile(rng: random.Random) -> tuple[bytes, bytes]:
    """Bytes made to be misread: valid messages cut, doubled, mixed and spoiled."""
    seeds = [
        *(get("/x"), OK, HEADED, SPLIT_CASES["chunked"][0], SPLIT_CASES["chunked"][1]),
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"$5\r\nhello\r\n",
        b"*-1\r\n",
        b"*1073741823\r\n",
        b"PING\r\n",
        b">2\r\n+a\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        bytes(range(256)),
    ]

    def some() -> bytes:
        data = bytearray(b"".join(rng.choices(seeds, k=rng.randint(1, 4))))
        for _ in range(rng.randint(0, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = rng.randrange(len(data))
        return bytes(data[cut:] + data[:cut] if rng.random() < 0.3 else data)

    return some(), some()


@pytest.mark.parametrize("seed", range(4))
def test_hostile_bytes(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    seed: int,
) -> None:
    """Whatever comes, each byte is counted once or lost by name (the fixture's balance)."""
    rng = random.Random(seed)
    sent = [0, 0]
    for _ in range(60):
        ends = connect()
        for _ in range(rng.randint(1, 6)):
            request, answer = hostile(rng)
            piece = rng.choice((0, 0, 3, 17, 600))
            ends.client.send(request, piece)
            ends.server.take(request, piece=rng.choice((0, 5, 100)))
            ends.server.send(answer, rng.choice((0, 0, 9)))
            ends.client.take(answer, piece=rng.choice((0, 11)))
            sent[0] += len(request)
            sent[1] += len(answer)
        if rng.random() < 0.5:
            ends.close()
        else:
            ends.client.call("reset")
            ends.server.close()
    for actor in (client, server):
        seen = watch.bytes(actor.pid)
        assert seen.request <= sent[0]
        assert seen.response <= sent[1]
        assert seen != Bytes(0, 0)


@pytest.mark.parametrize("name", PREAMBLES)
def test_behind_a_preamble_of_the_proxy_protocol(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    name: str,
) -> None:
    """With the first request, before it, and in two pieces; the next one is a request like others."""
    preamble = PREAMBLES[name]
    for pieces in ([], [len(preamble)], [9, len(preamble)], [13]):
        ends = connect()
        at = 0
        for end in pieces:
            ends.request(preamble[at:end])
            at = end
        ends.request(preamble[at:] + get("/a"))
        ends.respond(OK)
        ends.call(get("/b"), OK)
    totals = same(*[(preamble + get("/a"), OK), (get("/b"), OK)] * 4, bodies=(0, 24))
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): totals})


@pytest.mark.parametrize("said", [b"", *PREAMBLES.values(), PREAMBLES["2"][:13]])
def test_who_only_looks_whether_a_server_is_there_fails_nothing(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    said: bytes,
) -> None:
    """A load balancer's health check: it connects, says at most who it is, and hangs up."""
    looks = connect()
    if said:
        looks.request(said)
    looks.close()
    ends = connect()
    ends.call(get(), OK)
    watch.expect_both(
        client.pid, server.pid, {(HTTP, 200): same((get(), OK), bodies=(0, 3))}
    )


def test_bytes_behind_a_request_without_a_length(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """They are a body that nobody announced: the request is answered, and the next one counts."""
    post = b"POST /a HTTP/1.1\r\nHost: x\r\n\r\n"
    before = watch.lost("unparsed")
    for first in (True, False):
        ends = connect()
        if not first:
            ends.call(get(), OK)
        ends.request(post + b'{"a": 1}')
        ends.respond(OK)
        ends.call(get(), OK)
    calls = [(post, OK), (get(), OK)] * 2 + [(get(), OK)]
    watch.expect_both(
        client.pid, server.pid, {(HTTP, 200): same(*calls, bodies=(0, 15))}
    )
    now = watch.lost("unparsed")
    assert (now.exchanges - before.exchanges, now.bytes - before.bytes) == (0, 32)
