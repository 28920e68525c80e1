# SPDX-License-Identifier: Apache-2.0
"""Every way into and out of a socket: what is counted does not depend on the system call."""

from __future__ import annotations

import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.messages import OK, get, head, post, redis, response
from tests.kernel.observe import Calls, Watch, http, unknown

from deetune_otel.model import Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.actor import Actor, Ends, Socket

pytestmark = pytest.mark.kernel

HTTP: Final = Protocol.HTTP
UNKNOWN: Final = Protocol.UNKNOWN
REQUEST: Final = post(b"0123456789", "/calls/7")
ONCE: Final = Calls(1, len(REQUEST), len(OK), 10, 3)
FILE_BYTES: Final = 300_000


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """Pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


SIZES: Final = [1, 0, 3, 0, 0, 0, 0, 0, 40, 4000]


def send_write(end: Socket, data: bytes) -> None:
    assert end.call("write", data) == len(data)


def send_writev(end: Socket, data: bytes) -> None:
    assert end.call("writev", cut(data, 0, 1, 0, 0, 0, 0, 0, 2, 9, 0)) == len(data)


def send_sendmsg(end: Socket, data: bytes) -> None:
    pieces = cut(data, *[1] * (len(data) - 3))
    assert end.call("sendmsg", pieces) == len(data)


def send_batch(end: Socket, data: bytes) -> None:
    assert end.call("native_send", "send_batch", data, 5) == len(data)


def send_more(end: Socket, data: bytes) -> None:
    assert end.call("native_send", "send_more", data, 3) == len(data)


def recv_read(end: Socket, data: bytes) -> None:
    assert end.call("read", 100_000) == data


def recv_readv(end: Socket, data: bytes) -> None:
    assert end.call("readv", SIZES) == data


def recv_recvmsg(end: Socket, data: bytes) -> None:
    assert end.call("recvmsg", SIZES) == data


def recv_batch(end: Socket, data: bytes) -> None:
    assert end.call("native_recv", "recv_batch", len(data), 4) == data


def recv_peeking(end: Socket, data: bytes) -> None:
    """What is looked at beforehand is counted once."""
    for size in (1, 5, 100_000):
        assert end.call("recv", size, socket.MSG_PEEK) == data[:size]
    assert end.recv() == data


SENDERS: Final = [send_write, send_writev, send_sendmsg, send_batch, send_more]
RECEIVERS: Final = [recv_read, recv_readv, recv_recvmsg, recv_batch, recv_peeking]


@pytest.fixture
def ends(
    client: Actor, server: Actor, connect: Callable[..., Ends], syscalls: Path
) -> Ends:
    for actor in (client, server):
        actor.call("load", str(syscalls))
    return connect()


@pytest.mark.parametrize("receive", RECEIVERS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("send", SENDERS, ids=lambda one: one.__name__)
def test_calls_with_a_buffer(
    watch: Watch,
    ends: Ends,
    send: Callable[[Socket, bytes], None],
    receive: Callable[[Socket, bytes], None],
) -> None:
    """Three times over: the first exchange confirms the protocol, the others know it."""
    for _ in range(3):
        for here, there, data in ends.ways(REQUEST, OK):
            send(here, data)
            receive(there, data)
    totals = Calls(*(3 * one for one in ONCE))
    client, server = (end.actor.pid for end in ends)
    watch.expect_both(client, server, {(HTTP, 200): totals})
    for pid in (client, server):
        assert watch.operations(pid) == {b"POST /calls/7": 3}


def test_nonblocking_writes_take_what_fits(watch: Watch, ends: Ends) -> None:
    body = b"b" * 2_000_000
    request = post(body, "/short")
    taken = ends.client.start("send_nonblocking", request)
    assert ends.server.call("discard", len(request)) == len(request)
    assert len(taken()) > 1, "every write was whole: this tests nothing"
    ends.respond(OK)
    totals = Calls(1, len(request), len(OK), len(body), 3)
    client, server = (end.actor.pid for end in ends)
    watch.expect_both(client, server, {(HTTP, 200): totals})


def test_a_batch_of_whole_messages(watch: Watch, ends: Ends) -> None:
    """sendmmsg with a Redis command in each message."""
    ask = redis("GET", "key")
    n = 7
    assert ends.client.call("native_send", "send_batch", ask * n, n) == len(ask) * n
    ends.server.take(ask * n)
    ends.respond(b"$-1\r\n" * n)
    client, server = (end.actor.pid for end in ends)
    totals = Calls(n, n * len(ask), n * 5)
    watch.expect_both(client, server, {(Protocol.REDIS, 0): totals})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("file") / "body"
    path.write_bytes(b"f" * FILE_BYTES)
    return str(path)


@pytest.mark.parametrize("how", ["sendfile", "splice_to"])
def test_a_body_from_a_file(watch: Watch, ends: Ends, file: str, how: str) -> None:
    """Its bytes are never in the server's memory: passed over by their length."""
    opaque = watch.noted("opaque").bytes
    down = head("HTTP/1.1 200 OK", f"content-length: {FILE_BYTES}")
    n = 2
    for _ in range(n):
        ends.request(get("/file"))
        ends.respond(down)
        done = ends.server.start(how, file, FILE_BYTES)
        assert ends.client.call("discard", FILE_BYTES) == FILE_BYTES
        assert done() == FILE_BYTES
    ends.call(get("/file"), OK)
    totals = Calls(
        n + 1,
        (n + 1) * len(get("/file")),
        n * (len(down) + FILE_BYTES) + len(OK),
        0,
        n * FILE_BYTES + 3,
    )
    client, server = (end.actor.pid for end in ends)
    watch.expect_both(client, server, {(HTTP, 200): totals})
    assert watch.noted("opaque").bytes - opaque >= n * FILE_BYTES


def test_a_body_spliced_from_the_socket(watch: Watch, ends: Ends) -> None:
    """No door sees it, TCP counts it: blind bytes, and the message's end is still found."""
    body = 200_000
    up = head("PUT /blind HTTP/1.1", f"content-length: {body}")
    n = 2
    for _ in range(n):
        ends.request(up)
        sent = ends.client.start("send_repeated", b"x", body)
        assert ends.server.call("splice_from", body) == body
        sent()
        ends.respond(OK)
    ends.call(get(), OK)
    asked, said = n * (len(up) + body) + len(get()), (n + 1) * len(OK)
    client, server = (end.actor.pid for end in ends)
    ends.close()
    exact = Calls(n + 1, asked, said, n * body, 3 * (n + 1))
    watch.expect(client, {http(Role.CLIENT): exact})
    watch.expect(server, {http(Role.SERVER): exact._replace(request=asked - n * body)})
    (blind,) = watch.blind(server)
    assert (blind.sent_bytes, blind.received_bytes) == (0, n * body)
    assert not watch.blind(client)


def test_a_request_spliced_from_the_socket(watch: Watch, ends: Ends) -> None:
    """Hidden heads cannot be told: lost by name at that end, exact at the other."""
    ends.call(get(), OK)
    ends.client.send(get("/hidden"))
    assert ends.server.call("splice_from", len(get("/hidden"))) == len(get("/hidden"))
    ends.respond(OK)
    ends.call(get("/seen"), OK)
    client, server = (end.actor.pid for end in ends)
    ends.close()
    seen = len(get()) + len(get("/seen"))
    watch.expect(
        client,
        {http(Role.CLIENT): Calls(3, seen + len(get("/hidden")), 3 * len(OK), 0, 9)},
    )
    watch.expect(server, {http(Role.SERVER): Calls(2, seen, 2 * len(OK), 0, 6)})
    (blind,) = watch.blind(server)
    assert blind.received_bytes == len(get("/hidden"))


def test_a_body_received_into_nowhere(watch: Watch, ends: Ends) -> None:
    """MSG_TRUNC: TCP throws the bytes away, and the doors see how many."""
    ends.request(head("PUT /trunc HTTP/1.1", "content-length: 5000"))
    ends.client.send(b"x" * 5000)
    assert ends.server.call("native_discard", "recv_trunc", 5000) == 5000
    ends.respond(OK)
    ends.call(get(), OK)
    up = len(head("PUT /trunc HTTP/1.1", "content-length: 5000")) + 5000
    client, server = (end.actor.pid for end in ends)
    totals = Calls(2, up + len(get()), 2 * len(OK), 5000, 6)
    watch.expect_both(client, server, {(HTTP, 200): totals})


HIDDEN: Final = [pytest.param("uring_send", "uring_recv", id="io_uring")]
if platform.machine() == "x86_64":
    HIDDEN.append(pytest.param("compat_write", "compat_read", id="32-bit"))


@pytest.mark.parametrize(("send", "receive"), HIDDEN)
def test_buffers_that_cannot_be_found(
    watch: Watch, ends: Ends, send: str, receive: str
) -> None:
    """Counted by turns at both ends, with every byte."""
    n = 3
    for _ in range(n):
        for here, there, data in ends.ways(get(), OK):
            assert here.call("native_send", send, data) == len(data)
            assert there.call("native_recv", receive, len(data)) == data
    client, server = (end.actor.pid for end in ends)
    totals = Calls(n, n * len(get()), n * len(OK))
    watch.expect_both(client, server, {(UNKNOWN, 0): totals})


@pytest.mark.parametrize(("send", "receive"), HIDDEN)
def test_a_body_whose_buffer_cannot_be_found(
    watch: Watch, ends: Ends, send: str, receive: str
) -> None:
    """The head is read as usual, and the body passed over by its length."""
    up, down = (
        head(first, "content-length: 1000")
        for first in ("PUT / HTTP/1.1", "HTTP/1.1 200 OK")
    )
    n = 2
    for _ in range(n):
        for here, there, first in ends.ways(up, down):
            here.send(first)
            there.take(first)
            assert here.call("native_send", send, b"x" * 1000) == 1000
            assert there.call("native_recv", receive, 1000) == b"x" * 1000
    client, server = (end.actor.pid for end in ends)
    totals = Calls(n, n * (len(up) + 1000), n * (len(down) + 1000), n * 1000, n * 1000)
    watch.expect_both(client, server, {(HTTP, 200): totals})


@pytest.mark.parametrize(("send", "receive"), HIDDEN)
def test_a_head_whose_buffer_cannot_be_found(
    watch: Watch, ends: Ends, send: str, receive: str
) -> None:
    """On a connection that is known to be HTTP: lost by name, and back in step."""
    del receive
    lost = watch.lost("unparsed")
    ends.call(get(), OK)
    assert ends.client.call("native_send", send, get("/hidden")) == len(get("/hidden"))
    ends.server.take(get("/hidden"))
    ends.respond(OK)
    ends.call(get("/seen"), OK)
    client, server = (end.actor.pid for end in ends)
    seen = len(get()) + len(get("/seen"))
    watch.expect(client, {http(Role.CLIENT): Calls(2, seen, 2 * len(OK), 0, 6)})
    watch.expect(
        server,
        {http(Role.SERVER): Calls(3, seen + len(get("/hidden")), 3 * len(OK), 0, 9)},
    )
    now = watch.lost("unparsed")
    assert now.bytes - lost.bytes == len(get("/hidden")) + len(OK)


def test_the_writer_may_be_any_thread(watch: Watch, ends: Ends) -> None:
    """The owner is the process, and the span names the thread."""
    client, server = (end.actor.pid for end in ends)
    ends.client.call("send_in_thread", get())
    ends.server.take(get())
    ends.respond(OK)
    watch.expect_both(
        client, server, {(HTTP, 200): Calls(1, len(get()), len(OK), 0, 3)}
    )
    (span,) = watch.exchanges(server)
    owner = watch.kernel.read_owners()[span.owner_id]
    assert span.tid == owner.process.pid  # the server has one thread


def test_mixed_calls_on_one_connection(watch: Watch, ends: Ends) -> None:
    """Each message in another way than the one before it."""
    ways = [(send, receive) for send in SENDERS for receive in RECEIVERS]
    for send, receive in ways:
        send(ends.client, REQUEST)
        receive(ends.server, REQUEST)
        ends.respond(OK)
    client, server = (end.actor.pid for end in ends)
    totals = Calls(*(len(ways) * one for one in ONCE))
    watch.expect_both(client, server, {(HTTP, 200): totals})
    assert unknown(Role.CLIENT) not in watch.calls(client)


def test_every_answer_size_around_the_window(watch: Watch, ends: Ends) -> None:
    """Heads that end just before, at and behind the pieces that the walker reads."""
    fill = 512 - len(response(b"", 200, "x-fill: "))
    sizes = [*range(fill - 24, fill + 24), *range(fill + 488, fill + 536)]
    total = 0
    for size in sizes:
        answer = response(b"", 200, "x-fill: " + "f" * size)
        ends.call(get(), answer)
        total += len(answer)
    n = len(sizes)
    client, server = (end.actor.pid for end in ends)
    watch.expect_both(client, server, {(HTTP, 200): Calls(n, n * len(get()), total)})
