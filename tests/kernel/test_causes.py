# SPDX-License-Identifier: Apache-2.0
"""Whose call it is, of real programs: what is told is right, and event loops are told nothing.

Which request a call was made for stands in its bytes (tests/apps/calling.py).
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, dns_question, get
from tests.process import Child, free_port, wait_until
from tests.programs import APPS

from deetune_otel.model import Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.actor import Socket
    from tests.kernel.conftest import Watching
    from tests.kernel.observe import Watch

    from deetune_otel.model import Exchange, Wire

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

# Their threads make all calls for what they have in hand, and wait for nothing else meanwhile.
GIVEN: Final = [
    "threads",
    "one at a time",
    "threads with timeouts",
    "threads and background",
    "forked workers",
    "pooled workers",
]
REFUSED: Final = [
    "epoll loop",
    "select loop",
    "poll loop",
    "loop that blocks",
    "select server",
    "green threads",
]
REQUESTS: Final = 100
NOBODY: Final = "-"
_numbers = count(1)


class Score(NamedTuple):
    """Of the calls for some requests, by how they were made ("1", "pool2", ...)."""

    made: Counter[str]
    given: Counter[str]
    wrong: list[tuple[str, str]]  # whose it was, and whose it was said to be


class Running(NamedTuple):
    """A service under test."""

    watch: Watch
    child: Child
    ports: tuple[int, ...]

    def ask(
        self, many: int, *, at_once: int = 1, kept: bool = True, port: int = 0
    ) -> list[str]:
        """So many requests of several clients, each of which asks one after the other; their
        numbers.
        """
        numbers = [str(next(_numbers)) for _ in range(many)]

        def client(mine: list[str]) -> None:
            connection = HTTPConnection("127.0.0.1", port or self.ports[0], timeout=20)
            for number in mine:
                connection.request("GET", f"/r/{number}")
                assert connection.getresponse().read() == b"ok\n"
                if not kept:
                    connection.close()
            connection.close()

        with ThreadPoolExecutor(at_once) as pool:
            asked = [pool.submit(client, numbers[i::at_once]) for i in range(at_once)]
            while not all(one.done() for one in asked):
                self.watch.records()
                time.sleep(0.005)  # the clients' turn
            for one in asked:
                one.result()
        return numbers

    def score(self, numbers: list[str]) -> Score:
        """When the spans of all these requests are there; calls are finished before."""
        wanted = set(numbers)
        wait_until(
            lambda: wanted <= set(_served(self.exchanges()).values()), "all spans"
        )
        exchanges = self.exchanges()
        served, score = _served(exchanges), Score(Counter(), Counter(), [])
        for number, how, call in _calls(exchanges):
            said = served.get(call.cause.wire, "unseen") if call.cause else ""
            if number in wanted:
                score.made[how] += 1
                score.given[how] += bool(said)
            if said and said != number:
                score.wrong.append((number, said))
        return score

    def by_itself(self) -> int:
        """Calls that no request made."""
        return sum(number == NOBODY for number, _, _ in _calls(self.exchanges()))

    def exchanges(self) -> list[Exchange]:
        return self.watch.exchanges(*self._pids())

    def owners(self) -> set[int]:
        """Those of its processes that serve."""
        edges = self.watch.edges(*self._pids())
        return {edge.owner_id for edge in edges if edge.role is Role.SERVER}

    def _pids(self) -> list[int]:
        owners = self.watch.kernel.read_owners().values()
        workers = [o.local_pid for o in owners if o.parent_pid == self.child.pid]
        return [self.child.pid, *workers]


def _path(exchange: Exchange) -> list[str]:
    """Of GET /r/ID and GET /u/ID/HOW."""
    found = re.match(rb"GET /([ru]/[^ ?]*) ", exchange.request_head)
    return found[1].decode().split("/") if found else [""]


def _served(exchanges: list[Exchange]) -> dict[Wire, str]:
    return {x.wire: p[1] for x in exchanges if (p := _path(x))[0] == "r"}


def _calls(exchanges: list[Exchange]) -> list[tuple[str, str, Exchange]]:
    return [(p[1], p[2], x) for x in exchanges if (p := _path(x))[0] == "u"]


@pytest.fixture(scope="module")
def watch(module_watching: Watching) -> Iterator[Watch]:
    """A kernel side that keeps every exchange."""
    with module_watching(spans_per_second=1_000_000, ring_bytes=1 << 26) as watch:
        yield watch


@pytest.fixture(scope="module")
def upstream(watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    del watch  # the other ends of the calls are watched, too
    with _started("upstream", 0, tmp_path_factory.mktemp("upstream")) as (_, ports):
        yield ports[0]


@pytest.fixture
def started(
    watch: Watch, upstream: int, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Running]:
    with _started(request.param, upstream, tmp_path) as (child, ports):
        yield Running(watch, child, ports)


@contextmanager
def _started(
    style: str, upstream: int, folder: Path
) -> Iterator[tuple[Child, tuple[int, ...]]]:
    argv = [sys.executable, str(APPS / "calling.py"), style, str(upstream)]
    many = 2 if style == "a loop in a thread" else 1
    with Child(argv, log=folder / "log") as child:
        child.wait_ready(lambda: child.log_text().count("\n") == many, "it listens")
        yield child, tuple(map(int, child.log_text().split()))


def _refusals(watch: Watch) -> int:
    return sum(watch.noted(line).exchanges for line in ("polling", "unproven"))


@pytest.mark.parametrize("started", GIVEN, indirect=True)
@pytest.mark.parametrize("at_once", [1, 8])
def test_calls_of_threads_that_answer(started: Running, at_once: int) -> None:
    """All but those of the first requests, after which it is known how they wait."""

    def are_understood() -> bool:
        started.ask(2 * at_once, at_once=at_once)
        owners = started.owners()
        return bool(owners) and all(map(started.watch.kernel.is_understood, owners))

    wait_until(are_understood, "how it waits is understood")
    numbers = started.ask(REQUESTS, at_once=at_once)
    score = started.score(numbers)
    assert score.wrong == []
    assert score.made == {"1": REQUESTS, "2": REQUESTS}
    assert score.given == score.made


@pytest.mark.parametrize("started", REFUSED, indirect=True)
@pytest.mark.parametrize(
    ("at_once", "kept"), [(1, True), (1, False), (8, True)], ids=str
)
def test_calls_of_event_loops(started: Running, at_once: int, *, kept: bool) -> None:
    """From the first one on, whatever they wait with: none is told, each is counted."""
    before = _refusals(started.watch)
    numbers = started.ask(REQUESTS, at_once=at_once, kept=kept)
    score = started.score(numbers)
    assert score.wrong == []
    assert score.given.total() == 0
    assert started.by_itself() > 0
    assert _refusals(started.watch) - before >= REQUESTS
    assert all(map(started.watch.kernel.polls, started.owners()))


@pytest.mark.parametrize("started", ["threads and a pool"], indirect=True)
def test_calls_that_are_handed_to_a_pool(started: Running) -> None:
    """The thread's own are told, those of the pool's threads are not."""
    started.ask(20, at_once=4)
    score = started.score(started.ask(REQUESTS, at_once=4))
    assert score.wrong == []
    assert score.given == {"1": REQUESTS, "2": REQUESTS, "pool1": 0, "pool2": 0}


@pytest.mark.parametrize("started", ["a loop in a thread"], indirect=True)
def test_an_event_loop_among_threads(started: Running) -> None:
    """It has a port of its own, in a process whose other threads are understood."""
    scores = []
    for _ in range(2):
        scores = [
            started.score(started.ask(REQUESTS, at_once=4, port=port))
            for port in started.ports
        ]
        assert [score.wrong for score in scores] == [[], []]
    assert sorted(score.given.total() for score in scores) == [0, 2 * REQUESTS]


@pytest.mark.parametrize("started", ["a thread that hands on"], indirect=True)
def test_a_thread_that_hands_requests_on(started: Running) -> None:
    """What it does by itself is nobody's."""
    score = started.score(started.ask(REQUESTS, kept=False))
    assert score.wrong == []
    assert started.by_itself() > 10


@pytest.mark.parametrize("started", ["a thread with two"], indirect=True)
def test_a_thread_with_two_requests_in_hand(started: Running) -> None:
    """The second is asked and answered before the first one's last byte."""
    noted = started.watch.noted("ambiguous_cause").exchanges
    numbers = [str(next(_numbers)) for _ in range(60)]
    for first, second in zip(numbers[::2], numbers[1::2], strict=True):
        ends = [
            HTTPConnection("127.0.0.1", started.ports[0], timeout=20) for _ in range(2)
        ]
        for end, number in zip(ends, (first, second), strict=True):
            end.request("GET", f"/r/{number}")
        answers = [end.getresponse() for end in ends]
        assert [answer.read() for answer in reversed(answers)] == [b"ok\n"] * 2
        for end in ends:
            end.close()
        started.watch.records()
    score = started.score(numbers)
    assert score.wrong == []
    assert score.given["2"] == 0
    refused = started.watch.noted("ambiguous_cause").exchanges - noted
    assert refused + _refusals(started.watch) >= 30


# ---- what is told of a cause ---------------------------------------------------------------

TRACE: Final = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Between(NamedTuple):
    """A server that is asked, and asks another one, one step at a time."""

    watch: Watch
    actor: Actor
    front: Ends
    back: Ends

    def call(self, request: bytes, answer: bytes = OK) -> None:
        """It sleeps until the answer is there."""
        self.back.request(request)
        taken = self.back.client.start("recv_exactly", len(answer))
        wait_until(self._polls, "it waits for the answer")
        self.back.server.send(answer)
        assert taken() == answer

    def understand(self) -> None:
        """Ask until it is known how it waits."""

        def is_understood() -> bool:
            self.front.request(get("/first"))
            self.call(get("/back/first"))
            self.front.respond(OK)
            self.watch.records()
            (owner,) = self.watch.owners({self.actor.pid})
            return self.watch.kernel.is_understood(owner)

        wait_until(is_understood, "how it waits is understood")

    def calls(self, prefix: str) -> list[Exchange]:
        head = f"GET {prefix}".encode()
        return [
            one
            for one in self.watch.exchanges(self.actor.pid)
            if one.request_head.startswith(head)
        ]

    def _polls(self) -> bool:
        number, *_ = Path(f"/proc/{self.actor.pid}/syscall").read_text().split()
        return number in ("7", "73", "271")  # poll, ppoll of either machine


@pytest.fixture
def between(watch: Watch, actors: Callable[[], Actor]) -> Between:
    client, server, backend = (actors() for _ in range(3))
    front_listener, front_address = server.listen()
    back_listener, back_address = backend.listen()
    front = Ends(client.connect(front_address), front_listener.accept())
    back = Ends(server.connect(back_address), back_listener.accept())
    return Between(watch, server, front, back)


def test_the_cause_of_a_call(between: Between) -> None:
    """Its wire, and the trace header that came with it: in the span, and for who asks earlier."""
    between.understand()
    between.front.request(get("/on", TRACE))
    between.call(get("/back/on"))
    between.front.respond(OK)
    between.call(get("/alone"))
    (asked,), (served,), (alone,) = map(between.calls, ("/back/on", "/on", "/alone"))
    assert asked.cause is not None
    assert asked.cause.wire == served.wire
    assert asked.cause.trace_header == TRACE.encode()
    assert between.watch.kernel.read_cause(asked.wire) == asked.cause
    assert alone.cause is None
    assert between.watch.kernel.read_cause(alone.wire) is None


def test_calls_that_are_not_http(between: Between, actors: Callable[[], Actor]) -> None:
    """What nobody can read, a look-up, and a connect that fails."""
    between.understand()
    server, resolver = between.actor, actors()
    there, address = resolver.call("datagram_server", ("127.0.0.1", 0))
    here = server.call("datagram", address)
    question = dns_question("web.shop.test")
    between.front.request(get("/on"))
    server.call("send", here, question)
    _, sender = resolver.call("recv_from", there)
    answer = question[:2] + b"\x81\x80" + question[4:]
    resolver.call("send_to", there, answer, sender)
    assert server.call("recv", here) == answer
    assert server.call("connect_error", ("127.0.0.1", free_port()))
    unread = Ends(*_connected(server, actors()))
    unread.call(b"\x00query", b"\x00rows")
    between.front.respond(OK)
    unread.call(b"\x00alone", b"\x00rows")
    (served,) = between.calls("/on")
    causes = [
        (one.key.protocol, one.cause.wire if one.cause else None)
        for one in between.watch.exchanges(server.pid)
        if one.key.protocol in (Protocol.DNS, Protocol.CONNECT, Protocol.UNKNOWN)
    ]
    assert causes == [
        (Protocol.DNS, served.wire),
        (Protocol.CONNECT, served.wire),
        (Protocol.UNKNOWN, served.wire),
        (Protocol.UNKNOWN, None),
    ]


def _connected(client: Actor, server: Actor) -> tuple[Socket, Socket]:
    listener, address = server.listen()
    return client.connect(address), listener.accept()


def test_two_at_once_are_no_cause(
    between: Between, actors: Callable[[], Actor]
) -> None:
    """One thread with two requests in hand: either could be the cause, so none is."""
    between.understand()
    listener, address = between.actor.listen()
    other = Ends(actors().connect(address), listener.accept())
    noted = between.watch.noted("ambiguous_cause").exchanges
    between.front.request(get("/one"))
    other.request(get("/two"))
    between.call(get("/back/two"))
    between.front.respond(OK)
    other.respond(OK)
    (asked,) = between.calls("/back/two")
    assert asked.cause is None
    assert asked.cause_ambiguous
    assert between.watch.noted("ambiguous_cause").exchanges == noted + 1
