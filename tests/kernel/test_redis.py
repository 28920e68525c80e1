# SPDX-License-Identifier: Apache-2.0
"""Redis: a real server, whose own statistics say what it was asked, and scripted peers."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from tests.apps.resp import Connection
from tests.kernel.messages import redis
from tests.kernel.observe import Call, Calls, Watch, unknown
from tests.process import wait_until
from tests.programs import Redis

from deetune_otel.model import End, Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kernel.actor import Actor, Ends, Socket

pytestmark = pytest.mark.kernel

REDIS: Final = Protocol.REDIS
PONG: Final = b"+PONG\r\n"
BIG: Final = 5_000_000


def called(role: Role, outcome: int = 0, end: End = End.COMPLETE) -> Call:
    return Call(role, REDIS, outcome, end)


@pytest.fixture
def store(watch: Watch, tmp_path: Path) -> Iterator[Redis]:
    del watch  # stops before the ledger is looked at
    with Redis.start(tmp_path) as running:
        yield running


@pytest.fixture
def talk(client: Actor, store: Redis) -> Socket:
    return client.connect(("127.0.0.1", store.port))


class Ledger:
    """Adds up what was sent and what came."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.sent = 0
        self.received = 0

    def call(self, request: bytes, answer: bytes) -> None:
        self.socket.send(request)
        self.socket.take(answer)
        self.sent += len(request)
        self.received += len(answer)

    def totals(self, number: int) -> Calls:
        return Calls(number, self.sent, self.received)


def test_commands_one_by_one(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    all_ = Ledger(talk)
    all_.call(redis("SET", "key", "value"), b"+OK\r\n")
    all_.call(redis("get", "key"), b"$5\r\nvalue\r\n")
    all_.call(redis("GET", "nothing"), b"$-1\r\n")
    all_.call(redis("RPUSH", "list", "a", "b"), b":2\r\n")
    all_.call(redis("LRANGE", "list", "0", "-1"), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n")
    all_.call(redis("SET", "", ""), b"+OK\r\n")
    all_.call(redis("MGET", "key", "no"), b"*2\r\n$5\r\nvalue\r\n$-1\r\n")
    watch.expect(client.pid, {called(Role.CLIENT): all_.totals(7)})
    watch.expect(store.pid, {called(Role.SERVER): all_.totals(7)})
    names = {b"SET": 2, b"GET": 2, b"RPUSH": 1, b"LRANGE": 1, b"MGET": 1}
    assert watch.operations(client.pid) == watch.operations(store.pid) == names


ERRORS: Final = {
    1: [redis("NOSUCH"), redis("GET"), redis("INCR", "text")],
    2: [redis("LPUSH", "text", "x")],
    6: [redis("AUTH", "someone", "wrong")],
    11: [redis("EVALSHA", "0" * 40, "0")],
    18: [redis("XGROUP", "CREATE", "no", "g", "0", "MKSTREAM")],
}


def test_errors_by_their_code(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    talk.send(redis("SET", "text", "x"))
    talk.take(b"+OK\r\n")
    talk.send(redis("XGROUP", "CREATE", "stream", "g", "0", "MKSTREAM"))
    talk.take(b"+OK\r\n")
    busy = redis("XGROUP", "CREATE", "stream", "g", "0")  # BUSYGROUP
    commands = {**ERRORS, 9: [busy]}
    del commands[18]
    expected: Counter[int] = Counter()
    for outcome, several in commands.items():
        for one in several:
            talk.send(one)
            assert talk.recv().startswith(b"-")
            expected[outcome] += 1
    talk.send(redis("MULTI") + redis("NOSUCH") + redis("EXEC"))
    talk.call("recv_exactly", len(b"+OK\r\n"))
    while b"EXECABORT" not in talk.recv():
        pass
    expected[1] += 1  # NOSUCH
    expected[12] += 1  # EXECABORT
    expected[0] = 3  # two SETs of the scene, MULTI
    for pid, role in ((client.pid, Role.CLIENT), (store.pid, Role.SERVER)):
        found = {call.outcome: n.number for call, n in watch.calls(pid).items()}
        assert found == dict(expected)
        assert {call.role for call in watch.calls(pid)} == {role}


def test_no_permission(watch: Watch, client: Actor, store: Redis, talk: Socket) -> None:
    """NOPERM and, once a password is wanted, NOAUTH."""
    talk.send(redis("ACL", "SETUSER", "low", "on", ">p", "-@all", "+auth", "+ping"))
    talk.take(b"+OK\r\n")
    talk.send(redis("AUTH", "low", "p"))
    talk.take(b"+OK\r\n")
    talk.send(redis("GET", "x"))
    assert talk.recv().startswith(b"-NOPERM")
    other = client.connect(("127.0.0.1", store.port))
    other.send(redis("CONFIG", "SET", "requirepass", "secret"))
    other.take(b"+OK\r\n")
    third = client.connect(("127.0.0.1", store.port))
    third.send(redis("PING"))
    assert third.recv().startswith(b"-NOAUTH")
    found = {call.outcome: n.number for call, n in watch.calls(client.pid).items()}
    assert found == {0: 3, 5: 1, 7: 1}


@pytest.mark.parametrize("depth", [1, 16, 17, 100, 5000])
def test_pipelines(
    watch: Watch, client: Actor, store: Redis, talk: Socket, depth: int
) -> None:
    commands = [redis("SET", f"key:{i}", "v" * (i % 50)) for i in range(depth)]
    request, answer = b"".join(commands), b"+OK\r\n" * depth
    for _ in range(2):
        sent = talk.start("send", request)
        sent()
        talk.take(answer)
    totals = Calls(2 * depth, 2 * len(request), 2 * len(answer))
    watch.expect(client.pid, {called(Role.CLIENT): totals})
    watch.expect(store.pid, {called(Role.SERVER): totals})
    assert store.calls()["set"] == 2 * depth


def test_a_mixed_pipeline(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    rng = random.Random(7)
    kinds = [
        (redis("SET", "k", "v" * 300), b"+OK\r\n", 0),
        (redis("INCR", "list"), b"-WRONGTYPE ", 2),
        (redis("LRANGE", "list", "0", "-1"), b"*1\r\n$1\r\na\r\n", 0),
        (redis("PING"), PONG, 0),
        (redis("GET", "nothing"), b"$-1\r\n", 0),
    ]
    talk.send(redis("RPUSH", "list", "a"))
    talk.take(b":1\r\n")
    chosen = rng.choices(kinds, k=200)
    talk.send(b"".join(request for request, _, _ in chosen))
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    talk.take(b"".join(wrong if code else answer for _, answer, code in chosen))
    counts = Counter(code for _, _, code in chosen)
    for pid, role in ((client.pid, Role.CLIENT), (store.pid, Role.SERVER)):
        assert watch.count(called(role), pid) == counts[0] + 1
        assert watch.count(called(role, 2), pid) == counts[2]


def test_a_command_in_single_bytes(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """And its reply, of every type; at both ends, from the first byte of a connection."""
    ends = connect()
    request = redis("EVAL", "return {1,{2,'x'}}", "0")
    replies = [
        b"*3\r\n:1\r\n*2\r\n:2\r\n$1\r\nx\r\n*-1\r\n",
        b"%1\r\n+k\r\n~2\r\n#t\r\n,1.5\r\n",
        b"_\r\n",
        b"(123456789012345678901234567890\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n",
        b"*0\r\n",
        b"$0\r\n\r\n",
    ]
    for reply in replies:
        ends.split([bytes([b]) for b in request], [bytes([b]) for b in reply])
    n = len(replies)
    totals = Calls(n, n * len(request), sum(map(len, replies)))
    watch.expect_both(client.pid, server.pid, {(REDIS, 0): totals})
    assert watch.operations(server.pid) == {b"EVAL": n}


def test_split_at_every_position(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    request = redis("CLIENT", "SETNAME", "me") + redis("GET", "k")
    reply = b"-ERR no\r\n" + b"*2\r\n$3\r\nabc\r\n$-1\r\n"
    ends = connect()
    positions = range(1, len(request))
    for at in positions:
        there = min(at, len(reply) - 1)
        ends.split([request[:at], request[at:]], [reply[:there], reply[there:]])
    n = len(positions)
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        assert watch.count(called(role, 0), actor.pid) == n
        assert watch.count(called(role, 1), actor.pid) == n
        assert sum(watch.bytes(actor.pid)) == n * (len(request) + len(reply))


def test_inline_commands(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    """A health check opens with PING; anything goes on a connection that is known."""
    all_ = Ledger(talk)
    all_.call(b"PING\r\n", PONG)
    all_.call(b"\r\nSET a b\r\n", b"+OK\r\n")
    all_.call(redis("GET", "a"), b"$1\r\nb\r\n")
    watch.expect(client.pid, {called(Role.CLIENT): all_.totals(3)})
    watch.expect(store.pid, {called(Role.SERVER): all_.totals(3)})
    assert watch.operations(store.pid) == {b"PING": 1, b"SET": 1, b"GET": 1}


def test_transactions(watch: Watch, client: Actor, store: Redis, talk: Socket) -> None:
    all_ = Ledger(talk)
    queued = b"+QUEUED\r\n"
    request = redis("MULTI") + redis("INCR", "n") * 2 + redis("EXEC")
    all_.call(request, b"+OK\r\n" + queued * 2 + b"*2\r\n:1\r\n:2\r\n")
    all_.call(redis("MULTI"), b"+OK\r\n")
    all_.call(redis("DISCARD"), b"+OK\r\n")
    watch.expect(client.pid, {called(Role.CLIENT): all_.totals(6)})
    watch.expect(store.pid, {called(Role.SERVER): all_.totals(6)})


def test_big_values(watch: Watch, client: Actor, store: Redis, talk: Socket) -> None:
    head = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % BIG
    talk.send(head)
    talk.call("send_repeated", b"b", BIG)
    talk.send(b"\r\n")
    talk.take(b"+OK\r\n")
    ask = redis("GET", "big")
    talk.send(ask)
    whole = len(b"$%d\r\n" % BIG) + BIG + 2
    assert talk.call("discard", whole) == whole
    totals = Calls(2, len(head) + BIG + 2 + len(ask), 5 + whole)
    watch.expect(client.pid, {called(Role.CLIENT): totals})
    watch.expect(store.pid, {called(Role.SERVER): totals})


def test_blocking_commands_last_as_long_as_they_block(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    waits = talk.start("send", redis("BLPOP", "queue", "0"))
    waits()
    answer = talk.start("recv")
    with_other = client_of(store)
    assert with_other == ":1"
    assert answer() == b"*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n"
    watch.expect(
        client.pid,
        {called(Role.CLIENT): Calls(1, len(redis("BLPOP", "queue", "0")), 22)},
    )


def client_of(store: Redis) -> str:
    """Pushes from this process, once the other one waits."""
    connection = Connection(store.port)
    try:
        wait_until(
            lambda: "blocked_clients:1" in connection.ask("INFO", "clients"),
            "the client blocks",
        )
        return connection.ask("RPUSH", "queue", "x")
    finally:
        connection.close()


def published(talk: Socket, store: Redis, payload: str) -> bytes:
    """Publishes from this process and gives what the subscriber reads."""
    connection = Connection(store.port)
    try:
        assert connection.ask("PUBLISH", "news", payload) == ":1"
    finally:
        connection.close()
    return talk.recv()


def test_messages_are_no_calls_in_resp2(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    lost = watch.lost("not_a_call").bytes
    talk.send(redis("SET", "a", "b"))
    talk.take(b"+OK\r\n")
    said = 0
    talk.send(redis("SUBSCRIBE", "news"))
    said += len(talk.recv())
    for i in range(5):
        said += len(published(talk, store, "x" * i * 100))
    talk.send(redis("UNSUBSCRIBE", "news"))
    said += len(talk.recv())
    talk.send(redis("GET", "a"))
    talk.take(b"$1\r\nb\r\n")
    asked = len(redis("SET", "a", "b") + redis("GET", "a"))
    totals = Calls(2, asked, 5 + 7)
    watch.expect(client.pid, {called(Role.CLIENT): totals})
    subscribing = len(redis("SUBSCRIBE", "news") + redis("UNSUBSCRIBE", "news"))
    # at both ends
    assert watch.lost("not_a_call").bytes - lost == 2 * (said + subscribing)


def test_pushes_are_no_calls_in_resp3(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    """On the same connection commands are counted as ever."""
    talk.send(redis("HELLO", "3"))
    hello = len(talk.recv())
    talk.send(redis("SUBSCRIBE", "news"))
    assert talk.recv().startswith(b">3")
    answers = 0
    for i in range(3):
        assert published(talk, store, str(i)).startswith(b">3")
        talk.send(redis("SET", "a", "b") + redis("GET", "a"))
        talk.take(b"+OK\r\n$1\r\nb\r\n")
        answers += 12
    asked = len(redis("HELLO", "3"))
    asked += 3 * len(redis("SET", "a", "b") + redis("GET", "a"))
    totals = Calls(7, asked, hello + answers)
    watch.expect(client.pid, {called(Role.CLIENT): totals})


def test_keys_invalidated_are_no_calls(
    watch: Watch, client: Actor, talk: Socket, store: Redis
) -> None:
    """Pushes come between a command and its reply, and by themselves."""
    for command in (redis("HELLO", "3"), redis("CLIENT", "TRACKING", "ON")):
        talk.send(command)
        assert not talk.recv().startswith(b"-")
    talk.send(redis("GET", "watched"))
    talk.take(b"_\r\n")
    connection = Connection(store.port)
    connection.ask("SET", "watched", "1")
    connection.close()
    assert talk.recv().startswith(b">2")
    talk.send(redis("GET", "watched"))
    talk.take(b"$1\r\n1\r\n")
    assert watch.count(called(Role.CLIENT), client.pid) == 4


def test_monitor_is_no_call(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    talk.send(redis("PING"))
    talk.take(PONG)
    talk.send(redis("MONITOR"))
    talk.take(b"+OK\r\n")
    other = client.connect(("127.0.0.1", store.port))
    other.send(redis("PING") * 5)
    other.take(PONG * 5)
    assert talk.recv().startswith(b"+")
    totals = Calls(6, 6 * len(redis("PING")), 6 * len(PONG))
    watch.expect(client.pid, {called(Role.CLIENT): totals})


def test_replies_switched_off(
    watch: Watch, client: Actor, store: Redis, talk: Socket
) -> None:
    """Calls cannot be told any more: the connection goes on by turns."""
    talk.send(redis("PING"))
    talk.take(PONG)
    off, set_, on = (
        redis("CLIENT", "REPLY", "OFF"),
        redis("SET", "a", "b"),
        redis("CLIENT", "REPLY", "ON"),
    )
    talk.send(off)
    talk.send(set_ * 3)
    talk.send(on)
    talk.take(b"+OK\r\n")
    found = watch.calls(client.pid)
    assert found[called(Role.CLIENT)] == Calls(1, len(redis("PING")), len(PONG))
    assert found[unknown(Role.CLIENT)].response == 5
    assert store.calls()["set"] == 3


def test_closed_in_the_middle(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ping = redis("PING")
    ends.call(ping, PONG)
    ends.request(ping * 20)
    ends.respond(PONG * 3 + b"+PO")
    ends.close()
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(
            actor.pid,
            {
                called(role): Calls(4, 4 * len(ping), 4 * len(PONG)),
                called(role, 0, End.CLOSED): Calls(17, 17 * len(ping), 3),
            },
        )


def test_a_reply_that_breaks_the_rules(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ping = redis("PING")
    ends.call(ping, PONG)
    lost = watch.lost("unparsed")
    ends.call(ping, b"what?\r\n")
    ends.call(ping, PONG)
    watch.expect_both(
        client.pid, server.pid, {(REDIS, 0): Calls(2, 2 * len(ping), 2 * len(PONG))}
    )
    assert watch.lost("unparsed").exchanges - lost.exchanges == 2
